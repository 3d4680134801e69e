"""aiokafka's records as its parser makes them, without one ConsumerRecord each: a fetch takes a third of the time.

The batches are ours (`raw_batches`): they unpack with a bound, and a slice ends once it holds UNPACKED_BYTES.

Beside consumer.py this module touches private parts of aiokafka (see PROVED there). Aborted transactions, control
batches and offsets before the position are handled as in aiokafka's own `FetchResult.getall`; a test holds the two
equal.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException

from schemas.errors import InvalidInput
from schemas.manifest import SkippedRange
from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatch, SkippedBatches, named
from streams.kafka.raw_batches import RawBatch, RawBatches
from streams.kafka.unpacking import USUAL_RATIO

if TYPE_CHECKING:  # Who wants objects does without the compiler.
    from streams.core.kernel.entries import Entries

UNPACKED_BYTES = 32 << 20
"""How much unpacked a slice holds at most, beside its last batch: small batches may each unpack to UNPACKED_MAX."""

WRONG_CHECKSUM = "records whose checksum is wrong: the broker's disk has changed them"

_fetch = FunctionType(Fetcher._proc_fetch_request.__code__, {**vars(fetcher), "MemoryRecords": RawBatches})
"""The fetcher's own method, with our batches in place of aiokafka's."""


class Skipping(NamedTuple):
    """What a fetcher does about batches within ranges that operators had skipped.

    A batch that can't be read is stepped over and, with `batches`, added to these. One that can be read is an error: a
    signature is no permission to leave it out. An auditor judges that itself: with `is_auditing` it is left out.
    """

    ranges: Sequence[SkippedRange] = ()
    batches: SkippedBatches | None = None
    is_auditing: bool = False

    def of(self, partition: int) -> "Skipping":
        """The part of one partition."""
        return self._replace(ranges=[each for each in self.ranges if each.partition == partition])

    def step_over(self, batch: RawBatch) -> bool:
        """Whether a batch that can't be read lies within one range; then it is noted."""
        first, end = batch.base_offset, batch.next_offset
        found = any(each.first_offset <= first and end <= each.next_offset for each in self.ranges)
        if found and self.batches is not None:
            self.batches[first] = SkippedBatch(first, end, bytes(batch.raw))
        return found

    def refuse(self, batch: RawBatch, entries: "Entries | None", before: int) -> None:
        """Raises RangeReadable if a batch that could be read reaches into a range; drops `entries` from `before` on."""
        for each in self.ranges:
            if each.first_offset < batch.next_offset and batch.base_offset < each.next_offset and not self.is_auditing:
                if entries is not None:
                    entries.cut(before)
                raise RangeReadable(
                    f"{named(each)} covers records that can be read, at the offsets {batch.base_offset} to"
                    f" {batch.next_offset}: they count; take the range out of skipped_ranges.json, and sign only what"
                    " can't be read"
                )


SKIPPING_NONE = Skipping()
OnFetch = Callable[[float], None]
"""Is called with the seconds from a request to an answer that brought records."""


class RangeReadable(InvalidInput):
    """A range that an operator had skipped holds records that can be read."""


class WholeBatchFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher whose results return whole batches. `adopt` turns a consumer's own fetcher into one of these."""

    skipping = SKIPPING_NONE
    in_arrays = False
    on_fetch: OnFetch | None = None

    @classmethod
    def adopt(
        cls,
        consumer: Any,
        skipping: Skipping = SKIPPING_NONE,
        *,
        in_arrays: bool = False,
        on_fetch: OnFetch | None = None,
    ) -> None:
        """Changes the fetcher of a consumer that has started and has no assignment yet.

        With `in_arrays` results are EntryRecords, without an object a record; otherwise lists of aiokafka's records.
        """
        consumer._fetcher.__class__ = cls
        consumer._fetcher.skipping = skipping
        consumer._fetcher.in_arrays = in_arrays
        consumer._fetcher.on_fetch = on_fetch

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        begun_s, has_records = time.monotonic(), False
        try:
            woken = await _fetch(self, assignment, node_id, request)
        except (
            asyncio.CancelledError
        ):  # aiokafka ignores it too, except in its pause after an error: there its shutdown hung
            return False
        for result in self._records.values():  # new ones: nothing was awaited since they were made
            if type(result) is FetchResult and "getall" not in vars(result):
                whole, has_records = WholeBatches(result, self.skipping), True
                result.getall = whole.in_arrays if self.in_arrays else whole.getall
        if has_records and self.on_fetch is not None:
            self.on_fetch(time.monotonic() - begun_s)
        return woken


