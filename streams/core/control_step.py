"""The step for control records alone, without the compiled loops: for whoever asks a log about its machines only.

(1) time moves, (2) windows seal and epochs end, (3) the record is judged: as `advance` does it
"""

from collections.abc import Callable

from schemas.order import CANCELLED, INVOICED, RECEIVED
from schemas.payment import PAID
from schemas.reading import CORRECTED, REGISTERED
from streams.core.control import Outcome
from streams.core.correcting import correct
from streams.core.kernel import tables as t
from streams.core.paying import pay
from streams.core.purchasing import cancel, invoice, receive
from streams.core.records import LogRecord, is_oversized, record_type
from streams.core.registering import register
from streams.core.state import State

CONTROL: dict[str, Callable[[State, LogRecord], Outcome]] = {
    REGISTERED: register,
    CORRECTED: correct,
    RECEIVED: receive,
    INVOICED: invoice,
    CANCELLED: cancel,
    PAID: pay,
}
"""The types of records that are one entry."""


def take_control(state: State, record: LogRecord) -> Outcome:
    """Takes a state through one control record; what seals is dropped. Its type must be one of CONTROL."""
    move_time(state, record.timestamp)
    outcome = "undecodable" if is_oversized(record) else CONTROL[record_type(record)](state, record)
    state.meters.give_back()
    state.paid.clear()
    return outcome


def move_time(state: State, timestamp_ms: int) -> None:
    """Moves stream time to a timestamp (epoch ms), as a record with no entry would: windows seal, epochs end."""
    state.observe(timestamp_ms)
    _seal(state)
    while state.is_epoch_over:
        state.end_epoch()
        _seal(state)


def _seal(state: State) -> None:
    if state.store.clock[t.WINDOWS_OPEN] or state.session_of_name:
        from streams.core.sealing import seal_due

        seal_due(state)
