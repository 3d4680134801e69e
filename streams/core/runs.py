"""Judges a run of reading records in columns: with exactly the result of the plain loop, without a call for each row.

In a run nothing seals, registers or is corrected. Then the order of rows matters only within a meter:

- a row reads and writes the facts of its own meter; of its machine it reads versions, which nothing here changes, and
  it may set the mark of equivocation, which is only read when a window seals or a version is registered;
- the only time it reads is the stream time of its own record, known beforehand as a running maximum; all else that
  follows from time (the epoch, its rules, the earliest open window) is the same throughout the run;
- windows only collect sums, counts, flags and the least and greatest offset, in any order. Readings add no usage below
  zero, so a sum leaves 64 bits on the way if and only if it does at the end;
- entries are counted, and refused ones are put in their order at the end.

So the rows go meter by meter. In each round every meter's leading rows that are simple (see `Round`) are taken at
once; the first that isn't goes through the plain loop's `judge_row`, and the rest waits for the next round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.reject import Reason
from schemas.window import SELF_REPORTED
from streams.core.arrow_columns import arrow_parts
from streams.core.columns import IS_RECONSTRUCTED, IS_START, Columns, Ints, Mask, Part, Refused, columns_of
from streams.core.json_columns import is_known_reading, json_part
from streams.core.json_shapes import shaped_part
from streams.core.judge import judge_row
from streams.core.meter_facts import MeterFacts
from streams.core.meters import NONE
from streams.core.open_window import flag_bit
from streams.core.records import IS_ARROW, IS_SIGNED, LogRecord
from streams.core.rounds import Round, Taken
from streams.core.state import State
from streams.core.trust import RecordSignature, trust_of

ALIKE_BYTES_MIN = 50_000
"""Below this, looking for values that are spelled alike costs more than it saves."""

ROUNDS_MAX = 12
"""After this many rounds the plain loop takes what is left."""

PAYING_PART = 8
"""A round that judges less than 1/8 of its rows doesn't pay: after two of them the plain loop takes what is left."""


@dataclass(slots=True)
class RunResult:
    """The result of a run: rows accepted (`in_columns` of them in columns), duplicates, and the refused entries in
    order.

    A refused entry is (index of the record in the run, row or WHOLE_RECORD, reason).
    """

    accepted: int = 0
    duplicate: int = 0
    in_columns: int = 0
    refused: list[Refused] = field(default_factory=list)


def judge_run(
    state: State, records: Sequence[LogRecord], kinds: Sequence[int], now_ms: Ints, rows_min: int
) -> RunResult:
    """Judges reading records, JSON or Arrow, that belong to one run.

    `now_ms` is the stream time at each of them (epoch ms). With fewer than `rows_min` rows left, columns don't pay.
    """
    run = _RunInColumns(state, records, kinds, now_ms)
    columns = run.decode(kinds)
    if columns is not None and len(columns):
        run.judge(columns, rows_min)
    state.observe(int(now_ms[-1]))
    run.result.refused.sort()
    return run.result


