"""A till on a chain and a log in memory: the core judges its payments, and it may be killed after each step."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from eth_keys.datatypes import PrivateKey

from schemas.command import Command
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.payment import PAID, PaymentReceived
from schemas.payout import ProofFile
from schemas.reading import REGISTERED
from schemas.registration import Registration
from schemas.reject import Reason
from schemas.units import DAY_MS, HOUR_MS, SECOND_MS
from streams.core.control_step import move_time, take_control
from streams.core.encode import CONTENT_TYPES
from streams.core.records import Record
from streams.core.signature import operator_account, sign_control
from streams.core.state import State
from till.authorization import Asset, Authorization
from till.cashier import Cashier
from till.desk import Desk, Limits, Receipt, Unpaid, Wish
from till.follow import Use
from till.journal import Journal
from till.offers import OFFERED, Item
from till.outcome import Sealed
from till.purchase import Attempt, Place
from till.sender import Facilitated, OwnGas, Sender
from till.wire import Payment, Requirements

START_S = 20_000 * DAY_MS // SECOND_MS
LEDGER, TOKEN = "0x" + "1e" * 20, "0x" + "70" * 20
ASSET = Asset(chain_id=31_337, token=TOKEN, ledger=LEDGER, decimals=6, name="Demo Dollar", version="1")
ALICE, BOB = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
OPERATOR = operator_account(bytes.fromhex("0c" * 32))
LAG = 2
"""By how many blocks finality is behind."""

BLOCK_S = 2
MACHINES = ("charger", "drone")


class Killed(BaseException):
    """The end of the process."""


class SimClock:
    """The time of the chain and the till, Unix seconds."""

    now_s = float(START_S)

    def time(self) -> float:
        return self.now_s


class Kills:
    """Ends the process after the step of a number, once."""

    def __init__(self) -> None:
        self.left: int | None = None

    def after(self, _: object = None) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed


class SimChain:
    """A token with EIP-3009 on a chain that mines when it is told."""

    def __init__(self, clock: SimClock, kills: Kills) -> None:
        self.clock, self.kills = clock, kills
        self.block = 10
        self.balances = {account(ALICE): 10**9, account(BOB): 10**9}
        self.used: dict[tuple[str, str], Place] = {}
        self.cancelled: dict[tuple[str, str], int] = {}
        self.waiting: dict[int, tuple[Authorization, str]] = {}
        self.next_nonce = 0
        self.is_away = False
        self.reverted = 0

    def latest(self) -> tuple[int, int]:
        self._answer()
        return self.block, int(self.clock.now_s)

    def final(self) -> tuple[int, int]:
        self._answer()
        return self.block - LAG, int(self.clock.now_s) - LAG * BLOCK_S

    def balance(self, payer: str) -> int:
        return self.balances.get(payer, 0)

    def is_contract(self, account: str) -> bool:
        return False

    def is_used(self, signed: Authorization) -> bool:
        key = (signed.payer, signed.nonce)
        return key in self.used or key in self.cancelled

    def refuses(self, signed: Authorization) -> str | None:
        if self.is_used(signed):
            return "used"
        if not signed.valid_after < self.clock.now_s < signed.valid_before:
            return "not its time"
        return None if self.balance(signed.payer) >= signed.value else "no funds"

    def transfer(self, signed: Authorization, first: int, last: int) -> Place | None:
        self._answer()
        found = self.used.get((signed.payer, signed.nonce))
        return found if found is not None and first <= found.block <= last else None

    def is_cancelled(self, signed: Authorization, first: int, last: int) -> bool:
        return first <= self.cancelled.get((signed.payer, signed.nonce), -1) <= last

    def nonce(self) -> int:
        return self.next_nonce

    def signed(self, signed: Authorization, before: Attempt | None) -> Attempt:
        nonce = self.next_nonce if before is None else before.nonce
        raw = msgspec.msgpack.encode([signed, nonce, 0 if before is None else len(before.raw)])
        return Attempt(nonce, raw, "0x" + hashlib.sha256(raw).hexdigest())

    def send(self, attempt: Attempt) -> None:
        self._answer()
        if attempt.nonce >= self.next_nonce:
            signed = msgspec.convert(msgspec.msgpack.decode(attempt.raw)[0], Authorization)
            self.waiting[attempt.nonce] = signed, attempt.transaction
        self.kills.after()

    def mine(self, blocks: int = 1) -> None:
        """What waits is mined in the first of the blocks."""
        for _ in range(blocks):
            self.block += 1
            self.clock.now_s += BLOCK_S
            index = 0
            while self.next_nonce in self.waiting:
                index = self.execute(*self.waiting.pop(self.next_nonce), index)
                self.next_nonce += 1

    def execute(self, signed: Authorization, transaction: str, index: int = 0) -> int:
        """Sends a transfer, whoever does it; returns the next log index."""
        if self.refuses(signed) is not None:
            self.reverted += 1
            return index
        self.balances[signed.payer] -= signed.value
        self.balances[signed.to] = self.balance(signed.to) + signed.value
        self.used[signed.payer, signed.nonce] = Place(self.block, index + 1, transaction)
        return index + 2

    def _answer(self) -> None:
        if self.is_away:
            raise InvalidInput("no node answers")


class SimLog:
    """A log of one partition; the core judges each record."""

    def __init__(self, clock: SimClock, kills: Kills) -> None:
        self.clock, self.kills = clock, kills
        self.state = State.new(Log(log_id="street", partitions=1), 0)
        self.records: list[tuple[Reason | None, bytes]] = []
        self.is_away = False
        self.ended: set[tuple[str, str]] = set()
        self.uses: dict[tuple[str, str], Use] = {}
        for machine in MACHINES:
            assert self.take(REGISTERED, machine, msgspec.json.encode(registration(machine))) is None

    def take(self, kind: str, machine: str, value: bytes) -> Reason | None:
        headers = (("ce_type", kind.encode()),)
        found = take_control(self.state, Record(len(self.records), self._now_ms, machine.encode(), value, headers))
        assert found != "duplicate" or (None, value) in self.records
        verdict = None if found == "duplicate" else found
        self.records.append((verdict if found != "duplicate" else "duplicate", value))  # type: ignore[arg-type]
        return verdict

    @property
    def _now_ms(self) -> int:
        return int(self.clock.now_s * SECOND_MS)

    @property
    def accepted(self) -> list[PaymentReceived]:
        """The payments that the log accepted."""
        return [
            msgspec.json.decode(value, type=PaymentReceived)
            for reason, value in self.records
            if reason is None and b'"payer"' in value
        ]

    def refresh(self) -> None:
        if self.is_away:
            raise InvalidInput("no broker answers")
        move_time(self.state, self._now_ms)

    def registration(self, machine: str, now_ms: int) -> Registration | None:
        found = self.state.machines.get(machine)
        return None if found is None else found.version_at(now_ms).registration

    def next_version(self, machine: str) -> int:
        return self.state.machines[machine].rare.payment_version + 1

    def payments(self, machine: str, after: int) -> list[str]:
        return [payment.session for payment in self.accepted if payment.machine == machine][after:]

    def holder(self, place: Place) -> str | None:
        for payment in self.accepted:
            if (payment.transaction, payment.log_index) == (place.transaction, place.log_index):
                return payment.machine
        return None

    def signed(self, machine: str, value: bytes) -> bytes:
        return b"signed " + machine.encode()

    def sent(self, machine: str, value: bytes, signature: bytes) -> Reason | None:
        self.refresh()
        verdict = self.take(PAID, machine, value)
        self.kills.after()
        return verdict

    def is_open(self, machine: str, session: str) -> bool:
        return self.state.session_of(machine, session) is not None

    def has_ended(self, machine: str, session: str) -> bool:
        return (machine, session) in self.ended

    def is_used_up(self, machine: str, session: str, paid_micros: int) -> bool:
        use = self.uses.get((machine, session))
        return use is not None and use.is_used_up(paid_micros)

    def signed_offers(self, document: bytes) -> str:
        key = bytes.fromhex("0c" * 32)
        return "0x" + sign_control(key, "street", "street", OFFERED, CONTENT_TYPES["json"], document).hex()


class SimCommands:
    """The topic of commands: what came, and how many payments the log had by then."""

    def __init__(self, log: SimLog, kills: Kills) -> None:
        self.log, self.kills = log, kills
        self.sent: list[tuple[Command, int]] = []

    def send(self, route: str, command: Command) -> None:
        assert route == command.machine and command.is_valid()
        self.sent.append((command, len(self.log.accepted)))
        self.kills.after()


class SimBooks:
    """What was published and settled."""

    def __init__(self) -> None:
        self.windows: dict[tuple[str, str, str], list[Sealed]] = {}
        self.payouts: dict[str, ProofFile] = {}
        self.is_away = False
        self.asked = 0

    def sealed(self, machine: str, session: str, payer: str) -> list[Sealed]:
        self.asked += 1
        if self.is_away:
            raise InvalidInput("the views can't be read")
        return self.windows.get((machine, session, payer), [])

    def payout(self, account: str) -> ProofFile | None:
        return self.payouts.get(account)


class SimFacilitator:
    """Sends transfers for others, or says so."""

    def __init__(self, chain: SimChain, *, lies: bool) -> None:
        self.chain, self.lies = chain, lies
        self.asked: list[Payment] = []
        self.refusal: str | None = None

    def verify(self, payment: Payment) -> str | None:
        return self.refusal

    def settle(self, payment: Payment) -> None:
        self.asked.append(payment)
        if not self.lies:
            signed = Authorization.of(payment)
            self.chain.waiting[self.chain.next_nonce + len(self.chain.waiting)] = signed, "0x" + "fa" * 32
        self.chain.kills.after()


class Street:
    """One or more tills on one chain and one log."""

    def __init__(self, folder: Path, *, facilitator: Literal["honest", "lies"] | None = None) -> None:
        self.folder, self.clock, self.kills, self.asset = folder, SimClock(), Kills(), ASSET
        self.chain, self.log = SimChain(self.clock, self.kills), SimLog(self.clock, self.kills)
        self.commands, self.books = SimCommands(self.log, self.kills), SimBooks()
        self.facilitator = None if facilitator is None else SimFacilitator(self.chain, lies=facilitator == "lies")
        self.till = self.open_till()

    def open_till(self, name: str = "till") -> "SimTill":
        return SimTill(self, self.folder / f"{name}.sqlite")

    def restart(self) -> None:
        """The process is gone; another one opens its journal."""
        self.till.journal.close()
        self.till = self.open_till()


class SimTill:
    """A till whose cashier is driven by hand."""

    def __init__(self, street: Street, path: Path) -> None:
        self.street, self.journal = street, Journal(path)
        items = {machine: Item(machine=machine, at_once=2 if machine == "drone" else 1) for machine in MACHINES}
        after, log, chain, commands = street.kills.after, street.log, street.chain, street.commands
        words = (log, chain, commands, street.books, street.asset, street.clock, street.facilitator)
        self.desk = Desk(items, Limits(), "USD", self.journal, *words)
        sender: Sender = OwnGas(self.journal, chain, after)
        if street.facilitator is not None:
            sender = Facilitated(self.journal, chain, street.facilitator, ASSET, 300, after)
        self.cashier = Cashier(self.journal, log, chain, commands, sender, street.clock, after)

    def price(self, machine: str = "charger", **wish: Any) -> Requirements:
        with pytest.raises(Unpaid) as unpaid:
            self.desk.buy(machine, msgspec.convert(wish or {"money": "5"}, Wish), None)
        assert unpaid.value.error is None
        return unpaid.value.wanted

    def buy(self, payment: Payment, machine: str = "charger", session: str | None = None, **wish: Any) -> Receipt:
        return self.desk.buy(machine, msgspec.convert(wish or {"money": "5"}, Wish), payment, session)

    def refused(self, payment: Payment, machine: str = "charger", **wish: Any) -> str | None:
        """The protocol's error."""
        try:
            self.buy(payment, machine, **wish)
        except Unpaid as unpaid:
            return unpaid.error
        return None

    def work(self, ticks: int = 12) -> None:
        """The cashier and the chain in turns, until nothing is under way."""
        for _ in range(ticks):
            if not self.cashier.go_on():
                return
            self.street.chain.mine()


