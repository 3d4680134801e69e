"""The agent's eyes on the log: the machine's level, what was paid from its account, and which sessions are open."""

import time

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent.ports import Level
from deploy.machines.registry import OF_MACHINES, Registry
from schemas.log import Log
from schemas.payment import PAID, PaymentReceived
from schemas.registration import Registration
from schemas.units import MINUTE_MS
from streams.core.records import LogRecord, record_type
from streams.core.trust import RecordSignature
from streams.storage.log_reader import LogReader
from till.purchase import Place

AHEAD_MS = 5 * MINUTE_MS
"""A level from further ahead of its record is nobody's: it would hide all later ones."""


class Row(Struct, frozen=True):
    """A reading, as far as the agent looks at it."""

    machine: str
    meter: str
    observed_at: int
    level: int | UnsetType = UNSET
    session: str | UnsetType = UNSET
    session_end: bool = False


class LogHand:
    """Reads the control records of the whole log, and of readings in JSON one machine's levels and sessions' ends."""

    def __init__(self, log: Log, reader: LogReader, machine: str, meter: str, account: str) -> None:
        """`account` is the machine's own. Raises InvalidInput where Kafka is away, or doesn't know the machine."""
        self._log = log
        self._machine, self._meter, self._account = machine, meter, account
        self._level: Level | None = None
        self._payments: dict[tuple[str, int], PaymentReceived] = {}
        self._going: set[tuple[str, str]] = set()
        self._ended: set[tuple[str, str]] = set()
        self._name = f'"{machine}"'.encode()
        types = (*OF_MACHINES, PAID)
        self._registry = Registry(log, reader, types=types, accepted=self._accepted, other=self._looked_at)
        self.refresh()
        self._registry.registered(machine)

    def refresh(self) -> None:
        """Reads on to the present end of the log."""
        self._registry.read(lambda _: None)

    def registration(self) -> Registration:
        """The machine's version in force."""
        return self._registry.registered(self._machine).version_at(time.time_ns() // 1_000_000).registration

    def level(self) -> Level | None:
        """The newest level of the machine; None where there is none."""
        return self._level

    def payment(self, place: Place) -> PaymentReceived | None:
        """The payment of this transfer that the log accepted, where it was made from the machine's account."""
        return self._payments.get((place.transaction, place.log_index))

    def is_open(self, machine: str, session: str) -> bool:
        """Whether a prepaid session is open, and its end was not reported (in readings in JSON)."""
        return self._registry.is_open(machine, session) and (machine, session) not in self._ended

    def _accepted(self, record: LogRecord) -> None:
        if record_type(record) == PAID:
            payment = msgspec.json.decode(record.value or b"", type=PaymentReceived)
            if payment.payer == self._account:
                self._payments.setdefault((payment.transaction, payment.log_index), payment)
                self._going.add((payment.machine, payment.session))

    def _looked_at(self, record: LogRecord) -> None:
        value = record.value or b""
        if self._name in value or (self._going and b'"session_end"' in value):
            try:
                rows = msgspec.json.decode(value, type=Row | list[Row])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return
            for row in rows if isinstance(rows, list) else [rows]:
                self._take(row, record)

    def _take(self, row: Row, record: LogRecord) -> None:
        if row.session_end and row.session is not UNSET and (row.machine, row.session) in self._going:
            self._ended.add((row.machine, row.session))
        if (row.machine, row.meter) != (self._machine, self._meter) or row.level is UNSET:
            return
        is_newer = self._level is None or row.observed_at > self._level.observed_ms
        if is_newer and 0 <= row.observed_at <= record.timestamp + AHEAD_MS and self._is_its_own(record):
            self._level = Level(row.level, row.observed_at)

    def _is_its_own(self, record: LogRecord) -> bool:
        """Whether the machine signed it, where its registration names keys."""
        machine = self._registry.machine(self._machine)
        if machine is None:
            return False
        version = machine.version_at(record.timestamp)
        return not version.keys or RecordSignature(self._log.log_id, record).trust_by(version) is not None
