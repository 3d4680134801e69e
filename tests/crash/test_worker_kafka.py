"""The worker against a real Kafka: killed, joined, stopped and misled, it publishes what the log alone decides."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.stack.servers import start_kafka
from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.records import Record
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic
from streams.worker.app import FAUST_FOLDER, WorkerProgress
from streams.worker.watchdog import is_away
from tests.crash import rounds
from tests.support.kafka_log import (
    Outcome,
    Sender,
    a_log,
    allow_any_future,
    drop_topic,
    fill,
    outcome,
    readings,
    without_faust,
)
from tests.support.sim_log import START_MS, heartbeat
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]

SMALL = {"records_max": 60}
"""So small a commit that there are many to be cut off."""

FORGOTTEN_SOON = {"session_seconds": 2.0}
"""Whoever is killed keeps its partitions for no longer than this."""


@pytest.fixture(scope="module")
def log(kafka: str) -> Log:
    """One log for many tests, with poison, every compression and transactions in it."""
    log = a_log("worker")
    fill(kafka, log, hours=2)
    return log


@pytest.fixture(scope="module")
def expected(kafka: str, log: Log, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the log gives without Faust, in one slice a partition, undisturbed."""
    expected = without_faust(kafka, log, tmp_path_factory.mktemp("expected"))
    assert len(expected.manifests) >= 2 * log.partitions
    return expected


@pytest.fixture
def workers(kafka: str, tmp_path: Path) -> Iterator[Workers]:
    """Starts workers on the test's folder."""
    workers = Workers(kafka, tmp_path)
    yield workers
    workers.kill()


@pytest.fixture
def lonely(kafka: str, request: pytest.FixtureRequest) -> Log:
    """A log of its own for the test, empty, of one partition."""
    log = a_log(f"lonely-{request.node.name[5:30]}", partitions=1)
    create_topic(kafka, log)
    return log


def committed(count: int, partitions: int = 1) -> Callable[[list[WorkerProgress]], bool]:
    """Tells whether so many commits were made, in so many partitions."""

    def done(progress: list[WorkerProgress]) -> bool:
        return len(progress) >= count and len({each.partition for each in progress}) >= partitions

    return done


def minutes(count: int, first: int = 0) -> list[Record]:
    return [heartbeat(0, START_MS + minute * MINUTE_MS) for minute in range(first, first + count)]


def test_a_worker_killed_in_the_middle_goes_on_where_it_was(
    log: Log, expected: Outcome, workers: Workers, tmp_path: Path
) -> None:
    killed = workers.start(log, **SMALL, **FORGOTTEN_SOON)
    killed.wait_for(committed(10))
    killed.kill()
    rest = workers.catch_up(log, as_command=True)
    assert rest.progress(), "it was killed after its work, not in the middle"
    assert expected.differences(outcome(tmp_path)) == []


def test_two_workers_share_the_partitions_and_one_is_killed(
    log: Log, expected: Outcome, workers: Workers, tmp_path: Path
) -> None:
    first, second = (workers.start(log, records_max=30, on_progress="dawdle", **FORGOTTEN_SOON) for _ in range(2))
    for worker in (first, second):
        worker.wait_for(committed(3))
    first.kill()
    second.wait_for(committed(1, partitions=3))
    assert second.stop() == 0
    assert second.said() == ""
    workers.catch_up(log)
    assert expected.differences(outcome(tmp_path)) == []


def test_a_sigterm_ends_it_cleanly_and_soon(log: Log, workers: Workers, tmp_path: Path) -> None:
    worker = workers.start(log, as_command=True, **SMALL)
    worker.wait_for(committed(5))
    assert worker.stop() == 0
    assert worker.said() == ""
    for lock in (tmp_path / "partitions").glob("*.lock"):
        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_worker_stopped_in_its_first_second_ends(log: Log, workers: Workers, tmp_path: Path) -> None:
    worker = workers.start(log)
    deadline = time.monotonic() + 30
    while not (tmp_path / FAUST_FOLDER).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert worker.stop(15) in (0, 143, -signal.SIGTERM)


