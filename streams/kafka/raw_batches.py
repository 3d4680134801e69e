"""The record batches of a fetch as the broker sent them (Kafka's message format v2), unpacked with a bound.

`RawBatches` stands where aiokafka's fetcher makes its own `MemoryRecords`, which unpack whatever they are sent.
"""

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

from schemas.errors import InvalidInput
from streams.kafka.unpacking import unpack

_LENGTH = struct.Struct(">qi")
_HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and max timestamp, producer id
and epoch, base sequence, number of records: https://kafka.apache.org/documentation/#recordbatch
"""
_MAGIC_AT, _ATTRIBUTES_AT = struct.calcsize(">qii"), struct.calcsize(">qiibI")
_PACKING, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20

MAGIC = 2

BATCH_RECORDS_MAX = 1 << 18
"""The most records of one batch: a record without key and value takes seven bytes, and 140 where it is read."""


class RawBatch:
    """One batch; its records are unpacked once they are asked for. Timestamps are epoch ms."""

    def __init__(self, raw: memoryview) -> None:
        """Raises InvalidInput for what is no batch, as the message formats of before Kafka 0.11 are none."""
        if len(raw) < _HEADER.size or raw[_MAGIC_AT] != MAGIC:
            (offset,) = struct.unpack_from(">q", raw.tobytes().ljust(8, b"\0"))
            raise InvalidInput(
                f"at the offset {offset} begins no batch, or one of before Kafka 0.11: restore the log, or convert it"
            )
        header = _HEADER.unpack_from(raw)
        self.raw = raw
        """The whole batch, its header included."""
        self.base_offset: int = header[0]
        self._crc: int = header[4]
        self._attributes: int = header[5]
        self.next_offset: int = header[0] + header[6] + 1
        self.first_timestamp: int = header[7]
        self.append_timestamp: int | None = header[8] if header[5] & _APPEND_TIME else None
        self.producer_id: int | None = header[9]
        self.count: int = header[12]
        self.unpacked_size = 0

    @property
    def is_control_batch(self) -> bool:
        """Whether the broker wrote it, at the end of a transaction."""
        return bool(self._attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether it is part of a transaction."""
        return bool(self._attributes & _TRANSACTIONAL)

    def validate_crc(self) -> bool:
        """Whether the bytes are those that the producer sent."""
        return bool(calc_crc32c(self.raw[_ATTRIBUTES_AT:]) == self._crc)

    @cached_property
    def unpacked(self) -> memoryview:
        """The bytes of the records. Raises InvalidInput if they can't be unpacked, or not within the bounds."""
        if self.count > BATCH_RECORDS_MAX:
            raise InvalidInput(f"{self.count:,} records in one batch, more than {BATCH_RECORDS_MAX:,}")
        unpacked = unpack(self._attributes & _PACKING, self.raw[_HEADER.size :])
        self.unpacked_size = len(unpacked)
        return unpacked

    def __iter__(self) -> Iterator[Any]:
        """aiokafka's records. Raises its CorruptRecordException, or UnicodeDecodeError for the name of a header."""
        header = bytearray(self.raw[: _HEADER.size])
        header[_ATTRIBUTES_AT + 1] &= ~_PACKING & 0xFF
        records = header + self.unpacked
        self.__dict__.pop("unpacked")  # so that a batch at the bound is held once, not twice
        yield from DefaultRecordBatch(records)

    def __next__(self) -> Any:
        """The first record, for aiokafka, which reads a control batch's marker so."""
        return next(iter(self))


class RawBatches:
    """The batches of one partition's part of a fetch: what aiokafka's fetcher asks of a `MemoryRecords`."""

    def __init__(self, fetched: bytes) -> None:
        self._fetched, self._at = memoryview(fetched), 0

    def size_in_bytes(self) -> int:
        """How much was fetched."""
        return len(self._fetched)

    def has_next(self) -> bool:
        """Whether a whole batch is left; the last one of a fetch may be cut short."""
        return self._end() is not None

    def next_batch(self) -> RawBatch | None:
        """The next batch, None if no whole one is left."""
        end = self._end()
        if end is None:
            return None
        batch = RawBatch(self._fetched[self._at : end])
        self._at = end
        return batch

    def _end(self) -> int | None:
        if self._at + _LENGTH.size > len(self._fetched):
            return None
        # A length below zero, from a disk or a broker that lies, must not lead back: what it leads to is no batch.
        end = self._at + _LENGTH.size + max(0, int(_LENGTH.unpack_from(self._fetched, self._at)[1]))
        return end if end <= len(self._fetched) else None
