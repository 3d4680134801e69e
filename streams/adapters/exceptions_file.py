"""`exceptions.json` of a data folder: the operator's signed exceptions, held against every manifest already there."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochFiles, RangeException
from streams.adapters.files import Temporary, sync_folder
from streams.excepted import checked, named, within

FILE = "exceptions.json"


def load_exceptions(data_dir: Path, log: Log) -> tuple[RangeException, ...]:
    """The exceptions of the folder, checked; none without the file.

    Raises InvalidInput if the file can't be read, if one isn't signed by an operator, or if they contradict a cut
    that was passed: what is in a manifest can't be taken back, and nothing can be added to it.
    """
    path = data_dir / FILE
    try:
        exceptions = checked(log, msgspec.json.decode(path.read_bytes(), type=list[RangeException]))
    except FileNotFoundError:
        exceptions = ()
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{path} doesn't hold exceptions ({error}): restore it from a copy") from None
    _check_published(data_dir, exceptions)
    return exceptions


def add_exception(data_dir: Path, log: Log, exception: RangeException) -> tuple[RangeException, ...]:
    """Adds one to the folder's file; gives all of them. Raises InvalidInput as `load_exceptions`; adds nothing then."""
    exceptions = load_exceptions(data_dir, log)
    if exception in exceptions:
        return exceptions
    exceptions = checked(log, [*exceptions, exception])
    _check_published(data_dir, exceptions)
    written = msgspec.json.format(msgspec.json.encode(exceptions), indent=1) + b"\n"
    Temporary(data_dir / FILE).write(written).publish()
    sync_folder(data_dir)
    return exceptions


def _check_published(data_dir: Path, exceptions: Sequence[RangeException]) -> None:
    for path in sorted(data_dir.glob("epochs/*/*.manifest.json")):
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=EpochFiles).manifest
        except msgspec.MsgspecError:
            continue  # whoever needs the manifest says what is wrong with it
        expected = within(exceptions, manifest.partition, manifest.first_offset, manifest.next_offset)
        if manifest.exceptions != expected:
            other = next(
                each
                for each in (*manifest.exceptions, *expected)
                if not (each in expected and each in manifest.exceptions)
            )
            raise InvalidInput(
                f"{named(other)} contradicts {path}, which is final: {data_dir / FILE} must name just what it names"
            )
