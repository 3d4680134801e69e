"""`tallyroot prune`: deletes what is kept elsewhere whole, and keeps every proof.

Manifests, leaves of log roots, tables of epochs, posts and the journal are never deleted. The archive of an epoch is
the one thing that is kept twice: it goes when its epoch ended long enough ago and its content is in the store, in a
backup, or in Kafka, from where its records are read again first and compared with the log root. What needs it (`why
--window`, `receipt`, `report`) brings it back, until the next `prune`.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from time import time

from msgspec import Struct

from deploy.backup.contents import OBJECTS, object_name
from deploy.data_folder import DataFolder
from files.lock import FileLock
from files.write import TEMPORARY
from schemas.errors import InvalidInput
from schemas.manifest import EpochFiles
from streams.storage.epoch_files import existing_manifest
from streams.storage.log_reader import LogReader
from streams.storage.object_store import ObjectStore
from streams.storage.pruned import KAFKA, PrunedFile, is_in_log, note_pruned
from streams.storage.shared_epochs import object_name as stored_name

SERVERS = {"kafka", "evm"}
LEFT_S = 86_400
"""How old a file must be that a writer has left when it was killed."""


class Pruned(Struct, frozen=True, kw_only=True):
    """What was deleted, or would be: archives, what killed writers left, and the bytes of both.

    `kept` are archives that are old enough and nowhere else.
    """

    archives: tuple[str, ...]
    leftovers: tuple[str, ...]
    bytes: int
    kept: tuple[str, ...]
    dry_run: bool


class Unpruned(Struct, frozen=True):
    """How many files of archives came back."""

    files: int


def prune(
    data: DataFolder, older_than_ms: int, backups: Collection[ObjectStore], reader: LogReader | None, *, dry_run: bool
) -> Pruned:
    """Deletes archives of epochs that ended `older_than_ms` before the last one of their partition.

    Only those that the folder's store has, one of the `backups`, or (with a `reader`) the log. Raises InvalidInput
    where another prune runs or a manifest is damaged; StoreAway, KafkaAway.
    """
    lock = FileLock.acquire(data.data_dir / "prune.lock")
    if lock is None:
        raise InvalidInput(f"another prune of {data.data_dir} runs: wait for it to end")
    archives: dict[str, PrunedFile] = {}
    kept = []
    try:
        elsewhere = _Elsewhere(data, backups, reader)
        for path, whole in _old(data.data_dir, older_than_ms):
            name = path.relative_to(data.data_dir).as_posix()
            found = elsewhere.of(path, whole)
            if found is None:
                kept.append(name)
                continue
            archives |= found
        left = [path for path in data.data_dir.rglob(f"*{TEMPORARY}") if _is_left(path, data.data_dir)]
        gone = [*(data.data_dir / name for name in archives), *left]
        size = sum(path.stat().st_size for path in gone)
        if not dry_run:
            note_pruned(data.data_dir, archives)  # first: whoever misses a file finds where it is
            for path in gone:
                path.unlink(missing_ok=True)
    finally:
        lock.release()
    leftovers = tuple(path.relative_to(data.data_dir).as_posix() for path in left)
    return Pruned(archives=tuple(archives), leftovers=leftovers, bytes=size, kept=tuple(kept), dry_run=dry_run)


def _is_left(path: Path, data_dir: Path) -> bool:
    """Whether a writer of ours has left the file; an embedded server's are its own."""
    is_ours = path.relative_to(data_dir).parts[0] not in SERVERS
    return is_ours and path.is_file() and time() - path.stat().st_mtime > LEFT_S


def _old(data_dir: Path, older_than_ms: int) -> Iterator[tuple[Path, EpochFiles]]:
    """The archives here of epochs that ended long enough before the last one of their partition."""
    ends: dict[int, int] = {}
    for path in sorted((data_dir / "epochs").glob("*/*.manifest.json"), reverse=True):
        whole = existing_manifest(path)
        manifest = whole.manifest
        last_ms = ends.setdefault(manifest.partition, manifest.end_ms)
        archive = data_dir / "log" / path.parent.name / f"{manifest.partition}.parquet"
        if manifest.end_ms <= last_ms - older_than_ms and archive.exists():
            yield archive, whole


class _Elsewhere:
    """Where an archive is besides the folder."""

    def __init__(self, data: DataFolder, backups: Collection[ObjectStore], reader: LogReader | None) -> None:
        self._data_dir, self._reader = data.data_dir, reader
        self._store = data.store()
        self._stored = set() if self._store is None else set(self._store.names("log"))
        self._backups = [(place, set(place.names(OBJECTS))) for place in backups]

    def of(self, path: Path, whole: EpochFiles) -> dict[str, PrunedFile] | None:
        """The place of each file of an archive but its leaves, by name; None where one is nowhere else."""
        names = {file.relative_to(self._data_dir).as_posix(): file for file in (path, path.with_suffix(".skipped"))}
        files = {name: (file, whole.files[name]) for name, file in names.items() if name in whole.files}
        found = {name: kept for name, (file, digest) in files.items() if (kept := self._kept(file, digest))}
        if len(found) == len(files):
            return found
        if self._reader is None or not is_in_log(path, whole.manifest, self._reader):
            return None
        return {name: PrunedFile(KAFKA, "", digest) for name, (_, digest) in files.items()}

    def _kept(self, file: Path, digest: str) -> PrunedFile | None:
        stored = stored_name(self._data_dir, file, digest)
        if self._store is not None and stored in self._stored:
            return PrunedFile(self._store.uri, stored, digest)
        for place, names in self._backups:
            if object_name(digest) in names:
                return PrunedFile(place.uri, object_name(digest), digest)
        return None
