"""One round of a run: the leading simple rows of every meter at once. `runs` says why rows may go meter by meter."""

from math import gcd
from typing import NamedTuple

import numpy as np

from schemas.units import ELAPSED_MAX_MS, HOUR_MS
from streams.core.columns import Columns, Ints, Mask
from streams.core.identity import HOLES_MAX, SEQ_STEP_MAX
from streams.core.meters import INTS, KINDS, NONE, SLACK_MS
from streams.core.plausible_usage import PLAUSIBLE_PERCENT
from streams.core.state import State

USAGE_MAX = 10**12
"""Larger usages are left to unbounded integers: up to here the time that they need is computed in 64 bits."""

REGISTER, QUANTITY, LEVEL = range(len(KINDS))
_SHORTENED = gcd(HOUR_MS * 100, PLAUSIBLE_PERCENT)
_TIMES, _PARTS = HOUR_MS * 100 // _SHORTENED, PLAUSIBLE_PERCENT // _SHORTENED
"""Rule 15 in lowest terms: u = ceil(usage * _TIMES / (_PARTS * capacity per hour))."""

_INT = {name: column for column, name in enumerate(INTS)}
_CONTENT = [_INT[f"current_{name}"] for name in ("seq", "observed_at", "kind", "value", "session_started_at", "marks")]
_BASELINE = [_INT[f"baseline_{name}"] for name in ("boot", "seq", "observed_at", "value")]

_FAR = 2**40
"""Sequence numbers further from a meter's high water need not be distinguished."""


class Taken(NamedTuple):
    """Rows accepted in columns, the usage that each bills, and how many numbers each skips."""

    rows: Ints
    usage: Ints
    skipped: Ints


class Chosen(NamedTuple):
    """The result of a round: rows by their verdict, each meter's first row without one, and the rows after it."""

    taken: Taken
    duplicates: Ints
    equivocations: Ints
    first: Ints
    left: Ints


