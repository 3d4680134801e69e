"""One machine's day down to its readings, as the report embeds it: all that the page needs to judge and hash it anew.

The archive is replayed by the real core up to the day; from there on every entry of the machine is noted with what the
rules looked at. What is noted doesn't depend on the value that a meter showed, so the page can put in another one.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from msgspec import UNSET, Struct

from deploy.explain.audit_sources import archived_records
from schemas.arrow import windows_from
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import HEARTBEAT, READING, MeterKind, Reading
from schemas.units import DAY_MS
from schemas.window import Window
from streams.core.advance import Tally, judge_record
from streams.core.identity import judge_identity
from streams.core.judge import judge_row
from streams.core.machines import Machine
from streams.core.meters import NONE, SLACK_MS, MeterState, Standing
from streams.core.open_window import LineKey
from streams.core.records import LogRecord, Record, decode_readings, media_type, record_type
from streams.core.state import State
from streams.core.trust import RecordSignature, signature_of, trust_of
from streams.reference.vectors import advance_through
from streams.storage.epoch_files import epoch_paths

CHUNK = 10_000
"""So many records are replayed at once."""

Where = tuple[int, int | None]
"""Start of the holding window and of the mended one, epoch ms."""

Price = tuple[int, int, int]
"""Registration version, micros, per (0: for each session)."""


class WantedDay(Struct, frozen=True):
    """A machine's UTC day that starts at `day_ms` (epoch ms), and the offsets [first, last] that its windows name."""

    machine: str
    kind: str
    partition: int
    day_ms: int
    windows: tuple[Window, ...]

    @property
    def offsets(self) -> tuple[int, int]:
        """The first and the last offset that has a say in these windows."""
        return min(w.first_offset for w in self.windows), max(w.last_offset for w in self.windows)


class MeterFacts(Struct, frozen=True):
    """What rules 12 to 17 know of a meter; standings are (boot, seq, observed_at, value)."""

    meter: str
    baseline: Standing | None
    suspect: Standing | None
    quantity_at: int
    slack_ms: int

    @classmethod
    def of(cls, name: str, meter: MeterState) -> "MeterFacts":
        """The facts as they are now."""
        return cls(name, meter.baseline, meter.suspect, meter.quantity_at, meter.slack_ms)


class RowItem(Struct, frozen=True, omit_defaults=True, tag_field="what", tag="row", kw_only=True):
    """A reading that got as far as rules 12 to 17. `counts` says whether its boot is the meter's current one."""

    offset: int
    row: int
    meter: str
    unit: str
    boot: int
    seq: int
    observed_at: int
    kind: MeterKind
    value: int
    counts: bool
    capacity_per_hour: int
    where: Where
    skipped: int
    trust: int
    price: Price
    session_price: Price | None = None
    session: str | None = None
    reconstructed: bool = False
    verdict: Literal["accepted", "too_high", "too_low"] = "accepted"


class CorrectionItem(Struct, frozen=True, tag_field="what", tag="correction", kw_only=True):
    """What an operator's correction added: (meter, unit, version, price in micros, per, usage)."""

    offset: int
    where: Where
    lines: tuple[tuple[str, str, int, int, int, int], ...]


class FactItem(Struct, frozen=True, tag_field="what", tag="fact", kw_only=True):
    """A registration that set one fact of a meter anew: an opening register, a new boot."""

    offset: int
    meter: str
    name: str
    value: Standing | int | None


Item = RowItem | CorrectionItem | FactItem


class MachineDay(Struct, frozen=True, kw_only=True):
    """A machine's day: its meters as they were before, what happened in the log's order, and the salts by version."""

    wanted: WantedDay
    meters: tuple[MeterFacts, ...]
    items: tuple[Item, ...]
    salts: dict[int, str]


