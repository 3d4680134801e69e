"""One machine's day down to its readings, as the report embeds it: all that the page needs to price and hash it again.

The archive is replayed by the real core; of the day, every entry of the machine is noted with its verdict and what it
added to its window. How much a reading adds is the core's word (rules 12 to 17 need the whole log before it): the page
computes everything that follows from it.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal

from msgspec import Struct

from deploy.explain.archive_source import archived_records
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import Correction, MeterKind, Reading
from schemas.registration import Registration
from schemas.reject import Reason
from schemas.units import DAY_MS
from schemas.window import Window
from streams.core.records import LogRecord
from streams.core.replay import RowChange, Where, judge_watched, replay
from streams.core.state import State
from streams.storage.epoch_files import epoch_paths, read_windows


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
        known = [w for w in self.windows if w.first_offset >= 0]
        return min((w.first_offset for w in known), default=0), max((w.last_offset for w in known), default=-1)


class Added(Struct, frozen=True):
    """What an entry added to one line of its window, in the meter's unit (per 0: 1 for a session)."""

    version: int
    price_micros: int
    per: int
    usage: int


class Item(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A reading or a correction that was judged: what it showed (or the difference), where it lies, what it added.

    `proven` says that its meter signed what it added, `reason` why it was rejected. A rejected entry lies where its
    moment is, and adds nothing.
    """

    offset: int
    row: int
    meter: str
    unit: str
    kind: MeterKind | Literal["correction"]
    observed_at: int
    value: int
    where: Where
    adds: tuple[Added, ...]
    session: str | None = None
    reconstructed: bool = False
    proven: bool = False
    reason: Reason | None = None


class MachineDay(Struct, frozen=True, kw_only=True):
    """A machine's day: what happened in the log's order, and the salts by registration version."""

    wanted: WantedDay
    items: tuple[Item, ...]
    salts: dict[int, str]


def wanted_day(data_dir: Path, log: Log, machine: str, kind: str, partition: int, day_ms: int) -> WantedDay:
    """The day with its sealed windows, in sealing order. Raises InvalidInput where none of it is final."""
    windows: list[Window] = []
    for epoch in range(log.epoch_of(day_ms), log.epoch_of(day_ms + DAY_MS - 1) + 1):
        found = read_windows(epoch_paths(data_dir, log, epoch, partition), machine)
        windows += [w for w in found if day_ms <= w.start_ms < day_ms + DAY_MS]
    if not windows:
        raise InvalidInput(f"{machine} has no window of that day whose epoch has ended: choose another day")
    return WantedDay(machine, kind, partition, day_ms, tuple(windows))


def read_days(data_dir: Path, log: Log, wanted: Sequence[WantedDay]) -> list[MachineDay]:
    """The days, in their order; of one machine at most one. Every partition is replayed once.

    Raises InvalidInput where an archive is missing.
    """
    found: dict[str, MachineDay] = {}
    for partition in sorted({day.partition for day in wanted}):
        all_notes = [_DayNotes(log, day) for day in wanted if day.partition == partition]
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
        changes = judge_watched(state, record, concerned)
        for notes in concerned.values():
            notes.take(record, changes)
    for notes in all_notes:
        notes.note_registrations(_registrations(state, notes.wanted.machine))


def _registrations(state: State, machine: str) -> list[Registration]:
    """The versions of a machine, from the first on."""
    known = state.machines.get(machine)
    return [] if known is None else [version.registration for version in known.versions]


class _DayNotes:
    """Notes what concerns one machine's day."""

    def __init__(self, log: Log, wanted: WantedDay) -> None:
        self.wanted = wanted
        self.first, self.last = wanted.offsets
        self._log = log
        self._name = wanted.machine.encode()
        self._changes: list[tuple[LogRecord, RowChange, Reading | Correction]] = []
        self._units: dict[str, str] = {}
        self._salts: dict[int, str] = {}

    def is_concerned(self, record: LogRecord) -> bool:
        """Whether the record may say something of the machine (with an escape it may say anything)."""
        value = record.value or b""
        return self.first <= record.offset <= self.last and (self._name in value or b"\\" in value)

    def take(self, record: LogRecord, changes: Sequence[RowChange]) -> None:
        """Notes what the record changed."""
        for change in changes:
            entry = change.entry
            if entry is not None and entry.machine == self.wanted.machine and change.verdict != "duplicate":
                self._changes.append((record, change, entry))

    def note_registrations(self, registrations: Sequence[Registration]) -> None:
        """Notes units and salts."""
        self._units = {meter.meter: meter.unit for each in registrations for meter in each.meters}
        self._salts = {each.version: each.salt for each in registrations}

    def day(self) -> MachineDay:
        """All that was noted."""
        items = tuple(self._item(record, change, entry) for record, change, entry in self._changes)
        return MachineDay(wanted=self.wanted, items=items, salts=self._salts)

    def _item(self, record: LogRecord, change: RowChange, entry: Reading | Correction) -> Item:
        window = change.window
        lines = () if window is None else window.lines
        if isinstance(entry, Reading):
            kind: MeterKind | Literal["correction"] = entry.kind
            value, is_start, reconstructed = entry.value, entry.session_start, entry.reconstructed
        else:
            kind, value, is_start, reconstructed = "correction", entry.difference, False, False
        moment_ms = max(0, entry.observed_at - (0 if is_start else 1))
        return Item(
            offset=record.offset,
            row=change.row,
            meter=entry.meter,
            unit=self._units.get(entry.meter, ""),
            kind=kind,
            observed_at=entry.observed_at,
            value=value,
            where=(self._log.window_start(moment_ms), None) if window is None else window.where,
            adds=tuple(Added(line.registration_version, line.price_micros, line.per, line.usage) for line in lines),
            session=entry.session if isinstance(entry.session, str) else None,
            reconstructed=reconstructed,
            proven=window is not None and window.is_proven,
            reason=change.reason,
        )
