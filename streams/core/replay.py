"""A partition's log replayed up to a record, and what that record changes, row by row and line by line.

    sum of the changes of a window's lines = the usage of its lines, however the log is cut

What explains a verdict or an amount uses this module, and nothing of how the core judges.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import deepcopy

from msgspec import UNSET, Struct

from schemas.reading import HEARTBEAT, READING, Reading
from schemas.reject import WHOLE_RECORD
from schemas.window import Window
from streams.core.advance import Advanced, Tally, advance, judge_record
from streams.core.identity import judge_identity
from streams.core.judge import Outcome, judge_row
from streams.core.meters import NONE
from streams.core.open_window import LineKey, OpenWindow, WindowKey, seal, version_of
from streams.core.rating import Price
from streams.core.records import LogRecord, Record, decode_readings, media_type, record_type
from streams.core.state import State
from streams.core.trust import RecordSignature, signature_of, trust_of

CHUNK = 10_000
"""Records that are replayed at once."""

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
    """What one entry added to a window, or to an adjustment of the window that starts at `mends_ms` (epoch ms)."""

    machine: str
    start_ms: int
    mends_ms: int | None
    lines: tuple[LineChange, ...]


class Basis(Struct, frozen=True, kw_only=True):
    """What rules 12 to 20 look at for a row that identity let pass; nothing of it depends on the value it shows.

    `where` is the start of its window, or of the window that holds the adjustment and of the adjusted one (epoch ms).
    `is_current_boot` says whether its boot is the meter's latest; `version` is the one that prices it.
    """

    unit: str
    where: tuple[int, int | None]
    skipped: int
    trust: int
    is_current_boot: bool
    capacity_per_hour: int
    version: int
    price: Price
    session_price: Price | None


class RowChange(Struct, frozen=True):
    """The verdict on one entry (row -1: the whole record), and what it changed.

    `reading` is None for a control record and a malformed row; `basis` for a row that rules 12 to 17 never saw.
    `windows` and `basis` are filled for watched machines only.
    """

    row: int
    reading: Reading | None
    outcome: Outcome
    windows: tuple[WindowChange, ...] = ()
    basis: Basis | None = None


def advance_by_cuts(
    state: State, records: Sequence[LogRecord], step: Step = advance
) -> Iterator[tuple[Advanced, Sequence[LogRecord]]]:
    """Takes records through all the cuts in them: each part with the records from its first one on.

    Between two parts `state` is as the cut left it. `step` is `advance`, or another text of it.
    """
    is_cut = True
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
            # A heartbeat stands in for the record: it moves time as this one does, and says nothing.
            beat = Record(record.offset, record.timestamp, None, b"{}", (("ce_type", HEARTBEAT.encode()),))
            yield Stop(record, _sealed(state, [*held, beat]))
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


def judge_watched(state: State, record: LogRecord, machines: Collection[str]) -> list[RowChange]:
    """Judges the entries of the record that a replay stopped before; one change for each, in their order.

    Raises InvariantBroken where a sum of usage leaves 64 bits.
    """
    if record_type(record) != READING:
        return [_judge_control(state, record, machines)]
    rows = decode_readings(record.value, media_type(record))
    if isinstance(rows, str):
        return [RowChange(WHOLE_RECORD, None, rows)]
    signature = signature_of(state.log.log_id, record)
    changes = []
    for place, row in enumerate(rows):
        if row is None:
            changes.append(RowChange(place, None, "malformed"))
        elif row.machine in machines:
            changes.append(_judge_watched_row(state, record, signature, place, row))
        else:
            changes.append(RowChange(place, row, judge_row(state, record, signature, row)))
    return changes


def open_windows(state: State) -> list[Window]:
    """The open windows as they would seal now, in sealing order. Leaves `state` as it is."""
    carries: dict[tuple[str, str], int] = {}
    sealed = []
    for key, window in sorted(state.windows(), key=lambda item: item[0]):
        machine = state.machines[key[1]]
        version = version_of(machine, key)
        carried = (machine.machine, version.agreement_digest)
        carry_in = carries.get(carried, state.carry_of(machine, version))
        sealed.append(seal(state.log, machine, version, key, window, carry_in))
        carries[carried] = sealed[-1].carry_out
    return sealed


_Seen = tuple[int, int, dict[LineKey, int]]
"""Of an open window: its readings, its last offset and its usage."""


def _seen(window: OpenWindow | None) -> _Seen:
    return (0, NONE, {}) if window is None else (window.readings, window.last_offset, dict(window.usage))


def _judge_control(state: State, record: LogRecord, machines: Collection[str]) -> RowChange:
    before = _seen_of(state, machines)
    tally = Tally()
    judge_record(state, record, tally)
    outcome: Outcome = "duplicate" if tally.duplicate else None
    if tally.rejects:
        outcome = tally.rejects[0].reason
    after = sorted(_seen_of(state, machines).items())
    changed = [_window_change(key, before.get(key, _seen(None)), now) for key, now in after]
    return RowChange(WHOLE_RECORD, None, outcome, tuple(change for change in changed if change is not None))


def _seen_of(state: State, machines: Collection[str]) -> dict[WindowKey, _Seen]:
    return {key: _seen(window) for key, window in state.windows() if key[1] in machines}


def _judge_watched_row(
    state: State, record: LogRecord, signature: RecordSignature | None, place: int, row: Reading
) -> RowChange:
    key = state.window_key(row.machine, row.observed_at)
    before, skipped = _seen(_window(state, key)), _skipped(state, row)
    outcome = judge_row(state, record, signature, row)
    change = _window_change(key, before, _seen(_window(state, key))) if outcome is None else None
    is_rated = skipped is not None and outcome in (None, "too_high", "too_low")
    basis = _basis(state, signature, row, key, skipped or 0) if is_rated else None
    return RowChange(place, row, outcome, () if change is None else (change,), basis)


def _window(state: State, key: WindowKey) -> OpenWindow | None:
    return state.open_windows.get(key[0], {}).get(key[1:])


def _window_change(key: WindowKey, before: _Seen, after: _Seen) -> WindowChange | None:
    """An accepted entry leaves its count or its offset in the window, even where it adds no usage (rule 26)."""
    if before == after:
        return None
    lines = tuple(
        LineChange(meter, version, added, micros, per)
        for (meter, version, micros, per), total in sorted(after[2].items())
        if (added := total - before[2].get((meter, version, micros, per), 0))
    )
    start_ms, machine, mends_ms = key
    return WindowChange(machine, start_ms, None if mends_ms == NONE else mends_ms, lines)


def _skipped(state: State, row: Reading) -> int | None:
    """The numbers that a row leaves out, None where identity refuses it or the meter is unknown."""
    machine = state.machines.get(row.machine)
    if machine is None or row.meter not in machine.version_at(row.observed_at).meters:
        return None
    refused, skipped = judge_identity(deepcopy(state.meters.borrow(row.machine, row.meter)), row, machine.least_boot)
    return None if refused else skipped


def _basis(state: State, signature: RecordSignature | None, row: Reading, key: WindowKey, skipped: int) -> Basis:
    machine = state.machines[row.machine]
    version = machine.version_at(row.observed_at)
    priced = machine.version_at(row.observed_at if row.session_started_at is UNSET else row.session_started_at)
    current = state.meters.borrow(row.machine, row.meter).current
    return Basis(
        unit=machine.unit_of(row.meter, priced.number),
        where=(key[0], None if key[2] == NONE else key[2]),
        skipped=skipped,
        trust=trust_of(signature, version) or 0,
        is_current_boot=current is not None and row.boot == current.boot,
        capacity_per_hour=version.meters[row.meter].capacity_per_hour,
        version=priced.number,
        price=priced.prices.of_usage(row.meter, row.observed_at),
        session_price=priced.prices.of_session(row.meter, row.observed_at) if row.session_start else None,
    )
