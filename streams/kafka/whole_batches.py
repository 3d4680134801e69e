"""aiokafka's records as its parser makes them, without one ConsumerRecord each: a fetch takes a third of the time.

The batches are ours (`raw_batches`): they unpack with a bound, and a slice ends once it holds UNPACKED_BYTES.

Beside consumer.py this module touches private parts of aiokafka (see PROVED there). Aborted transactions, control
batches and offsets before the position are handled as in aiokafka's own `FetchResult.getall`; a test holds the two
equal.
"""

import asyncio
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException

from schemas.errors import InvalidInput
from schemas.manifest import SkippedRange
from streams.kafka.raw_batches import RawBatch, RawBatches

UNPACKED_BYTES = 32 << 20
"""How much unpacked a slice holds at most, beside its last batch: small batches may each unpack to UNPACKED_MAX."""

_fetch = FunctionType(Fetcher._proc_fetch_request.__code__, {**vars(fetcher), "MemoryRecords": RawBatches})
"""The fetcher's own method, with our batches in place of aiokafka's."""


class WholeBatchFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher whose results return whole batches. `adopt` turns a consumer's own fetcher into one of these."""

    skipped_ranges: Sequence[SkippedRange] = ()

    @classmethod
    def adopt(cls, consumer: Any, skipped_ranges: Sequence[SkippedRange] = ()) -> None:
        """Changes the fetcher of a consumer that has started and has no assignment yet.

        Records within `skipped_ranges` are never returned, readable or not.
        """
        consumer._fetcher.__class__ = cls
        consumer._fetcher.skipped_ranges = skipped_ranges

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        try:
            woken = await _fetch(self, assignment, node_id, request)
        except (
            asyncio.CancelledError
        ):  # aiokafka ignores it too, except in its pause after an error: there its shutdown hung
            return False
        for result in self._records.values():  # new ones: nothing was awaited since they were made
            if type(result) is FetchResult and "getall" not in vars(result):
                result.getall = WholeBatches(result, self.skipped_ranges).getall
        return woken


class WholeBatches:
    """The records of one FetchResult, batch by batch."""

    def __init__(self, result: Any, skipped_ranges: Sequence[SkippedRange] = ()) -> None:
        self._result = result
        self._skipped_ranges = [each for each in skipped_ranges if each.partition == result._topic_partition.partition]
        self._left: list[Any] = []
        self._end = 0
        self._unpacked = 0
        self._unreadable: Exception | None = None

    def getall(self, max_records: int | None = None) -> list[Any]:
        """The next records, at most `max_records`; moves the partition's position past all that was read.

        Raises InvalidInput for an unreadable batch, once all records before it were returned.
        """
        result = self._result
        if not result.check_assignment(result._topic_partition) or not result.has_more():
            return []
        source = result._partition_records
        taken: list[Any] = []
        self._unpacked = 0
        while (max_records is None or len(taken) < max_records) and self._unpacked < UNPACKED_BYTES:
            try:
                if not self._left and not self._next_batch(source):
                    break
            except InvalidInput as error:
                self._unreadable = error
                break
            room = len(self._left) if max_records is None else max_records - len(taken)
            taken += self._left[:room]
            del self._left[:room]
            source.next_fetch_offset = taken[-1].offset + 1 if self._left else self._end
        result._update_position()
        if self._unreadable is not None:
            if not taken:
                raise self._unreadable
        elif not self._left and not source._records.has_next():
            result._partition_records = None
        return taken

    def _next_batch(self, source: Any) -> bool:
        """Parses batches until one holds records. False if none is left."""
        if self._unreadable is not None:
            raise self._unreadable
        while source._records.has_next():
            batch = source._records.next_batch()
            self._left = readable(source, batch, self._skipped_ranges)
            self._unpacked += batch.unpacked_size
            self._end = batch.next_offset
            if self._left:
                return True
            source.next_fetch_offset = self._end
        return False


def readable(source: Any, batch: RawBatch, skipped_ranges: Sequence[SkippedRange] = ()) -> list[Any]:
    """The records of a batch from the position on; none if it is a control batch or part of an aborted transaction.

    Raises InvalidInput if it can't be read, or unpacks to too much, and isn't within one skipped range (of this
    partition).
    """
    first, end = batch.base_offset, batch.next_offset
    is_skipped = any(each.first_offset <= first and end <= each.next_offset for each in skipped_ranges)
    if source._check_crcs and not batch.validate_crc():
        # The end of a transaction is never skipped: what its producer sent next would be taken for aborted.
        if is_skipped and not batch.is_control_batch:
            return []
        raise _unreadable(source, first, end, "records whose checksum is wrong: the broker's disk has changed them")
    if source._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch:
            if source._contains_abort_marker(batch):
                source._aborted_producers.discard(batch.producer_id)
            return []
        if batch.is_transactional and batch.producer_id in source._aborted_producers:
            return []
    if batch.is_control_batch:
        return []
    try:
        records = list(batch)
    except (InvalidInput, CorruptRecordException, UnicodeDecodeError) as error:
        if is_skipped:
            return []
        raise _unreadable(source, first, end, _what_is_wrong(error)) from None
    for each in skipped_ranges:
        records = [record for record in records if not each.first_offset <= record.offset < each.next_offset]
    if records and records[0].offset < source.next_fetch_offset:
        return [record for record in records if record.offset >= source.next_fetch_offset]
    return records


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"a record with a header whose name is not UTF-8 ({error}): Kafka's clients for Python can't read it"
    return f"records that are no records ({error})" if isinstance(error, CorruptRecordException) else str(error)


def _unreadable(source: Any, first: int, end: int, what: str) -> InvalidInput:
    partition = source._tp.partition
    return InvalidInput(
        f"partition {partition} of the topic {source._tp.topic} holds, between the offsets {first} and {end}, {what};"
        " to skip these records, let an operator sign the range with"
        f" `tallyroot skip-range {partition} {first} {end} --reason TEXT`"
    )
