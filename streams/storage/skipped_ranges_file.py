"""`skipped_ranges.json` of a data folder: the signed skipped ranges, checked against every manifest there.

In a store that hosts share, `skipped_ranges/<SHA-256>.json` holds one each: hosts add theirs without overwriting
another's.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec

from files.lock import FileLock
from files.read import FileMissing, decode_json, read_json
from files.write import write_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochFiles, SkippedRange
from streams.core.skipped_ranges import checked, named, within
from streams.storage.object_store import ObjectStore

FILE = "skipped_ranges.json"
FOLDER = "skipped_ranges"

LOCK_SECONDS = 15.0
"""How long to wait for another program's lock."""


def load_skipped_ranges(data_dir: Path, log: Log) -> tuple[SkippedRange, ...]:
    """The skipped ranges of the folder, checked; none without the file.

    Raises InvalidInput if the file can't be read, a range isn't signed by an operator, or they contradict a manifest:
    its ranges can't be removed, and none can be added to it.
    """
    skipped_ranges = read_skipped_ranges(data_dir, log)
    _check_published(data_dir, skipped_ranges)
    return skipped_ranges


def read_skipped_ranges(data_dir: Path, log: Log) -> tuple[SkippedRange, ...]:
    """As `load_skipped_ranges`, without the check against manifests: its time grows with their number."""
    what, remedy = "a list of skipped ranges", "restore it from a copy"
    try:
        return checked(log, read_json(data_dir / FILE, list[SkippedRange], what=what, remedy=remedy))
    except FileMissing:
        return ()


def add_skipped_range(data_dir: Path, log: Log, skipped: SkippedRange) -> tuple[SkippedRange, ...]:
    """Adds a newly signed range to the folder's file; returns all of them.

    Raises InvalidInput as `load_skipped_ranges`, or if a worker here holds the partition or has counted a record of the
    range; then it adds nothing.
    """
    checked(log, [skipped])
    folder = data_dir / "partitions"
    with _locked(folder / f"{skipped.partition}.lock", "a worker reads the partition: run `tallyroot down` first"):
        counted = _counted(folder / f"{skipped.partition}.duckdb")
        if counted > skipped.first_offset and skipped not in read_skipped_ranges(data_dir, log):
            raise InvalidInput(
                f"{named(skipped)} comes too late: a worker has counted all before offset {counted} already"
            )
        return adopt_skipped_ranges(data_dir, log, [skipped])


def adopt_skipped_ranges(data_dir: Path, log: Log, others: Iterable[SkippedRange]) -> tuple[SkippedRange, ...]:
    """Adds ranges that other hosts have signed and applied; returns all. Raises InvalidInput as
    `load_skipped_ranges`.
    """
    with _locked(data_dir / "skipped_ranges.lock", "another program is changing the skipped ranges: try again"):
        here = read_skipped_ranges(data_dir, log)
        skipped_ranges = checked(log, {*here, *others})
        _check_published(data_dir, skipped_ranges)
        if skipped_ranges != here:
            write_json(data_dir / FILE, skipped_ranges, indent=1)
    return skipped_ranges


def share_skipped_ranges(store: ObjectStore, data_dir: Path, log: Log) -> tuple[SkippedRange, ...]:
    """Copies to each of the two, folder and store, the ranges that only the other has; returns all.

    Raises InvalidInput as `load_skipped_ranges`, StoreAway.
    """
    stored = {name: _stored(store, name) for name in store.names(FOLDER) if name.endswith(".json")}
    skipped_ranges = adopt_skipped_ranges(data_dir, log, stored.values())
    for each in skipped_ranges:
        content = msgspec.json.encode(each)
        name = f"{FOLDER}/{hashlib.sha256(content).hexdigest()}.json"
        if name not in stored:
            store.put(name, [content])
    return skipped_ranges


def _stored(store: ObjectStore, name: str) -> SkippedRange:
    content, text = store.read(name) or b"", f"{name} in the store {store.uri}"
    return decode_json(content, SkippedRange, text, what="a skipped range", remedy="remove it there")


def _counted(checkpoint: Path) -> int:
    """The next offset of a checkpoint. The caller holds the partition's lock."""
    if not checkpoint.exists():
        return 0
    try:
        with duckdb.connect(str(checkpoint)) as db:
            ((offset,),) = db.execute("SELECT next_offset FROM position").fetchall()
    except duckdb.Error as error:
        raise InvalidInput(
            f"{checkpoint} can't be read ({str(error).splitlines()[0]}): restore it, or remove it to have it rebuilt"
        ) from None
    return int(offset or 0)


@contextmanager
def _locked(path: Path, otherwise: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := FileLock.acquire(path)) is None:
        if time.monotonic() > deadline:
            raise InvalidInput(f"{path} is held: {otherwise}")
        time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()


def _check_published(data_dir: Path, skipped_ranges: Sequence[SkippedRange]) -> None:
    for path in sorted(data_dir.glob("epochs/*/*.manifest.json")):
        try:
            manifest = read_json(path, EpochFiles, what="a manifest", remedy="restore it").manifest
        except InvalidInput:
            continue  # the code that needs the manifest reports what is wrong with it
        expected = within(skipped_ranges, manifest.partition, manifest.first_offset, manifest.next_offset)
        if manifest.skipped_ranges != expected:
            other = next(
                each
                for each in (*manifest.skipped_ranges, *expected)
                if not (each in expected and each in manifest.skipped_ranges)
            )
            raise InvalidInput(
                f"{named(other)} contradicts {path}, which is final: let {data_dir / FILE} name exactly the ranges"
                " that it names"
            )
