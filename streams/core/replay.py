"""A partition's log replayed up to a record, and what that record changes, row by row and line by line.

    sum of the changes of a window's lines = the usage of its lines, however the log is cut

What explains a verdict or an amount uses this module, and nothing of how the core judges.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from schemas.reading import HEARTBEAT, Correction, Reading
from schemas.reject import WHOLE_RECORD, Reason
from schemas.window import Window
from streams.core.advance import Advanced, Tally, advance, judge_record
from streams.core.control import Outcome
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix, reason_of
from streams.core.kernel.entries import EntryRecords
from streams.core.open_window import LineKey, WindowKey
from streams.core.records import LogRecord, Record, decode_control, decode_readings, media_type, record_type
from streams.core.state import State

CHUNK = 10_000
"""How many records are replayed in one call."""

Where = tuple[int, int | None]
"""Start of the window in which something lies and, for an adjustment, of the adjusted one (epoch ms)."""

Step = Callable[[State, Sequence[LogRecord]], Advanced]


class Stop(Struct, frozen=True):
    """Where a replay stands, and the windows that sealed since the stop before.

    The entries of `record` are the next to be judged; None after a chunk in which no record was watched.
    """

    record: LogRecord | None
    windows: list[Window]


class LineChange(Struct, frozen=True):
    """Usage in the meter's unit, added to one line: at micros for every `per` units, or (per 0) for each session."""

    meter: str
    registration_version: int
    usage: int
    price_micros: int
    per: int


class WindowChange(Struct, frozen=True):
    """What one entry added to a window, or to an adjustment of the window that starts at `adjusts_ms` (epoch ms).

    `is_proven` says that its meter signed what it added (rule 42).
    """

    machine: str
    start_ms: int
    adjusts_ms: int | None
    lines: tuple[LineChange, ...]
    is_proven: bool = False

    @property
    def where(self) -> Where:
        """The two starts."""
        return self.start_ms, self.adjusts_ms


class RowChange(Struct, frozen=True):
    """The verdict on one entry (row -1: the whole record), and what it changed.

    `entry` is the reading or correction; None for what is neither, or malformed. `window` is that of an accepted entry
    of a watched machine.
    """

    row: int
    entry: Reading | Correction | None
    outcome: Outcome
    window: WindowChange | None = None

    @property
    def verdict(self) -> Literal["accepted", "duplicate", "rejected"]:
        """The outcome without its reason."""
        if self.outcome is None:
            return "accepted"
        return "duplicate" if self.outcome == "duplicate" else "rejected"

    @property
    def reason(self) -> Reason | None:
        """Why the entry is rejected; None where it isn't."""
        return None if self.outcome == "duplicate" else self.outcome


def advance_by_cuts(
    state: State, records: Sequence[LogRecord], step: Step = advance
) -> Iterator[tuple[Advanced, Sequence[LogRecord]]]:
    """Takes records through all the cuts in them: each part with the records from its first one on.

    Between two parts `state` is as the cut left it. `step` is `advance`, or another text of it.
    """
    records, is_cut = EntryRecords.of(records), True
    while is_cut:
        done = step(state, records)
        yield done, records
        records = records[done.consumed :]
        is_cut = done.cut is not None


def advance_through(state: State, records: Sequence[LogRecord], step: Step = advance) -> list[Advanced]:
    """The parts of `advance_by_cuts` at once: one for each cut and one for the rest. Changes `state`."""
    return [done for done, _ in advance_by_cuts(state, records, step)]


def replay(state: State, records: Iterable[LogRecord], is_watched: Callable[[LogRecord], bool]) -> Iterator[Stop]:
    """Takes `state` through records, and stops before the entries of each that is watched are judged.

    Time has moved, windows have sealed and epochs have ended by then. The caller judges the record, with
    `judge_watched`, before it asks for the next stop.
    """
    held: list[LogRecord] = []
    for record in records:
        if is_watched(record):
            yield Stop(record, _sealed(state, [*held, _heartbeat(record.timestamp, record.offset)]))
            held = []
            continue
        held.append(record)
        if len(held) == CHUNK:
            yield Stop(None, _sealed(state, held))
            held = []
    if held:
        yield Stop(None, _sealed(state, held))


def _sealed(state: State, records: Sequence[LogRecord]) -> list[Window]:
    return [window for part in advance_through(state, records) for window in part.windows]


def _heartbeat(timestamp_ms: int, offset: int = 0) -> Record:
    """Stands in for a record: it moves time, and says nothing."""
    return Record(offset, timestamp_ms, None, b"{}", (("ce_type", HEARTBEAT.encode()),))


def judge_watched(state: State, record: LogRecord, machines: Collection[str]) -> list[RowChange]:
    """Judges the entries of the record that a replay stopped before; one change for each, in their order.

    Raises InvariantBroken where a sum of usage leaves 64 bits.
    """
    watch = _RowWatch(state, record, machines)
    judge_record(state, record, watch)
    return watch.changes


class _RowWatch(Tally):
    """Looks at the window that an entry may change, before and after the entry is judged."""

    def __init__(self, state: State, record: LogRecord, machines: Collection[str]) -> None:
        super().__init__()
        self.changes: list[RowChange] = []
        self._state, self._machines = state, machines
        self._entries = _entries(record)
        self._look(min(self._entries, default=0))

    def take(self, clock: Ints, refused: Matrix) -> None:
        """Entries were judged: `judge_record` notes those that were not refused."""
        for line, row, code in refused[: clock[t.REFUSED_COUNT]].tolist():
            self.note(line, row, reason_of(code))

    def note(self, line: int, row: int, outcome: Outcome) -> None:
        """One entry was judged."""
        super().note(line, row, outcome)
        window = None if self._key is None or outcome is not None else self._window_change(self._key)
        self.changes.append(RowChange(row, self._entries.get(row), outcome, window))
        self._look(row + 1)

    def _look(self, row: int) -> None:
        entry = self._entries.get(row)
        is_watched = entry is not None and entry.machine in self._machines
        self._key = self._state.window_key(entry.machine, entry.moment_ms) if entry and is_watched else None
        self._before = self._usage(self._key)

    def _usage(self, key: WindowKey | None) -> dict[LineKey, int]:
        return {} if key is None else dict(self._state.usage_at(key))

    def _window_change(self, key: WindowKey) -> WindowChange:
        lines = tuple(
            LineChange(line.meter, line.version, added, line.price_micros, line.per)
            for line, total in sorted(self._usage(key).items())
            if (added := total - self._before.get(line, 0))
        )
        start_ms, machine, adjusts_ms = key
        return WindowChange(machine, start_ms, None if adjusts_ms == NONE else adjusts_ms, lines, self.is_proven)


def _entries(record: LogRecord) -> Mapping[int, Reading | Correction | None]:
    """The readings or the correction of a record, by row."""
    match record_type(record):
        case "reading":
            rows = decode_readings(record.value, media_type(record))
            return {} if isinstance(rows, str) else dict(enumerate(rows))
        case "usage.corrected":
            decoded = decode_control(record.value, media_type(record), Correction)
            return {} if isinstance(decoded, str) else {WHOLE_RECORD: decoded[0]}
    return {}
