"""`tallyroot restore`: a backup as a data folder. `log.json` comes last: without it no command works in the folder.

A restore that was killed goes on when it is repeated: what is there is compared, and kept.
"""

from pathlib import Path

from msgspec import Struct

from deploy.backup.contents import BackedUp, Progress, object_name, read_backup
from deploy.data_folder import LOG_FILE
from files.write import TEMPORARY, file_digest, make_folder
from schemas.errors import InvalidInput, InvariantBroken
from streams.storage.object_store import ObjectStore


class RestoredFolder(Struct, frozen=True, kw_only=True):
    """What was brought back. `lacking` are files of epochs that the backup never had."""

    name: str
    data_dir: str
    log_id: str
    files: int
    bytes: int
    offsets: dict[int, int]
    lacking: tuple[str, ...]


def restore(place: ObjectStore, data_dir: Path, progress: Progress, name: str | None = None) -> RestoredFolder:
    """Writes the files of a backup (the newest without a `name`) into a folder that has none.

    Raises InvalidInput if the folder holds anything else, or a content is missing or damaged; StoreAway.
    """
    name, found = read_backup(place, name)
    _only_ours(data_dir, {file.path: file for file in found.files})
    last = [file for file in found.files if file.path == LOG_FILE]
    done = 0
    for number, file in enumerate([*(file for file in found.files if file.path != LOG_FILE), *last]):
        if number % 50 == 0:
            progress(done / max(1, found.size), f"file {number + 1:,} of {len(found.files):,}")
        path = data_dir / file.path
        if not _is_there(path, file):
            bring(place, file, path)
        done += file.size
    return RestoredFolder(
        name=name, data_dir=str(data_dir), log_id=found.log_id, files=len(found.files), bytes=found.size,
        offsets=found.offsets, lacking=found.lacking,
    )  # fmt: skip


def bring(place: ObjectStore, file: BackedUp, path: Path) -> None:
    """Writes a file of a backup. Raises InvalidInput where its content is missing or another, StoreAway."""
    make_folder(path.parent)
    try:
        place.fetch(object_name(file.sha256), path, file.sha256)
    except InvariantBroken:
        raise InvalidInput(
            f"the content of {file.path} in {place.uri} is missing or damaged: restore an older backup with --backup"
        ) from None


def _only_ours(data_dir: Path, files: dict[str, BackedUp]) -> None:
    """Raises InvalidInput unless the folder is empty, or what a restore of this backup has left when it was killed."""
    if (data_dir / LOG_FILE).exists():
        raise InvalidInput(f"{data_dir} has a log: name an empty folder with --data-dir, or move it away")
    for path in data_dir.rglob("*"):
        if path.is_file() and path.suffix != TEMPORARY and path.relative_to(data_dir).as_posix() not in files:
            raise InvalidInput(f"{path} is not of this backup: name an empty folder with --data-dir, or move it away")


def _is_there(path: Path, file: BackedUp) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_digest(path) == file.sha256
