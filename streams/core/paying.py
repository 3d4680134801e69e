"""Payments that customers made before a session (rule 35)."""

from msgspec import structs

from schemas.payment import AcceptedPayment, PaymentReceived
from schemas.units import COUNT_MAX
from streams.core.control import Outcome, content_digest, opened
from streams.core.prepaid import OPEN_MAX, TERM_MAX_MS, PrepaidSession, returned
from streams.core.records import LogRecord
from streams.core.state import State


def pay(state: State, record: LogRecord) -> Outcome:
    """Judges a `payment.received` record: an accepted one opens its session, is added to it, or is returned."""
    found = opened(state, record, PaymentReceived, by_operator=True)
    if not isinstance(found, tuple):
        return found
    payment, plain, machine = found
    digest = content_digest(plain)
    rare = machine.rare
    if payment.version == rare.payment_version and digest == rare.payment_digest:
        return "duplicate"
    if payment.version != rare.payment_version + 1:
        return "stale_version"
    if (payment.block, payment.log_index) <= rare.payment_place:
        return "payment_reused"
    rare = machine.change_rare()
    rare.payment_version, rare.payment_digest = payment.version, digest
    rare.payment_place = payment.block, payment.log_index
    state.touch(machine)
    state.paid.append(AcceptedPayment(record.offset, payment))
    session = _paid(state, payment)
    if session is not None:
        state.put_session(payment.machine, payment.session, session)
    else:
        extras = state.add_to_window(state.now_key(payment.machine), record.offset)
        extras.statements.append(returned(payment.session, payment.payer, payment.amount))
    return None


def _paid(state: State, payment: PaymentReceived) -> PrepaidSession | None:
    """The session as it is once paid for; None where the payment goes back."""
    session = state.session_of(payment.machine, payment.session)
    if session is None:
        is_in_term = state.now_ms < payment.valid_until <= state.now_ms + TERM_MAX_MS
        is_room = state.open_sessions(payment.machine) < OPEN_MAX
        return PrepaidSession(payment.payer, payment.valid_until, payment.amount) if is_in_term and is_room else None
    is_same = (session.payer, session.valid_until) == (payment.payer, payment.valid_until)
    paid = session.paid + payment.amount
    return structs.replace(session, paid=paid) if is_same and paid <= COUNT_MAX else None
