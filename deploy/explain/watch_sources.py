"""Kafka's log as a watcher reads it: each look continues where the last one ended, while the process lives."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from deploy.explain.audit_sources import refuting, skipped_batches
from deploy.money.treasury import Treasury
from files.confined import ConfinedFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from settlement.audit.sources import Epoch, Published, SourceMissing, Sources
from settlement.chain.watcher import WatcherMemory
from settlement.storage.published_post import published_in
from streams.core.recompute import recompute
from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatches
from streams.storage.log_reader import LogReader


class Tail:
    """The records of a partition in slices: an iterator that ends where the log did at a look, until the next."""

    def __init__(self, partition: int, batches: SkippedBatches) -> None:
        """Batches that are stepped over are added to `batches`."""
        self._partition, self._batches = partition, batches
        self._reader: LogReader | None = None
        self._slices: Iterator[Sequence[LogRecord]] | None = None
        self._next = self._end = 0

    def open(self, reader: LogReader) -> None:
        """Begins another look. Raises InvalidInput where Kafka does not answer, or has lost the next records."""
        earliest, self._end = reader.range(self._partition)
        self._reader = reader
        if earliest > self._next:
            raise InvalidInput(
                f"Kafka has lost offsets {self._next} to {earliest} of partition {self._partition}:"
                " watch with --from-archive"
            )

    def close(self) -> None:
        """Ends a look: nothing stays connected."""
        if self._slices is not None:
            cast(Generator[Sequence[LogRecord], None, None], self._slices).close()
        self._reader = self._slices = None

    def __iter__(self) -> "Tail":
        return self

    def __next__(self) -> Sequence[LogRecord]:
        if self._reader is None or self._next >= self._end:
            raise StopIteration
        if self._slices is None:
            self._slices = self._reader.slices(self._partition, self._next, self._end, self._batches)
        for records in self._slices:
            if records:
                self._next = records[-1].offset + 1
                return records
        self._next, self._slices = self._end, None
        raise StopIteration


class LogMemory:
    """What a watcher of Kafka's log keeps between its looks: the memory of what it judged, and where it continues."""

    def __init__(self, log: Log) -> None:
        self.memory = WatcherMemory()
        self._log = log
        self._tails: dict[int, Tail] = {}
        self._skipped: Sequence[SkippedRange] = ()
        self._batches = skipped_batches(log)

    @contextmanager
    def reading(
        self,
        reader: Callable[[], LogReader],
        skipped: Sequence[SkippedRange] = (),
        published: Callable[[int], Published] | None = None,
    ) -> Iterator[Sources]:
        """The epochs of each partition, during one look. New skipped ranges start it again."""
        readers = [reader() for _ in range(self._log.partitions)]
        if list(skipped) != list(self._skipped):
            self.memory.forget()
        self._skipped = skipped
        try:
            for partition, tail in self._tails.items():
                tail.open(readers[partition])
            yield Sources(
                lambda partition: self._epochs(partition, readers[partition]), refuting(self._batches), published
            )
        finally:
            for tail in self._tails.values():
                tail.close()
            for each in readers:
                each.close()

    def _epochs(self, partition: int, reader: LogReader) -> Iterator[Epoch]:
        tail = self._tails[partition] = Tail(partition, self._batches[partition])
        try:
            tail.open(reader)
            for result in recompute(self._log, partition, tail, self._skipped, self._batches[partition]):
                yield Epoch(result.manifest, result.windows, result.payments)
        except InvalidInput as error:
            raise SourceMissing(str(error), withheld=False) from None


@contextmanager
def reading_on(treasury: Treasury, kept: LogMemory) -> Iterator[Sources]:
    """The same, from the Kafka of a data folder."""
    import logging

    from streams.kafka.reader import KafkaLogReader

    # Its loop rests while windows are recomputed; a fetch that timed out meanwhile is retried silently.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    servers, skipped = treasury.data.kafka_servers(), treasury.data.skipped_ranges()
    treasury.fetch_posts()

    def reader() -> LogReader:
        return KafkaLogReader(servers, treasury.log.topic, 0, skipped, is_auditing=True)

    with ConfinedFiles(treasury.data_dir) as files, kept.reading(reader, skipped, published_in(files)) as sources:
        yield sources
