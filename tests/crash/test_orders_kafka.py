"""The topic of orders in a real Kafka: whatever is killed, each order stands there once, in the order of placing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.order import CANCELLED, PLACED, Order
from schemas.reading import READING, REGISTERED
from streams.core.records import Record
from streams.kafka.topics import create_topic, orders_topic
from streams.worker.app import WorkerProgress
from tests.crash.test_rejected_kafka import read_all
from tests.support.kafka_log import Sender, a_log
from tests.support.sim_log import HOURLY, START_MS, shop_record, shop_registration
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]

ORDERS = 40


@pytest.fixture
def workers(kafka: str, tmp_path: Path) -> Iterator[list[Workers]]:
    made = [Workers(kafka, tmp_path / name) for name in ("first", "rebuilt")]
    yield made
    for each in made:
        each.kill()


def ordering() -> list[Record]:
    """A shop whose orders are cancelled as soon as they are placed, so that it orders again."""
    sent: list[tuple[int, str, dict[str, Any]]] = [(START_MS, REGISTERED, shop_registration())]
    for number in range(1, ORDERS + 1):
        moment = START_MS + number * 1_000
        level = {"machine": "shop", "boot": 1, "meter": "stock", "seq": number, "level": 2, "observed_at": moment}
        cancelled = {"machine": "shop", "item": "beans", "number": number, "reason": "not needed"}
        sent += [(moment, READING, level), (moment, CANCELLED, cancelled)]
    return [shop_record(0, *one) for one in sent]


def test_each_order_stands_there_once_whatever_is_killed_or_rebuilt(kafka: str, workers: list[Workers]) -> None:
    log = a_log("ordering", partitions=1, rulesets=HOURLY.rulesets)
    log = msgspec.structs.replace(log, log_id=HOURLY.log_id)
    create_topic(kafka, log)
    sender = Sender(kafka, log)
    sender.send(ordering(), 0)
    sender.end(START_MS + 3 * log.epoch_ms)
    for kill in (2, 4):
        worker = workers[0].start(log, records_max=9, session_seconds=2.0)

        def reached(progress: list[WorkerProgress], count: int = kill) -> bool:
            return len(progress) >= count

        worker.wait_for(reached)
        worker.kill()
    workers[0].catch_up(log)
    workers[1].catch_up(log)
    sent = read_all(kafka, orders_topic(log.topic), 0)
    orders = [msgspec.json.decode(message.value() or b"", type=Order) for message in sent]
    assert [(order.machine, order.item, order.number) for order in orders] == [
        ("shop", "beans", number) for number in range(1, ORDERS + 1)
    ]
    assert {message.key() for message in sent} == {b"shop"}
    assert {dict(message.headers() or [])["ce_type"] for message in sent} == {PLACED.encode()}
    assert [order.offset for order in orders] == [1 + 2 * place for place in range(ORDERS)]
