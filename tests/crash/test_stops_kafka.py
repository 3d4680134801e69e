"""A topic that is no longer the one that the log needs: the worker ends with one line that says what to do."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.kafka.security import client_config
from streams.kafka.topics import create_topic
from tests.crash.rounds import Broker
from tests.support.kafka_log import Sender, a_log
from tests.support.sim_log import START_MS, heartbeat
from tests.support.workers import WorkerProcess, Workers

STANDS_AT_20 = "holds the offsets 0 to 5 and this data folder is at 20"

pytestmark = [pytest.mark.crash, pytest.mark.kafka]


@pytest.fixture
def log(kafka: str, request: pytest.FixtureRequest) -> Log:
    """A log of two partitions with twenty heartbeats in each."""
    log = a_log(f"stops-{request.node.name[5:30]}", partitions=2)
    create_topic(kafka, log)
    send(kafka, log, 20)
    return log


@pytest.fixture
def workers(kafka: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(kafka, tmp_path)
    yield workers
    workers.kill()


def send(kafka: str, log: Log, count: int, partitions: int = 2) -> None:
    sender = Sender(kafka, log)
    for partition in range(partitions):
        sender.send([heartbeat(0, START_MS + HOUR_MS + minute * MINUTE_MS) for minute in range(count)], partition)
    sender.kafka.flush(10)


def set_on_topic(kafka: str, log: Log, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, log.topic, incremental_configs=[entry])
    admin = AdminClient(client_config(kafka))
    admin.incremental_alter_configs([resource])[resource].result(10)


def delete_before(kafka: str, log: Log, partition: int, offset: int) -> None:
    place = TopicPartition(log.topic, partition, offset)
    admin = AdminClient(client_config(kafka))
    admin.delete_records([place])[place].result(10)


def add_partition(kafka: str, log: Log) -> None:
    admin = AdminClient(client_config(kafka))
    admin.create_partitions([NewPartitions(log.topic, 3)])[log.topic].result(10)


def last_line(worker: WorkerProcess) -> str:
    lines = worker.said().splitlines()
    assert len(lines) == 1, worker.said()
    return lines[0]


def test_records_that_retention_would_delete_stop_it_at_its_start(kafka: str, log: Log, workers: Workers) -> None:
    workers.catch_up(log)
    set_on_topic(kafka, log, "retention.ms", "9000000000000")
    worker = workers.start(log)
    assert worker.wait() == 1
    assert "retention.ms is 9000000000000, not -1; records would be lost: set retention.ms=-1" in last_line(worker)


def test_partitions_that_were_added_stop_it_at_its_start(kafka: str, log: Log, workers: Workers) -> None:
    add_partition(kafka, log)
    time.sleep(1)
    worker = workers.start(log)
    assert worker.wait() == 1
    assert "it has 3 partitions, the log has 2 for life" in last_line(worker)


def test_a_log_whose_beginning_was_deleted_stops_it(kafka: str, log: Log, workers: Workers) -> None:
    delete_before(kafka, log, 0, 5)
    worker = workers.start(log)
    assert worker.wait() == 70
    assert "partition 0 of the topic" in last_line(worker)
    assert "holds the offsets 5 to 20 and this data folder is at 0: records were deleted" in last_line(worker)


def test_what_was_deleted_of_final_epochs_is_not_missed(kafka: str, log: Log, workers: Workers) -> None:
    sender = Sender(kafka, log)
    for partition in range(2):
        sender.send([heartbeat(0, START_MS + 3 * HOUR_MS)], partition)
    sender.kafka.flush(10)
    workers.catch_up(log)
    for partition in range(2):
        delete_before(kafka, log, partition, 20)
    send(kafka, log, 3)
    assert {each.next_offset for each in workers.catch_up(log).progress()} == {24}


def test_what_was_deleted_of_an_epoch_that_is_not_final_stops_it(kafka: str, log: Log, workers: Workers) -> None:
    workers.catch_up(log)
    delete_before(kafka, log, 0, 20)
    worker = workers.start(log)
    assert worker.wait() == 70
    assert "holds the offsets 20 to 20, not" in last_line(worker)


def test_partitions_that_are_added_stop_one_that_runs(kafka: str, log: Log, workers: Workers) -> None:
    worker = workers.start(log)
    worker.wait_for(lambda progress: {each.partition for each in progress} == {0, 1})
    add_partition(kafka, log)
    assert worker.wait(30) == 70
    assert "has a new partition 2, the log has 2 for life" in last_line(worker)


def test_retention_that_is_set_stops_one_that_runs(kafka: str, log: Log, workers: Workers) -> None:
    worker = workers.start(log, topic_check_seconds=1)
    worker.wait_for(lambda progress: {each.partition for each in progress} == {0, 1})
    set_on_topic(kafka, log, "retention.bytes", "900000000000")
    assert worker.wait(30) == 70
    assert "retention.bytes is 900000000000, not -1; records would be lost" in last_line(worker)


def test_a_log_that_came_back_shorter_stops_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka")
    workers = Workers(broker.servers, tmp_path / "data")
    try:
        log = a_log("shorter", partitions=2)
        create_topic(broker.servers, log)
        send(broker.servers, log, 5)
        with broker.halted():
            shutil.copytree(tmp_path / "kafka", tmp_path / "backup")
        send(broker.servers, log, 15)
        running = workers.start(log)
        running.wait_for(lambda progress: {each.partition for each in progress if each.next_offset == 20} == {0, 1})
        broker.kill()
        shutil.rmtree(tmp_path / "kafka")
        shutil.copytree(tmp_path / "backup", tmp_path / "kafka")
        broker.come_back()
        assert running.wait() == 70
        last = running.said().splitlines()[-1]  # before it: that Kafka was away
        assert "no longer holds the offset 20" in last or STANDS_AT_20 in last
        worker = workers.start(log)
        assert worker.wait() == 70
        assert STANDS_AT_20 in last_line(worker)
    finally:
        workers.kill()
        broker.stop()
