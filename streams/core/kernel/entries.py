"""The records of a slice in arrays: batches are added, and what is rare is read back as objects."""

from collections.abc import Sequence
from copy import copy
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidInput
from streams.core.kernel import columns as c
from streams.core.kernel.batches import BATCH_HEADERS_MAX, CROWDED, DAMAGED, ODD_NAME, WHOLE, split, varint
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix, Words
from streams.core.records import LogRecord, Record

_WRONG = {
    DAMAGED: "records that are no records",
    ODD_NAME: "a record with a header whose name is not UTF-8: Kafka's clients for Python can't read it",
    CROWDED: f"more than {BATCH_HEADERS_MAX:,} headers in one batch",
}

OFFSETS_OF_A_BATCH = 2**31
"""A batch's offsets lie no further apart."""

SMALL_RECORD_BYTES = 64
"""What a small record takes in a batch: how much room for lines is taken at first."""

SPARE = 24
"""Bytes behind all others, so that two integers of eight may be read from the last one on."""


Headers = list[tuple[str, bytes | None]]


class PlainBatch(Protocol):
    """A record batch, unpacked. Timestamps are epoch ms; `append_timestamp` stands for all its records."""

    base_offset: int
    first_timestamp: int
    append_timestamp: int | None
    count: int

    @property
    def unpacked(self) -> bytes | memoryview: ...


