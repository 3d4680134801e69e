"""The street's till, a real one, whose log and clock stand where the records are; its chain is the demo's node.

What it sells is paid by authorisations that customers sign, sent to the token, final on the chain, and recorded in the
log by the operator, before the session begins.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from deploy.data_folder import DataFolder
from deploy.demo.street_machines import CHARGERS, DRONE, SENSOR, Inhabitant
from deploy.importers.source_log import SourceRecord
from deploy.machines.new_log import operator_of
from deploy.machines.operator import Operator
from deploy.machines.register import control_record, signed
from deploy.money.closed_sessions import ClosedSessions
from deploy.money.treasury import Treasury
from deploy.till.chain_hand import ChainHand, asset_of
from deploy.till.log_hand import LogHand
from schemas.command import Command
from schemas.errors import InvariantBroken
from schemas.keccak import keccak
from schemas.log import Log
from schemas.reading import REGISTERED, Reading
from schemas.reject import Reason
from schemas.units import SECOND_MS
from settlement.chain.ledger import Ledger
from settlement.chain.signer import Signer, development_signer
from streams.core.encode import json_row
from streams.core.murmur2 import partition_of
from streams.core.records import LogRecord, Record, record_type
from streams.storage.log_reader import in_slices
from till.authorization import Asset, Authorization
from till.cashier import Cashier
from till.desk import Desk, Limits, Receipt, Unpaid, Wish
from till.journal import Journal
from till.offers import Item, Offer
from till.sender import OwnGas

GAS = 9
"""Number of the development node's account that pays for the till's gas."""

FINAL_BLOCKS = 12
"""So many blocks later what was paid can't be undone: the node's last final block is at most so many behind."""

HOLDS_S = 240
"""How long a customer's authorisation holds."""

SESSION_S = 12 * 3_600
JOURNAL = "street-till.sqlite"


class Clock:
    """It stands where the records are."""

    now_ms = 0

    def time(self) -> float:
        """Unix seconds."""
        return self.now_ms / SECOND_MS


class StreetRecords:
    """The street's part of the log before it is sent: as sources have it, and as the till reads it."""

    def __init__(self, log: Log) -> None:
        self.all: list[SourceRecord] = []
        self._log = log
        self._partitions: list[list[LogRecord]] = [[] for _ in range(log.partitions)]

    def add(self, record: Record, *, is_source: bool = True) -> None:
        """The next record; what isn't of the source, the replay adds itself."""
        key, headers = record.key or b"", tuple((name, value or b"") for name, value in record.headers)
        part = self._partitions[partition_of(key, self._log.partitions)]
        part.append(record._replace(offset=len(part)))
        if is_source:
            kind = record_type(record)
            rows = 1 if headers else len(msgspec.json.decode(record.value or b"", type=list[msgspec.Raw]))
            self.all.append(SourceRecord(record.timestamp, key.decode(), kind, record.value or b"", rows, headers))

    def show(self, readings: list[Reading]) -> None:
        """What a machine shows at a moment, as one record."""
        if readings:
            value = b"[" + b",".join(map(json_row, readings)) + b"]"
            self.add(Record(0, readings[-1].observed_at, readings[0].machine.encode(), value))

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """By ascending offset."""
        return iter(self._partitions[partition][first:next])

    def slices(self, partition: int, first: int, next: int, skipped: object = None) -> Iterator[list[LogRecord]]:
        """The same in slices."""
        return (list(part) for part in in_slices(self.read(partition, first, next)))

    def range(self, partition: int) -> tuple[int, int]:
        """All of them."""
        return 0, len(self._partitions[partition])

    def topic_id(self) -> str:
        """It is in no topic yet."""
        return ""

    def close(self) -> None:
        """Nothing is open."""


class StreetLog(LogHand):
    """The till's hand on them: payments lie where the clock stands."""

    def __init__(self, log: Log, records: StreetRecords, operator: Operator, clock: Clock) -> None:
        super().__init__(log, "", records, operator, ())
        self._records, self._clock = records, clock

    def _sent(self, record: Record) -> Reason | None:
        self._registry.awaits(record.value or b"")
        self._records.add(record._replace(timestamp=self._clock.now_ms))
        self._registry.read(lambda _: None)
        return self._registry.verdict_on(record.value or b"")[1]


