"""Judges a run of reading records in columns: exactly what the plain loop makes of it, without a call for each row.

In a run nothing seals, nobody registers and nothing is corrected. Then the order of rows matters only within a meter:

- a row reads and writes the facts of its own meter; of its machine it reads versions, which nothing here changes, and
  it may set the mark of equivocation, which is only read when a window seals or a version comes;
- of time it reads the stream time of its own record, known beforehand as a running maximum; all else that follows from
  time (the epoch, its rules, the earliest open window) is the same throughout the run;
- windows only collect sums, counts, flags and the least and greatest offset, in any order. Readings add no usage below
  zero, so a sum leaves 64 bits on the way if and only if it does at the end;
- entries are counted, and refused ones are put in their order at the end.

So the rows go meter by meter. In each round every meter's leading rows that are simple (see `_Round`) are taken at
once; the first that isn't goes through the plain loop's `judge_row`, and the rest waits for the next round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import NamedTuple

import numpy as np

from schemas.units import ELAPSED_MAX_MS, HOUR_MS
from streams.arrow_columns import arrow_parts
from streams.columns import IS_RECONSTRUCTED, IS_START, Columns, Ints, Mask, Refused, columns_of
from streams.json_columns import json_part
from streams.judge import Outcome, judge_row
from streams.meter_facts import MeterFacts
from streams.meters import INTS, KINDS, NONE, SLACK_MS
from streams.rating import Price
from streams.records import LogRecord
from streams.register import PLAUSIBLE_PERCENT
from streams.state import State

ROUNDS_MAX = 12
"""After so many rounds the plain loop takes what is left."""

USAGE_MAX = 10**12
"""Larger usages are left to unbounded integers: up to here the time that they need is computed in 64 bits."""

_REGISTER, _QUANTITY, _LEVEL = range(len(KINDS))
_SHORTENED = gcd(HOUR_MS * 100, PLAUSIBLE_PERCENT)
_TIMES, _PARTS = HOUR_MS * 100 // _SHORTENED, PLAUSIBLE_PERCENT // _SHORTENED
"""Rule 15 in lowest terms: u = ceil(usage * _TIMES / (_PARTS * capacity per hour))."""

_INT = {name: place for place, name in enumerate(INTS)}
_CONTENT = [_INT[f"current_{name}"] for name in ("seq", "observed_at", "kind", "value", "session_started_at", "marks")]
_BASELINE = [_INT[f"baseline_{name}"] for name in ("boot", "seq", "observed_at", "value")]


@dataclass(slots=True)
class RunResult:
    """What a run came to: the rows accepted, and all others as (place of the record, row, outcome), in order.

    `in_columns` of the accepted ones were judged in columns.
    """

    accepted: int = 0
    in_columns: int = 0
    others: list[tuple[int, int, Outcome]] = field(default_factory=list)


def judge_run(
    state: State, records: Sequence[LogRecord], is_arrow: Sequence[int], now_ms: Ints, rows_min: int
) -> RunResult:
    """Judges reading records, JSON or Arrow, that belong to one run.

    `now_ms` is the stream time at each of them (epoch ms). With fewer than `rows_min` rows left, columns don't pay.
    """
    run = _Run(state, records, now_ms)
    columns = run.decode(is_arrow)
    if columns is not None and len(columns):
        run.judge(columns, rows_min)
    state.observe(int(now_ms[-1]))
    run.result.others.sort(key=lambda other: other[:2])
    return run.result


class _Run:
    """One run while it is judged."""

    def __init__(self, state: State, records: Sequence[LogRecord], now_ms: Ints) -> None:
        self.state = state
        self.records = records
        self.now_ms = now_ms
        self.result = RunResult()

    def decode(self, is_arrow: Sequence[int]) -> Columns | None:
        """The well-formed rows; what is refused before that is noted."""
        place_of = self.state.meters.place_of
        refused: list[Refused] = []
        arrow = [place for place, flag in enumerate(is_arrow) if flag]
        json = [place for place, flag in enumerate(is_arrow) if not flag] if arrow else range(len(self.records))
        parts = arrow_parts(arrow, [self.records[place].value for place in arrow], place_of, refused)
        if json:
            parts.append(json_part(json, [self.records[place].value for place in json], place_of, refused))
        columns = columns_of(parts, refused) if parts else None
        self.result.others += refused
        return columns

    def judge(self, columns: Columns, rows_min: int) -> None:
        """Takes the rows meter by meter, in rounds."""
        state = self.state
        began_ms = state.stream_time_ms
        _look_up(state, columns)
        refused = self._refused_before_identity(columns)
        for row in np.flatnonzero(refused).tolist():
            self._judge_plainly(columns, row)
        order = np.flatnonzero(~refused) if refused.any() else np.arange(len(columns))
        order = order[_stable_order(columns.place[order])]
        columns = columns.take(order)
        may_be_simple = self._may_be_simple(columns)
        left = np.arange(len(columns))
        taken: list[_Taken] = []
        for _ in range(ROUNDS_MAX):
            if len(left) < max(rows_min, 1):
                break
            state.meters.give_back()
            chosen = _Round(state, columns, left, may_be_simple).take()
            taken.append(chosen.taken)
            for row in chosen.first.tolist():
                self._judge_plainly(columns, row)
            left = chosen.left
        for row in left.tolist():
            self._judge_plainly(columns, row)
        state.stream_time_ms = began_ms
        self._place(columns, taken)

    def _judge_plainly(self, columns: Columns, row: int) -> None:
        """One row as the plain loop judges it, at the stream time of its record."""
        record = int(columns.record[row])
        self.state.stream_time_ms = int(self.now_ms[record])
        outcome = judge_row(self.state, self.records[record], columns.reading(row))
        if outcome is None:
            self.result.accepted += 1
        else:
            self.result.others.append((record, int(columns.row[row]), outcome))

    def _refused_before_identity(self, columns: Columns) -> Mask:
        """The rows that are refused whatever their meter knows: they change nothing, and stand in nobody's way."""
        place, observed_at, facts = columns.place, columns.observed_at, self.state.facts
        unknown: Mask = place == NONE
        future = observed_at > self.now_ms[columns.record] + self.state.ruleset.skew_ms
        known = np.where(unknown, 0, place)
        other_kind: Mask = _in_stretch(facts, known, observed_at) & (facts.column("kind")[known] != columns.kind)
        refused: Mask = unknown | future | other_kind
        return refused

    def _may_be_simple(self, columns: Columns) -> Mask:
        """What makes a row simple by itself: known facts in force, and a window to lie in."""
        place, observed_at, facts = columns.place, columns.observed_at, self.state.facts
        simple: Mask = _in_stretch(facts, place, observed_at) & (facts.column("is_retired")[place] == 0)
        if observed_at.min(initial=self.state.earliest_open_ms) < self.state.earliest_open_ms:  # Rule 5.
            horizon_ms = self.now_ms[columns.record] - self.state.ruleset.horizon_ms
            simple &= (observed_at >= self.state.earliest_open_ms) | (observed_at >= horizon_ms)
        started_at = columns.started_at
        if started_at.max(initial=NONE) != NONE:  # Rule 19: the version of the session's start is the same one.
            is_same = facts.column("version_from_ms")[place] <= started_at
            is_same &= started_at < facts.column("version_to_ms")[place]
            simple &= is_same | (started_at == NONE)
            simple &= (columns.marks & IS_START == 0) | (facts.column("has_session_price")[place] == 0)
        return simple

    def _place(self, columns: Columns, taken: Sequence["_Taken"]) -> None:
        """Puts the rows taken into their windows, summed by meter and window."""
        rows = np.concatenate([part.rows for part in taken]) if taken else np.empty(0, np.int64)
        self.result.accepted += len(rows)
        self.result.in_columns += len(rows)
        if not len(rows):
            return
        state, facts = self.state, self.state.facts
        usage = np.concatenate([part.usage for part in taken])
        place, observed_at = columns.place[rows], columns.observed_at[rows]
        start_ms = observed_at - observed_at % state.log.window_ms
        order = np.lexsort((start_ms, place))
        place, start_ms, usage, rows = place[order], start_ms[order], usage[order], rows[order]
        firsts = np.flatnonzero(np.r_[True, (place[1:] != place[:-1]) | (start_ms[1:] != start_ms[:-1])])
        if int(usage.max()) * len(usage) >= 2**62:
            usage = usage.astype(object)  # Exact in any size; whether the sum is allowed is asked where it is kept.
        offsets = np.fromiter((record.offset for record in self.records), np.int64, len(self.records))
        offset = offsets[columns.record[rows]]
        place = place[firsts]
        for at, start, total, count, first, last, marks, version, micros, per in zip(
            place.tolist(),
            start_ms[firsts].tolist(),
            np.add.reduceat(usage, firsts).tolist(),
            np.diff(np.r_[firsts, len(rows)]).tolist(),
            np.minimum.reduceat(offset, firsts).tolist(),
            np.maximum.reduceat(offset, firsts).tolist(),
            np.bitwise_or.reduceat(columns.marks[rows], firsts).tolist(),
            facts.column("version")[place].tolist(),
            facts.column("price_micros")[place].tolist(),
            facts.column("per")[place].tolist(),
            strict=True,
        ):
            machine, meter = state.meters.names[at]
            window = state.window_at(machine, start)
            window.readings += count
            window.note_offset(first)
            window.note_offset(last)
            if marks & IS_RECONSTRUCTED:
                window.set_flag("reconstructed")
            if total:
                window.add_usage(meter, version, Price(micros, per), total)