class _RunInColumns:
    """One run while it is judged."""

    def __init__(self, state: State, records: Sequence[LogRecord], kinds: Sequence[int], now_ms: Ints) -> None:
        self.state = state
        self.records = records
        self.now_ms = now_ms
        self.result = RunResult()
        self.signatures: dict[int, RecordSignature] = {}
        """By the record's index in the run; records without a signature are absent."""
        if any(kinds) and max(kinds) >= IS_SIGNED:
            signed = (record for record, kind in enumerate(kinds) if kind & IS_SIGNED)
            self.signatures = {record: RecordSignature(state.log.log_id, records[record]) for record in signed}

    def decode(self, kinds: Sequence[int]) -> Columns | None:
        """The well-formed rows, None if there are none; entries refused by decoding are noted."""
        index_of = self.state.meters.index_of
        refused = self.result.refused
        arrow = [record for record, kind in enumerate(kinds) if kind & IS_ARROW] if any(kinds) else []
        json = (
            [record for record, kind in enumerate(kinds) if not kind & IS_ARROW] if arrow else range(len(self.records))
        )
        parts = arrow_parts(arrow, [self.records[record].value for record in arrow], index_of, refused)
        if json:
            parts += self._decode_json(json)
        return columns_of(parts, refused) if parts else None

    def _decode_json(self, numbers: Sequence[int]) -> list[Part]:
        """Rows that are spelled alike, then the others one by one."""
        values = [self.records[number].value or b"" for number in numbers]
        parts: list[Part] = []
        if sum(map(len, values)) >= ALIKE_BYTES_MIN:
            index = self.state.facts.name_index(self.state.meters.names).keep_up(len(values))
            part, left = shaped_part(numbers, values, index, is_known_reading)
            if part is not None:
                parts.append(part)
                numbers, values = [numbers[at] for at in left], [values[at] for at in left]
        if values:
            parts.append(json_part(numbers, values, self.state.meters.index_of, self.result.refused))
        return parts

    def judge(self, columns: Columns, rows_min: int) -> None:
        """Takes the rows meter by meter, in rounds."""
        state = self.state
        began_ms = state.stream_time_ms
        _look_up(state, columns)
        trust = self._trust(columns)
        refused = self._refused_before_identity(columns, trust)
        self._refuse(columns, np.flatnonzero(refused).tolist())
        order = np.flatnonzero(~refused) if refused.any() else np.arange(len(columns))
        order = order[_stable_order(columns.meter[order])]
        columns, trust = columns.take(order), trust[order] if trust is not None else None
        is_known = _in_stretch(state.facts, columns.meter, columns.observed_at)
        may_be_simple = is_known & self._may_be_simple(columns)
        left = np.arange(len(columns))
        taken: list[Taken] = []
        pays = True
        for _ in range(ROUNDS_MAX):
            if len(left) < max(rows_min, 1):
                break
            state.meters.give_back()
            chosen = Round(state, columns, left, is_known, may_be_simple).take()
            taken.append(chosen.taken)
            self.result.duplicate += len(chosen.duplicates)
            self._note_equivocations(columns, chosen.equivocations)
            self._judge_plainly(columns, chosen.first)
            before, left = len(left), chosen.left
            has_paid, pays = pays, before - len(left) - len(chosen.first) >= before // PAYING_PART
            if not (pays or has_paid):
                break
        self._judge_plainly(columns, left)
        state.stream_time_ms = began_ms
        if taken:
            self._place(columns, trust, taken)

    def _note_equivocations(self, columns: Columns, rows: Ints) -> None:
        """Rule 9: refused, and their machines are marked."""
        state = self.state
        for row in rows.tolist():
            machine = state.machines[columns.names(row)[0]]
            machine.is_marked = True
            state.touch(machine)
            self.result.refused.append((int(columns.record[row]), int(columns.row[row]), "equivocation"))

    def _judge_plainly(self, columns: Columns, rows: Ints) -> None:
        """Rows as the plain loop judges them, each at the stream time of its record."""
        state, records, result = self.state, self.records, self.result
        for record, row, reading in columns.readings(rows):
            state.stream_time_ms = int(self.now_ms[record])
            outcome = judge_row(state, records[record], self.signatures.get(record), reading)
            if outcome is None:
                result.accepted += 1
            elif outcome == "duplicate":
                result.duplicate += 1
            else:
                result.refused.append((record, row, outcome))

    def _refuse(self, columns: Columns, rows: Sequence[int]) -> None:
        """Notes the reason of rows that are refused before identity (rule 4)."""
        machines, skew_ms = self.state.machines, self.state.ruleset.skew_ms
        for row in rows:
            record, meter = int(columns.record[row]), int(columns.meter[row])
            observed_at = int(columns.observed_at[row])
            machine = machines.get(columns.names(row)[0])
            reason: Reason = "unknown_meter"
            if machine is None:
                reason = "unknown_machine"
            elif trust_of(self.signatures.get(record), machine.version_at(observed_at)) is None:
                reason = "bad_signature"
            elif observed_at > self.now_ms[record] + skew_ms:
                reason = "from_the_future"
            elif meter != NONE and self.state.facts.column("kind")[meter] != NONE:
                reason = "wrong_kind"
            self.result.refused.append((record, int(columns.row[row]), reason))

    def _trust(self, columns: Columns) -> Ints | None:
        """The trust of each row whose meter's facts are known, NONE for one whose signature is invalid or missing.

        None if no record is signed and no meter requires it: then all rows are SELF_REPORTED.
        """
        facts = self.state.facts
        if not self.signatures and not facts.column("needs_signature").any():
            return None
        trust = np.full(len(columns), SELF_REPORTED)
        known = np.flatnonzero(columns.meter != NONE)
        known = known[_in_stretch(facts, columns.meter[known], columns.observed_at[known])]
        meter, record = columns.meter[known], columns.record[known]
        trust[known] = np.where(facts.column("needs_signature")[meter], NONE, SELF_REPORTED)
        is_signed = np.zeros(len(self.records), np.bool_)
        is_signed[list(self.signatures)] = True
        signed = np.flatnonzero(is_signed[record])
        count = len(facts.signers)
        pairs, which = np.unique(record[signed] * count + facts.column("signers")[meter[signed]], return_inverse=True)
        found = [self.signatures[pair // count].trust_by(facts.signers[pair % count]) for pair in pairs.tolist()]
        trust[known[signed]] = np.array([NONE if given is None else given for given in found], np.int64)[which]
        return trust

    def _refused_before_identity(self, columns: Columns, trust: Ints | None) -> Mask:
        """The rows that are refused whatever their meter's state: they change nothing, and no other row depends on
        them.
        """
        meter, observed_at, facts = columns.meter, columns.observed_at, self.state.facts
        unknown: Mask = meter == NONE
        future = observed_at > self.now_ms[columns.record] + self.state.ruleset.skew_ms
        known = np.where(unknown, 0, meter)
        other_kind: Mask = _in_stretch(facts, known, observed_at) & (facts.column("kind")[known] != columns.kind)
        refused: Mask = unknown | future | other_kind
        return refused if trust is None else refused | (trust == NONE)

    def _may_be_simple(self, columns: Columns) -> Mask:
        """The part of "simple" that a row decides by itself: its meter is not retired, and a window can take it."""
        meter, observed_at, facts = columns.meter, columns.observed_at, self.state.facts
        simple: Mask = facts.column("is_retired")[meter] == 0
        if observed_at.min(initial=self.state.earliest_open_ms) < self.state.earliest_open_ms:  # Rule 5.
            horizon_ms = self.now_ms[columns.record] - self.state.ruleset.horizon_ms
            simple &= (observed_at >= self.state.earliest_open_ms) | (observed_at >= horizon_ms)
        started_at = columns.started_at
        if started_at.max(initial=NONE) != NONE:  # Rule 19: the version of the session's start is the same one.
            is_same = facts.column("version_from_ms")[meter] <= started_at
            is_same &= started_at < facts.column("version_to_ms")[meter]
            simple &= is_same | (started_at == NONE)
            simple &= (columns.marks & IS_START == 0) | (facts.column("has_session_price")[meter] == 0)
        return simple

    def _place(self, columns: Columns, trust: Ints | None, taken: Sequence[Taken]) -> None:
        """Adds the rows taken to their windows, summed by meter and window."""
        rows, usage, skipped = (np.concatenate(part) for part in zip(*taken, strict=True))
        self.result.accepted += len(rows)
        self.result.in_columns += len(rows)
        if not len(rows):
            return
        state, facts = self.state, self.state.facts
        meter, observed_at = columns.meter[rows], columns.observed_at[rows]
        start_ms = observed_at - observed_at % state.log.window_ms
        if len(taken) > 1 or (np.diff(start_ms)[meter[1:] == meter[:-1]] < 0).any():
            order = np.lexsort((start_ms, meter))
            meter, start_ms, usage, rows, skipped = (part[order] for part in (meter, start_ms, usage, rows, skipped))
        firsts = np.flatnonzero(np.r_[True, (meter[1:] != meter[:-1]) | (start_ms[1:] != start_ms[:-1])])
        if int(usage.max()) * len(usage) >= 2**62:
            usage = usage.astype(object)  # Exact in any size; OpenWindow checks the sum's bounds.
        offset, is_reconstructed = self._offsets()[columns.record[rows]], columns.marks[rows] & IS_RECONSTRUCTED != 0
        meter = meter[firsts]
        names = state.meters.names
        at = meter.tolist()
        joined = zip(
            state.windows_at([names[meter][0] for meter in at], start_ms[firsts].tolist()),
            np.diff(np.r_[firsts, len(rows)]).tolist(),
            zip(
                np.minimum.reduceat(offset, firsts).tolist(), np.maximum.reduceat(offset, firsts).tolist(), strict=True
            ),
            np.add.reduceat(skipped, firsts).tolist(),
            np.where(np.logical_or.reduceat(is_reconstructed, firsts), flag_bit("reconstructed"), 0).tolist(),
            [SELF_REPORTED] * len(at) if trust is None else np.minimum.reduceat(trust[rows], firsts).tolist(),
            [facts.lines[meter] for meter in at],
            np.add.reduceat(usage, firsts).tolist(),
            strict=True,
        )
        for window, *of_window in joined:
            window.join(*of_window)

    def _offsets(self) -> Ints:
        """The records' offsets. They ascend, mostly without a gap."""
        first, last = self.records[0].offset, self.records[-1].offset
        if last - first == len(self.records) - 1:
            return np.arange(first, last + 1)
        return np.array([record.offset for record in self.records], np.int64)


def _look_up(state: State, columns: Columns) -> None:
    """Looks up the facts of meters most of whose rows lie outside the known span, at the moment of one of these
    rows.
    """
    facts, size = state.facts, len(state.meters.names)
    facts.grow(max(size, 1))
    rows = np.flatnonzero(columns.meter != NONE)
    meter, observed_at = columns.meter[rows], columns.observed_at[rows]
    outside = ~_in_stretch(facts, meter, observed_at)
    if not outside.any():
        return
    wanted = np.flatnonzero(2 * np.bincount(meter[outside], minlength=size) > np.bincount(meter, minlength=size))
    moments = np.zeros(size, np.int64)
    moments[meter[outside]] = observed_at[outside]
    facts.look_up(state.meters.names, state.machines, wanted.tolist(), moments[wanted].tolist())


def _in_stretch(facts: MeterFacts, meter: Ints, observed_at: Ints) -> Mask:
    inside: Mask = (facts.column("from_ms")[meter] <= observed_at) & (observed_at < facts.column("to_ms")[meter])
    return inside


def _stable_order(meter: Ints) -> Ints:
    """The order that sorts by meter and keeps the order of the log within each."""
    if meter.max(initial=0) < 2**16:
        return np.argsort(meter.astype(np.uint16), kind="stable")
    return np.argsort(meter, kind="stable")
