"""A replay on a real broker: what arrives is what was planned, in the partitions that Kafka's clients choose."""

import socket
from pathlib import Path

import pytest

from deploy.importers.replay import planned, replay
from deploy.importers.source_log import SourceLog, SourceMachine, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.registration import Agreement
from streams.core.murmur2 import partition_of
from streams.core.signature import operator_account
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic

DATA = Path(__file__).parents[2] / "data"
KEY = bytes(range(1, 33))


def agreement(machine: SourceMachine) -> Agreement:
    return Agreement({operator_account(KEY): 10_000})


def sources() -> list[SourceLog]:
    return [SOURCES["acn-sessions"].read(DATA / "ev_sessions_acn_2019.parquet", SourceOptions(days=3))]


def new_log(kafka: str, topic: str) -> Log:
    log = Log(log_id=topic, topic=topic, timestamp_type="CreateTime")
    create_topic(kafka, log)
    return log


def test_what_arrives_is_what_was_planned(kafka: str) -> None:
    log = new_log(kafka, "replay-arrives")
    seen: list[int] = []
    report = replay(log, kafka, sources(), KEY, agreement, lambda records, _: seen.append(records), seed="s")
    plan = list(planned(log, sources(), KEY, agreement, seed="s"))
    reader = KafkaLogReader(kafka, log.topic)
    try:
        for partition in range(log.partitions):
            first, end = reader.range(partition)
            arrived = [(r.timestamp, r.key, r.value, tuple(r.headers)) for r in reader.read(partition, first, end)]
            assert first == 0
            assert arrived == [out[1:5] for out in plan if out.partition == partition]
    finally:
        reader.close()
    assert (report.records, report.machines) == (len(plan), len(sources()[0].machines))
    assert report.readings == len(plan) - report.machines - 2 * log.partitions
    assert report.totals == sources()[0].totals
    assert report.rows - report.left_out > 0


def test_a_log_in_use_is_refused(kafka: str) -> None:
    log = new_log(kafka, "replay-used")
    first_ms = sources()[0].start_ms
    producer = LogProducer(kafka, log)
    producer.send(first_ms, None, b"{}", [("ce_type", b"heartbeat")], partition=2)
    producer.flush()
    assert producer.stream_times() == [None, None, first_ms, None]
    producer.send(first_ms + 1, None, b"{}", [("ce_type", b"heartbeat")], partition=2)
    producer.flush()
    producer.close()
    with pytest.raises(InvalidInput, match="in use: partition 2 has passed the first row"):
        replay(log, kafka, sources(), KEY, agreement)


def test_librdkafka_chooses_our_partition(kafka: str) -> None:
    log = new_log(kafka, "replay-partitioner")
    keys = [f"site-{number}.é{'x' * (number % 7)}".encode() for number in range(500)]
    producer = LogProducer(kafka, log)
    for key in keys:
        producer.send(1_567_000_000_000, key, b"{}")
    producer.flush()
    producer.close()
    reader = KafkaLogReader(kafka, log.topic)
    try:
        for partition in range(log.partitions):
            found = [record.key for record in reader.read(partition, *reader.range(partition))]
            assert found == [key for key in keys if partition_of(key, log.partitions) == partition]
    finally:
        reader.close()


def test_a_wrong_topic_or_no_broker_is_one_line(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(kafka, "replay-size")
    with pytest.raises(InvalidInput, match="has 4 partitions, its log 5"):
        LogProducer(kafka, Log(log_id="x", topic=log.topic, partitions=5))
    with pytest.raises(InvalidInput, match="there is no topic"):
        LogProducer(kafka, Log(log_id="x", topic="replay-nowhere"))
    monkeypatch.setattr("streams.kafka.reader.REQUEST_SECONDS", 0.3)
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(InvalidInput, match="Kafka doesn't answer"):
            LogProducer(f"127.0.0.1:{taken.getsockname()[1]}", log)
