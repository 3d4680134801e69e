"""One machine's day down to its readings, as the report embeds it: all that the page needs to judge and hash it again.

The archive is replayed by the real core up to the day; from there on every entry of the machine is noted with what the
rules looked at. What is noted doesn't depend on the value that a meter showed, so the page can put in another one.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from msgspec import Struct

from deploy.explain.audit_sources import archived_records
from schemas.arrow import windows_from
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import READING, Correction, MeterKind, Reading
from schemas.units import DAY_MS
from schemas.window import Window
from streams.core.machines import Machine
from streams.core.meters import NONE, SLACK_MS, MeterState, Standing
from streams.core.records import LogRecord, record_type
from streams.core.replay import Basis, RowChange, Where, WindowChange, judge_watched, replay
from streams.core.state import State
from streams.storage.epoch_files import epoch_paths

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


class MeterBefore(Struct, frozen=True):
    """What rules 12 to 17 remember of a meter; standings are (boot, seq, observed_at, value)."""

    meter: str
    baseline: Standing | None
    suspect: Standing | None
    quantity_at: int
    slack_ms: int

    @classmethod
    def of(cls, name: str, meter: MeterState) -> "MeterBefore":
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
    """A registration that set one fact of a meter: an opening register, a new boot."""

    offset: int
    meter: str
    name: str
    value: Standing | int | None


Item = RowItem | CorrectionItem | FactItem


class MachineDay(Struct, frozen=True, kw_only=True):
    """A machine's day: its meters as they were before, what happened in the log's order, and the salts by version."""

    wanted: WantedDay
    meters: tuple[MeterBefore, ...]
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
        all_notes = [_DayNotes(day) for day in wanted if day.partition == partition]
        _replay(State.new(log, partition), archived_records(data_dir, partition), all_notes)
        found |= {notes.wanted.machine: notes.day() for notes in all_notes}
    return [found[day.machine] for day in wanted]


def _replay(state: State, records: Iterable[LogRecord], all_notes: Sequence["_DayNotes"]) -> None:
    last = max(notes.last for notes in all_notes)
    upto_last = takewhile(lambda record: record.offset <= last, records)
    for stop in replay(state, upto_last, lambda record: any(notes.is_concerned(record) for notes in all_notes)):
        if (record := stop.record) is None:
            continue
        concerned = {notes.wanted.machine: notes for notes in all_notes if notes.is_concerned(record)}
        for notes in concerned.values():
            notes.before(state, record)
        changes = judge_watched(state, record, concerned)
        for notes in concerned.values():
            notes.after(state, record, changes)


class _DayNotes:
    """Notes what concerns one machine's day."""

    def __init__(self, wanted: WantedDay) -> None:
        self.wanted = wanted
        self.first, self.last = wanted.offsets
        self._name = wanted.machine.encode()
        self._items: list[Item] = []
        self._meters: tuple[MeterBefore, ...] | None = None
        self._machine: Machine | None = None
        self._facts: dict[str, MeterBefore] = {}

    def is_concerned(self, record: LogRecord) -> bool:
        """Whether the record may say something of the machine (with an escape it may say anything)."""
        value = record.value or b""
        return self.first <= record.offset <= self.last and (self._name in value or b"\\" in value)

    def day(self) -> MachineDay:
        """All that was noted."""
        versions = self._machine.versions if self._machine else []
        salts = {version.number: version.registration.salt for version in versions}
        return MachineDay(wanted=self.wanted, meters=self._meters or (), items=tuple(self._items), salts=salts)

    def before(self, state: State, record: LogRecord) -> None:
        """The meters as they are before the first record that is noted, and before a control record."""
        if self._meters is None or record_type(record) != READING:
            self._facts = self._all_facts(state)
        if self._meters is None:
            self._meters = tuple(self._facts.values())

    def after(self, state: State, record: LogRecord, changes: Sequence[RowChange]) -> None:
        """Notes what the record changed."""
        self._machine = state.machines.get(self.wanted.machine)
        if record_type(record) != READING:
            self._note_facts(state, record)
        for change in changes:
            entry = change.entry
            if entry is None or entry.machine != self.wanted.machine:
                continue
            if isinstance(entry, Correction):
                self._note_correction(record, change.window)
            elif change.basis is not None:
                self._items.append(_row_item(record, change, entry, change.basis))

    def _note_facts(self, state: State, record: LogRecord) -> None:
        for name, facts in self._all_facts(state).items():
            old = self._facts.get(name, MeterBefore(name, None, None, NONE, SLACK_MS))
            for part in ("baseline", "suspect", "quantity_at", "slack_ms"):
                value = getattr(facts, part)
                if value != getattr(old, part):
                    self._items.append(FactItem(offset=record.offset, meter=name, name=part, value=value))

    def _note_correction(self, record: LogRecord, window: WindowChange | None) -> None:
        if self._machine is not None and window is not None:
            lines = tuple(
                (
                    line.meter, self._machine.unit_of(line.meter, line.registration_version),
                    line.registration_version, line.price_micros, line.per, line.usage,
                )
                for line in window.lines
            )  # fmt: skip
            self._items.append(CorrectionItem(offset=record.offset, where=window.where, lines=lines))

    def _all_facts(self, state: State) -> dict[str, MeterBefore]:
        names = sorted(meter for machine, meter in state.meters.index_of if machine == self.wanted.machine)
        return {name: MeterBefore.of(name, state.meters.borrow(self.wanted.machine, name)) for name in names}


def _row_item(record: LogRecord, change: RowChange, row: Reading, basis: Basis) -> RowItem:
    session = basis.session_price
    return RowItem(
        offset=record.offset,
        row=change.row,
        meter=row.meter,
        unit=basis.unit,
        boot=row.boot,
        seq=row.seq,
        observed_at=row.observed_at,
        kind=row.kind,
        value=row.value,
        counts=basis.is_current_boot,
        capacity_per_hour=basis.capacity_per_hour,
        where=basis.where,
        skipped=basis.skipped,
        trust=basis.trust,
        price=(basis.version, basis.price.micros, basis.price.per),
        session_price=None if session is None else (basis.version, session.micros, session.per),
        session=row.session if isinstance(row.session, str) else None,
        reconstructed=row.reconstructed,
        verdict="accepted" if change.outcome is None else "too_high" if change.outcome == "too_high" else "too_low",
    )