class Entries:
    """The records of a slice: a buffer that grows, and the lines of `records` that point into it."""

    def __init__(self, room: int = 1 << 16) -> None:
        """`room` is how many bytes are expected; it grows."""
        self.buffer: Bytes = np.empty(0, np.uint8)
        self.size = 0
        self.make_room(room)
        self._records: Matrix = np.empty((1 + room // SMALL_RECORD_BYTES, c.RECORD_COLUMNS), np.int64)
        self._count = 0
        self._headers_written: bytes | None = None
        self._headers: Headers = []

    @property
    def records(self) -> Matrix:
        """A line for each record so far. A view: to be asked for again after `add`."""
        return self._records[: self._count]

    @property
    def words(self) -> Words:
        """The buffer, eight bytes each."""
        return self.buffer.view(np.uint64)

    def add(self, batch: PlainBatch) -> None:
        """Adds the records of a batch. Raises InvalidInput if it holds no records; then nothing is added."""
        unpacked = batch.unpacked
        self.make_room(len(unpacked))
        if not 0 <= batch.count <= len(unpacked):
            raise InvalidInput("records whose number is wrong")
        lines = self._lines(batch.count)
        end = self.size + len(unpacked)
        self.buffer[self.size : end] = np.frombuffer(unpacked, np.uint8)
        timestamp = batch.first_timestamp if batch.append_timestamp is None else batch.append_timestamp
        became = split(
            self.buffer, self.size, end, batch.base_offset, timestamp, batch.append_timestamp is not None, lines
        )
        if became != WHOLE:
            raise InvalidInput(_WRONG[became])
        self.size, self._count = end, self._count + batch.count

    def add_lines(self, count: int) -> Matrix:
        """Adds so many lines to `records`, for the caller to fill; returns a view of them."""
        lines = self._lines(count)
        self._count += count
        return lines

    def _lines(self, count: int) -> Matrix:
        wanted = self._count + count
        if wanted > len(self._records):
            grown = np.empty((max(wanted, 2 * len(self._records)), c.RECORD_COLUMNS), np.int64)
            grown[: self._count] = self.records
            self._records = grown
        return self._records[self._count : wanted]

    def clear(self) -> None:
        """Forgets all records; the memory stays, for the next slice."""
        self.size = self._count = 0

    def cut(self, count: int) -> None:
        """Drops all records but the first `count`."""
        self._count = count

    def keep(self, is_kept: NDArray[np.bool_]) -> None:
        """Drops all records but those marked, one mark a record: offsets before a position, ranges to step over."""
        kept = self.records[is_kept]
        self._count = len(kept)
        self._records[: self._count] = kept

    def make_room(self, size: int) -> None:
        """Makes the buffer hold so many more bytes. Positions stay, the array may be another one."""
        wanted = self.size + size + SPARE
        if wanted > len(self.buffer):
            grown = np.empty(1 << (wanted - 1).bit_length(), np.uint8)
            grown[: self.size] = self.buffer[: self.size]
            self.buffer = grown

    def write(self, text: bytes | Bytes) -> int:
        """Puts bytes behind all others; returns their position."""
        self.make_room(len(text))
        at = self.size
        self.buffer[at : at + len(text)] = np.frombuffer(text, np.uint8)
        self.size += len(text)
        return at

    def record(self, line: int) -> Record:
        """A record as an object: for what is rare."""
        cells = self._records[line].tolist()
        written = self.bytes_at(cells[c.HEADERS_AT], cells[c.HEADERS_LEN])
        if written != self._headers_written:  # those of one producer are mostly the same
            self._headers_written, self._headers = written, self._headers_at(cells[c.HEADERS_AT], cells[c.HEADERS])
        return Record(
            cells[c.OFFSET],
            cells[c.TIMESTAMP],
            self.bytes_at(cells[c.KEY_AT], cells[c.KEY_LEN]),
            self.bytes_at(cells[c.VALUE_AT], cells[c.VALUE_LEN]),
            [*self._headers],
        )

    def _headers_at(self, at: int, count: int) -> Headers:
        headers: Headers = []
        for _ in range(count):
            name, at = self._text(at)
            value, at = self._text(at)
            headers.append(((name or b"").decode(), value))
        return headers

    def bytes_at(self, at: int, size: int) -> bytes | None:
        """Bytes of the buffer; None for the size NONE."""
        return None if size == NONE else self.buffer[at : at + size].tobytes()

    def _text(self, at: int) -> tuple[bytes | None, int]:
        size, at = varint(self.buffer, at, self.size)
        return self.bytes_at(at, max(NONE, size)), at + max(0, size)


class EntryRecords(Sequence[LogRecord]):
    """The records of `entries` from the line `first` on, before `end`: each becomes an object when it is asked for."""

    def __init__(self, entries: Entries, first: int, end: int) -> None:
        self.entries, self.first, self.end = entries, first, end

    def __len__(self) -> int:
        return self.end - self.first

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "EntryRecords": ...
    def __getitem__(self, index: int | slice) -> "Record | EntryRecords":
        if isinstance(index, slice):
            lines = range(self.first, self.end)[index]
            if lines.step != 1:
                raise IndexError("records are sliced without steps")
            return EntryRecords(self.entries, lines.start, lines.stop)
        return self.entries.record(range(self.first, self.end)[index])

    @classmethod
    def of(cls, records: Sequence[LogRecord]) -> "EntryRecords":
        """Records in arrays: these, if they are already. Raises InvalidInput for what Kafka could not have held."""
        if isinstance(records, EntryRecords):
            return records
        entries = Entries()
        if records and records[-1].offset - records[0].offset > OFFSETS_OF_A_BATCH:
            for record in records:
                entries.add(Written([record]))
        elif records:
            entries.add(Written(records))
        return cls(entries, 0, len(records))

    @property
    def lines(self) -> Matrix:
        """A line of `records` for each. A view."""
        return self.entries.records[self.first : self.end]

    @property
    def offsets(self) -> Ints:
        """The offset of each."""
        return self.lines[:, c.OFFSET]

    @property
    def timestamps(self) -> Ints:
        """The timestamp of each (epoch ms)."""
        return self.lines[:, c.TIMESTAMP]

    def alone(self) -> Entries:
        """These records, and those before them, as entries of their own. The arrays are shared: only one may be used
        at a time.
        """
        alone = copy(self.entries)
        alone.cut(self.end)
        return alone


class Written:
    """Records as one plain batch, for logs that don't come from Kafka: archives, replays, tests."""

    append_timestamp: int | None = None
    first_timestamp = 0

    def __init__(self, records: Sequence[LogRecord]) -> None:
        self.count = len(records)
        self.base_offset = min((record.offset for record in records), default=0)
        self.unpacked = b"".join(_text(self._written(record)) for record in records)

    def _written(self, record: LogRecord) -> bytes:
        headers = [_text(name.encode()) + _text(value) for name, value in record.headers or ()]
        parts = [b"\0", _number(record.timestamp), _number(record.offset - self.base_offset)]
        return b"".join([*parts, _text(record.key), _text(record.value), _number(len(headers)), *headers])


def _number(value: int) -> bytes:
    """A zigzag varint."""
    raw = (value << 1) ^ (value >> 63)
    written = bytearray()
    while raw > 0x7F:
        written.append(0x80 | raw & 0x7F)
        raw >>= 7
    written.append(raw)
    return bytes(written)


def _text(value: bytes | None) -> bytes:
    return _number(NONE) if value is None else _number(len(value)) + value
