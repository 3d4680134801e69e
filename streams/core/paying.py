"""Payments that customers made before a session (rule 35)."""

from msgspec import structs

from schemas.payment import PaymentReceived
from schemas.units import COUNT_MAX
from streams.core.control import Outcome, content_digest, decode, find_machine, is_by_operator
from streams.core.machines import Machine
from streams.core.prepaid import OPEN_MAX, TERM_MAX_MS, PrepaidSession, returned
from streams.core.records import LogRecord
from streams.core.state import State


def pay(state: State, record: LogRecord) -> Outcome:
    """Judges a `payment.received` record: an accepted one opens its session, is added to it, or is returned."""
    decoded = decode(record, PaymentReceived)
    if not isinstance(decoded, tuple):
        return decoded
    if not is_by_operator(state, record):
        return "bad_signature"
    payment, plain = decoded
    machine = find_machine(state, record, payment.machine)
    if not isinstance(machine, Machine):
        return machine
    digest = content_digest(plain)
    if payment.version == machine.payment_version and digest == machine.payment_digest:
        return "duplicate"
    if payment.version != machine.payment_version + 1:
        return "stale_version"
    if (payment.block, payment.log_index) <= machine.payment_place:
        return "payment_reused"
    machine.payment_version, machine.payment_digest = payment.version, digest
    machine.payment_place = payment.block, payment.log_index
    state.touch(machine)
    session = _paid(state, payment)
    if session is not None:
        state.put_session(payment.machine, payment.session, session)
    else:
        window = state.window_now(payment.machine)
        window.note_offset(record.offset)
        window.statements.append(returned(payment.session, payment.payer, payment.amount))
    return None


def _paid(state: State, payment: PaymentReceived) -> PrepaidSession | None:
    """The session as it is once paid for; None where the payment goes back."""
    session = state.session_of(payment.machine, payment.session)
    if session is None:
        is_in_term = state.now_ms < payment.valid_until <= state.now_ms + TERM_MAX_MS
        is_room = len(state.sessions.get(payment.machine, ())) < OPEN_MAX
        return PrepaidSession(payment.payer, payment.valid_until, payment.amount) if is_in_term and is_room else None
    is_same = (session.payer, session.valid_until) == (payment.payer, payment.valid_until)
    paid = session.paid + payment.amount
    return structs.replace(session, paid=paid) if is_same and paid <= COUNT_MAX else None
