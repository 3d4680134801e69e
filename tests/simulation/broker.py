"""A topic in memory: partitions with gaps between offsets, fetches of any size, and a LogReader."""

import random
from bisect import bisect_left
from collections.abc import Iterator

from schemas.errors import InvalidInput
from streams.core.records import LogRecord, Record
from streams.storage.log_reader import LogReader
from tests.simulation.traffic import Traffic

Slice = tuple[int, int, list[Record]]
"""(start, next, the records between)."""


class SimBroker(LogReader):
    """Implements LogReader over what the producers have written so far."""

    def __init__(self, draw: random.Random, traffic: list[Traffic]) -> None:
        self._draw = draw
        self._traffic = traffic

    def records(self, partition: int) -> list[Record]:
        """All records of a partition."""
        return self._traffic[partition].log

    def end(self, partition: int) -> int:
        """The offset after the last record."""
        records = self.records(partition)
        return records[-1].offset + 1 if records else 0

    def fetch(self, partition: int, start: int) -> Slice:
        """Some of what comes at `start` and after it, maybe nothing. The fetch may reach into the gap that follows."""
        records = self.records(partition)
        first = bisect_left(records, start, key=lambda record: record.offset)
        count = self._draw.choice((0, 1, 3, 10, 30, 60))
        found = records[first : first + count]
        least = found[-1].offset + 1 if found else start
        following = records[first + len(found) : first + len(found) + 1]
        most = following[0].offset if following else max(least, self.end(partition))
        return start, self._draw.choice((least, least, self._draw.randint(least, most))), found

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """See LogReader."""
        if next > self.end(partition):
            raise InvalidInput(f"partition {partition} ends at {self.end(partition)}")
        return iter([record for record in self.records(partition) if first <= record.offset < next])

    def range(self, partition: int) -> tuple[int, int]:
        """See LogReader."""
        return 0, self.end(partition)

    def topic_id(self) -> str:
        """See LogReader."""
        return "simulated"

    def close(self) -> None:
        """See LogReader."""
