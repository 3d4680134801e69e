"""The final files of epochs in a store that hosts share.

`manifests/<partition>/<epoch>/<digest>.json`      the manifest, named by its digest, with the digests of its files
`epochs/<epoch>/<n>.<SHA-256>.parquet` and so on   the files that it names, each with its digest in its name

So no host ever overwrites anything final: two manifests that differ have two names, and a host that lists both stops.
It needs a store with consistent listing: a local folder, or S3 (since 2020).
"""

import re
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path, PurePosixPath

import msgspec

from files.format import without_format
from files.lock import FileLock
from files.read import decode_json, file_chunks
from files.write import Step, file_digest, json_bytes, make_folder, no_step, write_bytes
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.manifest import EpochFiles, epoch_folder
from streams.storage.epoch_files import EpochPaths, read_manifest
from streams.storage.object_store import ObjectStore
from streams.storage.skipped_ranges_file import adopt_skipped_ranges

LOG_NAME = "log.json"

_MANIFEST = re.compile(r"manifests/([0-9]+)/([0-9TZ]+)/([0-9a-f]{64})\.json")


def share_log(store: ObjectStore, log: Log) -> None:
    """Stores the log's description for other hosts. Raises InvalidInput if the store belongs to another log,
    StoreAway.
    """
    stored = stored_log(store)
    if stored is not None and stored.log_id != log.log_id:
        raise _of_another(store, stored.log_id)
    # Rulesets are only ever added, so the longer list is the newer one.
    if stored is None or len(stored.rulesets) < len(log.rulesets):
        store.put(LOG_NAME, [json_bytes(log)])


def stored_log(store: ObjectStore) -> Log | None:
    """The log that a store belongs to; None in a new one. Raises InvalidInput, StoreAway."""
    content, name = store.read(LOG_NAME), f"{LOG_NAME} in the store {store.uri}"
    if content is None:
        return None
    return decode_json(content, Log, name, what="the description of a log", remedy="restore it")


def stored_manifests(store: ObjectStore, partition: int, folder: str = "") -> dict[str, str]:
    """The digest (hex) of the manifest of each epoch, by the epoch's folder; with `folder`, of that epoch alone.

    Raises InvariantBroken if there are two of one epoch, StoreAway.
    """
    return _digests(store, store.names(f"manifests/{partition}/{folder}".rstrip("/")))


