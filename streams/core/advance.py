"""The one step that decides money: a pure function of the state and the records, defined by a plain loop.

    accepted + duplicate + rejected = entries

The rules are numbered as in RULES.md. Nothing here looks at a clock, at how records were cut into slices, or at the
order of a dictionary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from schemas.manifest import Counts
from schemas.order import CANCELLED, INVOICED, RECEIVED, Order
from schemas.payment import PAID
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED
from schemas.reject import WHOLE_RECORD, Reject, RejectedRecord
from schemas.window import Window
from streams.core.control import Outcome
from streams.core.correcting import correct
from streams.core.judge import judge_row
from streams.core.open_window import seal, version_of
from streams.core.paying import pay
from streams.core.purchasing import cancel, invoice, receive
from streams.core.records import LogRecord, decode_readings, is_oversized, media_type, record_type
from streams.core.registering import register
from streams.core.state import State


class Advanced(Struct, frozen=True, kw_only=True):
    """The result of a slice.

    `consumed` records are done. At a cut `cut` is the number of the epoch that just ended and `records[consumed]` is
    the record that ended it: pass it again, as the first of the next slice.
    """

    consumed: int
    windows: list[Window]
    orders: list[Order]
    rejects: list[Reject]
    rejected: list[RejectedRecord]
    counts: Counts
    cut: int | None


def advance(state: State, records: Sequence[LogRecord]) -> Advanced:
    """Takes records in their order up to the next cut. Changes `state` in place.

    For each record: (1) its timestamp moves stream time; (2) windows seal, and the epoch may end; (3) its entries are
    judged in order. Raises InvariantBroken if an amount leaves 64 bits: the process must stop.
    """
    tally = Tally()
    for place, record in enumerate(records):
        state.observe(record.timestamp)  # (1)
        seal_windows(state, tally, state.earliest_open_ms)  # (2)
        if state.is_epoch_over:
            return tally.advanced(state, place, state.end_epoch())
        judge_record(state, record, tally)  # (3)
    return tally.advanced(state, len(records), None)


@dataclass(slots=True)
class Tally:
    """The result of a slice so far."""

    windows: list[Window] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    rejected: list[RejectedRecord] = field(default_factory=list)
    accepted: int = 0
    duplicate: int = 0

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

    def advanced(self, state: State, consumed: int, cut: int | None) -> Advanced:
        """The result of the slice. Takes the orders that it placed out of the state."""
        orders, state.placed = state.placed, []
        entries = self.accepted + self.duplicate + len(self.rejects)
        return Advanced(
            consumed=consumed,
            windows=self.windows,
            orders=orders,
            rejects=self.rejects,
            rejected=self.rejected,
            counts=Counts(entries, self.accepted, self.duplicate, len(self.rejects)),
            cut=cut,
        )


def seal_windows(state: State, tally: Tally, before_ms: int) -> None:
    """Rules 5, 6 and 21: windows with end + grace <= stream time seal, those of later epochs only after the cut."""
    for key, window, closed in state.take_windows(before_ms):
        machine = state.machines[key[1]]
        version = version_of(machine, key)
        sealed = seal(state.log, machine, version, key, window, state.carry_of(machine, version), closed)
        state.move_carry(machine, version, sealed.carry_out)
        tally.windows.append(sealed)


CONTROL: dict[str, Callable[[State, LogRecord], Outcome]] = {
    REGISTERED: register,
    CORRECTED: correct,
    RECEIVED: receive,
    INVOICED: invoice,
    CANCELLED: cancel,
    PAID: pay,
    HEARTBEAT: lambda state, record: None,
}
"""The types of records that are one entry."""


def judge_record(state: State, record: LogRecord, tally: Tally) -> None:
    """Rule 1: a record is one entry or many; its type is read first."""
    if is_oversized(record):
        tally.note(record, WHOLE_RECORD, "undecodable")
        return
    kind = record_type(record)
    if kind == READING:
        judge_readings(state, record, tally)
    elif kind in CONTROL:
        tally.note(record, WHOLE_RECORD, CONTROL[kind](state, record))
    else:
        tally.note(record, WHOLE_RECORD, "unknown_type")


def judge_readings(state: State, record: LogRecord, tally: Tally) -> None:
    """Rule 2: rows are judged one by one; a malformed row does not affect its neighbours."""
    rows = decode_readings(record.value, media_type(record))
    if isinstance(rows, str):
        tally.note(record, WHOLE_RECORD, rows)
        return
    signature = state.signatures.of_device(record)
    for place, row in enumerate(rows):
        tally.note(record, place, "malformed" if row is None else judge_row(state, record, place, signature, row))