class Round:
    """One round over the rows `left`, which lie by meter, and by the log within it.

    A row is a *repeat* if its boot is the current one and its number is not above all before it. Of repeats, only those
    are simple that are duplicates or equivocations beyond doubt; they change nothing of their meter. Any other row is
    simple if its number comes next
    in that boot, maybe after a gap, and if what it shows continues: a register not below the one before, without a
    suspect and not observed earlier, or a quantity not observed earlier, either of them without need of slack (so that
    slack only grows, and its cap can be applied at the end); or a level. Then it is accepted, is the meter's new high
    water and, a register, its baseline. What comes before a row is only known while all rows before it are simple.
    """

    def __init__(self, state: State, columns: Columns, left: Ints, is_known: Mask, may_be_simple: Mask) -> None:
        """`is_known` marks the rows whose meter's facts are known, `may_be_simple` those of them that a window can
        take.

        `Meters.give_back` must have been called.
        """
        self.state, self.left = state, left
        self.columns = columns if len(left) == len(columns) else columns.take(left)
        self.meter = self.columns.meter
        self.is_known, self.may_be_simple = is_known[left], may_be_simple[left]
        self.starts = np.flatnonzero(np.r_[True, self.meter[1:] != self.meter[:-1]])
        self.lengths = np.diff(np.r_[self.starts, len(left)])
        self.meters = self.meter[self.starts]
        self.known = state.meters.ints[self.meters]
        """The meters' rows before the round."""

    def take(self) -> Chosen:
        """Judges the rows, and updates the meters by those that it takes."""
        is_repeat = self._repeats()
        chain = np.arange(len(self.left)) if is_repeat is None else np.flatnonzero(~is_repeat)
        link = _Chain(self, chain)
        duplicate = equivocation = np.zeros(len(self.left), np.bool_)
        if is_repeat is not None:
            duplicate, equivocation = self._judge_repeats(is_repeat, link)
        is_simple = duplicate | equivocation
        is_simple[chain] = link.is_simple
        wrong = (~is_simple).astype(np.int64)
        bad: Ints = np.cumsum(wrong)
        bad -= np.repeat(bad[self.starts] - wrong[self.starts], self.lengths)
        link.move(np.flatnonzero((bad == 0)[chain]))
        leading = (bad == 0)[chain]
        return Chosen(
            Taken(self.left[chain[leading]], link.usage[leading], link.step[leading] - 1),
            self.left[(bad == 0) & duplicate],
            self.left[(bad == 0) & equivocation],
            self.left[(bad == 1) & ~is_simple],
            self.left[(bad > 1) | ((bad == 1) & is_simple)],
        )

    def known_of(self, name: str) -> Ints:
        """A column of each meter's state before the round."""
        return self.known[:, _INT[name]]

    def _repeats(self) -> Mask | None:
        """Which rows are repeats; None if there are none."""
        columns, boot_known, seq_known = self.columns, self.known_of("current_boot"), self.known_of("current_seq")
        goes_on = columns.boot == _shifted(columns.boot, self.starts, boot_known)
        falls = goes_on & (columns.seq <= _shifted(columns.seq, self.starts, seq_known))
        if not falls.any() or len(self.starts) >= 2**20:
            return None
        is_current = columns.boot == np.repeat(boot_known, self.lengths)
        rise = np.where(is_current, self._above_known(columns.seq), -_FAR)
        highest = _shifted(self._running_max(rise), self.starts, np.zeros(len(self.starts), np.int64))
        repeats: Mask = is_current & (rise <= np.maximum(highest, 0))
        return repeats

    def _judge_repeats(self, is_repeat: Mask, chain: "_Chain") -> tuple[Mask, Mask]:
        """The repeats that are certain duplicates (at the high water, or below it in no hole, not below the floor and
        not observed later), and those that are equivocations.
        """
        columns, at = self.columns, np.arange(len(self.left))
        last = np.maximum.accumulate(np.where(is_repeat, -1, at))
        is_first = last < np.repeat(self.starts, self.lengths)

        def high_water(name: str, column: Ints) -> Ints:
            return np.where(is_first, np.repeat(self.known_of(f"current_{name}"), self.lengths), column[last])

        hole_ends = np.full(len(self.left), -_FAR)
        hole_ends[chain.rows] = np.where(chain.step > 1, self._above_known(columns.seq)[chain.rows] - 1, -_FAR)
        holes = self.state.meters.holes
        known_ends = np.array([(holes[meter][0] or [NONE])[-1] for meter in self.meters.tolist()], np.int64)
        is_clear = self._above_known(columns.seq) > self._running_max(hole_ends)
        is_clear &= columns.seq > np.repeat(known_ends, self.lengths)
        is_clear &= columns.seq >= np.repeat(self.known_of("current_floor"), self.lengths)
        is_equal, has_session = np.ones(len(self.left), np.bool_), columns.started_at != NONE
        for name in ("observed_at", "kind", "value", "marks"):
            column: Ints = getattr(columns, name)
            is_equal &= column == high_water(name, column)
        started_at = high_water("session_started_at", columns.started_at)
        is_equal &= columns.started_at == started_at
        seq = high_water("seq", columns.seq)
        is_under = (columns.seq < seq) & (columns.observed_at <= high_water("observed_at", columns.observed_at))
        sure = is_repeat & self.is_known
        is_same = (columns.seq == seq) & is_equal & ~has_session  # Sessions' names are not compared here.
        return sure & ((is_under & is_clear) | is_same), sure & (columns.seq == seq) & ~is_equal

    def _above_known(self, seq: Ints) -> Ints:
        above: Ints = np.clip(seq - np.repeat(self.known_of("current_seq"), self.lengths), -_FAR, _FAR)
        return above

    def _running_max(self, values: Ints) -> Ints:
        """The running maximum within each meter; values must lie within ±_FAR."""
        base = np.repeat(np.arange(len(self.starts)) * (2 * _FAR + 1), self.lengths)
        highest: Ints = np.maximum.accumulate(values + base) - base
        return highest


