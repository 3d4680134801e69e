"""A till on a real broker and a real EVM node: an x402 client buys a session, and the core refunds what it left."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keys.datatypes import PrivateKey
from msgspec import structs

from deploy.agent.run import AgentEnded
from deploy.agent.run import run as agent
from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.machines.form import example, read_form
from deploy.machines.new_log import InitOptions, init, operator_of
from deploy.machines.register import planned, record_of, signed
from deploy.machines.registry import Registry
from deploy.machines.send import send
from deploy.setup.bootstrap import find_node
from deploy.till.chain_hand import ChainHand, asset_of
from deploy.till.run import open_till
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.payment import PAID
from schemas.reading import HEARTBEAT
from schemas.registration import Agreement
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.window import Due, Statement
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, development_signer
from streams.core.records import Record, record_type
from streams.core.replay import advance_through
from streams.core.state import State
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from tests.support.settlement_data import publish, window
from tests.support.sim_till import payment_of
from tests.support.watched_folder import ask
from till import wire
from till.authorization import Authorization, terms
from till.desk import Unpaid, Wish
from till.wire import Required, decoded, encoded

pytestmark = [pytest.mark.chain, pytest.mark.kafka]

BUYER = PrivateKey(b"\7" * 32)
WHOLE = 10**6
PAYER = BUYER.public_key.to_address()
GAS = 9
"""The development node's account that pays for gas."""