def wanted_day(data_dir: Path, log: Log, machine: str, kind: str, partition: int, day_ms: int) -> WantedDay:
    """The day with its sealed windows, in sealing order. Raises InvalidInput where none of it is final."""
    windows: list[Window] = []
    for epoch in range(log.epoch_of(day_ms), log.epoch_of(day_ms + DAY_MS - 1) + 1):
        path = epoch_paths(data_dir, log, epoch, partition).windows
        if path.is_file():
            table = pq.read_table(path, filters=[("machine", "=", machine)])
            windows += [w for w in windows_from(table) if day_ms <= w.start_ms < day_ms + DAY_MS]
    if not windows:
        raise InvalidInput(f"{machine} has no window of that day whose epoch has ended: choose another day")
    return WantedDay(machine, kind, partition, day_ms, tuple(sorted(windows, key=lambda w: w.sealing_key)))


def read_days(data_dir: Path, log: Log, wanted: Sequence[WantedDay]) -> list[MachineDay]:
    """The days, in their order; of one machine at most one. Every partition is replayed once.

    Raises InvalidInput where an archive is missing.
    """
    found: dict[str, MachineDay] = {}
    for partition in sorted({day.partition for day in wanted}):
        watches = [_Watch(day) for day in wanted if day.partition == partition]
        _replay(State.new(log, partition), archived_records(data_dir, partition), watches)
        found |= {watch.wanted.machine: watch.day() for watch in watches}
    return [found[day.machine] for day in wanted]


def _replay(state: State, records: Iterator[LogRecord], watches: Sequence["_Watch"]) -> None:
    last = max(watch.last for watch in watches)
    held: list[Record] = []
    for record in records:
        if record.offset > last:
            break
        seen = {watch.wanted.machine: watch for watch in watches if watch.is_concerned(record)}
        if not seen:
            held.append(Record(record.offset, record.timestamp, record.key, record.value, record.headers))
            if len(held) == CHUNK:
                advance_through(state, held)
                held = []
            continue
        # The heartbeat stands in for the record while time moves and windows seal: its entries come after that.
        beat = Record(record.offset, record.timestamp, None, b"{}", (("ce_type", HEARTBEAT.encode()),))
        advance_through(state, [*held, beat])
        held = []
        _judge(state, record, seen)


def _judge(state: State, record: LogRecord, seen: dict[str, "_Watch"]) -> None:
    for watch in seen.values():
        watch.begin(state)
    if record_type(record) != READING:
        for watch in seen.values():
            watch.before_control(state)
        judge_record(state, record, Tally())
        for watch in seen.values():
            watch.after_control(state, record)
        return
    rows = decode_readings(record.value, media_type(record))
    if isinstance(rows, str):
        return
    signature = signature_of(state.log.log_id, record)
    for place, row in enumerate(rows):
        if row is not None and row.machine in seen:
            seen[row.machine].judge(state, record, signature, place, row)
        elif row is not None:
            judge_row(state, record, signature, row)