def account(key: PrivateKey) -> str:
    return key.public_key.to_address()


def payment_of(
    wanted: Requirements, key: PrivateKey = ALICE, nonce: int = 1, now_s: int = START_S, **changes: Any
) -> Payment:
    """What an honest buyer sends, or one that signs something else."""
    signed = Authorization(
        account(key), changes.get("to", wanted.pay_to), int(changes.get("value", wanted.amount)),
        changes.get("valid_after", 0), changes.get("valid_before", now_s + wanted.max_timeout_seconds),
        f"0x{nonce:064x}", "0x",
    )  # fmt: skip
    signature = changes.get("signer", key).sign_msg_hash(signed.digest(changes.get("asset", ASSET)))
    raw = signature.to_bytes()[:64] + bytes([27 + signature.v])
    accepted = msgspec.structs.replace(wanted, **changes.get("accepted", {}))
    return msgspec.structs.replace(signed, signature="0x" + raw.hex()).payment(accepted)


def registration(machine: str) -> Registration:
    """0.30 a kilowatt-hour, at night 0.10, and 1.00 for the start."""
    element = {"components": [{"meter": "energy", "price": 300_000, "per": 1_000}]}
    night = {"components": [{"meter": "energy", "price": 100_000, "per": 1_000}],
             "restrictions": {"start_time": "22:00", "end_time": "06:00"}}  # fmt: skip
    start = {"components": [{"meter": "energy", "price": 1_000_000, "per_session": True}]}
    return msgspec.convert(
        {
            "machine": machine, "route": machine, "version": 1, "kind": "charger", "effective_from": 0,
            "meters": [{"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000}],
            "tariff": {"elements": [night, element, start], "offsets": [[0, 0]]},
            "agreement": {"payees": {"owner": 10_000}},
        },
        Registration,
    )  # fmt: skip


LONG_MS = 8 * HOUR_MS
"""Longer than a session lasts."""