class WholeBatches:
    """The records of one FetchResult, batch by batch."""

    def __init__(self, result: Any, skipping: Skipping = SKIPPING_NONE) -> None:
        self._result = result
        self._skipping = skipping.of(result._topic_partition.partition)
        self._left: Any = []
        """Records that were parsed and not taken: a list, or EntryRecords."""
        self._end = 0
        self._unpacked = 0
        self._unreadable: Exception | None = None

    def getall(self, max_records: int | None = None) -> list[Any]:
        """The next records, at most `max_records`; moves the partition's position past all that was read.

        Raises InvalidInput for an unreadable batch, once all records before it were returned.
        """
        if not self._has_more():
            return []
        source, taken = self._result._partition_records, list[Any]()
        self._unpacked = 0
        while (max_records is None or len(taken) < max_records) and self._unpacked < UNPACKED_BYTES:
            if not self._left and not self._next_batch(source, None):
                break
            room = len(self._left) if max_records is None else max_records - len(taken)
            taken += self._left[:room]
            self._left = self._left[room:]
        self._taken(source, taken)
        return taken

    def in_arrays(self, max_records: int | None = None) -> Sequence[LogRecord]:
        """The same in arrays."""
        from streams.core.kernel.entries import Entries, EntryRecords

        if not self._has_more():
            return []
        source = self._result._partition_records
        if not self._left:  # Otherwise arrays are in use by who got the first part of them.
            # Room that isn't used is no memory yet, and to grow is to write all of it again.
            entries = Entries(min(USUAL_RATIO * source._records.size_in_bytes(), UNPACKED_BYTES))
            self._unpacked = 0
            while (max_records is None or len(entries.records) < max_records) and self._unpacked < UNPACKED_BYTES:
                if not self._next_batch(source, entries):
                    break
            self._left = EntryRecords(entries, 0, len(entries.records))
        taken: EntryRecords = self._left[:max_records]
        self._left = self._left[len(taken) :]
        self._taken(source, taken)
        return taken

    def _has_more(self) -> bool:
        result = self._result
        return bool(result.check_assignment(result._topic_partition) and result.has_more())

    def _taken(self, source: Any, taken: Sequence[Any]) -> None:
        """Moves the position past what was taken. Raises the error of what could not be read, if that is next."""
        if taken:
            source.next_fetch_offset = taken[-1].offset + 1 if self._left else self._end
        self._result._update_position()
        if self._unreadable is not None:
            if not taken:
                raise self._unreadable
        elif not self._left and not source._records.has_next():
            self._result._partition_records = None

    def _next_batch(self, source: Any, entries: "Entries | None") -> bool:
        """Parses batches until one holds records, as objects in `_left` or into `entries`. False if none is left."""
        while self._unreadable is None and source._records.has_next():
            batch = source._records.next_batch()
            try:
                found = readable(source, batch, self._skipping, entries)
            except InvalidInput as error:
                self._unreadable = error
                return False
            self._unpacked += batch.unpacked_size
            self._end = batch.next_offset
            if entries is None:
                self._left = found
            if found:
                return True
            source.next_fetch_offset = self._end
        return False


def readable(
    source: Any,
    batch: RawBatch,
    skipping: Skipping = SKIPPING_NONE,
    entries: "Entries | None" = None,
) -> list[Any]:
    """The records of a batch from the position on; none if it is a control batch or part of an aborted transaction.

    With `entries` they are added to these, and the first one's offset is returned in their place. Raises InvalidInput
    if it can't be read, or unpacks to too much, and isn't within one skipped range (of this partition), RangeReadable
    if it can be, and is.
    """
    if source._check_crcs and not batch.validate_crc():
        # The end of a transaction is never skipped: what its producer sent next would be taken for aborted.
        if not batch.is_control_batch and skipping.step_over(batch):
            return []
        raise _unreadable(source, batch, WRONG_CHECKSUM)
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
    before = 0 if entries is None else len(entries.records)
    try:
        found = list(batch) if entries is None else _add(source, batch, skipping.ranges, entries)
    except (InvalidInput, CorruptRecordException, UnicodeDecodeError) as error:
        if skipping.step_over(batch):
            return []
        raise _unreadable(source, batch, _what_is_wrong(error)) from None
    skipping.refuse(batch, entries, before)
    return found if entries is not None else _from_position(source, found, skipping.ranges)


def _from_position(source: Any, records: list[Any], skipped_ranges: Sequence[SkippedRange]) -> list[Any]:
    for each in skipped_ranges:
        records = [record for record in records if not each.first_offset <= record.offset < each.next_offset]
    if records and records[0].offset < source.next_fetch_offset:
        return [record for record in records if record.offset >= source.next_fetch_offset]
    return records


def _add(source: Any, batch: RawBatch, skipped_ranges: Sequence[SkippedRange], entries: "Entries") -> list[int]:
    from streams.core.kernel.columns import OFFSET

    first = len(entries.records)
    entries.add(batch)
    if skipped_ranges or batch.base_offset < source.next_fetch_offset:
        offsets = entries.records[first:, OFFSET]
        is_kept = offsets >= source.next_fetch_offset
        for each in skipped_ranges:
            is_kept &= (offsets < each.first_offset) | (offsets >= each.next_offset)
        if not is_kept.all():
            entries.keep(np.concatenate([np.ones(first, np.bool_), is_kept]))
    return [int(offset) for offset in entries.records[first : first + 1, OFFSET]]


def why_unreadable(raw: bytes) -> str:
    """Why nobody can read the records of a batch; empty if they can be read. The worker's own test, made again."""
    from streams.core.kernel.entries import Entries

    try:
        batch = RawBatch(memoryview(raw))
        if not batch.validate_crc():
            return WRONG_CHECKSUM
        Entries().add(batch)
    except InvalidInput as error:
        return str(error)
    return ""


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"a record with a header whose name is not UTF-8 ({error}): Kafka's clients for Python can't read it"
    return f"records that are no records ({error})" if isinstance(error, CorruptRecordException) else str(error)


def _unreadable(source: Any, batch: RawBatch, what: str) -> InvalidInput:
    partition, first, end = source._tp.partition, batch.base_offset, batch.next_offset
    return InvalidInput(
        f"partition {partition} of the topic {source._tp.topic} holds, between the offsets {first} and {end}, {what};"
        " to skip these records, let an operator sign the range with"
        f" `tallyroot skip-range {partition} {first} {end} --reason TEXT`"
    )
