"""The rules a second time, slowly: a log recounted from raw readings with fractions, sets and calendars.

Written apart from `advance`, with which it shares the decoding of one record, the check of one signature, and murmur2.
It keeps every row and has no slices, and `money` rounds nothing, so it must equal amounts plus carries exactly.
`sealed` is every window, in order, `deposits_at_cuts` the deposits of each epoch. For tests, and for audits that trust
nothing faster (`compare`).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from fractions import Fraction
from functools import partial

from schemas.log import Log
from schemas.units import CARRY_BASE, DAY_MS
from schemas.window import Window
from streams.core.records import LogRecord
from streams.reference.entries import Entry, Plain, RecordEntry, Refused
from streams.reference.evidence import proof_of
from streams.reference.forms import control_of, rows_of
from streams.reference.identity import Identity
from streams.reference.orders import Order, OrderBook
from streams.reference.price import Charge, Started, Starts, charge_of_starts, charge_of_usage, start_of_session
from streams.reference.sessions import Sessions
from streams.reference.usage import FAR, Gauge, judge
from streams.reference.versions import Versions
from streams.reference.windows import Expense, WindowRecount, due

Payees = tuple[tuple[str, int], ...]
EVIDENCES_MAX = 64
"""How many rows with evidence are looked at in a record (rule 41)."""

LATEST_MS = (date.max.toordinal() - date(1970, 1, 1).toordinal() + 1) * DAY_MS - 1
"""Later timestamps count as Kafka's "no timestamp"."""


class MeterRecount:
    """The state of one meter."""

    def __init__(self) -> None:
        self.identity = Identity()
        self.gauge = Gauge()
        self.starts = Starts()
        self.level_at = -1