class _Taken(NamedTuple):
    """Rows taken in columns, and the usage that each bills."""

    rows: Ints
    usage: Ints


class _Chosen(NamedTuple):
    """What a round came to: rows taken, the first that isn't simple of each meter, and the rows after that."""

    taken: _Taken
    first: Ints
    left: Ints


class _Round:
    """One round over the rows `left`, which lie by meter, and by the log within it.

    A row is simple if its number is one above that of the row before (or of the meter's high water) in the same boot,
    and if what it shows continues: a register not below the one before, without a suspect and not observed earlier, or
    a quantity not observed earlier, either of them without need of slack (so that slack only grows, and its cap can be
    applied at the end); or a level. Then it is accepted, is the meter's new high water and, a register, its baseline.
    """

    def __init__(self, state: State, columns: Columns, left: Ints, may_be_simple: Mask) -> None:
        self.state, self.columns, self.left = state, columns, left
        self.place = columns.place[left]
        self.boot, self.seq = columns.boot[left], columns.seq[left]
        self.observed_at, self.value = columns.observed_at[left], columns.value[left]
        self.kind = columns.kind[left]
        self.may_be_simple = may_be_simple[left]
        self.starts = np.flatnonzero(np.r_[True, self.place[1:] != self.place[:-1]])
        self.meters = self.place[self.starts]
        self.known = state.meters.ints[self.meters]
        """The meters' rows as they stand before the round."""

    def take(self) -> _Chosen:
        """Judges, and changes the meters by the rows that it takes."""
        usage, spare_ms, is_simple = self._judge()
        wrong = (~is_simple).astype(np.int64)
        bad: Ints = np.cumsum(wrong)
        before = bad[self.starts] - wrong[self.starts]
        bad -= np.repeat(before, np.diff(np.r_[self.starts, len(self.left)]))
        leading = bad == 0
        counts = np.add.reduceat(leading.astype(np.int64), self.starts)
        spare_ms = np.add.reduceat(np.where(leading, spare_ms, 0), self.starts)
        self._move(counts, spare_ms)
        return _Chosen(
            _Taken(self.left[leading], usage[leading]),
            self.left[(bad == 1) & ~is_simple],
            self.left[(bad > 1) | ((bad == 1) & is_simple)],
        )

    def _judge(self) -> tuple[Ints, Ints, Mask]:
        """Usage, time left over (ms) and whether a row is simple if those before it are."""
        kind, starts = self.kind, self.starts
        first_kind = kind[starts]
        previous_ms = np.where(first_kind == _REGISTER, self._known("baseline_observed_at"), self._known("quantity_at"))
        elapsed_ms = self.observed_at - _shifted(self.observed_at, starts, previous_ms)
        rise = self.value - _shifted(self.value, starts, self._known("baseline_value"))
        usage = np.where(kind == _REGISTER, rise, np.where(kind == _QUANTITY, self.value, 0))
        capacity = self.state.facts.column("capacity_per_hour")[self.place]
        needed_ms = -(-np.clip(usage, 0, USAGE_MAX) * _TIMES // (_PARTS * capacity))
        spare_ms = np.where(kind == _LEVEL, 0, np.minimum(elapsed_ms, ELAPSED_MAX_MS) - needed_ms)
        simple = self.may_be_simple & (self.boot == _shifted(self.boot, starts, self._known("current_boot")))
        simple &= self.seq == _shifted(self.seq, starts, self._known("current_seq")) + 1
        simple &= (usage >= 0) & (usage <= USAGE_MAX) & (spare_ms >= 0) & ((elapsed_ms >= 0) | (kind == _LEVEL))
        simple[starts] &= self._can_begin(first_kind)
        return usage, spare_ms, simple

    def _can_begin(self, kind: Ints) -> Mask:
        """Whether the first row of each meter has something to continue from."""
        boot, seq = self.boot[self.starts], self.seq[self.starts]
        base_boot = self._known("baseline_boot")
        is_after = (boot > base_boot) | ((boot == base_boot) & (seq >= self._known("baseline_seq")))
        can = (self._known("baseline_value") != NONE) & (self._known("suspect_value") == NONE) & is_after
        can |= (kind == _QUANTITY) & (self._known("quantity_at") != NONE)
        can |= kind == _LEVEL
        return np.asarray(can, np.bool_)

    def _move(self, counts: Ints, spare_ms: Ints) -> None:
        """The last row taken of each meter is where it stands now."""
        moved = np.flatnonzero(counts)
        if not len(moved):
            return
        meters, ints = self.meters[moved], self.state.meters.ints
        last = (self.starts + counts - 1)[moved]
        rows = self.left[last]
        columns = self.columns
        started_at = columns.started_at[rows]
        shown = (self.seq[last], self.observed_at[last], self.kind[last], self.value[last])
        for column, values in zip(_CONTENT, (*shown, started_at, columns.marks[rows]), strict=True):
            ints[meters, column] = values
        slack_ms = np.minimum(SLACK_MS, self._known("slack_ms")[moved] + spare_ms[moved])
        ints[meters, _INT["slack_ms"]] = np.where(self.kind[last] == _LEVEL, self._known("slack_ms")[moved], slack_ms)
        registers = np.flatnonzero(self.kind[last] == _REGISTER)
        at = last[registers]
        standing = (self.boot[at], self.seq[at], self.observed_at[at], self.value[at])
        for column, values in zip(_BASELINE, standing, strict=True):
            ints[meters[registers], column] = values
        quantities = np.flatnonzero(self.kind[last] == _QUANTITY)
        ints[meters[quantities], _INT["quantity_at"]] = self.observed_at[last[quantities]]
        texts = self.state.meters.texts
        for place in np.flatnonzero((started_at != NONE) | (self._known("current_session_started_at")[moved] != NONE)):
            texts[meters[place]] = columns.session(int(rows[place])), texts[meters[place]][1]
        self.state.meters.touched.update(meters.tolist())

    def _known(self, name: str) -> Ints:
        return self.known[:, _INT[name]]


def _look_up(state: State, columns: Columns) -> None:
    """Asks for the facts of meters most of whose rows lie outside the stretch that is known, at one of these rows."""
    facts, size = state.facts, len(state.meters.names)
    facts.grow(max(size, 1))
    rows = np.flatnonzero(columns.place != NONE)
    place, observed_at = columns.place[rows], columns.observed_at[rows]
    outside = ~_in_stretch(facts, place, observed_at)
    if not outside.any():
        return
    wanted = np.flatnonzero(2 * np.bincount(place[outside], minlength=size) > np.bincount(place, minlength=size))
    moments = np.zeros(size, np.int64)
    moments[place[outside]] = observed_at[outside]
    facts.look_up(state.meters.names, state.machines, wanted.tolist(), moments[wanted].tolist())


def _in_stretch(facts: MeterFacts, place: Ints, observed_at: Ints) -> Mask:
    inside: Mask = (facts.column("from_ms")[place] <= observed_at) & (observed_at < facts.column("to_ms")[place])
    return inside


def _shifted(column: Ints, starts: Ints, first: Ints) -> Ints:
    """The value of the row before, and `first` where a meter's rows start."""
    before = np.empty_like(column)
    before[1:] = column[:-1]
    before[starts] = first
    return before


def _stable_order(place: Ints) -> Ints:
    """Sorts by place and keeps the order of the log within."""
    if place.max(initial=0) < 2**16:
        return np.argsort(place.astype(np.uint16), kind="stable")
    return np.argsort(place, kind="stable")
