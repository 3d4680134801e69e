"""Cheats of buyers at a till: a real one, on a log of its own on the run's broker, that sells for the court's token."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
from confluent_kafka.admin import AdminClient, NewTopic
from eth_keys.datatypes import PrivateKey
from msgspec import structs

from deploy.attack.cheat import PAYEES, Cheat, Outcome, Stopwatch
from deploy.attack.ledger_copy import LedgerCopy
from deploy.attack.log_copy import LogCopy
from deploy.attack.partition_copy import OPERATOR_KEY, STRANGER_KEY, VICTIM_KEY
from deploy.machines.operator import Operator
from deploy.machines.register import record_of, signed
from deploy.machines.registry import Registry
from deploy.machines.send import send
from deploy.till.chain_hand import TOKEN, ChainHand, asset_of
from deploy.till.commands_hand import CommandsHand
from deploy.till.log_hand import LogHand
from schemas.command import TOPIC
from schemas.log import Log, Ruleset
from schemas.payout import ProofFile
from schemas.registration import Registration
from schemas.units import MINUTE_MS, SECOND_MS
from settlement.chain.signer import Signer
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic
from till import wire
from till.authorization import Asset, Authorization, terms
from till.cashier import Cashier
from till.desk import Desk, Limits, Receipt, Refused, Unpaid, Wish
from till.journal import Journal
from till.offers import Item
from till.outcome import Sealed
from till.purchase import State
from till.sender import OwnGas
from till.wire import Payment

BLOCKS_TO_FINAL = 16
BUYERS = "the buyer"
CENT, EURO = 10_000, 10**6
KWH_MICROS = 390_000
SOLD, OTHER, STOPPED, FIRST, FILLED = MACHINES = tuple(f"till-{number}" for number in range(5))
"""One for each cheat that gets as far as a session."""

SECRET = "the buyer's own secret"  # noqa: S105 - everybody may know it: the till is thrown away
BUYER = PrivateKey(VICTIM_KEY)


class NothingSettled:
    """The books of a log of which no window has been sealed yet."""

    def sealed(self, machine: str, session: str, payer: str) -> list[Sealed]:
        """None."""
        return []

    def payout(self, account: str) -> ProofFile | None:
        """None."""
        return None


class TillCopy:
    """The till's parts, and a buyer with money. Nothing waits for a thread: `go_on` is one turn of the cashier."""

    def __init__(self, court: LedgerCopy, copy: LogCopy, folder: Path) -> None:
        self.court, self.servers = court, copy.kafka.bootstrap_servers
        operator = Operator(Signer.from_key(OPERATOR_KEY.hex()))
        self.log = Log(log_id="attack-till", topic="attack-till", partitions=1,
                       rulesets=(Ruleset(operators=(operator.address,)),))  # fmt: skip
        create_topic(self.servers, self.log)
        admin = AdminClient({"bootstrap.servers": self.servers})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(20)
        reader = KafkaLogReader(self.servers, self.log.topic)
        self._register(operator, reader)
        self.asset: Asset = asset_of(court.node, court.ledger.deployment, "1")
        self.journal = Journal(folder / "till.sqlite")
        hand, gas = LogHand(self.log, self.servers, reader, operator, ()), court.keys.of("operator")
        chain, commands = ChainHand(court.node, self.asset, gas), CommandsHand(self.servers, TOPIC)
        self.cashier = Cashier(self.journal, hand, chain, commands, OwnGas(self.journal, chain), time)
        items = {machine: Item(machine=machine, place="kerb") for machine in MACHINES}
        currency, books = self.log.currency, NothingSettled()
        self.desk = Desk(items, Limits(), currency, self.journal, hand, chain, commands, books, self.asset, time)
        self.court.node.transact(gas, court.ledger.mint(BUYER.public_key.to_address(), self.asset.units(100 * EURO)))
        self._nonce = 0

    def _register(self, operator: Operator, reader: KafkaLogReader) -> None:
        registry = Registry(self.log, reader)
        registry.read(lambda _: None)
        price = {"meter": "energy", "price": KWH_MICROS, "per": 1_000}
        meter = {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 1_000_000}
        documents = [
            {"machine": machine, "route": "till", "version": 1, "kind": "charger", "effective_from": 0,
             "meters": [meter], "tariff": {"elements": [{"components": [price]}], "offsets": [[0, 0]]},
             "agreement": {"payees": {operator.address: 10_000}}}
            for machine in MACHINES
        ]  # fmt: skip
        found = [record_of(msgspec.convert(document, Registration)) for document in documents]
        records = [signed(self.log, operator, record) for record in found]
        send(self.log, self.servers, registry, records, int(time.time() * SECOND_MS), lambda _: None)

    def payment(self, micros: int = EURO, *, signer: PrivateKey = BUYER, said: Any = None, **changes: Any) -> Payment:
        """An authorisation of the buyer with a nonce of its own; `changes` are of what is signed, `said` of terms."""
        wanted = terms(self.asset, self.asset.units(micros), Limits().timeout_s)
        self._nonce += 1
        until_s = max(self.court.node.time_s(at="pending"), int(time.time())) + wanted.max_timeout_seconds
        open_ = Authorization(
            BUYER.public_key.to_address(), wanted.pay_to, int(wanted.amount), 0, until_s, f"0x{self._nonce:064x}", "0x"
        )
        open_ = structs.replace(open_, **changes)
        found = signer.sign_msg_hash(open_.digest(self.asset)).to_bytes()
        signature = "0x" + (found[:64] + bytes([27 + found[64]])).hex()
        return structs.replace(open_, signature=signature).payment(structs.replace(wanted, **(said or {})))

    def buy(self, machine: str, payment: Payment, money: str = "1.00") -> Receipt:
        """Posts a payment. Raises Unpaid or Refused."""
        return self.desk.buy(machine, Wish(money=money, secret=SECRET), payment)

    def go_on(self) -> None:
        """Purchases come to their end: sent, mined, final, recorded, begun."""
        self.cashier.go_on()
        for _ in range(BLOCKS_TO_FINAL):
            self.court.node.pass_time(1)
        self.cashier.go_on()

    def charge(self, machine: str, session: str, steps: int, step_wh: int) -> None:
        """The machine's readings of a session, a minute apart."""
        producer, start_ms = LogProducer(self.servers, self.log), int(time.time() * SECOND_MS)
        for step in range(steps):
            at_ms = start_ms + step * MINUTE_MS
            row = {"machine": machine, "meter": "energy", "boot": 1, "seq": step, "observed_at": at_ms,
                   "register": step * step_wh, "session": session, "session_started_at": start_ms}  # fmt: skip
            row |= {} if step else {"session_start": True}
            producer.send(at_ms, b"till", msgspec.json.encode(row))
        producer.flush()
        producer.close()

    def refused(self, error: str, buy: Callable[[], Receipt]) -> Outcome:
        """Caught if the till answers with this error of the protocol, and nothing more is journaled."""
        watch, before = Stopwatch(), self._purchases()
        try:
            said = f"a session, {buy().state}"
        except Unpaid as unpaid:
            said = str(unpaid)
        except Refused as refused:
            said = f"{refused.status} {refused}"
        is_caught = said.startswith(error) and self._purchases() == before
        return watch.outcome("till" if is_caught else "", f"till: {said}")

    def _purchases(self) -> int:
        return len(self.journal.in_state(*get_args(State)))


