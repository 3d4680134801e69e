"""The one step that decides money: a pure function of the state and the records, defined by a plain loop.

    accepted + duplicate + rejected = entries

The rules are numbered as in RULES.md. Nothing here looks at a clock, at how records were cut into slices, or at the
order of a dictionary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import UNSET, Struct

from schemas.manifest import Counts
from schemas.order import Order
from schemas.payment import AcceptedPayment
from schemas.reject import WHOLE_RECORD, Reject
from schemas.window import Window
from streams.core.control import Outcome
from streams.core.control_step import CONTROL
from streams.core.evidence import proof_of
from streams.core.kernel import columns as c
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix
from streams.core.kernel.entries import Entries, EntryRecords
from streams.core.kernel.judge import (
    ALL_AFTER,
    NO_EVIDENCE,
    OWN,
    PROOF_COLUMNS,
    REGISTER_PROVEN,
    SEALS,
    SIGNED,
    TRUST_REFUSED,
    UNPROVEN,
    find_versions,
    judge_records,
)
from streams.core.kernel.judge import CONTROL as IS_CONTROL
from streams.core.kernel.readings import Readings
from streams.core.kernel.usage import IS_PROVEN
from streams.core.machines import Version
from streams.core.purchasing import Level, place_orders
from streams.core.records import LogRecord
from streams.core.refused import Refused
from streams.core.registering import Newcomers
from streams.core.sealed import Part, Sealed
from streams.core.sealing import seal_due
from streams.core.state import State
from streams.core.trust import trust_of


class Advanced(Struct, frozen=True, kw_only=True):
    """The result of a slice.

    `consumed` records are done. At a cut `cut` is the number of the epoch that just ended and `records[consumed]` is
    the record that ended it: pass it again, as the first of the next slice.
    """

    consumed: int
    sealed: Sealed
    orders: list[Order]
    payments: list[AcceptedPayment]
    refused: Refused
    counts: Counts
    cut: int | None

    @property
    def windows(self) -> list[Window]:
        """The sealed windows as objects, in sealing order: for what is rare."""
        return self.sealed.objects()

    @property
    def rejects(self) -> list[Reject]:
        """The refused entries as objects: for what is rare."""
        return self.refused.objects()


@dataclass(slots=True)
class Tally:
    """The result of a slice so far."""

    sealed: list[Part] = field(default_factory=list)
    refused: list[Matrix] = field(default_factory=list)
    accepted: int = 0
    duplicate: int = 0
    is_proven: bool = False
    """Whether the reading judged last, by `judge_record`, added what its meter signed (rule 42)."""

    def note(self, line: int, row: int, outcome: Outcome) -> None:
        """Counts one entry of the record in a line; a refused one is kept with its reason."""
        if outcome is None:
            self.accepted += 1
        elif outcome == "duplicate":
            self.duplicate += 1
        else:
            self.refused.append(np.array([[line, row, c.code_of(outcome)]], np.int64))

    def take(self, clock: Ints, refused: Matrix) -> None:
        """Adds what a loop has counted, and refused after all others."""
        self.accepted += int(clock[t.ACCEPTED_COUNT])
        self.duplicate += int(clock[t.DUPLICATE_COUNT])
        if clock[t.REFUSED_COUNT]:
            self.refused.append(refused[: clock[t.REFUSED_COUNT]].copy())

    def advanced(self, state: State, entries: Entries, consumed: int, cut: int | None) -> Advanced:
        """The result of the slice. Takes what it ordered and was paid out of the state."""
        orders, state.placed = state.placed, []
        payments, state.paid = state.paid, []
        refused = Refused(entries, self.refused)
        count = self.accepted + self.duplicate + len(refused)
        return Advanced(
            consumed=consumed,
            sealed=Sealed(state.book, self.sealed),
            orders=orders,
            payments=payments,
            refused=refused,
            counts=Counts(count, self.accepted, self.duplicate, len(refused)),
            cut=cut,
        )


def advance(state: State, records: Sequence[LogRecord]) -> Advanced:
    """Takes records in their order up to the next cut. Changes `state` in place.

    For each record: (1) its timestamp moves stream time; (2) windows seal, and the epoch may end; (3) its entries are
    judged in order. Raises InvariantBroken if an amount leaves 64 bits: the process must stop.
    """
    entries, first = entries_of(records)
    readings, tally, line, end = Readings(entries), Tally(), first, first
    while line < len(entries.records):
        state.observe(int(entries.records[line, c.TIMESTAMP]))  # (1)
        if (part := seal_due(state)) is not None:  # (2)
            tally.sealed.append(part)
        if state.is_epoch_over:
            return tally.advanced(state, entries, line - first, state.end_epoch())
        if line == end:
            end, rows = readings.read(line, state.cut_ms)
            state.store.reserve(len(rows) + 1)
            piece = Piece(state, entries, end - line, rows, readings.evidence, tally)
        line = piece.judge(line, end)  # (3)
    return tally.advanced(state, entries, line - first, None)


class Piece:
    """The records of a slice whose rows were read together."""

    def __init__(
        self, state: State, entries: Entries, count: int, rows: Matrix, evidence: Mapping[int, str], tally: Tally
    ) -> None:  # fmt: skip
        self._state, self._entries, self._rows, self._tally = state, entries, rows, tally
        self._evidence = evidence
        self._after: Ints = np.zeros(ALL_AFTER, np.int64)
        self._trust: Ints = np.empty(len(rows), np.int64)
        self._proofs: Matrix = np.empty((len(rows), PROOF_COLUMNS), np.int64)
        self._refused: Matrix = np.empty((count + len(rows), c.REFUSED_COLUMNS), np.int64)

    def judge(self, line: int, end: int) -> int:
        """Judges the records from a line on, at least that one; returns the line before which something seals."""
        trusted = NONE
        while line < end:
            line, why = self._run(line, end, trusted)
            place_orders_of(self._state)
            trusted = line if why == SIGNED else NONE
            if why == SIGNED:
                self._look_at_signatures(line)
            elif why == IS_CONTROL:
                line = self._controls(line, end)
            elif why == SEALS:
                return line
        return line

    @property
    def is_proven(self) -> bool:
        """Whether the row judged last added what its meter signed, if it was accepted."""
        return bool(self._after[IS_PROVEN])

    def _run(self, line: int, end: int, trusted: int) -> tuple[int, int]:
        state, entries, store = self._state, self._entries, self._state.store
        state.meters.give_back()
        found = judge_records(
            store.tables, store.texts, store.words, store.session_names, store.names, store.machine_index, store.key,
            store.window_index, store.clock, self._after, entries.buffer, entries.records, line, end, self._rows,
            self._trust, self._proofs, trusted, self._refused,
        )  # fmt: skip
        state.run_to_clock()
        self._tally.take(store.clock, self._refused)
        store.clock[[t.ACCEPTED_COUNT, t.DUPLICATE_COUNT, t.REFUSED_COUNT]] = 0
        return found

    def _look_at_signatures(self, line: int) -> None:
        """Fills in what signatures say of the rows of a record, each by the version in force at its moment: the trust
        of the key that signed the record (27), and what the meter itself signed (42).

        Versions whose content is one have the same keys.
        """
        state, entries, store = self._state, self._entries, self._state.store
        first, count = entries.records[line, [c.FIRST_ROW, c.ROWS]].tolist()
        versions: Ints = np.full(count, NONE, np.int64)
        find_versions(
            store.tables, store.names, store.machine_index, store.key, entries.buffer, self._rows, first, versions
        )
        self._trust[first : first + count], self._proofs[first : first + count] = 0, (NO_EVIDENCE, NONE)
        if entries.records[line, c.EVIDENCES]:
            self._look_at_evidence(first, versions)
        if not entries.records[line, c.IS_SIGNED]:
            return
        signature = state.signatures.of_device(entries.record(line))
        contents = np.where(versions == NONE, NONE, store.matrix(t.VERSIONS)[versions, t.VERSION_CONTENT])
        for content in np.unique(contents[contents != NONE]).tolist():
            is_same = contents == content
            trust = trust_of(signature, Version(state.book, int(versions[is_same][0])))
            self._trust[first : first + count][is_same] = TRUST_REFUSED if trust is None else trust

    def _look_at_evidence(self, first: int, versions: Ints) -> None:
        """Verifies what meters signed of the rows from `first` on, whose versions these are."""
        rows = [k for k in range(first, first + len(versions)) if k in self._evidence]
        self._proofs[rows, OWN] = UNPROVEN
        for k in rows:
            row, version = self._rows[k], int(versions[k - first])
            if version == NONE or row[c.VERDICT] != c.ACCEPTED or row[c.KIND] != c.REGISTER:
                continue
            name = c.text(self._entries.buffer, int(row[c.METER_AT]), int(row[c.METER_LEN]))
            meter = Version(self._state.book, version).meters.get(name)
            if meter is None or meter.meter_key is UNSET:
                continue
            proof = proof_of(self._evidence[k], meter.meter_key, meter.unit, int(row[c.VALUE]), int(row[c.OBSERVED_AT]))
            if proof is not None:
                self._proofs[k] = REGISTER_PROVEN, NONE if proof.begin is None else proof.begin

    def _controls(self, line: int, end: int) -> int:
        """Judges a control record, and those that follow it before something seals; returns the line after them."""
        state, records, newcomers, taken = self._state, self._entries.records, Newcomers(self._state), line
        while True:
            is_registration = records[line, c.TYPE] == c.TYPE_REGISTERED
            if is_registration:
                taken = newcomers.take(self._entries, line, end)
            if is_registration and taken > line:
                for each in range(line, taken):
                    self._tally.note(each, WHOLE_RECORD, None)
                line = taken
            else:
                record = self._entries.record(line)
                state.observe(record.timestamp)
                if is_registration:
                    outcome = newcomers.register(record)
                else:
                    newcomers.enter()
                    outcome = CONTROL[c.TYPES[int(records[line, c.TYPE])]](state, record)
                self._tally.note(line, WHOLE_RECORD, outcome)
                line += 1
            is_control = line < end and records[line, c.TYPE] > c.TYPE_HEARTBEAT and not records[line, c.REFUSED]
            if not is_control or records[line, c.TIMESTAMP] >= state.store.clock[t.NEXT_SEAL]:
                newcomers.enter()
                state.store.reserve(len(self._rows) + 1)
                return line


def judge_record(state: State, record: LogRecord, tally: Tally) -> None:
    """Judges the entries of one record, each noted before the next is looked at. Stream time must stand at it."""
    entries, _ = entries_of([record])
    readings = Readings(entries)
    _, rows = readings.read(0)
    cells = entries.records[0]
    state.store.reserve(len(rows) + 1)
    piece = Piece(state, entries, 1, rows, readings.evidence, tally)
    if cells[c.REFUSED] or cells[c.TYPE] != c.TYPE_READING:
        piece.judge(0, 1)
        if not cells[c.REFUSED] and cells[c.TYPE] == c.TYPE_HEARTBEAT:
            tally.note(0, WHOLE_RECORD, None)
    for k in range(len(rows)):
        cells[c.FIRST_ROW], cells[c.ROWS] = k, 1
        piece.judge(0, 1)
        tally.is_proven = k in readings.evidence and piece.is_proven
        if rows[k, c.VERDICT] <= c.DUPLICATE:
            tally.note(0, k, None if rows[k, c.VERDICT] == c.ACCEPTED else "duplicate")


def place_orders_of(state: State) -> None:
    """What the levels of a run order."""
    store = state.store
    count = int(store.clock[t.EVENTS_USED])
    meters = store.matrix(t.METERS)
    for meter, value, observed_at, now_ms, offset, row in store.matrix(t.EVENTS)[:count].tolist():
        machine, name = store.name(int(meters[meter, t.METER_MACHINE])), store.word_names[meters[meter, t.METER_NAME]]
        place_orders(state, Level(machine, name, value, observed_at, now_ms, offset, row))
    store.clock[t.EVENTS_USED] = 0


def entries_of(records: Sequence[LogRecord]) -> tuple[Entries, int]:
    """Records in arrays, and the line of the first."""
    lines = EntryRecords.of(records)
    return lines.alone(), lines.first
