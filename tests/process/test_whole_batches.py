"""Records handed over batch by batch are those that aiokafka hands over one by one, at the same positions."""

import asyncio
from typing import Any

import aiokafka
import pytest

from schemas.log import Log
from streams.core.records import Record
from streams.kafka.topics import create_topic
from streams.kafka.whole_batches import WholeBatchFetcher
from tests.support.kafka_log import CODECS, ODD_HEADERS, POISON, Sender, a_log

FORMS = ("stock", "whole", "in arrays")
Read = tuple[list[tuple[Any, ...]], int]


@pytest.fixture(scope="module")
def log(kafka: str) -> Log:
    """Partition 0: every compression, odd records, transactions that ended well and badly, one after the other."""
    log = a_log("whole-batches", partitions=1)
    create_topic(kafka, log)
    for codec in CODECS:
        plain = Sender(kafka, log, **{"compression.type": codec})
        plain.send([Record(0, place, b"k", b"%d" % place, ODD_HEADERS if place % 3 else []) for place in range(20)], 0)
        plain.send(POISON, 0)
        plain.kafka.flush(10)
        bound = Sender(kafka, log, **{"compression.type": codec, "transactional.id": f"{log.topic}-{codec}"})
        bound.kafka.init_transactions()
        for end in (bound.kafka.abort_transaction, bound.kafka.commit_transaction, bound.kafka.abort_transaction):
            bound.kafka.begin_transaction()
            bound.send([Record(0, place, None, b"bound", []) for place in range(5)], 0)
            bound.kafka.flush(10)
            end()
    return log


@pytest.mark.parametrize("isolation_level", ["read_committed", "read_uncommitted"])
@pytest.mark.parametrize("max_records", [1, 7, 100, None])
@pytest.mark.parametrize("first", [0, 3, 26])
def test_the_same_records_at_the_same_positions(
    kafka: str, log: Log, isolation_level: str, max_records: int | None, first: int
) -> None:
    async def all_forms() -> list[Read]:
        return [await _read(kafka, log, isolation_level, max_records, first, form) for form in FORMS]

    stock, whole, in_arrays = asyncio.run(all_forms())
    assert whole == stock
    assert in_arrays == stock
    offsets = [record[0] for record in whole[0]]
    assert offsets == sorted(set(offsets))
    values = [record[3] for record in whole[0]]
    if first < 25:  # before the first transaction, an aborted one
        assert offsets[0] == first
        assert values.count(b"bound") == len(CODECS) * (5 if isolation_level == "read_committed" else 15)


async def _read(servers: str, log: Log, isolation_level: str, max_records: int | None, first: int, form: str) -> Read:
    place = aiokafka.TopicPartition(log.topic, 0)
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level=isolation_level, auto_offset_reset="none", fetch_max_wait_ms=10
    )
    await consumer.start()
    try:
        if form != "stock":
            WholeBatchFetcher.adopt(consumer, in_arrays=form == "in arrays")
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        consumer.seek(place, first)
        records: list[tuple[Any, ...]] = []
        while await consumer.position(place) < end:
            fetched = (await consumer.getmany(place, timeout_ms=20, max_records=max_records)).get(place, [])
            assert max_records is None or len(fetched) <= max_records
            records += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in fetched]
        return records, await consumer.position(place)
    finally:
        await consumer.stop()