def till_cheats(place: TillCopy) -> Iterator[Cheat]:
    """All cheats, in the order of the table."""
    changed: dict[str, tuple[str, Callable[[], Payment]]] = {
        "a session for a cent less than its price": (wire.VALUE, lambda: place.payment(EURO - CENT)),
        "a session paid on another network": (
            wire.NETWORK_MISMATCH, lambda: place.payment(said={"network": "eip155:1"}),
        ),
        "a session paid in a token of one's own": (
            wire.INVALID_REQUIREMENTS, lambda: place.payment(said={"asset": "0x" + "d4" * 20}),
        ),
        "a session paid to oneself": (
            wire.RECIPIENT, lambda: place.payment(to=BUYER.public_key.to_address()),
        ),
        "a session paid by another's account": (
            wire.SIGNATURE, lambda: place.payment(signer=PrivateKey(STRANGER_KEY)),
        ),
    }  # fmt: skip
    for name, (error, payment) in changed.items():
        yield Cheat(name, "stranger", PAYEES, partial(_changed, place, error, payment))
    yield Cheat("one authorisation for two machines", "stranger", PAYEES, partial(_twice, place))
    yield Cheat("a session stopped by who read of it in the log", "stranger", BUYERS, partial(_stopped, place))
    yield Cheat("a payment sent first by somebody else, so that it counts for nothing", "stranger", BUYERS,
                partial(_sent_first, place))  # fmt: skip
    yield Cheat("a cent paid, and a battery filled", "stranger", PAYEES, partial(_filled, place))


def _changed(place: TillCopy, error: str, payment: Callable[[], Payment]) -> Outcome:
    made = payment()
    return place.refused(error, lambda: place.buy(SOLD, made))


def _twice(place: TillCopy) -> Outcome:
    payment = place.payment()
    place.buy(SOLD, payment)
    return place.refused(wire.NONCE_USED, lambda: place.buy(OTHER, payment))


def _stopped(place: TillCopy) -> Outcome:
    session = place.buy(STOPPED, place.payment()).session
    return place.refused("401", lambda: place.desk.stop(STOPPED, session, "a stranger's guess"))


def _sent_first(place: TillCopy) -> Outcome:
    watch, payment = Stopwatch(), place.payment()
    session = place.buy(FIRST, payment).session
    signed_ = Authorization.of(payment)
    signature = bytes.fromhex(signed_.signature[2:])
    call = TOKEN.call(
        place.asset.token, "transferWithAuthorization", signed_.payer, signed_.to, signed_.value, signed_.valid_after,
        signed_.valid_before, bytes.fromhex(signed_.nonce[2:]), signature[64], signature[:32], signature[32:64],
    )  # fmt: skip
    place.court.node.transact(place.court.keys.of("poster"), call)
    place.go_on()
    found = place.desk.status(FIRST, session)
    is_credited = found.state == "started" and found.paid_micros == EURO
    return watch.outcome("till" if is_credited else "", f"till: {found.state}, {found.paid_micros / EURO:.2f} credited")


def _filled(place: TillCopy) -> Outcome:
    watch = Stopwatch()
    session = place.buy(FILLED, place.payment(CENT), "0.01").session
    place.go_on()
    began = place.desk.status(FILLED, session)
    place.charge(FILLED, session, steps=3, step_wh=10)
    place.cashier.go_on()
    found = place.desk.status(FILLED, session)
    is_caught = began.state == "started" and not began.is_stopped and found.is_stopped
    used = 20 * KWH_MICROS / 1_000 / EURO
    return watch.outcome(
        "till" if is_caught else "", f"till: {used:.4f} used of 0.01, then the gateway is told to stop"
    )


@contextmanager
def till_copy(court: LedgerCopy, copy: LogCopy, folder: Path) -> Iterator[TillCopy]:
    """A till that is closed after use."""
    folder.mkdir()
    place = TillCopy(court, copy, folder)
    try:
        yield place
    finally:
        place.journal.close()
