"""A fetch of many small batches that each unpack to much is handed over in slices of bounded size."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from streams.kafka.raw_batches import RawBatches
from streams.kafka.unpacking import ZSTD
from streams.kafka.whole_batches import UNPACKED_BYTES, WholeBatches

TOPIC_PARTITION = TopicPartition("log", 0)


class Fetched:
    """What WholeBatches asks of aiokafka's FetchResult."""

    def __init__(self, raw: bytes) -> None:
        self._topic_partition = TOPIC_PARTITION
        records = RawBatches(raw)
        self._partition_records: Any = PartitionRecords(
            TOPIC_PARTITION, records, [], 0, None, None, True, READ_UNCOMMITTED
        )

    def check_assignment(self, topic_partition: TopicPartition) -> bool:
        return topic_partition == TOPIC_PARTITION

    def has_more(self) -> bool:
        return self._partition_records is not None

    def _update_position(self) -> None:
        pass


def batch(offset: int, size: int) -> bytes:
    builder = Builder(2, ZSTD, 0, -1, -1, -1, 1 << 30)
    builder.append(0, 0, None, bytes(size), [])
    built = bytearray(builder.build())
    built[:8] = offset.to_bytes(8, "big")
    return bytes(built)


@pytest.mark.parametrize("form", ["getall", "in_arrays"])
def test_a_slice_ends_once_it_holds_32_mib(form: str) -> None:
    size = UNPACKED_BYTES // 4
    raw = b"".join(batch(offset, size) for offset in range(10))
    assert len(raw) < 20_000
    batches = WholeBatches(Fetched(raw))
    take = getattr(batches, form)
    slices = [[record.offset for record in take(60_000)] for _ in range(3)]
    assert slices == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert not take(60_000)