class Commands:
    """What the till tells gateways, for the street to do."""

    def __init__(self) -> None:
        self._waiting: list[Command] = []

    def send(self, route: str, command: Command) -> None:
        """Keeps it."""
        self._waiting.append(command)

    def taken(self) -> list[Command]:
        """What has come since, in its order."""
        found, self._waiting = self._waiting, []
        return found


class Customer:
    """An account that signs authorisations; the till pays for the gas."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._signer, self._count = Signer.from_seed("demo", name), 0

    @property
    def address(self) -> str:
        """The account, in lower case."""
        return self._signer.address

    def next_nonce(self) -> str:
        """Its purchases are numbered, so their nonces are the same in every demo."""
        self._count += 1
        return "0x" + keccak(f"{self.name} {self._count}".encode()).hex()

    def signed(self, unsigned: Authorization, asset: Asset) -> Authorization:
        """The authorisation with its signature."""
        return unsigned.signed_by(self._signer, asset)


class StreetTill:
    """Sells the street's chargers, its sensor's observations and its drone's flights."""

    def __init__(
        self, data: DataFolder, treasury: Treasury, inhabitants: Mapping[str, Inhabitant], start_ms: int
    ) -> None:
        log, chain = data.log(), treasury.chain
        self._treasury = treasury
        self._ledger = Ledger.open(data.data_dir, chain)
        self.clock, self.commands, self.records = Clock(), Commands(), StreetRecords(log)
        self.clock.now_ms = start_ms
        operator = operator_of(data)
        for each in inhabitants.values():
            registration = each.machine.registration(each.agreement, "", start_ms)
            record = control_record(registration.route, REGISTERED, msgspec.json.encode(registration))
            self.records.add(signed(log, operator, record)._replace(timestamp=start_ms), is_source=False)
        self._asset = asset_of(chain, self._ledger.deployment, "1")
        self.log = StreetLog(log, self.records, operator, self.clock)
        self._chain = ChainHand(chain, self._asset, development_signer(GAS))
        self._journal = Journal(Path(data.data_dir) / JOURNAL)
        items = [Item(machine=charger, place=f"kerb {number}") for number, charger in enumerate(CHARGERS, 1)]
        items += [Item(machine=SENSOR, meter="data"), Item(machine=DRONE, meter="parcels")]
        self.desk = Desk(
            {item.machine: item for item in items}, Limits(session_s=SESSION_S), log.currency, self._journal, self.log,
            self._chain, self.commands, ClosedSessions(treasury), self._asset, self.clock,
            new_session=self._new_session,
        )  # fmt: skip
        sender = OwnGas(self._journal, self._chain)
        self._cashier = Cashier(self._journal, self.log, self._chain, self.commands, sender, self.clock)
        self._sold = 0

    def close(self) -> None:
        """Closes the journal."""
        self._journal.close()

    def fund(self, customers: Iterable[Customer], units: int) -> None:
        """Makes demo tokens for customers."""
        operator = self._treasury.keys.of("operator")
        for customer in customers:
            self._treasury.chain.transact(operator, self._ledger.mint(customer.address, units))

    def held(self, customer: Customer) -> int:
        """What a customer has, in micros."""
        return self._chain.balance(customer.address) // self._asset.units(1)

    def offers(self) -> list[Offer]:
        """What anybody is offered now."""
        document = msgspec.json.decode(self.desk.offers().document)
        return msgspec.convert(document["offers"], list[Offer])

    def buy(self, customer: Customer, machine: str, wish: Wish) -> Receipt:
        """A session that has begun: asked for, signed, paid, final, and in the log."""
        try:
            self.desk.buy(machine, wish, None)
        except Unpaid as unpaid:
            wanted = unpaid.wanted
        until_s = self._chain.latest()[1] + HOLDS_S
        unsigned = Authorization(
            customer.address, self._asset.ledger, int(wanted.amount), 0, until_s, customer.next_nonce(), "0x"
        )
        paid = customer.signed(unsigned, self._asset).payment(wanted)
        receipt = self.desk.buy(machine, wish, paid)
        while self._cashier.go_on():
            self._treasury.chain.mine(FINAL_BLOCKS)
        receipt = self.desk.status(machine, receipt.session)
        if receipt.state != "started":
            raise InvariantBroken(f"the street's till sold {machine} to {customer.name}, and it is {receipt.state}")
        return receipt

    def follow(self) -> None:
        """Ends sessions that have used what was paid."""
        self._cashier.go_on()

    def _new_session(self) -> str:
        self._sold += 1
        return f"street-{self._sold}"
