"""Where an audit reads the log: Kafka itself, or the archive beside it. Both are replayed by the same pure core.

What can't be read ends the epochs with SourceMissing, after all those that could be: an audit judges what it can.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochManifest, SkippedRange
from schemas.reading import HEARTBEAT
from schemas.window import Window
from settlement.audit.sources import Refutes, SourceMissing, Sources
from streams.core.recompute import EpochResult, recompute
from streams.core.records import LogRecord, Record
from streams.core.skipped_ranges import SkippedBatches, checked, without_evidence
from streams.kafka.whole_batches import why_unreadable
from streams.storage.archive import archived_batches, archived_slices, read_skipped
from streams.storage.epoch_files import read_manifest
from streams.storage.log_reader import LogReader

Epoch = tuple[EpochManifest, list[Window]]
Slices = Iterable[Sequence[LogRecord]]
Recount = Callable[[Log, int, Slices, Sequence[SkippedRange], SkippedBatches], Iterator[EpochResult]]
"""Log, partition, its records in slices, skipped ranges and the batches in them to its epochs."""


def quickly(
    log: Log, partition: int, slices: Slices, skipped: Sequence[SkippedRange], batches: SkippedBatches
) -> Iterator[EpochResult]:
    """The recount by `advance` alone."""
    return recompute(log, partition, slices, skipped, batches)


def from_log(
    log: Log,
    reader: LogReader,
    partition: int,
    skipped: Sequence[SkippedRange],
    batches: SkippedBatches,
    recount: Recount = quickly,
) -> Iterator[Epoch]:
    """The epochs of a partition from Kafka's log, without the skipped ranges (which the reader leaves out too, and
    whose batches it adds to `batches`).

    Raises SourceMissing if Kafka doesn't answer, or the log has lost its beginning.
    """
    try:
        earliest, end = reader.range(partition)
        if earliest:
            raise InvalidInput(
                f"Kafka has lost the first {earliest} offsets of partition {partition}: audit with --from-archive"
            )
        slices = reader.slices(partition, 0, end, batches) if end else ()
        yield from _epochs(recount(log, partition, slices, skipped, batches))
    except InvalidInput as error:
        raise SourceMissing(str(error), withheld=False) from None


def from_archive(
    log: Log, data_dir: Path, partition: int, batches: SkippedBatches, recount: Recount = quickly
) -> Iterator[Epoch]:
    """The epochs of a partition from its archive, without Kafka. Raises SourceMissing where it ends."""
    archive = ArchiveSource(data_dir, partition, batches)
    try:
        skipped = checked(log, (each for manifest in archive.manifests for each in manifest.skipped_ranges))
    except InvalidInput as error:
        raise SourceMissing(str(error), withheld=True) from None
    yield from _epochs(recount(log, partition, archive.slices(), skipped, batches))
    if archive.gap is not None:
        raise archive.gap


def archived(log: Log, data_dir: Path, recount: Recount = quickly) -> Sources:
    """The archives of a data folder."""
    batches = skipped_batches(log)
    return Sources(
        lambda partition: from_archive(log, data_dir, partition, batches[partition], recount), refuting(batches)
    )


def skipped_batches(log: Log) -> dict[int, SkippedBatches]:
    """Room for the skipped batches of each partition."""
    return {partition: SkippedBatches() for partition in range(log.partitions)}


def refuting(batches: Mapping[int, SkippedBatches]) -> Refutes:
    """Tries to read the batches of a skipped range, as the worker had to before it stepped over them."""

    def refutes(skipped: SkippedRange) -> str:
        within = [
            batch
            for batch in batches[skipped.partition].values()
            if skipped.first_offset <= batch.first_offset < skipped.next_offset
        ]
        for batch in within:
            if not why_unreadable(batch.raw):
                return f"the records at the offsets {batch.first_offset} to {batch.next_offset} can be read"
        if (offset := without_evidence(skipped, within)) is not None:
            return f"at the offset {offset} there is no batch that can't be read"
        return ""

    return refutes


def archived_records(data_dir: Path, partition: int) -> Iterator[LogRecord]:
    """All archived records of a partition, then the cut of the last epoch. Raises SourceMissing where one lacks."""
    yield from ArchiveSource(data_dir, partition).whole()


class ArchiveSource:
    """The archived epochs of one partition: `manifests` in their order, up to the first that doesn't follow.

    `gap` is what ends them before the last one that was published: set when the records were read.
    """

    def __init__(self, data_dir: Path, partition: int, batches: SkippedBatches | None = None) -> None:
        """The skipped batches of an epoch are added to `batches` before its records are read."""
        self._batches = SkippedBatches() if batches is None else batches
        self._data_dir = data_dir
        self._partition = partition
        self._folders: list[str] = []
        self.manifests: list[EpochManifest] = []
        self.gap: SourceMissing | None = None
        for path in sorted(data_dir.glob(f"epochs/*/{partition}.manifest.json")):
            if not self._follows(path):
                break
        if not self.manifests and self.gap is None:
            text = f"no archive of partition {partition} in {data_dir}: let a worker finish an epoch"
            self.gap = SourceMissing(text, withheld=False)

    def whole(self, after: str = "") -> Iterator[LogRecord]:
        """The records of `slices` one by one. Raises SourceMissing where an archive lacks."""
        for records in self.slices(after):
            yield from records
        if self.gap is not None:
            raise self.gap

    def slices(self, after: str = "") -> Iterator[Sequence[LogRecord]]:
        """The records of each epoch whose archive is its manifest's, then the cut of the last; none where there is no
        epoch. With `after`, those of the epochs after that epoch's folder alone.

        The record that made that cut is the first one of an archive that isn't there. Its manifest says its offset and
        what it did to stream time; a heartbeat that does the same stands in for it.
        """
        last: EpochManifest | None = None
        for folder, manifest in zip(self._folders, self.manifests, strict=True):
            if folder <= after:
                continue
            path = self._data_dir / "log" / folder / f"{self._partition}.parquet"
            gap = _gap_of(path)
            if gap is not None:
                self.gap = gap
                break
            self._batches.update({batch.first_offset: batch for batch in read_skipped(path)})
            yield from archived_slices(path)
            last = manifest
        if last is not None:
            yield [Record(last.next_offset, last.stream_time_ms, None, b"{}", (("ce_type", HEARTBEAT.encode()),))]

    def _follows(self, path: Path) -> bool:
        """Adds the next manifest; False where one is missing before it, or it can't be read."""
        try:
            found = read_manifest(path)
        except (InvalidInput, OSError) as error:
            self.gap = SourceMissing(str(error), withheld=not isinstance(error, OSError))
            return False
        if found is None or found.manifest.digest().hex() != found.manifest_digest:
            self.gap = SourceMissing(f"{path} was changed: restore it, or audit from Kafka", withheld=True)
            return False
        epoch, next_offset = found.manifest.epoch, self.manifests[-1].next_offset if self.manifests else 0
        if found.manifest.first_offset != next_offset or (self.manifests and self.manifests[-1].epoch + 1 != epoch):
            text = f"epochs of partition {self._partition} before {path.parent.name} are missing: restore them"
            self.gap = SourceMissing(text, withheld=True)
            return False
        self._folders.append(path.parent.name)
        self.manifests.append(found.manifest)
        return True


def _gap_of(path: Path) -> SourceMissing | None:
    """Why an archive can't be used. Where no archive is here at all, or the disk fails, nobody withholds it.

    One that can be read and was changed is replayed: the audit names the window that differs.
    """
    if not path.is_file():
        text = f"the archive {path} is missing: restore it, or audit from Kafka"
        return SourceMissing(text, withheld=path.parent.parent.is_dir())
    try:
        for _ in archived_batches(path):
            pass  # read once as a whole: so that its records don't fail in the middle
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:  # it may hold anything
        line = next(iter(str(error).splitlines()), type(error).__name__)
        is_disk = isinstance(error, OSError) and error.errno is not None
        text = f"the archive {path} can't be read ({line}): restore it, or audit from Kafka"
        return SourceMissing(text, withheld=not is_disk)
    return None


def _epochs(results: Iterable[EpochResult]) -> Iterator[Epoch]:
    for result in results:
        yield result.manifest, result.windows
