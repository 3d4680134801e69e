"""`tallyroot backup`: a copy of a data folder while workers, settlement and servers run.

Each step copies what the ones before it refer to, or something newer, so that the copy is a state that a crash could
have left:

(1) the checkpoints: an epoch that one has handed over is in (4)
(2) the journals of postings: a post is written before the journal knows it, so it is in (3)
(3) the posts, and every other file that is replaced as a whole
(4) the epochs: for each manifest, the files that it names, by its digests
(5) the signed skipped ranges: those of all manifests in (4)
(6) an embedded Kafka's logs and an embedded node's chain, which hold all that was judged and posted
(7) the list of files, last: a backup that was killed before it is none, and what it copied is not copied again
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from msgspec import Struct

from deploy.backup.contents import (
    BACKUPS,
    OBJECTS,
    BackedUp,
    Backup,
    Progress,
    backup_file,
    names_of,
    new_name,
    object_name,
    read_backup,
)
from deploy.backup.live_copies import chain_state, copy_checkpoint, copy_journal, kafka_files
from deploy.data_folder import KEYS_FOLDER, WORKERS_FILE, DataFolder
from deploy.stack.servers import STACK_FILE, Stack
from files.lock import FileLock
from files.read import CHUNK_BYTES, read_json
from files.write import TEMPORARY, json_bytes
from schemas.errors import InvalidInput
from schemas.manifest import EpochFiles
from schemas.post import ENDED
from streams.storage.object_store import ObjectStore
from streams.storage.skipped_ranges_file import FILE as SKIPPED_FILE

OF_THE_HOST = {STACK_FILE, WORKERS_FILE}
"""Files about processes of this machine."""

SEPARATE = {"partitions", "epochs", "log", "live", "merged", "faust", "kafka", "evm", KEYS_FOLDER}
"""Folders that have a step of their own, or are made again (live, merged, faust)."""

JOURNAL = "journal.sqlite"
KEPT_ASIDE = ("-wal", "-shm", ".lock", TEMPORARY)
TRIES = 5
"""How often files are listed again of which one was replaced meanwhile."""


class BackedUpResult(Struct, frozen=True, kw_only=True):
    """What a backup holds, how much of it was new, and what is wrong with the folder that was copied."""

    name: str
    place: str
    files: int
    bytes: int
    new_files: int
    new_bytes: int
    partitions: int
    epochs: int
    removed: tuple[str, ...]
    damaged: tuple[str, ...]


def backup(
    data: DataFolder, place: ObjectStore, progress: Progress, *, keep: int | None = None, with_keys: bool = False
) -> BackedUpResult:
    """Adds a backup of the folder to a place; with `keep` removes all but the newest that many.

    Keystores are copied `with_keys`, passwords never. A file that isn't the one that its manifest names is left out and
    named as damaged. Raises InvalidInput if the place belongs to another log or another backup runs, StoreAway.
    """
    log = data.log()
    if names_of(place) and (other := read_backup(place)[1].log_id) != log.log_id:
        raise InvalidInput(f"{place.uri} holds backups of the log {other}: choose another folder or prefix")
    if Path(place.uri).is_relative_to(data.data_dir.resolve()):
        raise InvalidInput(f"{place.uri} is in the folder that is backed up: choose another disk, or s3://…")
    lock = FileLock.acquire(data.data_dir / "backup.lock")
    if lock is None:
        raise InvalidInput(f"another backup of {data.data_dir} runs: wait for it to end")
    try:
        for left in data.data_dir.glob(f"backup*{TEMPORARY}"):
            shutil.rmtree(left)
        with TemporaryDirectory(prefix="backup", suffix=TEMPORARY, dir=data.data_dir) as folder:
            copied = _Copied(data, place, Path(folder), progress)
            copied.everything(with_keys=with_keys)
        name = new_name()
        made = Backup(
            log_id=log.log_id, made_at=name, version=version("tallyroot"), files=tuple(copied.files.values()),
            offsets=copied.offsets, lacking=tuple(copied.lacking),
        )  # fmt: skip
        place.put(backup_file(name), [json_bytes(made, indent=0)])  # (7)
        removed = remove_old(place, keep) if keep is not None else ()
    finally:
        lock.release()
    return BackedUpResult(
        name=name, place=place.uri, files=len(made.files), bytes=made.size, new_files=copied.new_files,
        new_bytes=copied.new_bytes, partitions=len(copied.offsets), epochs=copied.epochs, removed=removed,
        damaged=tuple(copied.damaged),
    )  # fmt: skip


def remove_old(place: ObjectStore, keep: int) -> tuple[str, ...]:
    """Removes all backups but the newest `keep`, then the contents that no backup holds. Returns their names.

    One that is killed leaves contents that the next one removes. Raises StoreAway.
    """
    names = names_of(place)
    old, kept = names[:-keep], names[-keep:]
    for name in old:
        place.remove(backup_file(name))
    held = {object_name(file.sha256) for name in kept for file in read_backup(place, name)[1].files}
    for name in place.names(OBJECTS):
        if name not in held:
            place.remove(name)
    return tuple(old)


class _Copied:
    """What has been copied so far, by path."""

    def __init__(self, data: DataFolder, place: ObjectStore, scratch: Path, progress: Progress) -> None:
        self.files: dict[str, BackedUp] = {}
        self.offsets: dict[int, int] = {}
        self.lacking: list[str] = []
        self.damaged: list[str] = []
        self.new_files = self.new_bytes = self.epochs = 0
        self._data, self._folder, self._place, self._scratch = data, data.data_dir, place, scratch
        self._progress = progress
        self._there = set(place.names(OBJECTS))
        self._sizes = {f.sha256: f.size for f in read_backup(place)[1].files} if place.names(BACKUPS) else {}

    def everything(self, *, with_keys: bool) -> None:
        """All steps but the last."""
        self._checkpoints()  # (1)
        for folder in self._settlements():  # (2)
            path = folder / JOURNAL
            if not path.exists():
                continue
            copy_journal(path, self._scratch / JOURNAL)
            self._copy(self._scratch / JOURNAL, path.relative_to(self._folder).as_posix())
        self._replaced()  # (3)
        if with_keys:
            for path in sorted((self._folder / KEYS_FOLDER).glob("*.json")):
                self._copy(path)
        self._all_epochs()  # (4)
        if (self._folder / SKIPPED_FILE).exists():
            self._copy(self._folder / SKIPPED_FILE)  # (5)
        self._servers()  # (6)

    def _checkpoints(self) -> None:
        paths = sorted((self._folder / "partitions").glob("*.duckdb"))
        for done, path in enumerate(paths):
            self._progress(0.1 * done / len(paths), f"checkpoint {done + 1} of {len(paths)}")
            target = self._scratch / path.name
            self.offsets[int(path.stem)] = copy_checkpoint(path, target)
            self._copy(target, f"partitions/{path.name}")
            target.unlink()

    def _replaced(self) -> None:
        """Posts as whole folders, then the single files. What is replaced meanwhile is listed again."""
        for attempt in range(TRIES):
            try:
                for settlement in self._settlements():
                    for folder in sorted(settlement.glob("posts/*/")):
                        if not folder.name.startswith("."):
                            self._post(folder)
                for path in self._single():
                    self._copy(path)
                return
            except FileNotFoundError:
                if attempt == TRIES - 1:
                    raise

    def _settlements(self) -> list[Path]:
        return [self._folder / "settlement", *sorted(self._folder.glob(f"{ENDED}/*/settlement"))]

    def _post(self, folder: Path) -> None:
        """A post's folder is set aside and another takes its name: all files are to be of one."""
        number = folder.stat().st_ino
        for path in sorted(folder.iterdir()):
            self._copy(path)
        if folder.stat().st_ino != number:
            raise FileNotFoundError(folder)

    def _single(self) -> Iterator[Path]:
        for place, folders, names in os.walk(self._folder):
            here = Path(place)
            if here == self._folder:
                folders[:] = [name for name in folders if name not in SEPARATE]
            left_out = OF_THE_HOST | {SKIPPED_FILE} if here == self._folder else set()
            folders[:] = [name for name in folders if name != "posts" and not name.endswith(TEMPORARY)]
            for name in sorted(set(names) - left_out):
                if not name.startswith(("analytics.duckdb", JOURNAL)) and not name.endswith(KEPT_ASIDE):
                    yield here / name

    def _all_epochs(self) -> None:
        manifests = sorted((self._folder / "epochs").glob("*/*.manifest.json"))
        for done, path in enumerate(manifests):
            if done % 100 == 0:
                self._progress(0.1 + 0.8 * done / len(manifests), f"epoch files {done:,} of {len(manifests):,}")
            try:
                whole = read_json(path, EpochFiles, what="a manifest", remedy="restore it from an older backup")
            except InvalidInput as error:
                self.damaged.append(str(error))
                continue
            for name, digest in whole.files.items():
                self._named(name, digest)
            self._copy(path)
        self.epochs = len(manifests)

    def _named(self, name: str, digest: str) -> None:
        """A file that a manifest names: it never changes, so what is there is not read again."""
        path = self._folder / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            if digest in self._sizes and object_name(digest) in self._there:  # pruned here since the last backup
                self.files[name] = BackedUp(name, self._sizes[digest], digest)
            else:
                self.lacking.append(name)
            return
        if object_name(digest) in self._there:
            self.files[name] = BackedUp(name, self._sizes.get(digest, size), digest)
            return
        copied = self._copy(path)
        if copied.sha256 != digest:
            del self.files[name]
            self.damaged.append(f"{path} is not the file that its manifest names: restore it from an older backup")

    def _servers(self) -> None:
        stack = Stack.load(self._folder)
        if stack is not None and stack.kafka is not None:
            self._progress(0.9, "the embedded Kafka")
            for path in kafka_files(self._folder / "kafka"):
                try:
                    self._copy(path)
                except FileNotFoundError:
                    continue  # a segment that Kafka has removed meanwhile
        if stack is not None and stack.evm is not None:
            self._progress(0.95, "the embedded node")
            state = self._folder / "evm" / "state.json"
            if stack.evm.alive():
                state = self._scratch / "state.json"
                state.write_bytes(chain_state(stack.evm))
            if state.exists():
                self._copy(state, "evm/state.json")

    def _copy(self, path: Path, name: str = "") -> BackedUp:
        """Puts a file's content, as long as it is now, where it isn't there yet. Raises FileNotFoundError."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256()
            for part in _parts(file, size):
                digest.update(part)
            sha256 = digest.hexdigest()
            if object_name(sha256) not in self._there:
                file.seek(0)
                self._place.put(object_name(sha256), _parts(file, size))
                self._there.add(object_name(sha256))
                self.new_files += 1
                self.new_bytes += size
        name = name or path.relative_to(self._folder).as_posix()
        self.files[name] = BackedUp(name, size, sha256)
        return self.files[name]


def _parts(file: BinaryIO, size: int) -> Iterable[bytes]:
    """The first `size` bytes of a file that may grow."""
    while size and (part := file.read(min(size, CHUNK_BYTES))):
        size -= len(part)
        yield part
