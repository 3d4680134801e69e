"""aiokafka's records as its parser makes them, without one ConsumerRecord each: a third of the time of a fetch.

With consumer.py this is the other half of what touches private parts of aiokafka (see PROVED there). What a record
batch means (aborted transactions, control batches, offsets before the position) is asked and moved on as aiokafka's
own `FetchResult.getall` does it; a test holds the two equal.
"""

import asyncio
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult
from aiokafka.errors import CorruptRecordException

from schemas.errors import InvalidInput


class WholeBatchFetcher(Fetcher):  # type: ignore[misc]
    """A fetcher whose results hand over whole batches. `adopt` makes a consumer's own fetcher one of these."""

    @classmethod
    def adopt(cls, consumer: Any) -> None:
        """Changes the fetcher of a consumer that has started and has not been assigned anything yet."""
        consumer._fetcher.__class__ = cls

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        try:
            woken = await super()._proc_fetch_request(assignment, node_id, request)
        except (
            asyncio.CancelledError
        ):  # aiokafka takes it as we do, but not in its pause after an error: its end hung then
            return False
        for result in self._records.values():  # new ones: nothing was awaited since they were made
            if type(result) is FetchResult and "getall" not in vars(result):
                result.getall = WholeBatches(result).getall
        return woken


class WholeBatches:
    """The records of one FetchResult, batch by batch."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self._left: list[Any] = []
        self._end = 0
        self._unreadable: Exception | None = None

    def getall(self, max_records: int | None = None) -> list[Any]:
        """The next records, at most `max_records`, and moves the partition's position past all that was looked at.

        Raises what makes a batch unreadable, once all before it was handed over.
        """
        result = self._result
        if not result.check_assignment(result._topic_partition) or not result.has_more():
            return []
        source = result._partition_records
        taken: list[Any] = []
        while max_records is None or len(taken) < max_records:
            try:
                if not self._left and not self._next_batch(source):
                    break
            except (InvalidInput, CorruptRecordException) as error:
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
        """Parses on until a batch holds records of ours. False if none is left."""
        if self._unreadable is not None:
            raise self._unreadable
        while source._records.has_next():
            batch = source._records.next_batch()
            self._left = readable(source, batch)
            self._end = batch.next_offset
            if self._left:
                return True
            source.next_fetch_offset = self._end
        return False


def readable(source: Any, batch: Any) -> list[Any]:
    """The records of a batch from the position on, none if it is a control batch or belongs to what was aborted.

    Raises InvalidInput if aiokafka can't read it.
    """
    if source._check_crcs and not batch.validate_crc():
        raise CorruptRecordException(
            f"a record batch of {source._tp} at offset {batch.base_offset} has a wrong checksum"
        )
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
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"partition {source._tp.partition} of the topic {source._tp.topic} holds, between the offsets"
            f" {batch.base_offset} and {batch.next_offset}, a record with a header whose name is not UTF-8 ({error}):"
            " Kafka's clients for Python can't read it"
        ) from None
    if records and records[0].offset < source.next_fetch_offset:
        return [record for record in records if record.offset >= source.next_fetch_offset]
    return records
