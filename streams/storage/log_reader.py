"""Reading a stretch of the log again: what the archive, the audit and the tests need of Kafka, and no more."""

from collections.abc import Iterator
from typing import Protocol

from streams.core.records import LogRecord


class LogReader(Protocol):
    """A second, independent look at one topic. It never commits anything and shares nothing with the consumer."""

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """The committed records with `first` <= offset < `next`, by ascending offset; offsets may have gaps.

        Ends once no record below `next` can follow, so a range of gaps only gives nothing.
        Raises InvalidInput if the log has no offset `first` any more, or doesn't reach `next` yet.
        """
        ...

    def range(self, partition: int) -> tuple[int, int]:
        """(earliest, end): the first offset that is kept and the one after the last committed record."""
        ...

    def topic_id(self) -> str:
        """The id that the broker gave the topic when it was made: another one means another topic of the same name."""
        ...

    def close(self) -> None:
        """Lets go of the connection. Reading afterwards is an error."""
        ...