class PartitionRecount:
    """Recounts the log of one partition. `money` is what usage and starts earned by (machine, payees), in fractions
    of a micro.
    """

    def __init__(self, log: Log, partition: int = 0) -> None:
        self.log, self.rules, self.partition = log, log.rulesets[0], partition
        self.now, self.epoch, self.earliest = -1, -1, 0
        self.versions = Versions()
        self.meters: dict[str, dict[str, MeterRecount]] = defaultdict(lambda: defaultdict(MeterRecount))
        self.corrections: dict[str, list[Plain]] = defaultdict(list)
        self.orders = OrderBook()
        self.sessions = Sessions()
        self.rejects: list[tuple[int, int, str]] = []
        self.accepted = self.duplicate = self.readings = self.skipped = 0
        self.money: dict[tuple[str, Payees], Fraction] = defaultdict(Fraction)
        self.marked: set[str] = set()
        self.open: dict[tuple[int, str, int], WindowRecount] = {}
        self.carries: dict[tuple[str, Payees], Fraction] = defaultdict(Fraction)
        self.sealed: list[Plain] = []
        self.deposits_at_cuts: list[int] = []

    def take(self, records: Iterable[LogRecord]) -> "PartitionRecount":
        """Judges records, in the order of the log, in any number of calls; returns itself."""
        for record in records:
            self.take_entry(RecordEntry(record, self.log, self.partition))
        return self

    def take_entry(self, entry: Entry) -> None:
        """Moves stream time, seals, then judges (rules 1, 4 and 5)."""
        self.move(entry)
        if entry.type != "reading":
            self.count(entry, -1, lambda: self.record(entry))
            return
        try:
            entry.check_size()
            rows = rows_of(entry)
        except Refused as refused:
            self.refuse(entry, -1, refused.reason)
            return
        signed = [index for index, row in enumerate(rows) if row is not None and "evidence" in row]
        for index, row in enumerate(rows):
            self.count(entry, index, partial(self.row, row, entry, index, index in signed[:EVIDENCES_MAX]))

    def count(self, entry: Entry, index: int, judge_it: Callable[[], None]) -> None:
        """Judges one row, or (-1) a record as a whole, and counts it."""
        try:
            judge_it()
        except Refused as refused:
            self.refuse(entry, index, refused.reason)
        else:
            self.accepted += 1

    def refuse(self, entry: Entry, index: int, reason: str) -> None:
        """Counts an entry that does not count for money."""
        if reason == "duplicate":
            self.duplicate += 1
        else:
            self.rejects.append((entry.offset, index, reason))

    def record(self, entry: Entry) -> None:
        """Judges a record that is one entry (rule 1). Raises Refused if it does not count."""
        controls: dict[str, Callable[[Entry, Plain], None]] = {
            "machine.registered": self.registration,
            "usage.corrected": self.correction,
            "goods.received": self.receipt,
            "order.invoiced": self.invoice,
            "order.cancelled": self.cancelling,
            "payment.received": self.payment,
        }
        entry.check_size()
        if entry.type in controls:
            controls[entry.type](entry, control_of(entry))
        elif entry.type != "heartbeat":
            raise Refused("unknown_type")

    # Time: rules 5, 5a and 6.

    def move(self, entry: Entry) -> None:
        """Moves stream time: windows seal by the rules of their epoch."""
        self.now = max(self.now, entry.timestamp if entry.timestamp <= LATEST_MS else -1)
        if self.epoch < 0:
            longest = max(rules.grace_ms for rules in self.log.rulesets)
            self.enter(max(0, self.now - longest) // self.log.epoch_ms)
            while self.is_cut():  # before the log began
                self.enter(self.epoch + 1)
        while self.is_cut():
            self.enter(self.epoch + 1)
            self.seal(self.epoch * self.log.epoch_ms, entry.offset)
            self.deposits_at_cuts.append(self.deposits())
        earliest = max(self.epoch * self.log.epoch_ms, self.start_of(self.now - self.rules.grace_ms))
        if earliest != self.earliest:
            self.earliest = earliest
            self.seal(earliest, entry.offset)

    def is_cut(self) -> bool:
        """Whether the epoch is over, and its grace too."""
        return self.now >= (self.epoch + 1) * self.log.epoch_ms + self.rules.grace_ms

    def enter(self, epoch: int) -> None:
        """Enters an epoch: its rules come into force."""
        self.epoch = epoch
        self.rules = [rules for rules in self.log.rulesets if rules.first_epoch <= epoch][-1]

    def start_of(self, moment: int) -> int:
        """The start of the window that holds a moment."""
        return self.log.window_start(moment)

    def is_sealed(self, moment: int) -> bool:
        """Whether the window of a moment is closed."""
        return self.start_of(moment) < self.earliest

    def window_of(self, machine: str, moment: int) -> tuple[tuple[int, str, int], WindowRecount]:
        """The window of a moment, or the adjustment to it in the earliest open window; it may not be opened yet."""
        start = self.start_of(moment)
        key = (self.earliest, machine, start) if self.is_sealed(moment) else (start, machine, -1)
        return key, self.open.get(key, WindowRecount())

    def window_now(self, machine: str, offset: int) -> WindowRecount:
        """The machine's plain window that holds stream time, opened by a record."""
        return self.open.setdefault((self.start_of(self.now), machine, -1), opened_by(offset))

    def seal(self, before: int, offset: int) -> None:
        """Seals the windows that start before a moment. `by` in a sealed window is the offset of the sealing record."""
        keys = {key for key in self.open if key[0] < before}
        for machine, named in self.sessions.open.items():
            ends = {session.closes_at(self.log.window_ms) for session in named.values()}
            keys |= {(end, machine, -1) for end in ends if end < before}  # opened where nothing lies (rule 37)
        for start, machine, adjusts in sorted(keys):
            window = self.open.pop((start, machine, adjusts), WindowRecount())
            if adjusts < 0:
                window.statements += self.sessions.closing(machine, start, self.log.window_ms)
            sealed = self.closed(start, machine, adjusts, window, self.carries)
            self.sealed.append(sealed | {"by": offset})

    def open_windows(self) -> list[Plain]:
        """The open windows in the order and form in which they would seal; no session closes for them."""
        carries = self.carries.copy()
        return [self.closed(*key, window, carries) for key, window in sorted(self.open.items())]

    def closed(
        self,
        start: int,
        machine: str,
        adjusts: int,
        window: WindowRecount,
        carries: dict[tuple[str, Payees], Fraction],
    ) -> Plain:
        """What a window comes to (rules 21, 26 and 38). Moves the carry on."""
        version = self.versions.at(machine, start if adjusts < 0 else adjusts)
        payees = payees_of(version)
        carry = carries[machine, payees]
        lines, rest = window.lines(carry)
        carries[machine, payees] = rest
        gross = sum(line["amount"] for line in lines)
        return {
            "machine": machine,
            "start": start,
            "adjusts": adjusts,
            "lines": lines,
            "carry_in": carry,
            "carry_out": rest,
            "gross": gross,
            **window.money(gross),
            "version": version["version"],
            "payees": payees,
            "readings": window.readings,
            "skipped": window.skipped,
            "offsets": (min(window.offsets, default=-1), max(window.offsets, default=-1)),
            "flags": sorted(window.flags | ({"equivocation"} if machine in self.marked else set())),
            "trust": window.trust,
        }

    def deposits(self) -> int:
        """What was paid for open sessions, and the refunds in windows that have not sealed (rule 39)."""
        paid = sum(one.paid for named in self.sessions.open.values() for one in named.values())
        dues: list[Plain] = [one for window in self.open_windows() for one in window["dues"]]
        return int(paid + sum(one["micros"] for one in dues if one["kind"] == "refund"))

    # Readings: rules 4 to 20, 26, 27, 29, 36 and 37.

    def row(self, row: Plain | None, entry: Entry, index: int, is_evidence_read: bool) -> None:
        """Judges one row of a reading record. Raises Refused if it does not count."""
        if row is None:
            raise Refused("malformed")
        machine, name, at = row["machine"], row["meter"], row["observed_at"]
        if machine not in self.versions.of:
            raise Refused("unknown_machine")
        moment = at if row.get("session_start") else max(0, at - 1)
        version = self.versions.at(machine, moment)
        trust = entry.trust_by(version)
        if trust is None:
            raise Refused("bad_signature")
        if at > self.now + self.rules.skew_ms:
            raise Refused("from_the_future")
        registered = meter_of(version, name)
        if registered["kind"] not in row:
            raise Refused("wrong_kind")
        meter = self.meters[machine][name]
        skipped = self.identify(meter, row)
        if version.get("retired"):
            raise Refused("retired")
        if self.is_sealed(moment) and at < self.now - self.rules.horizon_ms:
            raise Refused("too_late")
        proof = proof_of(row, registered, is_evidence_read)
        judged = judge(meter.gauge, row, registered, self.now, meter.identity.current, proof)
        if judged.reason is not None:
            meter.gauge = judged.after
            raise Refused(judged.reason)
        started = self.started(meter, row, registered)
        usage = self.usage_charge(row, registered, judged.usage, moment, started.after)
        key, window = self.window_of(machine, moment)
        self.charge(row, window, [usage, started.fee], is_used=not is_before_session(row), moment=moment)
        meter.gauge, meter.starts = judged.after, started.after
        self.open[key] = window
        window.readings += 1
        window.skipped += skipped
        window.offsets.append(entry.offset)
        window.flags |= judged.flags | ({"fees"} if started.is_flagged else set())
        window.flags |= {"reconstructed"} if "reconstructed" in row else set()
        if judged.usage or started.fee:  # rules 27 and 42
            window.trust = min(window.trust, 2 if judged.proven else trust)
            window.flags |= {"proven"} if judged.proven else set()
        self.readings += 1
        self.skipped += skipped
        self.end_session(row, entry.offset)
        self.place_orders(meter, row, entry.offset, index)

    def identify(self, meter: MeterRecount, row: Plain) -> int:
        """How many numbers a row skips; an equivocation marks its machine (rules 7 to 9). Raises Refused."""
        try:
            stated = {name: part for name, part in row.items() if name != "evidence"}
            return meter.identity.take(stated, self.versions.boot(row["machine"]))
        except Refused as refused:
            if refused.reason == "equivocation":
                self.marked.add(row["machine"])
            raise

    def started(self, meter: MeterRecount, row: Plain, registered: Plain) -> Started:
        """What a row starts (rule 20)."""
        if not row.get("session_start"):
            return Started(meter.starts)
        at = row["session_started_at"]
        fee = charge_of_starts(self.versions.at(row["machine"], at), row["meter"], at, 1)
        return start_of_session(meter.starts, row, registered, fee)

    def usage_charge(self, row: Plain, registered: Plain, usage: int, moment: int, starts: Starts) -> Charge:
        """What the usage of a row costs (rule 19). `starts` are those of its meter, this row's too."""
        priced_at = moment
        if "session" in row and not is_before_session(row):
            known = [meter.starts.last for meter in self.meters[row["machine"]].values()]
            session = (row["session"], row["session_started_at"])
            if any(session in last for last in [*known, starts.last]):
                priced_at = row["session_started_at"]
        return charge_of_usage(self.versions.at(row["machine"], priced_at), registered["meter"], moment, usage)

    def charge(
        self, row: Plain, window: WindowRecount, charges: Sequence[Charge | None], is_used: bool, moment: int
    ) -> None:
        """Adds usage and fees of a row or correction to window, session and money. Raises Refused before it does."""
        usage, *fees = [charge for charge in charges if charge is not None]
        window.check(row["meter"], [usage, *fees])
        session = self.sessions.named(row)
        if session is not None:
            worth = sum((charge.worth for charge in ([usage, *fees] if is_used else fees)), Fraction(0))
            session.check(worth)
            session.use += worth
        window.add(row["meter"], [usage, *fees])
        payees = payees_of(self.versions.at(row["machine"], self.start_of(moment)))
        self.money[row["machine"], payees] += sum(charge.worth for charge in [usage, *fees])

    def end_session(self, row: Plain, offset: int) -> None:
        """The first row that ends an open session says where it closes (rule 37)."""
        session = self.sessions.named(row)
        if session is not None and row.get("session_end") and session.ended_at is None:
            session.ended_at = self.now
            if session.closes_at(self.log.window_ms) == self.start_of(self.now):
                self.window_now(row["machine"], offset)

    def place_orders(self, meter: MeterRecount, row: Plain, offset: int, index: int) -> None:
        """Places orders after a level that is news (rule 29)."""
        if "level" not in row:
            return
        is_news = row["observed_at"] > meter.level_at and row["observed_at"] >= self.now - DAY_MS
        meter.level_at = max(meter.level_at, row["observed_at"])
        version = self.versions.at(row["machine"], self.now)
        if is_news and not version.get("retired"):
            self.orders.place(version, row, self.now, offset, index)

    # Control records: rules 4, 10, 13, 22 to 25, 30 to 33 and 35.

    def check_operator(self, entry: Entry) -> None:
        """Raises Refused if no operator signed a record; where the rules name no operators, all is signed."""
        if self.rules.operators and not entry.is_by_one_of(self.rules.operators):
            raise Refused("bad_signature")

    def check_place(self, entry: Entry, machine: str) -> None:
        """Raises Refused if the machine is unknown or the record does not lie where the machine's records do."""
        if machine not in self.versions.of:
            raise Refused("unknown_machine")
        if not entry.is_at(self.versions.past(machine)[0]["route"]):
            raise Refused("wrong_partition")

    def registration(self, entry: Entry, plain: Plain) -> None:
        """Judges a registration. Raises Refused if it does not count."""
        machine = plain["machine"]
        past = self.versions.past(machine)
        self.versions.check_form(plain)
        self.check_operator(entry)
        if not entry.is_at(plain["route"]) or (past and past[0]["route"] != plain["route"]):
            raise Refused("wrong_partition")
        self.versions.check_next(plain, self.now)
        acts = "boot" in plain and plain["boot"] != self.versions.boot(machine)
        self.versions.add(plain, self.now, self.log.window_ms, self.rules.skew_ms)
        self.marked.discard(machine)
        if acts:  # rule 10
            for meter in self.meters[machine].values():
                meter.identity = Identity()
                meter.gauge = meter.gauge.with_boot(plain["boot"])
        if acts or not past:  # rule 13
            time = self.now if past else plain["effective_from"]
            for part in plain["meters"]:
                if part["kind"] == "register" and "opening_register" in part:
                    meter = self.meters[machine][part["meter"]]
                    meter.gauge = meter.gauge.with_opening(part["opening_register"], time, self.now)

    def correction(self, entry: Entry, plain: Plain) -> None:
        """Judges a correction (rule 25). Raises Refused if it does not count."""
        machine, name, at = plain["machine"], plain["meter"], plain["observed_at"]
        self.check_operator(entry)
        self.check_place(entry, machine)
        past = self.corrections[machine]
        if past and plain == past[-1]:
            raise Refused("duplicate")
        if plain["version"] != len(past) + 1:
            raise Refused("stale_version")
        if at > self.now + self.rules.skew_ms:
            raise Refused("from_the_future")
        moment = max(0, at - 1)
        registered = meter_of(self.versions.at(machine, moment), name)
        if registered["kind"] == "level":
            raise Refused("wrong_kind")
        started_at: int = plain.get("session_started_at", moment)
        priced_by = self.versions.at(machine, started_at)
        usage = charge_of_usage(priced_by, name, moment, plain["difference"])
        fees = charge_of_starts(priced_by, name, started_at, plain["fees"]) if "fees" in plain else None
        if "fees" in plain and fees is None:
            raise Refused("no_fee")
        if abs(plain["difference"]) > math.floor(FAR * registered["capacity_per_hour"] * 35 * 24):
            raise Refused("too_high")
        key, window = self.window_of(machine, moment)
        self.charge(plain, window, [usage, fees], is_used=True, moment=moment)
        past.append(plain)
        self.open[key] = window
        window.offsets.append(entry.offset)
        taken = math.floor(-(usage.worth + (fees.worth if fees else 0)))
        if "refund_to" in plain and taken > 0 and self.sessions.named(plain) is None:
            window.corrected.append(due("refund", plain["refund_to"], plain["session"], taken))

    def receipt(self, entry: Entry, plain: Plain) -> None:
        """Judges a receipt of goods (rule 30). Raises Refused if it does not count."""
        self.check_place(entry, plain["machine"])
        if not entry.trust_by(self.versions.at(plain["machine"], self.now)):
            raise Refused("bad_signature")
        if plain["observed_at"] > self.now + self.rules.skew_ms:
            raise Refused("from_the_future")
        self.spend(self.orders.receive(plain, self.now), entry.offset)

    def invoice(self, entry: Entry, plain: Plain) -> None:
        """Judges an invoice (rule 31). Raises Refused if it does not count."""
        self.check_place(entry, plain["machine"])
        is_by_supplier = entry.is_by_one_of((self.orders.named(plain).supplier,))
        self.spend(self.orders.bill(plain, self.now, is_by_supplier), entry.offset)

    def spend(self, order: Order, offset: int) -> None:
        """What an order settled for is an expense (rule 33)."""
        if order.settled_at is not None and order.amount > 0:
            window = self.window_now(order.machine, offset)
            window.offsets.append(offset)
            window.expenses.append(Expense(order.item, order.number, order.supplier, order.amount))

    def cancelling(self, entry: Entry, plain: Plain) -> None:
        """Judges the cancelling of an order (rule 32). Raises Refused if it does not count."""
        self.check_operator(entry)
        self.check_place(entry, plain["machine"])
        self.orders.cancel(plain, self.now)

    def payment(self, entry: Entry, plain: Plain) -> None:
        """Judges a payment (rule 35). Raises Refused if it does not count."""
        self.check_operator(entry)
        self.check_place(entry, plain["machine"])
        returned = self.sessions.pay(plain, self.now)
        if returned is not None:
            window = self.window_now(plain["machine"], entry.offset)
            window.offsets.append(entry.offset)
            window.statements.append(returned)


def opened_by(offset: int) -> WindowRecount:
    """A window that a record opens without putting a reading into it."""
    window = WindowRecount()
    window.offsets.append(offset)
    return window


def is_before_session(row: Plain) -> bool:
    """Whether what a row's register counted was used before the session that the row starts (rule 19)."""
    return "register" in row and "session_start" in row


def meter_of(version: Plain, name: str) -> Plain:
    """A meter as a version registers it. Raises Refused."""
    found: list[Plain] = [meter for meter in version["meters"] if meter["meter"] == name]
    if not found:
        raise Refused("unknown_meter")
    return found[0]


def payees_of(version: Plain) -> Payees:
    """Who gets what by a version: the identity of its agreement."""
    return tuple(sorted(version["agreement"]["payees"].items()))


def plain_windows(windows: Sequence[Window]) -> list[Plain]:
    """Windows in the form of `PartitionRecount.sealed`, without `by`."""
    return [
        {
            "machine": window.machine,
            "start": window.start_ms,
            "adjusts": -1 if window.adjusts_ms is None else window.adjusts_ms,
            "lines": [
                {"meter": line.meter, "version": line.version, "usage": line.usage, "price": line.price_micros,
                 "per": line.per, "amount": line.amount_micros}
                for line in window.lines
            ],
            "carry_in": Fraction(window.carry_in, CARRY_BASE),
            "carry_out": Fraction(window.carry_out, CARRY_BASE),
            "gross": window.gross_micros,
            "expenses": window.expenses_micros,
            "uncollected": window.uncollected_micros,
            "net": window.net_micros,
            "collected": window.collected_micros,
            "sessions": [
                {"session": one.session, "payer": one.payer, "paid": one.paid_micros, "used": one.used_micros,
                 "refund": one.refund_micros}
                for one in window.sessions
            ],
            "dues": [due(one.kind, one.account, one.ref, one.micros) for one in window.dues],
            "version": window.registration_version,
            "payees": tuple(sorted(window.agreement.payees.items())),
            "readings": window.readings,
            "skipped": window.skipped,
            "offsets": (window.first_offset, window.last_offset),
            "flags": list(window.flags),
            "trust": window.trust,
        }
        for window in windows
    ]  # fmt: skip
