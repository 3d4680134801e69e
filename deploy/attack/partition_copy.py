"""A real partition's archived records, judged by the real core; and the records that somebody sends on top of them.

The state lives in memory only. Two machines of the attack's own are registered after the archive's last record, with
keys that it has: `victim` must sign what it sends, and its agreement is locked; `other` is its neighbour. The copy's
operator is the attack's own key, since nobody here has the real one.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct, structs

from deploy.attack.cheat import Outcome, Stopwatch
from schemas.errors import InvariantBroken
from schemas.log import Log
from schemas.manifest import Counts
from schemas.reading import HEARTBEAT, READING, REGISTERED
from schemas.reject import Reason
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.window import DUE_KINDS
from streams.core.meters import Standing
from streams.core.murmur2 import partition_of
from streams.core.records import JSON, LogRecord, Record, decode_readings, media_type, record_type
from streams.core.replay import advance_through
from streams.core.signature import operator_account, reading_key, sign_control, sign_reading
from streams.core.state import State

OPERATOR_KEY, STRANGER_KEY, VICTIM_KEY, OTHER_KEY, SUPPLIER_KEY = (
    sha256(b"tallyroot attack\n" + name).digest()
    for name in (b"operator", b"stranger", b"victim", b"other", b"supplier")
)
"""Keys that anybody may know: they sign in a copy that is thrown away."""

OWNER, INVESTOR, THIEF = ("0x" + digits * 20 for digits in ("a1", "b2", "d4"))
CAPACITY_WH = 22_000
KEY_ID = "k"


class Judged(Struct, frozen=True):
    """The core's verdict on some records: reasons of rejection, counts, orders placed, what sealed windows owe for
    orders and as refunds.
    """

    reasons: tuple[str, ...]
    counts: Counts
    machines: int
    orders: int
    expenses_micros: int
    refunds_micros: int
    watch: Stopwatch

    def refused(self, rule: int, reason: Reason, honest: int = 0) -> Outcome:
        """Caught if it was rejected for this reason alone, and no more than the honest entries were accepted."""
        if set(self.reasons) != {reason} or self.counts.accepted != honest:
            return self.accepted()
        times = f" x {len(self.reasons):,}" if len(self.reasons) > 1 else ""
        return self.watch.outcome(f"rule {rule}", f"reject: {reason}{times}")

    def accepted(self) -> Outcome:
        """Nothing stopped it, or something other than expected."""
        others = f", rejected: {', '.join(sorted(set(self.reasons)))}" if self.reasons else ""
        return self.watch.outcome("", f"{self.counts.accepted} accepted{others}")


class Target(Struct, frozen=True):
    """A meter with a register that has counted: where it stands, its number, and the record that brought it there."""

    machine: str
    meter: str
    route: str
    boot: int
    seq: int
    at_ms: int
    value: int
    capacity_per_hour: int
    last_record: Record

    def row(self, **changes: Any) -> dict[str, Any]:
        """The next honest row, with changes."""
        row = {"machine": self.machine, "meter": self.meter, "boot": self.boot, "seq": self.seq + 1}
        return row | {"observed_at": self.at_ms, "register": self.value} | changes


class PartitionCopy:
    """A state for cheats: each starts from the same one, whatever the others did.

    `now_ms` is the log's time. Raises InvariantBroken where what is honest isn't accepted.
    """

    def __init__(self, log: Log, partition: int, records: Iterable[LogRecord]) -> None:
        archived = [Record(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
        state = State.new(log, partition)
        advance_through(state, archived)
        rules = tuple(structs.replace(rules, operators=(operator_account(OPERATOR_KEY),)) for rules in log.rulesets)
        self.log, self.partition = structs.replace(log, rulesets=rules), partition
        self._next_offset = archived[-1].offset + 1
        self._tables = state.tables()
        self.now_ms = state.now_ms + MINUTE_MS
        self.archived = len(archived)
        self.victim, self.other = self.name("victim"), self.name("other")
        archived += self._enrol()
        self.target = _target(State.load(self.log, partition, self._tables), archived, self.other)

    def name(self, stem: str) -> str:
        """A machine's name that, as its route, lies in this partition."""
        names = (f"attack-{stem}-{number}" for number in count())
        return next(name for name in names if partition_of(name.encode(), self.log.partitions) == self.partition)

    def judge(self, *records: Record) -> Judged:
        """The core's verdict on records that come after all others, on a copy of the state."""
        state = State.load(self.log, self.partition, self._tables)
        numbered = [record._replace(offset=self._next_offset + place) for place, record in enumerate(records)]
        watch = Stopwatch()
        parts = advance_through(state, numbered)
        counts = sum((part.counts for part in parts), Counts())
        reasons = tuple(reject.reason for part in parts for reject in part.rejects)
        orders = sum(len(part.orders) for part in parts)
        dues = [due for part in parts for window in part.windows for due in window.dues]
        expenses, refunds = (sum(due.micros for due in dues if due.kind == kind) for kind in DUE_KINDS)
        return Judged(reasons, counts, len(state.machines), orders, expenses, refunds, watch)

    def reading(self, *rows: dict[str, Any], route: str | None = None, after_ms: int = 0) -> Record:
        """An unsigned record of rows, under the target's key or another."""
        return self.raw(msgspec.json.encode(rows[0] if len(rows) == 1 else rows), route=route, after_ms=after_ms)

    def raw(self, value: bytes, *, route: str | None = None, after_ms: int = 0, kind: str = READING) -> Record:
        """A record of any bytes."""
        key = (self.target.route if route is None else route).encode()
        return Record(0, self.now_ms + after_ms, key, value, (("ce_type", kind.encode()),))

    def heartbeat(self, after_ms: int) -> Record:
        """Advances the log's time."""
        return self.raw(b"{}", route="", after_ms=after_ms, kind=HEARTBEAT)

    def own_row(self, machine: str, **changes: Any) -> dict[str, Any]:
        """The next honest row of one of the attack's own machines: 1,000 Wh in an hour."""
        row = {"machine": machine, "meter": "energy", "boot": 1, "seq": 1, "register": 1_000}
        return row | {"observed_at": self.now_ms + HOUR_MS} | changes

    def signed(self, record: Record, key: bytes, log_id: str | None = None, kind: str = READING) -> Record:
        """A record of readings, or of another type, with a signature by a device's key."""
        parts = (record.key or b"", kind, JSON, record.value or b"")
        signature = sign_reading(key, log_id or self.log.log_id, *parts)
        return record._replace(headers=(*record.headers, ("signature", signature), ("key-id", KEY_ID.encode())))

    def control(self, document: dict[str, Any], kind: str = REGISTERED, **given: Any) -> Record:
        """A control record; `signer` and `log_id` are for its signature, `route` and `after_ms` as for a record."""
        signer, log_id = given.pop("signer", OPERATOR_KEY), given.pop("log_id", self.log.log_id)
        record = self.raw(msgspec.json.encode(document), kind=kind, **given)
        signature = sign_control(signer, log_id, record.key or b"", kind, JSON, record.value or b"")
        return record._replace(headers=(*record.headers, ("signature", signature)))

    def registration(self, machine: str, version: int = 1, **changes: Any) -> dict[str, Any]:
        """What the operator says of one of the attack's own machines."""
        component = {"meter": "energy", "price": 300_000, "per": 1_000}
        trip = {"meter": "trips", "price": 1_000_000, "per": 1}
        key, halves = VICTIM_KEY if machine == self.victim else OTHER_KEY, {"payees": {OWNER: 5_000, INVESTOR: 5_000}}
        lock = {"locked_until": self.now_ms + 365 * DAY_MS} if machine == self.victim else {}
        return {
            "machine": machine, "route": machine, "version": version, "kind": "charger", "effective_from": 0,
            "meters": [
                {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": CAPACITY_WH},
                {"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60},
            ],
            "tariff": {"elements": [{"components": [component, trip]}], "offsets": [[0, 0]]},
            "agreement": halves | lock,
            "keys": [self.key_of(key)],
            "require_signature": machine == self.victim,
        } | changes  # fmt: skip

    def key_of(self, key: bytes) -> dict[str, Any]:
        """A device's key, as a registration names it."""
        return {"key_id": KEY_ID, "public_key": reading_key(key)}

    def _enrol(self) -> list[Record]:
        """Both machines are registered and their registers stand at 0; the records that did it."""
        state = State.load(self.log, self.partition, self._tables)
        records: list[Record] = []
        for machine, key in ((self.victim, VICTIM_KEY), (self.other, OTHER_KEY)):
            records.append(self.control(self.registration(machine), route=machine))
            row = self.own_row(machine, seq=0, register=0, observed_at=self.now_ms)
            records.append(self.signed(self.reading(row, route=machine), key))
        records = [record._replace(offset=self._next_offset + place) for place, record in enumerate(records)]
        self._next_offset += len(records)
        for part in advance_through(state, records):
            if part.rejects:
                raise InvariantBroken(f"an honest record of the attack was rejected: {part.rejects[0].reason}")
        self._tables = state.tables()
        return records


def _target(state: State, records: Sequence[Record], fallback: str) -> Target:
    """The first meter of the archive that a gateway could cheat with; else the attack's own machine."""
    names = sorted(state.machines, key=lambda name: (name == fallback, name))
    for name, meter_name in ((known, meter) for known in names for meter in state.meters.names(known)):
        machine, meter = state.machines[name], state.meters.look(name, meter_name)
        version, base, current = machine.version_at(state.now_ms), meter.baseline, meter.current
        registered = version.meters.get(meter_name)
        if base is None or current is None or registered is None or meter.suspect is not None:
            continue
        registration = version.registration
        if registration.require_signature or registration.retired or base[:2] != (current.boot, current.seq):
            continue
        last = _record_of(records, name, meter_name, base)
        if last is not None and (base.value > 0 or name == fallback):
            return Target(
                name, meter_name, machine.route, base.boot, base.seq, state.now_ms, base.value,
                registered.capacity_per_hour, last,
            )  # fmt: skip
    raise InvariantBroken("the attack's own machine has no register")


def _record_of(records: Sequence[Record], machine: str, meter: str, at: Standing) -> Record | None:
    """The last record that holds a row of this number."""
    for record in reversed(records):
        rows = decode_readings(record.value, media_type(record)) if record_type(record) == READING else ()
        for row in () if isinstance(rows, str) else rows:
            if row and (row.machine, row.meter, row.boot, row.seq) == (machine, meter, at.boot, at.seq):
                return record
    return None
