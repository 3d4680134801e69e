"""Corrections of operators: credit and debit notes (rule 25)."""

from msgspec import UNSET, structs

from schemas.reading import Correction
from schemas.reject import Reason
from schemas.units import CARRY_BASE
from schemas.window import Due
from streams.core.control import Outcome, content_digest, opened
from streams.core.machines import Machine, Version
from streams.core.open_window import Billed, LineKey, can_bill, worth
from streams.core.plausible_usage import correction_limit
from streams.core.prepaid import PrepaidSession
from streams.core.records import LogRecord
from streams.core.state import State


def correct(state: State, record: LogRecord) -> Outcome:
    """Judges a `usage.corrected` record and adds what it says if it is the machine's next correction."""
    found = opened(state, record, Correction, by_operator=True)
    if not isinstance(found, tuple):
        return found
    correction, plain, machine = found
    digest = content_digest(plain, {"fees": 0})
    rare = machine.rare
    if correction.version == rare.correction_version and digest == rare.correction_digest:
        return "duplicate"
    if correction.version != rare.correction_version + 1:
        return "stale_version"
    billed = _judge(state, machine, correction)
    if isinstance(billed, str):
        return billed
    session = None if correction.session is UNSET else state.session_of(machine.machine, correction.session)
    key = state.window_key(machine.machine, correction.moment_ms)
    if not can_bill(state.usage_at(key), billed) or (session is not None and not session.can_use(worth(billed))):
        return "too_high"
    rare = machine.change_rare()
    rare.correction_version, rare.correction_digest = correction.version, digest
    state.touch(machine)
    _apply(state, machine, correction, billed, session, record.offset)
    return None


def priced_by(machine: Machine, correction: Correction) -> Version:
    """Rule 19: the version of the session that it names, else of its moment."""
    started_at = correction.session_started_at
    return machine.version_at(correction.moment_ms if started_at is UNSET else started_at)


def _judge(state: State, machine: Machine, correction: Correction) -> Billed | Reason:
    """The last reasons of rule 4, or what it adds to lines. It passes where readings are retired (24)."""
    if correction.observed_at > state.now_ms + state.ruleset.skew_ms:
        return "from_the_future"
    registered = machine.version_at(correction.moment_ms).meters.get(correction.meter)
    if registered is None:
        return "unknown_meter"
    if registered.kind == "level":
        return "wrong_kind"
    version, meter = priced_by(machine, correction), correction.meter
    billed: list[tuple[LineKey, int]] = []
    if correction.difference:
        price = version.prices.of_usage(meter, correction.moment_ms)
        billed.append((LineKey(meter, version.number, *price), correction.difference))
    if correction.fees and correction.session_started_at is not UNSET:
        fee = version.prices.of_session(meter, correction.session_started_at)
        if fee is None:
            return "no_fee"
        billed.append((LineKey(meter, version.number, *fee), correction.fees))
    if abs(correction.difference) > correction_limit(registered.capacity_per_hour):
        return "too_high"
    return billed


def _apply(
    state: State,
    machine: Machine,
    correction: Correction,
    billed: Billed,
    session: PrepaidSession | None,
    offset: int,
) -> None:
    """Adds a difference and fees, and owes what it takes to `refund_to`; baselines are unchanged."""
    key = state.window_key(machine.machine, correction.moment_ms)
    extras = state.add_to_window(key, offset, billed)
    if session is not None:  # Its own refund covers what this takes.
        used = structs.replace(session, use=session.use + worth(billed))
        state.put_session(machine.machine, str(correction.session), used)
    elif correction.refund_to is not UNSET and (micros := -worth(billed) // CARRY_BASE) > 0:
        extras.refunds.append(Due("refund", correction.refund_to, str(correction.session), micros))
