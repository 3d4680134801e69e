"""Control records of operators: registrations and corrections (rules 4, 9, 10, 13 and 22 to 25)."""

from typing import Any, TypeVar

from msgspec import UNSET

from schemas.canonical import canonical_json, document_digest
from schemas.reading import CORRECTED, REGISTERED, Correction
from schemas.registration import Agreement, Registration
from schemas.reject import Reason
from streams.core import stream_time
from streams.core.judge import Outcome
from streams.core.machines import Machine, Version
from streams.core.meters import NONE, Boot, MeterState
from streams.core.murmur2 import partition_of
from streams.core.plausible_usage import correction_limit, set_opening
from streams.core.records import JSON, SIGNATURE, LogRecord, decode_control, header, headers, media_type
from streams.core.signature import operator_of
from streams.core.state import State

Control = TypeVar("Control", Registration, Correction)


def register(state: State, record: LogRecord) -> Outcome:
    """Judges a `machine.registered` record and applies it if it is the machine's next version."""
    decoded = _decode(state, record, REGISTERED, Registration)
    if not isinstance(decoded, tuple):
        return decoded
    registration, plain = decoded
    machine = state.machines.get(registration.machine)
    if not _is_in_place(state, record, registration.route) or (machine and machine.route != registration.route):
        return "wrong_partition"
    content = _registration_content(plain)
    last = machine.last if machine else None
    if last and last.number == registration.version and last.content == content:
        return "duplicate"
    if registration.version != (last.number + 1 if last else 1):
        return "stale_version"
    if last and _breaks_lock(last.registration.agreement, registration.agreement, state.now_ms):
        return "agreement_locked"
    _apply_version(state, machine or Machine(registration.machine, registration.route), registration, content)
    return None


def correct(state: State, record: LogRecord) -> Outcome:
    """Judges a `usage.corrected` record and adds its difference if it is the machine's next correction (rule 25)."""
    decoded = _decode(state, record, CORRECTED, Correction)
    if not isinstance(decoded, tuple):
        return decoded
    correction, plain = decoded
    machine = state.machines.get(correction.machine)
    if machine is None:
        return "unknown_machine"
    if not _is_in_place(state, record, machine.route):
        return "wrong_partition"
    digest = document_digest("correction 1", plain)
    if correction.version == machine.correction_version and digest == machine.correction_digest:
        return "duplicate"
    if correction.version != machine.correction_version + 1:
        return "stale_version"
    reason = _judge_difference(state, machine, correction)
    if reason is None:
        machine.correction_version, machine.correction_digest = correction.version, digest
        state.touch(machine)
        _apply_difference(state, machine, correction, record.offset)
    return reason


def _decode(state: State, record: LogRecord, record_type: str, struct: type[Control]) -> tuple[Control, Any] | Reason:
    """The record if it is well formed and, if the ruleset names operators, signed by one of them; else the reason."""
    decoded = decode_control(record.value, media_type(record), struct)
    if isinstance(decoded, tuple) and not _is_signed(state, record, record_type):
        return "bad_signature"
    return decoded


def _is_signed(state: State, record: LogRecord, record_type: str) -> bool:
    operators = state.ruleset.operators
    if not operators:
        return True
    signatures, content_type = headers(record, SIGNATURE), header(record, "content-type")
    operator = operator_of(
        signatures[0] if len(signatures) == 1 else b"",
        state.log.log_id,
        record.key or b"",
        record_type,
        JSON if content_type is None else content_type,
        record.value or b"",
    )
    return operator in operators


def _is_in_place(state: State, record: LogRecord, route: str) -> bool:
    """The record's key is the machine's route, and murmur2 puts that into this partition (rule 23)."""
    key = route.encode()
    return record.key == key and partition_of(key, state.log.partitions) == state.partition


# Registrations


def _registration_content(plain: dict[str, Any]) -> str:
    """Canonical JSON of a registration; `retired: false` counts as absent, nothing else is normalised (rule 8)."""
    return canonical_json({name: part for name, part in plain.items() if (name, part) != ("retired", False)}).decode()


def _breaks_lock(old: Agreement, new: Agreement, now_ms: int) -> bool:
    """Rule 23: before `locked_until` no payee's points fall, `pays_trust` does not rise, and the lock stays."""
    if old.locked_until is UNSET or now_ms >= old.locked_until:
        return False
    if new.locked_until is UNSET or new.locked_until < old.locked_until:
        return True
    return new.pays_trust > old.pays_trust or any(
        new.payees.get(payee, 0) < points for payee, points in old.payees.items()
    )


def _apply_version(state: State, machine: Machine, registration: Registration, content: str) -> None:
    is_first = not machine.versions
    acts = registration.boot is not UNSET and (is_first or registration.boot != machine.last.registration.boot)
    from_ms = 0  # A first version is in force from the beginning.
    if not is_first:
        from_ms = stream_time.in_force_from_ms(state.log, state.ruleset, state.now_ms, registration.effective_from)
    if registration.boot is not UNSET and acts:
        _set_boot(state, machine, registration.boot)
    machine.is_marked = False  # Rule 9: until the next version.
    state.add_version(machine, Version(content, registration.version, from_ms))
    _set_meters(state, machine, registration, is_first, acts)


def _set_boot(state: State, machine: Machine, boot: int) -> None:
    """Rule 10: sets the current boot of all the machine's meters, without a previous one; higher baselines go."""
    machine.least_boot = boot
    for name in {meter for version in machine.versions for meter in version.meters}:
        meter = state.meters.borrow(machine.machine, name)
        meter.current, meter.previous, meter.suspect = Boot(boot), None, None
        if meter.baseline is not None and meter.baseline.boot > boot:
            meter.baseline = None


def _set_meters(state: State, machine: Machine, registration: Registration, is_first: bool, acts: bool) -> None:
    """Adds new meters; opening registers count in a first version or with a boot that acts (rule 13)."""
    for registered in registration.meters:
        if (machine.machine, registered.meter) not in state.meters.index_of:
            current = None if machine.least_boot == NONE else Boot(machine.least_boot)
            state.meters.add(machine.machine, registered.meter, MeterState(current))
        if registered.kind != "register" or registered.opening_register is UNSET or not (is_first or acts):
            continue
        meter = state.meters.borrow(machine.machine, registered.meter)
        at_ms = registration.effective_from if is_first else state.now_ms
        set_opening(meter, registered.opening_register, at_ms)


# Corrections


def _judge_difference(state: State, machine: Machine, correction: Correction) -> Reason | None:
    """The last reasons of rule 4. Corrections pass where readings are retired (24), and have no horizon (25)."""
    if correction.observed_at > state.now_ms + state.ruleset.skew_ms:
        return "from_the_future"
    registered = machine.version_at(correction.observed_at).meters.get(correction.meter)
    if registered is None:
        return "unknown_meter"
    if registered.kind == "level":
        return "wrong_kind"
    return "too_high" if abs(correction.difference) > correction_limit(registered.capacity_per_hour) else None


def _apply_difference(state: State, machine: Machine, correction: Correction, offset: int) -> None:
    """Adds a difference, priced like a reading of its moment; baselines are unchanged."""
    started_at = correction.session_started_at
    version = machine.version_at(correction.observed_at if started_at is UNSET else started_at)
    price = version.prices.of_usage(correction.meter, correction.observed_at)
    window = state.window_at(machine.machine, correction.observed_at)
    window.note_offset(offset)
    window.add_usage(correction.meter, version.number, price, correction.difference)
