"""`pruned.json` of a data folder: archives that were deleted here, where each is, and how they come back.

Their leaves stay, and so do the manifests: what comes back is compared with a digest, or with the log root.
"""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from files.read import FileMissing, read_json
from files.write import make_folder, sync_folder, write_json
from schemas.errors import InvalidInput
from schemas.manifest import EpochFiles, EpochManifest
from streams.storage.archive import write_archive
from streams.storage.log_reader import LogReader
from streams.storage.object_store import ObjectStore

PRUNED_FILE = "pruned.json"
ARCHIVED = re.compile(r"log/[0-9]{8}T[0-9]{6}Z/[0-9]+\.(parquet|skipped)")
KAFKA = "kafka"
"""The place of an archive whose records are in the log."""


class PrunedFile(msgspec.Struct, frozen=True):
    """Where a file is: an object in a store or backup (its address), or in the log. `sha256` (hex) is of its bytes."""

    place: str
    object: str
    sha256: str


class PrunedFiles(msgspec.Struct, frozen=True):
    """pruned.json: by the file's name in the data folder. A file that came back may be listed still."""

    files: dict[str, PrunedFile] = {}


def read_pruned(data_dir: Path) -> dict[str, PrunedFile]:
    """What was pruned. Raises InvalidInput for a damaged file."""
    try:
        return read_json(data_dir / PRUNED_FILE, PrunedFiles, what="a list of pruned files", remedy="restore it").files
    except FileMissing:
        return {}


def note_pruned(data_dir: Path, files: dict[str, PrunedFile]) -> None:
    """Adds files that are about to be deleted."""
    write_json(data_dir / PRUNED_FILE, PrunedFiles(dict(sorted((read_pruned(data_dir) | files).items()))))


def bring_back(data_dir: Path, reader: Callable[[], LogReader]) -> int:
    """Brings back the pruned archives; returns how many files.

    `reader` is called only where records are in the log alone. Raises InvalidInput where one isn't where it was,
    InvariantBroken where an object is another, StoreAway, KafkaAway.
    """
    brought, log = 0, None
    for name, file in read_pruned(data_dir).items():
        path = data_dir / name
        if ARCHIVED.fullmatch(name) is None:
            raise InvalidInput(f"{data_dir / PRUNED_FILE} names {name!r}, which is no archive: restore it")
        if path.exists():
            continue
        make_folder(path.parent)
        if file.place != KAFKA:
            ObjectStore(file.place).fetch(file.object, path, file.sha256)
        elif path.suffix == ".parquet":
            log = log or reader()
            _read_again(data_dir, path, log)
        brought += 1
    if log is not None:
        log.close()
    return brought


def is_in_log(path: Path, manifest: EpochManifest, reader: LogReader) -> bool:
    """Whether the log still has the records of an archive: they are read again, and have the manifest's log root."""
    try:
        made = write_archive(path, reader, manifest.partition, manifest.first_offset, manifest.next_offset, _never)
    except InvalidInput:
        return False
    if made is None:
        return False
    made.drop()
    return made.root.hex() == manifest.log_root


def _read_again(data_dir: Path, path: Path, reader: LogReader) -> None:
    place = data_dir / "epochs" / path.parent.name / f"{path.stem}.manifest.json"
    manifest = read_json(place, EpochFiles, what="a manifest", remedy="restore it from a backup").manifest
    made = write_archive(path, reader, manifest.partition, manifest.first_offset, manifest.next_offset, _never)
    if made is None or made.root.hex() != manifest.log_root:
        raise InvalidInput(f"the log holds other records than {path} did: restore it from a backup")
    made.publish()
    sync_folder(path.parent)


def _never() -> bool:
    return False
