"""The topic of rejects in a real Kafka: whatever is killed, each refused offset stands there once, with its bytes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from schemas.errors import InvalidInput
from schemas.reject import KEPT_BYTES
from streams.core.records import Record
from streams.kafka.outbox_topic import RejectedMessage, rejects_in_kafka
from streams.kafka.reader import KafkaLogReader
from streams.kafka.security import client_config
from streams.kafka.topics import create_topic, rejected_topic
from streams.worker.app import WorkerProgress
from tests.support.kafka_log import POISON, Sender, a_log
from tests.support.sim_log import START_MS, reading
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]


@pytest.fixture
def workers(kafka: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(kafka, tmp_path)
    yield workers
    workers.kill()


def read_all(bootstrap_servers: str, topic: str, partition: int) -> list[Message]:
    """All committed records of a partition."""
    settings = {"group.id": "test", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer(client_config(bootstrap_servers) | settings)
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[Message] = []
    while True:
        message = consumer.poll(10)
        assert message is not None
        error = message.error()
        if error is None:
            found.append(message)
        else:
            assert error.code() == KafkaError._PARTITION_EOF
            consumer.close()
            return found


def rejected(message: Message) -> dict[str, Any]:
    headers = dict(message.headers() or [])
    assert headers["ce_type"] == b"entry.rejected"
    found: dict[str, Any] = msgspec.json.decode(headers["rejected"])
    return found


def test_each_refused_offset_stands_there_once_whatever_is_killed(kafka: str, workers: Workers) -> None:
    log = a_log("refusing", partitions=2)
    create_topic(kafka, log)
    sender = Sender(kafka, log)
    for place in range(150):
        moment = START_MS + place * 1_000
        poison = POISON[place % len(POISON)]._replace(timestamp=moment)
        sender.send(
            [poison, Record(0, moment, b"k", b"[1,2,%d]" % place, []), reading("m", 0, moment, 1, 0)], place % 2
        )
    sender.end(START_MS + 3 * log.epoch_ms)
    for kill in (2, 4, 3):
        worker = workers.start(log, records_max=15, session_seconds=2.0)

        def reached(progress: list[WorkerProgress], count: int = kill) -> bool:
            return len(progress) >= count

        worker.wait_for(reached)
        worker.kill()
    workers.catch_up(log)
    reader = KafkaLogReader(kafka, log.topic)
    for partition in range(log.partitions):
        sent = read_all(kafka, rejected_topic(log.topic), partition)
        records = {record.offset: record for record in reader.read(partition, 0, reader.range(partition)[1])}
        end = max(records)
        assert [rejected(message)["offset"] for message in sent] == [n for n in sorted(records) if n != end]
        for message in sent:
            said = rejected(message)
            record = records[said["offset"]]
            value = record.value or b""
            assert message.value() == value[:KEPT_BYTES]
            assert (message.key(), message.timestamp()[1]) == (record.key, record.timestamp)
            assert (said["timestamp"], said["value_size"]) == (record.timestamp, len(value))
            assert said["value_sha256"] == hashlib.sha256(value).hexdigest()
            assert said["epoch"] == log.epoch_of(START_MS) - 1, "the one before, in its grace"
            if value.startswith(b"[1,2,"):
                assert said["reasons"] == [[row, "malformed"] for row in range(3)]


def message(offset: int) -> RejectedMessage:
    return RejectedMessage(offset, START_MS, None, b"x", f'{{"offset":{offset}}}')


def test_who_opens_a_partition_fences_who_had_it_and_knows_how_far_it_is(kafka: str) -> None:
    log = a_log("fenced", partitions=1)
    create_topic(kafka, log)
    topic = rejects_in_kafka(kafka, log.topic)
    first = topic.open(0, "id")
    assert first.last_offset == -1
    first.send([message(3), message(7)])
    second = topic.open(0, "id")
    assert second.last_offset == 7
    with pytest.raises(InvalidInput, match="can't be sent"):
        first.send([message(8)])
    second.send([message(9)])
    sent = read_all(kafka, rejected_topic(log.topic), 0)
    assert [rejected(each)["offset"] for each in sent] == [3, 7, 9]
    taken_back = Producer(client_config(kafka) | {"transactional.id": "another"})
    taken_back.init_transactions()
    for _ in range(3):
        taken_back.begin_transaction()
        for _ in range(5):
            taken_back.produce(rejected_topic(log.topic), b"", partition=0)
        taken_back.abort_transaction()
    assert topic.open(0, "id").last_offset == 9
    with pytest.raises(InvalidInput, match="refused records of another log"):
        topic.open(0, "another")
