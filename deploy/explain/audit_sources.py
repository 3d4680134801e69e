"""Where an audit reads the log: Kafka itself, or the archive beside it. Both are replayed by the same pure core.

What can't be read ends the epochs with SourceMissing, after all those that could be: an audit judges what it can.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from deploy.explain.archive_source import ArchiveSource
from files.foreign import ForeignFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from settlement.audit.sources import Epoch, Refutes, SourceMissing, Sources
from settlement.storage.published_post import published_in
from streams.core.recompute import EpochResult, recompute
from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatches, checked, without_evidence
from streams.kafka.whole_batches import why_unreadable
from streams.storage.log_reader import LogReader

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
    log: Log, files: ForeignFiles, partition: int, batches: SkippedBatches, recount: Recount = quickly
) -> Iterator[Epoch]:
    """The epochs of a partition from its archive, without Kafka. Raises SourceMissing where it ends."""
    archive = ArchiveSource(files, partition, batches)
    try:
        skipped = checked(log, (each for manifest in archive.manifests for each in manifest.skipped_ranges))
    except InvalidInput as error:
        raise SourceMissing(str(error), withheld=True) from None
    yield from _epochs(recount(log, partition, archive.slices(), skipped, batches))
    raise archive.gap or archive.end


def archived(log: Log, files: ForeignFiles, recount: Recount = quickly) -> Sources:
    """The archives of a data folder."""
    batches = skipped_batches(log)
    return Sources(
        lambda partition: from_archive(log, files, partition, batches[partition], recount),
        refuting(batches),
        published_in(files),
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


def _epochs(results: Iterable[EpochResult]) -> Iterator[Epoch]:
    for result in results:
        yield Epoch(result.manifest, result.windows, result.payments)
