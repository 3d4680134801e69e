"""A broker's disk put back from a copy: the offset at which the worker stands comes again, over other records."""

import shutil
from pathlib import Path

import pytest

from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.records import Record
from streams.kafka.topics import create_topic
from tests.crash.rounds import Broker
from tests.support.kafka_log import Sender, a_log
from tests.support.sim_log import START_MS, heartbeat, reading, registration
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]


def test_a_log_that_lost_its_tail_and_grew_again_is_a_stop(tmp_path: Path) -> None:
    """As after an unclean leader election (KIP-320). Nothing is published of what the log doesn't hold."""
    broker = Broker(tmp_path / "kafka")
    workers = Workers(broker.servers, tmp_path / "data")
    try:
        log = a_log("rewritten", partitions=1)
        create_topic(broker.servers, log)
        send(broker.servers, [registration("m0", 0), *rows(range(5), 100)])
        broker.kill()
        shutil.copytree(tmp_path / "kafka", tmp_path / "copy")
        broker.come_back()
        send(broker.servers, rows(range(5, 15), 100))
        assert workers.catch_up(log).progress()[-1].next_offset == 16
        published = set((tmp_path / "data").glob("epochs/*/0.manifest.json"))
        broker.kill()
        shutil.rmtree(tmp_path / "kafka")
        shutil.copytree(tmp_path / "copy", tmp_path / "kafka")
        broker.come_back()
        send(broker.servers, [*rows(range(5, 15), 10), heartbeat(0, START_MS + 2 * HOUR_MS)])
        worker = workers.start(log, until_caught_up=True)
        assert worker.wait() == 70
        assert "the log holds other records between the offsets 11 and 16 than those that were judged" in worker.said()
        assert set((tmp_path / "data").glob("epochs/*/0.manifest.json")) == published
    finally:
        workers.kill()
        broker.stop()


def rows(minutes: range, step: int) -> list[Record]:
    return [reading("m0", 0, START_MS + minute * MINUTE_MS, minute + 1, minute * step) for minute in minutes]


def send(servers: str, records: list[Record]) -> None:
    sender = Sender(servers, a_log("rewritten", partitions=1))
    sender.send(records)
    sender.kafka.flush(10)
