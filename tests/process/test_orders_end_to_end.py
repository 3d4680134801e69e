"""A machine's stock sinks, and the rest follows: order, delivery, receipt, invoice, and a due that is paid."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.cli.answers import answer_schema
from deploy.config import KeySettings, Settings
from deploy.data_folder import DataFolder
from deploy.explain.query import query
from deploy.machines.orders import OrderRow, cancel, listed
from deploy.machines.register import control_record
from deploy.supply.supply import supply
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.reading import REGISTERED
from schemas.units import MINUTE_MS
from streams.core.records import Record
from streams.kafka.producer import LogProducer
from streams.kafka.topics import create_topic
from tallyroot_gateway import Gateway
from tests.support.commands import tallyroot
from tests.support.json_schema import faults
from tests.support.sim_log import SUPPLIER, private_key, shop_registration
from tests.support.workers import Workers

pytestmark = pytest.mark.kafka

RULES = Ruleset(grace_ms=1_000, operators=())


@pytest.fixture
def log() -> Log:
    name = f"t-{uuid.uuid4().hex[:12]}"
    return Log(
        log_id=name, topic=name, partitions=1, timestamp_type="CreateTime", window_ms=MINUTE_MS,
        epoch_ms=10 * MINUTE_MS, rulesets=(RULES,),
    )  # fmt: skip


@pytest.fixture
def data(kafka: str, tmp_path: Path, log: Log) -> DataFolder:
    settings = Settings(
        kafka_bootstrap_servers=kafka, chain_rpc_url="http://127.0.0.1:1", topic=log.topic,
        supplier=KeySettings(key=SUPPLIER.hex()), operator=KeySettings(key="22" * 32),
    )  # fmt: skip
    folder = DataFolder(tmp_path / "data", settings)
    create_topic(kafka, log)
    folder.create_log(log)
    return folder


@pytest.fixture
def workers(kafka: str, data: DataFolder) -> Iterator[Workers]:
    workers = Workers(kafka, data.data_dir, data.data_dir.parent)
    yield workers
    workers.kill()


def produce(kafka: str, log: Log, timestamp_ms: int, record: Record) -> None:
    producer = LogProducer(kafka, log)
    headers = [(name, value or b"") for name, value in record.headers]
    producer.send(timestamp_ms, record.key, record.value or b"", headers, 0)
    producer.flush()
    producer.close()


def gateway(kafka: str, log: Log, spool: Path) -> Gateway:
    return Gateway(
        kafka, log_id=log.log_id, topic=log.topic, partitions=1, route="shop", spool=spool, key_id="k",
        private_key=private_key(1),
    )  # fmt: skip


def only(data: DataFolder, **choice: str | None) -> list[OrderRow]:
    return listed(data, lambda _: None, choice.get("machine"), choice.get("state")).orders


def test_a_stock_that_sinks_is_filled_up_and_paid(kafka: str, data: DataFolder, log: Log, workers: Workers) -> None:
    now_ms = time.time_ns() // 1_000_000
    said: list[str] = []
    produce(kafka, log, now_ms, control_record("shop", REGISTERED, msgspec.json.encode(shop_registration())))
    with gateway(kafka, log, data.data_dir.parent / "spool") as device:
        device.send("shop", "stock", level=2)
        device.flush()
        workers.catch_up(log)
        (order,) = only(data)
        assert (order.state, order.number, order.received, order.invoiced) == ("open", 1, None, None)
        ended = supply(data, said.append, key_from=None, prices=["beans=0.06"], delay_ms=0, once=True)
        assert [(each.item, each.state) for each in ended.orders] == [("beans", "invoiced")]
        assert any("simulated" in line for line in said)
        again = supply(data, said.append, key_from=None, prices=["beans=0.07"], delay_ms=0, once=True)
        assert again == ended, "nothing is invoiced twice"
        assert only(data)[0].invoiced == 4
        device.receive("shop", "beans", 1, 3)
        device.flush()
    (order,) = only(data, state="settled")
    assert (order.received, order.invoiced, order.amount_micros) == (3, 4, 3 * 60_000)
    _check_commands(kafka, log, data)
    with pytest.raises(InvalidInput, match="order_closed"):
        cancel(data, lambda _: None, "shop", "beans", 1, "too late")
    produce(
        kafka, log, time.time_ns() // 1_000_000 + 3 * MINUTE_MS, Record(0, 0, None, b"", (("ce_type", b"heartbeat"),))
    )
    workers.catch_up(log)
    dues = query(data, "SELECT machine, kind, account, ref, amount_micros FROM dues").rows
    assert dues == [("shop", "expense", order.supplier, "beans/1", 180_000)]


def _check_commands(kafka: str, log: Log, data: DataFolder) -> None:
    """The commands themselves, as a person and a script call them."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka, "TALLYROOT_TOPIC": log.topic, "CHAIN_RPC_URL": "http://127.0.0.1:1",
        "TALLYROOT_SUPPLIER_KEY": SUPPLIER.hex(), "TALLYROOT_DATA_DIR": str(data.data_dir),
    }  # fmt: skip

    def run(*words: str, code: int = 0) -> str:
        done = tallyroot(*words, cwd=data.data_dir.parent, env=env, code=code)
        return done.stderr if code else done.stdout

    (order,) = json.loads(run("orders", "--state", "settled", "--json"))["orders"]
    assert faults({"orders": [order]}, answer_schema("orders")) == []
    assert (order["machine"], order["amount"], order["unit_price"]) == ("shop", "0.180000", "0.070000")
    assert "settled" in run("orders", "--machine", "shop")
    ended = json.loads(run("supplier", "--once", "--price", "beans=0.06", "--json"))
    assert faults(ended, answer_schema("supplier")) == []
    assert [each["state"] for each in ended["orders"]] == ["invoiced"]
    assert "--reason" in run("orders", "cancel", "shop", "beans", "1", code=1)
    assert "not the number" in run("orders", "cancel", "shop", "beans", "x", "--reason", "r", code=1)
    assert "order_closed" in run("orders", "cancel", "shop", "beans", "1", "--reason", "r", code=1)
    assert "is no price" in run("supplier", "--once", "--price", "beans", code=1)
    assert "can't read" in run("supplier", "--once", "--price", "beans=1", "--key-from", "none.json", code=1)


def test_an_operator_cancels_what_nobody_delivers(kafka: str, data: DataFolder, log: Log, workers: Workers) -> None:
    now_ms = time.time_ns() // 1_000_000
    produce(kafka, log, now_ms, control_record("shop", REGISTERED, msgspec.json.encode(shop_registration())))
    with gateway(kafka, log, data.data_dir.parent / "spool") as device:
        device.send("shop", "stock", level=2)
        device.flush()
    workers.catch_up(log)
    done = cancel(data, lambda _: None, "shop", "beans", 1, " nobody delivers ")
    assert done.reason == "nobody delivers"
    assert [row.state for row in only(data, machine="shop")] == ["cancelled"]
    assert only(data, state="open") == only(data, machine="another") == []
    supply(data, lambda _: None, key_from=None, prices=["beans=0.06"], delay_ms=0, once=True)
    assert only(data)[0].invoiced is None, "an invoice that comes later is refused"
    with pytest.raises(InvalidInput, match="unknown_order"):
        cancel(data, lambda _: None, "shop", "beans", 2, "none")
    with pytest.raises(InvalidInput, match="no state"):
        only(data, state="lost")
