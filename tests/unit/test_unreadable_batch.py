"""A batch that aiokafka can't parse stops a partition there: all before it is handed over, and the line names it."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from schemas.errors import InvalidInput
from schemas.manifest import SkippedRange
from streams.core.skipped_ranges import SkippedBatch
from streams.kafka.raw_batches import RawBatches
from streams.kafka.whole_batches import RangeReadable, Skipping, WholeBatches, why_unreadable

PLACE = TopicPartition("log", 3)


class RawName(str):
    """A header's name of any bytes, as a producer in another language may send it."""

    raw: bytes

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


def batch(first: int, name: bytes, count: int = 2) -> bytes:
    """A record batch whose records have a header of this name."""
    header = RawName("x" * len(name))
    header.raw = name
    builder = Builder(2, 0, 0, -1, -1, -1, 1_000_000)
    for place in range(count):
        builder.append(place, 1_000, b"k", b"v", [(header, b"1")])
    built = builder.build()
    built[:8] = first.to_bytes(8, "big")  # the base offset is outside of what the checksum covers
    return bytes(built)


async def result_of(data: bytes) -> Any:
    """aiokafka's own result of a fetch that brought these bytes, position 0."""
    assignment = Assignment([PLACE])
    assignment.state_value(PLACE).seek(0)
    records = PartitionRecords(PLACE, RawBatches(data), None, 0, None, None, True, READ_COMMITTED)
    return FetchResult(PLACE, assignment=assignment, partition_records=records, backoff=0)


@pytest.mark.parametrize("form", ["getall", "in_arrays"])
def test_what_comes_before_it_is_handed_over(form: str) -> None:
    async def scenario() -> None:
        result = await result_of(batch(0, b"ok") + batch(2, b"\xff\xfe", 3) + batch(5, b"ok"))
        take = getattr(WholeBatches(result), form)
        assert [record.offset for record in take(1)] == [0]
        assert [record.offset for record in take(10)] == [1]
        for _ in range(2):
            with pytest.raises(InvalidInput, match=r"partition 3 of the topic log .* offsets 2 and 5, .* not UTF-8"):
                take(10)

    asyncio.run(scenario())


@pytest.mark.parametrize("form", ["getall", "in_arrays"])
def test_a_wrong_checksum_is_no_record_and_can_be_stepped_over(form: str) -> None:
    async def scenario() -> None:
        broken = bytearray(batch(0, b"ok"))
        broken[-1] ^= 1
        data = bytes(broken) + batch(2, b"ok")
        with pytest.raises(InvalidInput, match=r"offsets 0 and 2, .* checksum is wrong.*`tallyroot skip-range 3 0 2 "):
            getattr(WholeBatches(await result_of(data)), form)()
        half, all_of_it = (
            SkippedRange(partition=3, first_offset=0, next_offset=end, reason="x", signature="00" * 65)
            for end in (1, 2)
        )
        with pytest.raises(InvalidInput, match="checksum is wrong"):
            getattr(WholeBatches(await result_of(data), Skipping([half])), form)()
        skipping = Skipping([all_of_it], batches={})
        assert [record.offset for record in getattr(WholeBatches(await result_of(data), skipping), form)()] == [2, 3]
        assert skipping.batches == {0: SkippedBatch(0, 2, bytes(broken))}
        assert "checksum is wrong" in why_unreadable(bytes(broken))


@pytest.mark.parametrize("form", ["getall", "in_arrays"])
def test_what_can_be_read_is_never_stepped_over(form: str) -> None:
    """Skipping is evidence, not permission: an operator's signature hid 2,000 good readings."""

    async def scenario() -> None:
        data = batch(0, b"ok") + batch(2, b"ok", 5) + batch(7, b"ok")
        hidden = SkippedRange(partition=3, first_offset=3, next_offset=5, reason="x", signature="00" * 65)
        take = getattr(WholeBatches(await result_of(data), Skipping([hidden])), form)
        assert [record.offset for record in take()] == [0, 1]
        with pytest.raises(
            RangeReadable, match="offsets 3 to 5 of partition 3 covers records that can be read, at the"
        ):
            take()
        audited = getattr(WholeBatches(await result_of(data), Skipping([hidden], is_auditing=True)), form)()
        assert [record.offset for record in audited] == [0, 1, 2, 5, 6, 7, 8]
        assert why_unreadable(batch(2, b"ok", 5)) == ""

    asyncio.run(scenario())

    asyncio.run(scenario())
