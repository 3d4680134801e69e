"""The till's hand on the log: prices and payments as the core sees them, records signed, sent and read back."""

import threading
import time
from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from deploy.machines.operator import Operator
from deploy.machines.register import control_record
from deploy.machines.registry import OF_MACHINES, Registry
from deploy.machines.send import send
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.payment import PAID, PaymentReceived
from schemas.registration import Registration
from schemas.reject import Reason
from schemas.units import SECOND_MS
from streams.core.records import LogRecord, Record, record_type
from streams.storage.log_reader import LogReader
from till.follow import Row, Use
from till.offers import OFFERED
from till.purchase import Place

_OF_SESSION = b'"session"'


class LogHand:
    """Reads the control records of the whole log, and writes payments as its operator. Threads may share it."""

    def __init__(self, log: Log, servers: str, reader: LogReader, operator: Operator, awaited: Iterable[bytes]) -> None:
        """`awaited` are the payments that may lie in the log already. Raises InvalidInput where Kafka is away."""
        operators = log.rulesets[-1].operators
        if operators and operator.address not in operators:
            raise InvalidInput(f"{operator.address} does not operate this log: set TALLYROOT_OPERATOR_KEYSTORE or _KEY")
        self._log, self._servers, self._operator = log, servers, operator
        self._holders: dict[tuple[str, int], str] = {}
        self._sessions: dict[str, list[str]] = {}
        self._lock = threading.RLock()
        self._uses: dict[tuple[str, str], Use] = {}
        types = (*OF_MACHINES, PAID)
        self._registry = Registry(log, reader, types=types, accepted=self._accepted, other=self._looked_at)
        for value in awaited:
            self._registry.awaits(value)
        self.refresh()

    def _accepted(self, record: LogRecord) -> None:
        if record_type(record) == PAID:
            payment = msgspec.json.decode(record.value or b"", type=PaymentReceived)
            self._holders.setdefault((payment.transaction, payment.log_index), payment.machine)
            self._sessions.setdefault(payment.machine, []).append(payment.session)

    def _looked_at(self, record: LogRecord) -> None:
        """Follows readings in JSON of sessions that are paid for: they say when one is over, and decide no money."""
        value = record.value or b""
        if _OF_SESSION in value:
            try:
                rows = msgspec.json.decode(value, type=Row | list[Row])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return
            for row in rows if isinstance(rows, list) else [rows]:
                if row.session is not UNSET and self._registry.is_open(row.machine, row.session):
                    self._use(row.machine, row.session, row.observed_at).take(row)

    def _use(self, machine: str, session: str, now_ms: int) -> Use:
        key = machine, session
        if key not in self._uses:
            self._uses[key] = Use(self._registry.registered(machine).version_at(now_ms).prices)
        return self._uses[key]

    def has_ended(self, machine: str, session: str) -> bool:
        """Whether the machine has reported the end of a session, as far as the log was read."""
        use = self._uses.get((machine, session))
        return use is not None and use.has_ended

    def is_used_up(self, machine: str, session: str, paid_micros: int) -> bool:
        """Whether a session has used what was paid, or will with its next reading, as far as the log was read."""
        use = self._uses.get((machine, session))
        return use is not None and use.is_used_up(paid_micros)

    def refresh(self) -> None:
        """Reads on to the present end of the log."""
        with self._lock:
            self._registry.read(lambda _: None)

    def registration(self, machine: str, now_ms: int) -> Registration | None:
        """The version in force (epoch ms)."""
        with self._lock:
            found = self._registry.machine(machine)
            return None if found is None else found.version_at(now_ms).registration

    def next_version(self, machine: str) -> int:
        """The version that the machine's next payment has."""
        with self._lock:
            return self._registry.registered(machine).rare.payment_version + 1

    def payments(self, machine: str, after: int) -> list[str]:
        """The sessions of the machine's accepted payments, in their order, without the first `after`."""
        with self._lock:
            return self._sessions.get(machine, [])[after:]

    def holder(self, place: Place) -> str | None:
        """The machine that a payment in the log names with this transfer."""
        with self._lock:
            return self._holders.get((place.transaction, place.log_index))

    def signed(self, machine: str, value: bytes) -> bytes:
        """The operator's signature over a payment's record."""
        with self._lock:
            route = self._registry.registered(machine).route
        return self._operator.sign_record(self._log.log_id, route, PAID, value)

    def sent(self, machine: str, value: bytes, signature: bytes) -> Reason | None:
        """Sends a payment unless it lies in the log, and reads back what became of it."""
        with self._lock:
            self._registry.read(lambda _: None)
            is_there, verdict = self._registry.verdict_on(value)
            if is_there:
                return verdict
            record = control_record(self._registry.registered(machine).route, PAID, value)
            return self._sent(record._replace(headers=(*record.headers, ("signature", signature))))

    def _sent(self, record: Record) -> Reason | None:
        """Sends one record, and what the log makes of it."""
        now_ms = int(time.time() * SECOND_MS)
        return send(self._log, self._servers, self._registry, [record], now_ms, lambda _: None)[0]

    def is_open(self, machine: str, session: str) -> bool:
        """Whether a prepaid session is open in the log."""
        with self._lock:
            return self._registry.is_open(machine, session)

    def signed_offers(self, document: bytes) -> str:
        """The operator's signature (0x-hex) over offers: EIP-712 as of a record of type OFFERED with the log's id."""
        return "0x" + self._operator.sign_record(self._log.log_id, self._log.log_id, OFFERED, document).hex()