class Shop:
    """A data folder with a charger, a funded buyer, and a till in a process of its own."""

    def __init__(self, folder: Path, kafka: str, node: Chain) -> None:
        self.node, self.keys, self.kafka = node, Keys({}, node.chain_id), kafka
        self.topic, self.commands = f"t-{uuid.uuid4().hex[:12]}", f"c-{uuid.uuid4().hex[:12]}"
        settings = Settings(kafka_bootstrap_servers=kafka, chain_rpc_url=node.rpc_url, topic=self.topic)
        self.data = DataFolder(folder / "data", settings)
        self.log: Log = init(self.data, InitOptions(currency="EUR", partitions=2, zone="Europe/Berlin")).log
        form = example("ev_charger").replace('    "EUR 0.49 per kWh on weekdays 16:00-21:00",\n', "")
        self.register(folder, form)
        service.deploy_contracts(self.data.data_dir, node, self.log, self.keys)
        self.ledger = Ledger.open(self.data.data_dir, node)
        self.token = self.ledger.deployment.token
        self.fund(BUYER.public_key.to_address())
        admin = AdminClient({"bootstrap.servers": kafka})
        admin.create_topics([NewTopic(self.commands, 2, 1)])[self.commands].result(20)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/machines/charger-1/sessions"
        self.file = folder / "till.toml"
        gas = Account.from_mnemonic("test " * 11 + "junk", account_path=f"m/44'/60'/0'/0/{GAS}")
        self.gas = gas.key.hex()
        self.file.write_text(
            f'topic = "{self.commands}"\n[gas]\nkey = "{self.gas}"\n[http]\nport = {self.port}\n'
            '[answering]\nanswer_within_s = 60\n[[machines]]\nmachine = "charger-1"\nplace = "kerb 1"\n'
            '[[machines]]\nmachine = "charger-2"\nplace = "kerb 2"\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def register(self, folder: Path, form: str) -> None:
        path = folder / "form.toml"
        path.write_text(form)
        registry = Registry(self.log, KafkaLogReader(self.kafka, self.topic, 0))
        registry.read(lambda _: None)
        now_ms = time.time_ns() // 10**6
        plans = planned(self.log, registry, read_form(path), zone="Europe/Berlin", now_ms=now_ms)
        records = [signed(self.log, operator_of(self.data), record_of(p.registration)) for p in plans if p.registration]
        assert set(send(self.log, self.kafka, registry, records, now_ms, lambda _: None)) == {None}

    def fund(self, account: str) -> None:
        self.node.transact(self.keys.of("operator"), self.ledger.mint(account, 100 * WHOLE))

    def start(self) -> None:
        env = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka, "CHAIN_RPC_URL": self.node.rpc_url, "TALLYROOT_TOPIC": self.topic,
        }  # fmt: skip
        words = ["-m", "deploy", "till", "--config", str(self.file), "--data-dir", str(self.data.data_dir)]
        self.process = subprocess.Popen([sys.executable, *words], env=env, stderr=subprocess.PIPE)
        for _ in range(300):
            try:
                requests.get(f"http://127.0.0.1:{self.port}/machines", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                assert self.process.poll() is None, self.process.stderr and self.process.stderr.read().decode()
                time.sleep(0.1)
        raise AssertionError("the till does not answer")

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        if self.process.stderr:
            self.process.stderr.close()
        return code

    def wanted(self, money: str = "5.00") -> wire.Requirements:
        answer = requests.post(self.url, json={"money": money}, timeout=30)
        assert answer.status_code == 402, answer.text
        return decoded(answer.headers[wire.REQUIRED_HEADER], Required).accepts[0]

    def pay(self, payment: wire.Payment, money: str = "5.00") -> requests.Response:
        return requests.post(
            self.url, json={"money": money}, headers={wire.SIGNATURE_HEADER: encoded(payment)}, timeout=90
        )

    def signed_now(self, wanted: wire.Requirements, nonce: int, **changes: Any) -> wire.Payment:
        asset = asset_of(self.node, self.ledger.deployment, "1")
        now_s = self.node.time_s(at="pending")
        return payment_of(wanted, BUYER, nonce, now_s, **({"asset": asset} | changes))

    def records(self) -> list[list[Any]]:
        reader = KafkaLogReader(self.kafka, self.topic, 0)
        return [list(reader.read(p, *reader.range(p))) if reader.range(p)[1] else [] for p in range(2)]

    def report(self, route: bytes, rows: list[dict[str, Any]]) -> None:
        producer = LogProducer(self.kafka, self.log)
        for row in rows:
            producer.send(row["observed_at"], route, msgspec.json.encode(row))
        producer.flush()
        producer.close()

    def payments(self) -> list[dict[str, Any]]:
        return [json.loads(r.value) for part in self.records() for r in part if record_type(r) == PAID]

    def told(self, count: int, session: str = "") -> list[dict[str, Any]]:
        """The commands that the gateways got (of a session), once there are so many."""
        consumer = Consumer(
            {"bootstrap.servers": self.kafka, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([self.commands])
        found = []
        for _ in range(200):
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found += [row for row in [json.loads(message.value() or b"")] if session in ("", row["session"])]
            if len(found) >= count:
                break
        consumer.close()
        return found


@pytest.fixture(scope="module")
def shop(kafka: str, node: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("till"), kafka, node)
    ask(node, "evm_setIntervalMining", 1)  # finality is eight blocks behind
    shop.start()
    yield shop
    if shop.process is not None and shop.process.poll() is None:
        assert shop.kill(signal.SIGTERM) == 0
    ask(node, "evm_setIntervalMining", 0)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_attack_thieves_meet_the_protocol_s_errors(shop: Shop) -> None:
    """On the real token; nothing of it costs gas."""
    gas = development_signer(GAS).address
    nonce = shop.node.nonce(gas)
    asset = asset_of(shop.node, shop.ledger.deployment, "1")
    chain = ChainHand(shop.node, asset, development_signer(GAS))
    wanted = terms(asset, 5 * WHOLE, 300)
    used = shop.signed_now(wanted, 1)
    assert chain.refuses(Authorization.of(shop.signed_now(wanted, 50))) is None
    assert chain.refuses(Authorization.of(shop.signed_now(wanted, 50, signer=PrivateKey(b"\5" * 32)))) is not None
    assert chain.refuses(Authorization.of(shop.signed_now(wanted, 50, value=200 * WHOLE))) is not None
    requests_of = {
        wire.SIGNATURE: shop.signed_now(wanted, 51, signer=PrivateKey(b"\5" * 32)),
        wire.NETWORK_MISMATCH: shop.signed_now(wanted, 51, accepted={"network": "eip155:1"}),
        wire.RECIPIENT: shop.signed_now(wanted, 51, to=BUYER.public_key.to_address()),
    }
    for error, payment in requests_of.items():
        answer = requests.post(
            shop.url.replace("charger-1", "charger-2"), json={"money": "5.00"},
            headers={wire.SIGNATURE_HEADER: encoded(payment)}, timeout=30,
        )  # fmt: skip
        assert (answer.status_code, answer.json()["error"]) == (402, error)
    for text, body in (("garbage", b"{}"), (encoded(used), b"{" * 9_000), (encoded(used), b"[]")):
        answer = requests.post(shop.url, data=body, headers={wire.SIGNATURE_HEADER: text}, timeout=30)
        assert answer.status_code == 400
    assert shop.node.nonce(gas) == nonce


def test_a_session_is_bought_used_and_refunded(shop: Shop) -> None:
    """Killed while the payment is under way; the payment lies before the readings, and the window holds the refund."""
    before = shop.ledger.balance_of(shop.ledger.deployment.ledger)
    payment = shop.signed_now(shop.wanted(), 1)
    with pytest.raises(requests.RequestException):
        requests.post(
            shop.url, json={"money": "5.00"}, headers={wire.SIGNATURE_HEADER: encoded(payment)}, timeout=2
        )  # the buyer's patience ends
    shop.kill()
    assert shop.payments() == [], "it was not final yet"
    shop.start()
    with mining(shop.node):
        answer = shop.pay(payment)
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    settled = decoded(answer.headers[wire.RESPONSE_HEADER], wire.Settled)
    (paid,) = shop.payments()
    assert (settled.success, settled.transaction) == (True, paid["transaction"])
    assert (paid["session"], paid["amount"], paid["version"]) == (receipt["session"], 5 * WHOLE, 1)
    assert shop.ledger.balance_of(shop.ledger.deployment.ledger) == before + 5 * WHOLE
    events = [log for log in shop.node.events_of(paid["transaction"]) if log.index == paid["log_index"]]
    assert [(log.block, log.address) for log in events] == [(paid["block"], shop.token)]
    (start,) = shop.told(1)
    assert (start["command"], start["session"], start["machine"]) == ("start", receipt["session"], "charger-1")

    used_and_refunded(shop, receipt["session"])


def used_and_refunded(shop: Shop, session: str) -> None:
    """A kilowatt-hour at 0.39 and a start of 0.50 are 0.89 of the 5.00."""
    now_ms = time.time_ns() // 10**6
    words = {"machine": "charger-1", "meter": "energy", "boot": 1, "session": session, "session_started_at": now_ms}
    rows = [
        words | {"seq": 1, "observed_at": now_ms, "register": 100_000, "session_start": True},
        words | {"seq": 2, "observed_at": now_ms + 4 * MINUTE_MS, "register": 101_000},
    ]
    rows += [words | {"seq": 3, "observed_at": now_ms + 4 * MINUTE_MS + 1, "register": 101_000, "session_end": True}]
    shop.report(b"depot-1", rows)
    shop.wanted()  # the machine is free again
    found = []
    for partition, records in enumerate(shop.records()):
        state = State.new(shop.log, partition)
        if records:
            later_ms = records[-1].timestamp + 3 * DAY_MS + HOUR_MS
            beat = Record(records[-1].offset + 1, later_ms, None, b"", (("ce_type", HEARTBEAT.encode()),))
            for part in advance_through(state, [*records, beat]):
                found += [window for window in part.windows if window.sessions]
                assert not part.rejects
    (window,) = found
    (statement,) = window.sessions
    used = 390_000 + 500_000
    assert (statement.session, statement.paid_micros, statement.used_micros, statement.refund_micros) == (
        session, 5 * WHOLE, used, 5 * WHOLE - used,
    )  # fmt: skip
    assert [(due.kind, due.account, due.micros) for due in window.dues] == [
        ("refund", BUYER.public_key.to_address(), 5 * WHOLE - used)
    ]


def test_the_protocol_s_python_client_buys_unchanged(shop: Shop) -> None:
    """As it comes from PyPI: it asks, is told 402, signs, and has a session."""
    pytest.importorskip("x402", reason="pip install x402[evm,requests]==2.25.0")
    from x402 import x402ClientSync
    from x402.http.clients import wrapRequestsWithPayment
    from x402.mechanisms.evm.exact import ExactEvmScheme

    buyer = Account.create()
    shop.fund(buyer.address.lower())
    client = x402ClientSync().register(f"eip155:{shop.node.chain_id}", ExactEvmScheme(buyer))
    allowed = [{"network": f"eip155:{shop.node.chain_id}", "asset": shop.token}]
    client.set_spend_controls({"max_amount_per_payment": False, "allowed_assets": allowed})
    session = wrapRequestsWithPayment(requests.Session(), client)
    with mining(shop.node):
        answer = session.post(shop.url.replace("charger-1", "charger-2"), json={"units": 5_000}, timeout=90)
    assert answer.status_code == 201, answer.text
    sold_and_stopped(shop, answer.json(), buyer)


def test_the_protocol_s_javascript_client_buys_unchanged(shop: Shop) -> None:
    """As it comes from npm."""
    folder = find_node()
    javascript = None if folder is None else shutil.which("node", path=folder)
    assert javascript is not None, "no Node: run `make setup`"
    buyer = Account.create()
    shop.fund(buyer.address.lower())
    task = {
        "url": shop.url.replace("charger-1", "charger-2"), "key": "0x" + buyer.key.hex().removeprefix("0x"),
        "network": f"eip155:{shop.node.chain_id}", "asset": shop.token, "wish": {"units": 5_000},
    }  # fmt: skip
    words = [javascript, str(Path(__file__).with_name("x402_js.cjs")), json.dumps(task)]
    with mining(shop.node):
        done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["settled"]["success"]) == (201, True), said
    sold_and_stopped(shop, said["receipt"], buyer)


def sold_and_stopped(shop: Shop, receipt: dict[str, Any], buyer: LocalAccount) -> None:
    assert (receipt["state"], receipt["paid_micros"]) == ("started", 5 * 390_000 + 500_000)
    assert receipt["payer"] == buyer.address.lower() and len(receipt["secret"]) >= 16
    url = f"{shop.url.replace('charger-1', 'charger-2')}/{receipt['session']}/stop"
    stop = requests.post(url, headers={"Authorization": f"Bearer {receipt['secret']}"}, timeout=30)
    assert stop.status_code == 200 and stop.json()["is_stopped"]


TAXI = """
tariff = ["EUR 4.30 per trip"]
payees = [{{ account = "{account}", name = "itself", share = "100 %" }}]
[[machines]]
id = "taxi-7"
kind = "taxi"
[machines.meters.trips]
counts = "quantity"
unit = "trips"
capacity = "20 trips/h"
[machines.meters.battery]
counts = "level"
unit = "Wh"
capacity = "50 kW"
"""

POLICY = """
tills = ["http://127.0.0.1:9", "http://127.0.0.1:{port}"]
kinds = ["ev_charger"]
[key]
key = "{key}"
[need]
meter = "battery"
buy_at = "20 kWh"
until = "30 kWh"
[limits]
price = "EUR 0.60 per kWh"
per_purchase = "10.00"
per_day = "12.00"
per_30_days = "100.00"
"""


def test_a_taxi_charges_itself(shop: Shop, tmp_path: Path) -> None:
    """Its agent asks a dead till and a real one, pays, is sold a session, and ends it once its battery is full."""
    key = PrivateKey(b"\x08" * 32)
    account = key.public_key.to_address()
    shop.register(tmp_path, TAXI.format(account=account))
    shop.fund(account)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(port=shop.port, key=key.to_hex()))
    said: list[str] = []

    def shows(seq: int, level: int) -> AgentEnded:
        at_ms = time.time_ns() // 10**6
        row = {"machine": "taxi-7", "meter": "battery", "boot": 1, "seq": seq, "observed_at": at_ms, "level": level}
        shop.report(b"taxi-7", [row])
        return agent(shop.data, "taxi-7", policy, said.append, once=True)[0]

    with mining(shop.node):
        (bought,) = shows(1, 18_000).purchases
    assert (bought.units, bought.amount_micros) == (12_000, 12 * 390_000 + 500_000)
    assert bought.amount_micros == 100 * WHOLE - shop.ledger.balance_of(account)
    ended = shows(2, 24_000)
    assert (ended.purchases[0].state, ended.allowed_micros) == ("paid", 12 * WHOLE - bought.amount_micros)
    (over,) = shows(3, 30_000).purchases
    (paid,) = (payment for payment in shop.payments() if payment["payer"] == account)
    assert (over.state, over.session, over.machine) == ("over", paid["session"], paid["machine"])
    commands = [row["command"] for row in shop.told(2, paid["session"])]
    assert commands == ["start", "stop"] and said[0].startswith("http://127.0.0.1:9: no answer")


@contextmanager
def mining(node: Chain) -> Iterator[None]:
    """Blocks come fast, so that what is mined is soon final."""
    is_over = threading.Event()

    def mine() -> None:
        while not is_over.wait(0.2):
            ask(node, "anvil_mine")

    miner = threading.Thread(target=mine)
    miner.start()
    try:
        yield
    finally:
        is_over.set()
        miner.join()


def test_the_protocol_s_facilitator_settles(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A till without gas of its own: PyPI's facilitator verifies and sends; the payment is found by its nonce."""
    pytest.importorskip("x402", reason="pip install x402[evm,requests]==2.25.0")
    from tests.support.x402_facilitator import facilitator

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shop.register(tmp_path, TAXI.format(account=PAYER).replace("taxi-7", "taxi-8"))
    file = tmp_path / "till.toml"
    words = f'topic = "{shop.commands}"\njournal = "other.sqlite"\n[[machines]]\nmachine = "taxi-8"\n'
    with facilitator(shop.gas, shop.node.rpc_url, f"eip155:{shop.node.chain_id}") as url, mining(shop.node):
        file.write_text(words + f'[facilitator]\nurl = "{url}"\n')
        till = open_till(shop.data, file)
        wanted = terms(till.desk.asset, 4_300_000, 300)
        poor = payment_of(wanted, PrivateKey(b"\x09" * 32), 1, shop.node.time_s(at="pending"), asset=till.desk.asset)
        with pytest.raises(Unpaid) as unpaid:
            till.desk.buy("taxi-8", Wish(units=1), poor)
        assert unpaid.value.error == wire.NO_FUNDS
        sold = till.desk.buy("taxi-8", Wish(units=1), shop.signed_now(wanted, 8))
        for _ in range(300):
            if not till.cashier.go_on():
                break
            time.sleep(0.1)
        receipt = till.desk.status("taxi-8", sold.session)
        till.journal.close()
    (payment,) = (row for row in shop.payments() if row["machine"] == "taxi-8")
    assert (receipt.state, receipt.proof[0]["transaction"]) == ("started", payment["transaction"])
    file.write_text(words + '[facilitator]\nurl = "http://127.0.0.1:9"\n')
    with pytest.raises(InvalidInput, match="is away"):
        open_till(shop.data, file)
    file.write_text(words)
    with pytest.raises(InvalidInput, match="who pays for gas"):
        open_till(shop.data, file)


def test_a_status_ends_with_the_refund_and_its_proof(shop: Shop) -> None:
    """A worker would have published the window; the till finds it, its post, and the payer's payout under that."""
    (sold,) = (row for row in shop.payments() if row["machine"] == "charger-1" and row["payer"] == PAYER)
    epoch = time.time_ns() // 10**6 // DAY_MS - 1
    refund = Due("refund", PAYER, sold["session"], 4 * WHOLE)
    statement = Statement(sold["session"], PAYER, 5 * WHOLE, WHOLE, 4 * WHOLE)
    paid = window("charger-1", epoch, WHOLE, agreement=Agreement({PAYER: 10_000}), dues=[refund], log=shop.log)
    sealed = structs.replace(paid, sessions=(statement,)).sealed("00" * 16)
    folder = shop.data.data_dir
    for partition, windows in enumerate([[sealed], []]):
        publish(folder, partition, epoch, windows, shop.log, epoch)
    service.fund(folder, shop.node, shop.log, shop.keys)
    service.settle(folder, shop.node, shop.log, shop.keys)
    service.attest(folder, shop.node, shop.keys)
    shop.node.pass_time(61)
    found = requests.get(f"{shop.url}/{sold['session']}", timeout=30).json()["outcome"]
    assert (found["used_micros"], found["collected_micros"], found["refund_micros"]) == (WHOLE, WHOLE, 4 * WHOLE)
    assert found["windows"][0]["window_digest"] == sealed.digest.hex() and found["windows"][0]["is_active"]
    payout = found["payout"]
    nodes = [bytes.fromhex(node[2:]) for node in payout["proof"]]
    assert payout["cumulative"] == str(5 * WHOLE), "the machine's earnings are the payer's too, here"
    assert shop.ledger.claimable(PAYER, payout["sequence"], 5 * WHOLE, nodes) == 5 * WHOLE
