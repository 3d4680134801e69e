"""The verdict on one row of a reading record, by every rule that applies to it."""

from typing import NamedTuple

from msgspec import UNSET, structs

from schemas.reading import Reading
from schemas.registration import Meter
from schemas.window import Flag
from streams.core.control import Outcome
from streams.core.identity import judge_identity
from streams.core.machines import Machine, Version
from streams.core.meters import NONE, MeterState, Starts
from streams.core.open_window import Billed, LineKey, can_bill, worth
from streams.core.plausible_usage import Usage, judge_usage
from streams.core.prepaid import PrepaidSession
from streams.core.purchasing import place_orders
from streams.core.rating import Price
from streams.core.records import LogRecord
from streams.core.starts import begins, has_started, is_stale, started
from streams.core.state import State
from streams.core.trust import Trusting, trust_of


class Bill(NamedTuple):
    """What an accepted row adds to its window's lines, and how it leaves its meter's starts.

    `use` is the part that counts for a prepaid session.
    """

    usage: Billed
    fee: Billed
    use: Billed
    flags: tuple[Flag, ...]
    starts: Starts


def moment_of(row: Reading) -> int:
    """Rule 5a: what a meter shows was used before it was read (epoch ms); a session's first row is at its start."""
    return row.observed_at if row.session_start else max(0, row.observed_at - 1)


def judge_row(state: State, record: LogRecord, place: int, signature: Trusting | None, row: Reading) -> Outcome:
    """Rule 4: the first reason that applies. Once identity has passed, the row's number is used up, even if it is
    refused.

    `place` is the row's in the record, `signature` the record's.
    """
    machine = state.machines.get(row.machine)
    if machine is None:
        return "unknown_machine"
    moment_ms = moment_of(row)
    version = machine.version_at(moment_ms)
    trust = trust_of(signature, version)  # Rule 27
    if trust is None:
        return "bad_signature"
    if row.observed_at > state.now_ms + state.ruleset.skew_ms:
        return "from_the_future"
    registered = version.meters.get(row.meter)
    if registered is None:
        return "unknown_meter"
    if registered.kind != row.kind:  # Rule 11
        return "wrong_kind"
    meter = state.meters.borrow(row.machine, row.meter)
    verdict, skipped = judge_identity(meter, row, machine.least_boot)
    if verdict == "equivocation":  # Rule 9
        machine.is_marked = True
        state.touch(machine)
    if verdict is not None:
        return verdict
    if version.registration.retired:  # Rule 24
        return "retired"
    if is_too_late(state, row):
        return "too_late"
    usage = judge_usage(meter, row, registered, state.now_ms)
    if usage.reason is not None:
        return usage.reason
    bill = bill_of(state, machine, meter, registered, row, usage)
    session = None if row.session is UNSET else state.session_of(row.machine, row.session)
    if not can_bill(state.usage_at(state.window_key(row.machine, moment_ms)), [*bill.usage, *bill.fee]):
        return "too_high"
    if session is not None and not session.can_use(worth(bill.use)):
        return "too_high"
    _apply(meter, usage, bill)
    _place_row(state, record, row, usage, bill, skipped, trust)
    if session is not None:
        _use(state, record, row, session, bill)
    if row.kind == "level":
        place_orders(state, machine, meter, record, place, row)
    return None


def is_too_late(state: State, row: Reading) -> bool:
    """Rule 5: the horizon applies to sealed windows only, and is inclusive."""
    is_sealed = state.log.window_start(moment_of(row)) < state.earliest_open_ms
    return is_sealed and row.observed_at < state.now_ms - state.ruleset.horizon_ms


def pricing_version(state: State, machine: Machine, starts: Starts, row: Reading) -> Version:
    """Rule 19: a session that the machine has started keeps the version of then; `starts`: the row's meter's."""
    started_at = row.session_started_at
    if row.session is UNSET or started_at is UNSET:
        return machine.version_at(moment_of(row))
    known = has_started(starts, row.session, started_at) or any(
        has_started(state.meters.look(machine.machine, name).starts, row.session, started_at)
        for name in machine.meter_names
        if name != row.meter
    )
    return machine.version_at(started_at if known else moment_of(row))


def bill_of(
    state: State, machine: Machine, meter: MeterState, registered: Meter, row: Reading, usage: Usage
) -> Bill:  # fmt: skip
    """Rules 19 and 20: the lines that a row's usage and its session's start add to."""
    starts, fee, flags = meter.starts, _NOTHING, usage.flags
    if begins(starts, row):
        starts, fee, more = _start(machine, starts, registered, row)
        flags += more
    # What a register shows at a session's start was used before it.
    is_before = row.session_start and row.kind == "register"
    version = machine.version_at(moment_of(row)) if is_before else pricing_version(state, machine, starts, row)
    price = version.prices.of_usage(row.meter, moment_of(row))
    used = [(_line(row.meter, version, price), usage.usage)] if usage.usage else _NOTHING
    return Bill(used, fee, fee if is_before else [*used, *fee], flags, starts)


_NOTHING: Billed = ()


def _start(
    machine: Machine, starts: Starts, registered: Meter, row: Reading
) -> tuple[Starts, Billed, tuple[Flag, ...]]:  # fmt: skip
    """Rule 20: a session starts, and owes its fee where there is one and the bucket holds it."""
    session, started_at = row.session, row.session_started_at
    if session is UNSET or started_at is UNSET or is_stale(row, started_at):
        return starts, _NOTHING, ("fees",)
    version = machine.version_at(started_at)
    price = version.prices.of_session(row.meter, started_at)
    starts, is_due = started(starts, session, started_at, registered, price is not None)
    if price is None:
        return starts, _NOTHING, ()
    return (starts, [(_line(row.meter, version, price), 1)], ()) if is_due else (starts, _NOTHING, ("fees",))


def _line(meter: str, version: Version, price: Price) -> LineKey:
    return LineKey(meter, version.number, price.micros, price.per)


def _apply(meter: MeterState, usage: Usage, bill: Bill) -> None:
    if usage.after is not None:
        usage.after.apply(meter)
    meter.starts = bill.starts


def _place_row(
    state: State, record: LogRecord, row: Reading, usage: Usage, bill: Bill, skipped: int, trust: int
) -> None:  # fmt: skip
    """Rule 26: puts an accepted reading into its window, with its usage, flags and offset."""
    window = state.window_at(row.machine, moment_of(row))
    window.note_offset(record.offset)
    window.readings += 1
    window.skipped += skipped
    window.set_flags(bill.flags)
    if row.reconstructed:
        window.set_flags(("reconstructed",))
    window.add(bill.usage)
    window.add(bill.fee)
    if usage.usage or bill.fee:  # Rule 27
        window.trust = min(window.trust, trust)


def _use(state: State, record: LogRecord, row: Reading, session: PrepaidSession, bill: Bill) -> None:
    """Rules 36 and 37: the session's use, and the window into which its end closes it."""
    machine, name = row.machine, str(row.session)
    ends_in_ms = session.ends_in_ms
    is_end = row.session_end and ends_in_ms == NONE
    if is_end:
        ends_in_ms = state.log.window_start(state.now_ms)
    changed = structs.replace(session, use=session.use + worth(bill.use), ends_in_ms=ends_in_ms)
    state.put_session(machine, name, changed)
    if is_end and state.closes_now(changed):
        window = state.window_now(machine)
        if window.first_offset == NONE:  # The end opens a window; it puts nothing into one that is open.
            window.note_offset(record.offset)
