"""The one step that decides money: a pure function of the state and the records, defined by a plain loop.

    accepted + duplicate + rejected = entries

The rules are numbered as in RULES.md. Nothing here looks at a clock, at how records were cut into slices, or at the
order of a dictionary.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct

from schemas.manifest import Counts
from schemas.reject import WHOLE_RECORD, Reject, RejectedRecord
from schemas.window import Window
from streams.core import stream_time
from streams.core.control import correct, register
from streams.core.judge import Outcome, judge_row
from streams.core.open_window import seal, version_of
from streams.core.records import IS_OTHER, LogRecord, decode_readings, kinds_of, media_type, record_type
from streams.core.runs import RunResult, judge_run
from streams.core.state import State
from streams.core.trust import signature_of

RUN_MIN = 64
"""For fewer rows, columns cost more than they save."""

ROW_BYTES = 100
"""About the size of a row."""


class Advanced(Struct, frozen=True, kw_only=True):
    """The result of a slice.

    `consumed` records are done. At a cut `cut` is the number of the epoch that just ended and `records[consumed]` is
    the record that ended it: pass it again, as the first of the next slice.
    """

    consumed: int
    windows: list[Window]
    rejects: list[Reject]
    rejected: list[RejectedRecord]
    counts: Counts
    cut: int | None


def advance(state: State, records: Sequence[LogRecord]) -> Advanced:
    """Takes records in their order up to the next cut. Changes `state` in place.

    For each record: (1) its timestamp moves stream time; (2) windows seal, and the epoch may end; (3) its entries are
    judged in order. Raises InvariantBroken if a sum of usage leaves 64 bits: the process must stop.

    Defined by `advance_plainly`; this returns the same with fewer calls.
    """
    return advance_in_runs(state, records, Tally(), RUN_MIN)


def advance_plainly(state: State, records: Sequence[LogRecord]) -> Advanced:
    """The definition of `advance`: a loop over records, and in each over its rows."""
    tally = Tally()
    for place, record in enumerate(records):
        state.observe(record.timestamp)  # (1)
        seal_windows(state, tally, state.earliest_open_ms)  # (2)
        if state.is_epoch_over:
            return tally.advanced(place, state.end_epoch())
        judge_record(state, record, tally)  # (3)
    return tally.advanced(len(records), None)


def advance_in_runs(state: State, records: Sequence[LogRecord], tally: "Tally", run_min: int) -> Advanced:
    """The same, with runs of readings judged in columns. Runs shorter than `run_min` rows go record by record.

    A run ends before the next record that isn't a plain reading record, and before the next whose timestamp moves the
    earliest open window: windows seal only there.
    """
    kinds = kinds_of(records)
    others = [place for place, kind in enumerate(kinds) if kind == IS_OTHER] if any(kinds) else []
    now_ms = stream_time.running(state.stream_time_ms, [record.timestamp for record in records])
    place = 0
    while place < len(records):
        state.observe(int(now_ms[place]))  # (1)
        seal_windows(state, tally, state.earliest_open_ms)  # (2)
        if state.is_epoch_over:
            return tally.advanced(place, state.end_epoch())
        next_seal_ms = state.earliest_open_ms + state.log.window_ms + state.ruleset.grace_ms
        next_other = bisect_left(others, place)
        end = min(int(np.searchsorted(now_ms, next_seal_ms)), *others[next_other : next_other + 1], len(records))
        end = max(end, place + 1)
        run = records[place:end]
        if not is_long(run, run_min):  # (3)
            for record in run:
                state.observe(record.timestamp)
                judge_record(state, record, tally)
        elif kinds[place] == IS_OTHER:
            judge_record(state, records[place], tally)
        else:
            tally.add(
                records[place:end], judge_run(state, records[place:end], kinds[place:end], now_ms[place:end], run_min)
            )
        place = end
    return tally.advanced(len(records), None)


def is_long(run: Sequence[LogRecord], run_min: int) -> bool:
    """Whether a run may hold `run_min` rows: by its records or, since one record can hold many rows, by its bytes."""
    return len(run) >= run_min or sum(len(record.value or b"") for record in run) >= run_min * ROW_BYTES


@dataclass(slots=True)
class Tally:
    """The result of a slice so far."""

    windows: list[Window] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    accepted: int = 0
    duplicate: int = 0
    in_columns: int = 0
    """How many of the accepted rows were judged in columns."""

    def note(self, record: LogRecord, row: int, outcome: Outcome) -> None:
        """Counts one entry; a refused one is kept with its reason, its record once however many rows were refused."""
        if outcome is None:
            self.accepted += 1
        elif outcome == "duplicate":
            self.duplicate += 1
        else:
            self.rejects.append(Reject(record.offset, row, outcome))
            if not self.rejected or self.rejected[-1].offset != record.offset:
                self.rejected.append(RejectedRecord.of(record.offset, record.timestamp, record.key, record.value))

    def add(self, records: Sequence[LogRecord], run: RunResult) -> None:
        """Adds the result of a run of these records."""
        self.accepted += run.accepted
        self.duplicate += run.duplicate
        self.in_columns += run.in_columns
        for place, row, reason in run.refused:
            self.note(records[place], row, reason)

    def advanced(self, consumed: int, cut: int | None) -> Advanced:
        """The result of the slice."""
        entries = self.accepted + self.duplicate + len(self.rejects)
        return Advanced(
            consumed=consumed,
            windows=self.windows,
            rejects=self.rejects,
            rejected=self.rejected,
            counts=Counts(entries, self.accepted, self.duplicate, len(self.rejects)),
            cut=cut,
        )


def seal_windows(state: State, tally: Tally, before_ms: int) -> None:
    """Rules 5, 6 and 21: windows with end + grace <= stream time seal, those of later epochs only after the cut."""
    for key, window in state.take_windows(before_ms):
        machine = state.machines[key[1]]
        version = version_of(machine, key)
        sealed = seal(state.log, machine, version, key, window, state.carry_of(machine, version))
        state.move_carry(machine, version, sealed.carry_out)
        tally.windows.append(sealed)


def judge_record(state: State, record: LogRecord, tally: Tally) -> None:
    """Rule 1: a record is one entry or many; its type is read first."""
    match record_type(record):
        case "reading":
            judge_readings(state, record, tally)
        case "machine.registered":
            tally.note(record, WHOLE_RECORD, register(state, record))
        case "usage.corrected":
            tally.note(record, WHOLE_RECORD, correct(state, record))
        case "heartbeat":
            tally.note(record, WHOLE_RECORD, None)
        case _:
            tally.note(record, WHOLE_RECORD, "unknown_type")


def judge_readings(state: State, record: LogRecord, tally: Tally) -> None:
    """Rule 2: rows are judged one by one; a malformed row does not affect its neighbours."""
    rows = decode_readings(record.value, media_type(record))
    if isinstance(rows, str):
        tally.note(record, WHOLE_RECORD, rows)
        return
    signature = signature_of(state.log.log_id, record)
    for place, row in enumerate(rows):
        tally.note(record, place, "malformed" if row is None else judge_row(state, record, signature, row))
