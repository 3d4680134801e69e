"""What `tallyroot except` does: an operator's signed decision to step over what no client can read."""

from msgspec import Struct

from deploy.cli.terminal import Terminal
from deploy.data_folder import Workplace
from schemas.manifest import RangeException
from streams.core.skipped_ranges import sign_exception, signer_of
from streams.storage.skipped_ranges_file import FILE, add_exception


class ExceptionsResult(Struct, frozen=True):
    """All exceptions of a data folder, and the one that was added, if one was."""

    added: RangeException | None
    exceptions: tuple[RangeException, ...]


def except_range(
    place: Workplace, terminal: Terminal, partition: int, first_offset: int, next_offset: int, reason: str
) -> ExceptionsResult:
    """Signs an exception with the operator's key and adds it to the folder's.

    Raises InvalidInput if the key is no operator's, or the exception contradicts another or a final epoch, or comes
    too late.
    """
    log = place.log()
    signed = sign_exception(place.operator_key(), log, partition, first_offset, next_offset, reason)
    place.fetch_epochs()  # what another host made final can't be stepped over either
    add_exception(place.data_dir, log, signed)
    exceptions = place.exceptions()
    terminal.say(
        f"the offsets {first_offset} to {next_offset} of partition {partition} are stepped over: {reason}\n"
        f"start the workers again; the manifest of the epoch will name it (all of them: {place.data_dir / FILE})"
    )
    result = ExceptionsResult(signed, exceptions)
    terminal.result(result)
    return result


def list_exceptions(place: Workplace, terminal: Terminal) -> ExceptionsResult:
    """Shows the folder's exceptions. Raises InvalidInput if one isn't right."""
    log = place.log()
    exceptions = place.exceptions()
    columns = ("partition", "first", "next", "reason", "signed by")
    rows = [
        (each.partition, each.first_offset, each.next_offset, each.reason, signer_of(log, each)) for each in exceptions
    ]
    if rows:
        terminal.table("", columns, rows)
    else:
        terminal.say("no exceptions: every record of the log counts")
    result = ExceptionsResult(None, exceptions)
    terminal.result(result)
    return result