def test_a_partition_held_elsewhere_is_waited_for_while_the_others_go_on(
    log: Log, expected: Outcome, workers: Workers, tmp_path: Path
) -> None:
    (tmp_path / "partitions").mkdir()
    with (tmp_path / "partitions" / "2.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        worker = workers.start(log, until_caught_up=True)
        worker.wait_for(committed(1, partitions=3))
        assert {each.partition for each in worker.progress()} == {0, 1, 3}
        assert "partition 2 is held by another process" in worker.said()
    assert worker.wait() == 0
    assert expected.differences(outcome(tmp_path)) == []


def test_a_topic_made_anew_is_a_stop_even_if_it_is_longer(kafka: str, lonely: Log, workers: Workers) -> None:
    Sender(kafka, lonely).end(START_MS)
    workers.catch_up(lonely)
    drop_topic(kafka, lonely)
    create_topic(kafka, lonely)
    sender = Sender(kafka, lonely)
    sender.send(minutes(10))
    sender.kafka.flush(10)
    worker = workers.start(lonely)
    assert worker.wait() == 70
    (line,) = worker.said().splitlines()
    assert "topic" in line
    assert worker.progress() == []


def test_a_record_from_the_future_is_not_committed(kafka: str, lonely: Log, workers: Workers) -> None:
    sender = Sender(kafka, lonely)
    now_ms = time.time_ns() // 1_000_000
    sender.send(minutes(3))
    sender.kafka.flush(10)
    worker = workers.start(lonely)
    worker.wait_for(committed(1))
    allow_any_future(kafka, lonely)
    sender.send([heartbeat(0, now_ms + 30 * MINUTE_MS), *minutes(3, 3)])
    sender.kafka.flush(10)
    assert worker.wait() == 70
    (line,) = worker.said().splitlines()
    assert (
        "the record at offset 3 of partition 0 is stamped 29 minutes ahead: whoever sent it had a wrong clock" in line
    )
    assert worker.progress()[-1].next_offset == 3


def test_an_error_in_the_agent_ends_the_process_loudly(
    kafka: str, lonely: Log, workers: Workers, tmp_path: Path
) -> None:
    Sender(kafka, lonely).end(START_MS)
    worker = workers.start(lonely, on_progress="raise")
    assert worker.wait() == 70
    assert worker.said().endswith("RuntimeError: the callback failed\n")


def test_a_worker_that_hangs_is_ended_by_its_watchdog(kafka: str, lonely: Log, workers: Workers) -> None:
    sender = Sender(kafka, lonely)
    sender.send(minutes(4))
    sender.kafka.flush(10)
    worker = workers.start(lonely, on_progress="hang", stall_seconds=1.0, records_max=1)
    assert worker.wait() == 75
    (line,) = worker.said().splitlines()
    assert "partition 0 has records to commit and makes no progress" in line


def test_a_tail_without_records_is_caught_up(kafka: str, lonely: Log, workers: Workers) -> None:
    sender = Sender(kafka, lonely, **{"transactional.id": lonely.log_id})
    sender.kafka.init_transactions()
    for end in (sender.kafka.commit_transaction, sender.kafka.abort_transaction):
        sender.kafka.begin_transaction()
        sender.send(minutes(3))
        sender.kafka.flush(10)
        end()
    reader = KafkaLogReader(kafka, lonely.topic)
    assert reader.range(0) == (0, 8)
    assert workers.catch_up(lonely).progress()[-1].next_offset == 8
    again = workers.catch_up(lonely)
    assert again.progress() == []


def test_a_quiet_partition_of_a_live_log_gets_heartbeats(kafka: str, workers: Workers) -> None:
    log = a_log("live", partitions=2, timestamp_type="LogAppendTime")
    create_topic(kafka, log)
    begun_ms = time.time_ns() // 1_000_000
    worker = workers.start(log, heartbeat_seconds=0.5)
    worker.wait_for(committed(6, partitions=2))
    assert worker.stop() == 0
    for partition in range(2):
        times = [each.stream_time_ms or 0 for each in worker.progress() if each.partition == partition]
        assert begun_ms <= times[0] < times[-1], "the broker's time moves"
    assert all(each.rejected == 0 for each in worker.progress())
    catching_up = workers.catch_up(log)
    assert sum(each.records for each in catching_up.progress()) <= 2, "catching up sends none"


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    ours = start_kafka(tmp_path / "kafka")
    workers = Workers(ours.bootstrap_servers, tmp_path / "data")
    try:
        log = a_log("outage", partitions=2)
        fill(ours.bootstrap_servers, log, hours=1)
        worker = workers.start(log)
        worker.wait_for(committed(2, partitions=2))
        os.kill(ours.pid, signal.SIGKILL)
        while ours.alive() or not is_away(ours.bootstrap_servers):
            time.sleep(0.05)
        port, ours = ours.port, start_kafka(tmp_path / "kafka", (ours.port, ours.controller_port))
        assert ours.port == port
        before = len(worker.progress())
        sender = Sender(ours.bootstrap_servers, log)
        sender.send(readings(1, start_ms=START_MS + 2 * HOUR_MS))
        sender.end(START_MS + 4 * HOUR_MS)
        worker.wait_for(lambda progress: len(progress) > before and any(each.cut for each in progress[before:]))
        assert worker.stop() == 0
        workers.catch_up(log)
        expected = without_faust(ours.bootstrap_servers, log, tmp_path / "expected")
        assert expected.differences(outcome(tmp_path / "data")) == []
    finally:
        workers.kill()
        ours.stop()


@pytest.mark.slow
def test_random_rounds(kafka: str, tmp_path: Path) -> None:
    """A short run of `python -m tests.crash.rounds`."""
    assert rounds.play(kafka, tmp_path, seed=1, seconds=8) == []