class _Chain:
    """The rows of a round that are not repeats (`rows`, their indices in it): each is judged by the one before it."""

    def __init__(self, around: Round, rows: Ints) -> None:
        self.around, self.rows = around, rows
        whole = len(rows) == len(around.left)
        self.columns = around.columns if whole else around.columns.take(rows)
        self.meter = self.columns.meter
        self.starts = np.flatnonzero(np.r_[True, self.meter[1:] != self.meter[:-1]][: len(rows)])
        group = np.repeat(np.arange(len(around.starts)), around.lengths)[rows[self.starts]]
        self.meters, self.known = around.meters[group], around.known[group]
        self._judge(around.may_be_simple[rows])

    def _judge(self, may_be_simple: Mask) -> None:
        """Sets `usage`, `step` (in numbers), `spare_ms` (time left over) and `is_simple`, given that all rows before
        are.
        """
        columns, starts, kind = self.columns, self.starts, self.columns.kind
        boot, seq, observed_at, value = columns.boot, columns.seq, columns.observed_at, columns.value
        first_kind = kind[starts]
        previous_ms = np.where(first_kind == REGISTER, self._of("baseline_observed_at"), self._of("quantity_at"))
        elapsed_ms = observed_at - _shifted(observed_at, starts, previous_ms)
        rise = value - _shifted(value, starts, self._of("baseline_value"))
        self.usage = np.where(kind == REGISTER, rise, np.where(kind == QUANTITY, value, 0))
        capacity = self.around.state.facts.column("capacity_per_hour")[self.meter]
        needed_ms = -(-np.clip(self.usage, 0, USAGE_MAX) * _TIMES // (_PARTS * capacity))
        self.spare_ms = np.where(kind == LEVEL, 0, np.minimum(elapsed_ms, ELAPSED_MAX_MS) - needed_ms)
        before = _shifted(seq, starts, self._of("current_seq"))
        self.step = seq - before
        # The first reading of a boot skips no numbers: it is left to the plain loop, unless it is number 0.
        simple = (self.step == 1) | ((self.step > 1) & (self.step <= SEQ_STEP_MAX) & (before != NONE))
        simple &= may_be_simple & (boot == _shifted(boot, starts, self._of("current_boot")))
        simple &= (self.usage >= 0) & (self.usage <= USAGE_MAX)
        simple &= (self.spare_ms >= 0) & ((elapsed_ms >= 0) | (kind == LEVEL))
        simple[starts] &= self._can_begin(first_kind)
        self.is_simple: Mask = simple

    def _can_begin(self, kind: Ints) -> Mask:
        """Whether the first row of each meter has a value to continue from."""
        boot, seq = self.columns.boot[self.starts], self.columns.seq[self.starts]
        base_boot = self._of("baseline_boot")
        is_after = (boot > base_boot) | ((boot == base_boot) & (seq >= self._of("baseline_seq")))
        can_continue = (self._of("baseline_value") != NONE) & (self._of("suspect_value") == NONE) & is_after
        can_begin: Mask = np.where(kind == REGISTER, can_continue, (kind == LEVEL) | (self._of("quantity_at") != NONE))
        return can_begin

    def move(self, taken: Ints) -> None:
        """Moves each meter's state to its last row taken; numbers left out become holes."""
        if not len(taken):
            return
        columns, ints = self.columns, self.around.state.meters.ints
        lasts = np.flatnonzero(np.r_[self.meter[taken[1:]] != self.meter[taken[:-1]], True])
        spare_ms = np.add.reduceat(self.spare_ms[taken], np.r_[0, lasts[:-1] + 1])
        last = taken[lasts]
        meters, kind = self.meter[last], columns.kind[last]
        shown = (columns.seq, columns.observed_at, columns.kind, columns.value, columns.started_at, columns.marks)
        has_session = (columns.started_at[last] != NONE) | (ints[meters, _INT["current_session_started_at"]] != NONE)
        for column, values in zip(_CONTENT, shown, strict=True):
            ints[meters, column] = values[last]
        slack_ms = ints[meters, _INT["slack_ms"]]
        ints[meters, _INT["slack_ms"]] = np.where(kind == LEVEL, slack_ms, np.minimum(SLACK_MS, slack_ms + spare_ms))
        at = last[kind == REGISTER]
        standing = (columns.boot, columns.seq, columns.observed_at, columns.value)
        for column, values in zip(_BASELINE, standing, strict=True):
            ints[self.meter[at], column] = values[at]
        at = last[kind == QUANTITY]
        ints[self.meter[at], _INT["quantity_at"]] = columns.observed_at[at]
        texts = self.around.state.meters.texts
        for row in last[has_session].tolist():
            meter = int(self.meter[row])
            texts[meter] = columns.session(row), texts[meter][1]
        self._leave_holes(taken[self.step[taken] > 1])
        self.around.state.meters.touched.update(meters.tolist())

    def _leave_holes(self, rows: Ints) -> None:
        meters = self.around.state.meters
        for meter, seq, step in zip(
            self.meter[rows].tolist(), self.columns.seq[rows].tolist(), self.step[rows].tolist(), strict=True
        ):
            holes = meters.holes[meter][0]
            holes += (seq - step + 1, seq - 1)
            if len(holes) > 2 * HOLES_MAX:
                meters.ints[meter, _INT["current_floor"]] = holes[1] + 1
                del holes[:2]

    def _of(self, name: str) -> Ints:
        return self.known[:, _INT[name]]


def _shifted(column: Ints, starts: Ints, first: Ints) -> Ints:
    """The value of the previous row, or `first` where a meter's rows start."""
    before = np.empty_like(column)
    before[1:] = column[:-1]
    before[starts] = first
    return before
