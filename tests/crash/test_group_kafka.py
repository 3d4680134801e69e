"""Others in the consumer group: what they take away is said, and nobody reports to have read it."""

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from deploy.stack import processes
from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.kafka.security import client_config
from streams.kafka.topics import create_topic
from streams.worker.app import group_of
from tests.support.kafka_log import Sender, a_log
from tests.support.sim_log import START_MS, heartbeat
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def log(kafka: str, request: pytest.FixtureRequest) -> Log:
    """A log of two partitions with twenty heartbeats in each."""
    log = a_log(f"group-{request.node.name[5:30]}", partitions=2)
    create_topic(kafka, log)
    sender = Sender(kafka, log)
    for partition in range(2):
        sender.send([heartbeat(0, START_MS + HOUR_MS + minute * MINUTE_MS) for minute in range(20)], partition)
    sender.kafka.flush(10)
    return log


@pytest.fixture
def folders(kafka: str, tmp_path: Path) -> Iterator[Callable[[str], Workers]]:
    """The workers of a data folder, by its name."""
    made: list[Workers] = []

    def of(name: str) -> Workers:
        made.append(Workers(kafka, tmp_path / name))
        return made[-1]

    yield of
    for workers in made:
        workers.kill()


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def test_another_program_in_the_group_is_noticed(kafka: str, log: Log, folders: Callable[[str], Workers]) -> None:
    (port,) = processes.free_ports(1, [])
    worker = folders("production").start(log, metrics_port=port)
    worker.wait_for(lambda progress: {each.partition for each in progress if each.next_offset == 20} == {0, 1})
    other = Consumer(
        client_config(kafka)
        | {"group.id": group_of(log), "partition.assignment.strategy": "range", "enable.auto.commit": False}
    )
    other.subscribe([log.topic])
    try:
        assert processes.wait_until(lambda: bool(other.poll(0.2) is None and other.assignment()), 60)
        taken = other.assignment()[0].partition

        def is_said() -> bool:
            other.poll(0.1)
            status, page = get(port, "/health")
            return status == 503 and json.loads(page)["reason"].startswith(
                f"uncovered: partition {taken} is read by no"
            )

        assert processes.wait_until(is_said, 90), get(port, "/health")
        assert "tallyroot_uncovered_partitions 1.0" in get(port, "/metrics")[1].splitlines()
        assert processes.wait_until(lambda: "is read by no worker of this data folder" in worker.said(), 30)
    finally:
        other.close()
    assert processes.wait_until(lambda: get(port, "/health")[0] == 200, 60)


def test_a_second_folder_never_says_that_it_has_caught_up(log: Log, folders: Callable[[str], Workers]) -> None:
    """It ended with 0, and had read one partition of two."""
    first = folders("production").start(log)
    first.wait_for(lambda progress: {each.partition for each in progress if each.next_offset == 20} == {0, 1})
    second = folders("copy").start(log, until_caught_up=True)
    assert second.wait(120) == 70
    assert "is read by no worker of this data folder or its store: another folder or program" in second.said()


def test_an_open_transaction_is_measured(kafka: str, log: Log, folders: Callable[[str], Workers]) -> None:
    (port,) = processes.free_ports(1, [])
    worker = folders("production").start(log, metrics_port=port)
    worker.wait_for(lambda progress: {each.partition for each in progress if each.next_offset == 20} == {0, 1})
    producer = Producer(client_config(kafka) | {"transactional.id": "gateway-7"})
    producer.init_transactions(60)
    producer.begin_transaction()
    beat = START_MS + HOUR_MS + 21 * MINUTE_MS
    producer.produce(log.topic, b"", None, 0, timestamp=beat, headers=[("ce_type", b"heartbeat")])
    producer.flush(20)
    sender = Sender(kafka, log)
    sender.send([heartbeat(0, beat + minute * MINUTE_MS) for minute in range(9)], 0)
    sender.kafka.flush(10)
    hidden = 'tallyroot_partition_hidden_records{partition="0"} 10.0'
    assert processes.wait_until(lambda: hidden in get(port, "/metrics")[1].splitlines(), 30)
    producer.commit_transaction(30)
    assert processes.wait_until(lambda: hidden.replace("10.0", "0.0") in get(port, "/metrics")[1].splitlines(), 30)
