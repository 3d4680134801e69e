"""What `tallyroot skip-range` does: an operator's signed decision to step over what no client can read."""

from msgspec import Struct

from deploy.cli.terminal import Terminal
from deploy.data_folder import DataFolder
from schemas.manifest import SkippedRange
from streams.core.skipped_ranges import sign_skipped_range, signer_of
from streams.storage.skipped_ranges_file import FILE, add_skipped_range


class SkippedRanges(Struct, frozen=True):
    """All exceptions of a data folder, and the one that was added, if one was."""

    added: SkippedRange | None
    exceptions: tuple[SkippedRange, ...]


def skip_range(
    data: DataFolder, terminal: Terminal, partition: int, first_offset: int, next_offset: int, reason: str
) -> SkippedRanges:
    """Signs an exception with the operator's key and adds it to the folder's.

    Raises InvalidInput if the key is no operator's, or the exception contradicts another or a final epoch, or comes
    too late.
    """
    log = data.log()
    signed = sign_skipped_range(data.operator_key(), log, partition, first_offset, next_offset, reason)
    data.fetch_epochs()  # what another host made final can't be stepped over either
    add_skipped_range(data.data_dir, log, signed)
    exceptions = data.exceptions()
    terminal.say(
        f"the offsets {first_offset} to {next_offset} of partition {partition} are stepped over: {reason}\n"
        f"start the workers again; the manifest of the epoch will name it (all of them: {data.data_dir / FILE})"
    )
    result = SkippedRanges(signed, exceptions)
    terminal.result(result)
    return result


def list_skipped_ranges(data: DataFolder, terminal: Terminal) -> SkippedRanges:
    """Shows the folder's exceptions. Raises InvalidInput if one isn't right."""
    log = data.log()
    exceptions = data.exceptions()
    columns = ("partition", "first", "next", "reason", "signed by")
    rows = [
        (each.partition, each.first_offset, each.next_offset, each.reason, signer_of(log, each)) for each in exceptions
    ]
    if rows:
        terminal.table("", columns, rows)
    else:
        terminal.say("no exceptions: every record of the log counts")
    result = SkippedRanges(None, exceptions)
    terminal.result(result)
    return result