class _Watch:
    """Judges what concerns one machine's day, and notes it."""

    def __init__(self, wanted: WantedDay) -> None:
        self.wanted = wanted
        self.first, self.last = wanted.offsets
        self._name = wanted.machine.encode()
        self._items: list[Item] = []
        self._meters: tuple[MeterFacts, ...] | None = None
        self._machine: Machine | None = None
        self._facts: dict[str, MeterFacts] = {}
        self._usage: dict[Where, tuple[int, dict[LineKey, int]]] = {}

    def is_concerned(self, record: LogRecord) -> bool:
        """Whether the record may say something of the machine (with an escape it may say anything)."""
        value = record.value or b""
        return self.first <= record.offset <= self.last and (self._name in value or b"\\" in value)

    def day(self) -> MachineDay:
        """All that was noted."""
        versions = self._machine.versions if self._machine else []
        salts = {version.number: version.registration.salt for version in versions}
        return MachineDay(wanted=self.wanted, meters=self._meters or (), items=tuple(self._items), salts=salts)

    def begin(self, state: State) -> None:
        """Before the first record that is noted: the meters as they are."""
        if self._meters is None:
            self._meters = tuple(self._all_facts(state).values())
        self._machine = state.machines.get(self.wanted.machine)

    def judge(
        self, state: State, record: LogRecord, signature: RecordSignature | None, place: int, row: Reading
    ) -> None:
        """Judges a row by the rules and, if identity lets it pass, notes what they looked at."""
        machine = state.machines.get(row.machine)
        version = machine.version_at(row.observed_at) if machine else None
        skipped: int | None = None
        if machine is not None and version is not None and row.meter in version.meters:
            before = deepcopy(state.meters.borrow(row.machine, row.meter))
            refused, count = judge_identity(before, row, machine.least_boot)
            skipped = None if refused else count
        outcome = judge_row(state, record, signature, row)
        if outcome not in (None, "too_high", "too_low") or machine is None or version is None or skipped is None:
            return
        current = state.meters.borrow(row.machine, row.meter).current
        priced = machine.version_at(row.observed_at if row.session_started_at is UNSET else row.session_started_at)
        price = priced.prices.of_usage(row.meter, row.observed_at)
        session = priced.prices.of_session(row.meter, row.observed_at) if row.session_start else None
        start_ms = state.log.window_start(row.observed_at)
        is_late = start_ms < state.earliest_open_ms
        self._items.append(
            RowItem(
                offset=record.offset,
                row=place,
                meter=row.meter,
                unit=machine.unit_of(row.meter, priced.number),
                boot=row.boot,
                seq=row.seq,
                observed_at=row.observed_at,
                kind=row.kind,
                value=row.value,
                counts=current is not None and row.boot == current.boot,
                capacity_per_hour=version.meters[row.meter].capacity_per_hour,
                where=(state.earliest_open_ms, start_ms) if is_late else (start_ms, None),
                skipped=skipped,
                trust=trust_of(signature, version) or 0,
                price=(priced.number, price.micros, price.per),
                session_price=None if session is None else (priced.number, session.micros, session.per),
                session=row.session if isinstance(row.session, str) else None,
                reconstructed=row.reconstructed,
                verdict="accepted" if outcome is None else "too_high" if outcome == "too_high" else "too_low",
            )
        )

    def before_control(self, state: State) -> None:
        """What a registration or a correction may change, as it is before."""
        self._facts, self._usage = self._all_facts(state), self._all_usage(state)

    def after_control(self, state: State, record: LogRecord) -> None:
        """Notes what it changed."""
        self._machine = state.machines.get(self.wanted.machine)
        for name, facts in self._all_facts(state).items():
            old = self._facts.get(name, MeterFacts(name, None, None, NONE, SLACK_MS))
            for part in ("baseline", "suspect", "quantity_at", "slack_ms"):
                value = getattr(facts, part)
                if value != getattr(old, part):
                    self._items.append(FactItem(offset=record.offset, meter=name, name=part, value=value))
        for where, (last_offset, usage) in self._all_usage(state).items():
            if last_offset == record.offset and self._machine is not None:  # a difference of 0 leaves its offset, too
                _, old_usage = self._usage.get(where, (NONE, {}))
                lines = tuple(
                    (meter, self._machine.unit_of(meter, version), version, micros, per, added)
                    for (meter, version, micros, per), total in sorted(usage.items())
                    if (added := total - old_usage.get((meter, version, micros, per), 0))
                )
                self._items.append(CorrectionItem(offset=record.offset, where=where, lines=lines))

    def _all_facts(self, state: State) -> dict[str, MeterFacts]:
        names = sorted(meter for machine, meter in state.meters.index_of if machine == self.wanted.machine)
        return {name: MeterFacts.of(name, state.meters.borrow(self.wanted.machine, name)) for name in names}

    def _all_usage(self, state: State) -> dict[Where, tuple[int, dict[LineKey, int]]]:
        """Of the machine's open windows: the last offset and the usage."""
        return {
            (start_ms, None if mends_ms == NONE else mends_ms): (window.last_offset, dict(window.usage))
            for start_ms, windows in sorted(state.open_windows.items())
            for (machine, mends_ms), window in sorted(windows.items())
            if machine == self.wanted.machine
        }
