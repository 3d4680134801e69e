"""What all control records have in common: decoding, operators' signatures, and their place (rules 4, 22 and 23)."""

from typing import Any, Literal, TypeVar

from schemas.canonical import document_digest
from schemas.order import GoodsReceived, OrderCancelled, OrderInvoiced
from schemas.payment import PaymentReceived
from schemas.reading import Correction
from schemas.registration import Registration
from schemas.reject import Reason
from streams.core.machines import Machine
from streams.core.murmur2 import partition_of
from streams.core.records import LogRecord, decode_control, media_type
from streams.core.state import State

Control = TypeVar("Control", Registration, Correction, GoodsReceived, OrderInvoiced, OrderCancelled, PaymentReceived)

Outcome = Reason | Literal["duplicate"] | None
"""Why an entry changes nothing, or None for one that counts."""


def decode(record: LogRecord, struct: type[Control]) -> tuple[Control, dict[str, Any]] | Reason:
    """The record and the plain object that it was decoded from, or the reason why it is refused."""
    return decode_control(record.value, media_type(record), struct)


def is_by_operator(state: State, record: LogRecord) -> bool:
    """Whether one of the ruleset's operators signed it; true where the ruleset names none."""
    operators = state.ruleset.operators
    return not operators or state.signatures.account_of(record) in operators


def is_in_place(state: State, record: LogRecord, route: str) -> bool:
    """The record's key is the machine's route, and murmur2 puts that into this partition (rule 23)."""
    key = route.encode()
    return record.key == key and partition_of(key, state.log.partitions) == state.partition


def opened(
    state: State, record: LogRecord, struct: type[Control], *, by_operator: bool
) -> tuple[Control, dict[str, Any], Machine] | Reason:
    """A record about a registered machine, as `decode` returns it, and the machine; or the first reason of rule 4.

    With `by_operator` one of the ruleset's operators must have signed it.
    """
    decoded = decode(record, struct)
    if not isinstance(decoded, tuple):
        return decoded
    if by_operator and not is_by_operator(state, record):
        return "bad_signature"
    control, plain = decoded
    machine = state.machines.get(control.machine)
    if machine is None:
        return "unknown_machine"
    return (control, plain, machine) if is_in_place(state, record, machine.route) else "wrong_partition"


def content_digest(plain: dict[str, Any], absent: dict[str, object] | None = None) -> str:
    """What makes two records equal, in hex. A field with the value that `absent` states counts as left out (rule 8)."""
    kept = {name: part for name, part in plain.items() if (absent or {}).get(name, _NEVER) != part}
    return document_digest("control 2", kept).hex()


_NEVER = object()
