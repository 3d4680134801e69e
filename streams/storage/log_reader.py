"""The port by which a range of the log is read again: all that the archive and the audit need of Kafka.

Storage owns it, since the archive is written from it; `kafka.reader` and the simulations implement it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatches

SLICE_RECORDS = 5_000
"""How many records a slice holds at most."""


def in_slices(records: Iterable[LogRecord], size: int = SLICE_RECORDS) -> Iterator[Sequence[LogRecord]]:
    """Records in lists of `size`."""
    source = iter(records)
    while piece := list(islice(source, size)):
        yield piece


class LogReader(Protocol):
    """A second, independent reader of one topic. It never commits anything and shares nothing with the consumer."""

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """The committed records with `first` <= offset < `next`, by ascending offset; offsets may have gaps.

        Ends once no record below `next` can follow, so a range without records yields nothing.
        Raises InvalidInput if the log no longer has the offset `first`, or doesn't reach `next` yet.
        """
        ...

    def slices(
        self, partition: int, first: int, next: int, skipped: SkippedBatches | None = None
    ) -> Iterator[Sequence[LogRecord]]:
        """The same records in slices of any size: without an object each, where the reader can.

        A batch that can't be read and that an operator had skipped is added to `skipped`.
        """
        return in_slices(self.read(partition, first, next))

    def range(self, partition: int) -> tuple[int, int]:
        """(earliest, end): the first offset that is kept and the one after the last committed record."""
        ...

    def topic_id(self) -> str:
        """The id that the broker assigned at the topic's creation: another id means another topic of the same name."""
        ...

    def close(self) -> None:
        """Closes the connection. Reading afterwards is an error."""
        ...