def _digests(store: ObjectStore, names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        if (match := _MANIFEST.fullmatch(name)) is None:
            continue  # not one of our objects
        partition, epoch, digest = match.groups()
        if found.setdefault(epoch, digest) != digest:
            raise InvariantBroken(
                f"the store {store.uri} holds two manifests of the epoch {epoch} of partition {partition}: two hosts"
                " had different records or rules; audit both against the log"
            )
    return found


def read_stored(store: ObjectStore, log: Log, partition: int, folder: str, digest: str) -> tuple[EpochFiles, bytes]:
    """A stored manifest with the digests of its files, and its bytes.

    Raises InvalidInput if it is of another log, InvariantBroken if it doesn't fit its name, StoreAway.
    """
    name = f"manifests/{partition}/{folder}/{digest}.json"
    content = store.read(name) or b""
    try:
        whole = msgspec.json.decode(without_format(content, f"{name} in the store {store.uri}")[0], type=EpochFiles)
    except msgspec.MsgspecError:
        whole = None
    manifest = None if whole is None else whole.manifest
    if whole is None or manifest is None or manifest.digest().hex() != digest:
        raise InvariantBroken(f"{name} in the store {store.uri} is missing or was changed: restore it from a copy")
    if manifest.log_id != log.log_id:
        raise _of_another(store, manifest.log_id)
    if (manifest.partition, epoch_folder(manifest.start_ms)) != (partition, folder):
        raise InvariantBroken(f"{name} in the store {store.uri} speaks of another partition or epoch")
    return whole, content


def put_epoch(store: ObjectStore, paths: EpochPaths, step: Step) -> None:
    """Stores the files of an epoch whose manifest is final here, then the manifest. Repeating it changes nothing.

    Raises InvariantBroken if the store has another manifest of the epoch, StoreAway.
    """
    whole = read_manifest(paths.manifest)
    if whole is None:
        raise InvariantBroken(f"{paths.manifest} has vanished")
    if not _is_there(store, paths, whole):
        for path, digest in _files(paths, whole).items():
            if file_digest(path) != digest:
                raise InvariantBroken(f"{path} isn't the file that {paths.manifest} names")
            store.put(object_name(paths.data_dir, path, digest), file_chunks(path))
        step("4 files stored")
        name = f"manifests/{paths.partition}/{paths.folder}/{whole.manifest_digest}.json"
        store.put(name, [paths.manifest.read_bytes()])
        _is_there(store, paths, whole)
    step("4 manifest stored")


def fetch_epoch(store: ObjectStore, data_dir: Path, log: Log, partition: int, folder: str, digest: str) -> None:
    """Copies the files of an epoch from the store to the same paths here, the manifest last.

    Raises InvariantBroken if a file isn't the one that its manifest names, InvalidInput if the store belongs to another
    log, StoreAway.
    """
    whole, content = read_stored(store, log, partition, folder, digest)
    paths = EpochPaths(data_dir, folder, partition)
    if whole.manifest.skipped_ranges:  # they are signed; without them the manifest would contradict this folder
        adopt_skipped_ranges(data_dir, log, whole.manifest.skipped_ranges)
    for path, sha256 in _files(paths, whole).items():
        store.fetch(object_name(data_dir, path, sha256), path, sha256)
    make_folder(paths.manifest.parent)
    write_bytes(paths.manifest, content)


def sync_partition(
    store: ObjectStore, data_dir: Path, log: Log, partition: int, before: str, stopped: Callable[[], bool]
) -> None:
    """Fetches the epochs that only the store has, and stores those that are only here.

    Only epochs whose folder's name is less than `before`, and none once `stopped()`. The caller holds the partition's
    lock. Raises InvariantBroken if the two contradict each other, InvalidInput, StoreAway.
    """
    stored, here = stored_manifests(store, partition), _epochs_here(data_dir, partition)
    for folder in sorted(stored.keys() ^ here):
        if stopped() or folder >= before:
            break
        if folder in stored:
            fetch_epoch(store, data_dir, log, partition, folder, stored[folder])
        else:
            put_epoch(store, EpochPaths(data_dir, folder, partition), no_step)


def fetch_epochs(store: ObjectStore, data_dir: Path, log: Log) -> int:
    """Fetches the final epochs of other hosts, for settlement, audits and queries here; returns how many.

    Partitions that a worker here holds are skipped: their worker fetches them. Raises InvariantBroken if the store
    holds two manifests of an epoch, or a file that isn't the one its manifest names; InvalidInput if it belongs to
    another log; StoreAway.
    """
    folder = data_dir / "partitions"
    folder.mkdir(parents=True, exist_ok=True)
    fetched = 0
    names = [name for name in store.names("manifests") if _MANIFEST.fullmatch(name)]
    for number, group in groupby(names, key=lambda name: name.split("/")[1]):
        partition, stored = int(number), _digests(store, group)
        is_valid = stored.keys() <= _epochs_here(data_dir, partition)
        lock = None if is_valid else FileLock.acquire(folder / f"{partition}.lock")
        if lock is None:
            continue
        try:
            for epoch in sorted(stored.keys() - _epochs_here(data_dir, partition)):
                fetch_epoch(store, data_dir, log, partition, epoch, stored[epoch])
                fetched += 1
        finally:
            lock.release()
    return fetched


def _epochs_here(data_dir: Path, partition: int) -> set[str]:
    return {path.parent.name for path in (data_dir / "epochs").glob(f"*/{partition}.manifest.json")}


def _of_another(store: ObjectStore, log_id: str) -> InvalidInput:
    return InvalidInput(f"the store {store.uri} belongs to the log {log_id}: choose another store or prefix")


def _is_there(store: ObjectStore, paths: EpochPaths, whole: EpochFiles) -> bool:
    stored = stored_manifests(store, paths.partition, paths.folder).get(paths.folder)
    if stored not in {None, whole.manifest_digest}:
        raise InvariantBroken(
            f"{paths.manifest} has the digest {whole.manifest_digest}, the store {store.uri} has {stored} for this"
            " epoch: another host had different records or rules; audit both against the log"
        )
    return stored is not None


def _files(paths: EpochPaths, whole: EpochFiles) -> dict[Path, str]:
    """The files of an epoch with their SHA-256 (hex); other names in a stored document are ignored."""
    found = {}
    for path in paths.all():
        name = path.relative_to(paths.data_dir).as_posix()
        if name in whole.files:
            found[path] = whole.files[name]
    if paths.archive not in found:
        raise InvalidInput(f"{paths.manifest} names no archive: use the version that wrote it")
    return found


def object_name(data_dir: Path, path: Path, digest: str) -> str:
    """The name in a store of a file of an epoch with this SHA-256 (hex)."""
    name = PurePosixPath(path.relative_to(data_dir).as_posix())
    return str(name.with_name(f"{name.stem}.{digest}{name.suffix}"))
