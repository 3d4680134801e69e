"""The verdict on one row of a reading record, by every rule that applies to it."""

from typing import Literal

from msgspec import UNSET

from schemas.reading import Reading
from schemas.reject import Reason
from streams.core.identity import judge_identity
from streams.core.machines import Machine
from streams.core.open_window import OpenWindow
from streams.core.plausible_usage import Usage, judge_usage
from streams.core.records import LogRecord
from streams.core.state import State
from streams.core.trust import RecordSignature, trust_of

Outcome = Reason | Literal["duplicate"] | None
"""Why an entry changes nothing, or None for one that counts."""


def judge_row(state: State, record: LogRecord, signature: RecordSignature | None, row: Reading) -> Outcome:
    """Rule 4: the first reason that applies. Once identity has passed, the row's number is used up, even if it is
    refused.

    `signature` is the record's.
    """
    machine = state.machines.get(row.machine)
    if machine is None:
        return "unknown_machine"
    version = machine.version_at(row.observed_at)
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
    usage = judge_usage(meter, row, registered.capacity_per_hour)
    if usage.reason is None:
        place_row(state, record, row, machine, usage, skipped).note_trust(trust)
    return usage.reason


def is_too_late(state: State, row: Reading) -> bool:
    """Rule 5: the horizon applies to sealed windows only, and is inclusive."""
    is_sealed = state.log.window_start(row.observed_at) < state.earliest_open_ms
    return is_sealed and row.observed_at < state.now_ms - state.ruleset.horizon_ms


def place_row(
    state: State, record: LogRecord, row: Reading, machine: Machine, usage: Usage, skipped: int
) -> OpenWindow:
    """Rule 26: puts an accepted reading into its window, with its usage, flags and offset; returns the window."""
    window = state.window_at(row.machine, row.observed_at)
    window.note_offset(record.offset)
    window.readings += 1
    window.skipped += skipped
    if usage.flag is not None:
        window.set_flag(usage.flag)
    if row.reconstructed:
        window.set_flag("reconstructed")
    # Rule 19: a session keeps the version in force when it started, and its own moment within that.
    version = machine.version_at(row.observed_at if row.session_started_at is UNSET else row.session_started_at)
    if usage.usage:
        window.add_usage(row.meter, version.number, version.prices.of_usage(row.meter, row.observed_at), usage.usage)
    if row.session_start:  # Rule 20
        price = version.prices.of_session(row.meter, row.observed_at)
        if price is not None:
            window.add_usage(row.meter, version.number, price, 1)
    return window
