"""From forms to accepted registrations: what changes, from when it counts, and whether the stream will take it.

    (1) read what the log says (registry)   (2) plan each machine   (3) judge each plan as the stream will   (4) sign
    (5) send   (6) read the log on until it shows what became of each record (send)

Killed anywhere, the same command goes on: a machine whose record has arrived is unchanged, the others are sent.
"""

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, Struct

from deploy.machines.form import MachineForm, registration_of
from deploy.machines.locks import what_a_lock_forbids
from deploy.machines.meter_words import words_of_moves
from deploy.machines.operator import CONTENT_TYPE, Operator
from deploy.machines.order_words import words_of_orders
from deploy.machines.registry import Registry, Verdict
from deploy.machines.tariff_words import words_of
from deploy.texts import moment_text, span_text
from schemas.canonical import canonical_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import CORRECTED, REGISTERED, Correction
from schemas.registration import Registration
from schemas.reject import Reason
from streams.core.records import Record
from streams.core.signature import SIGNATURE_BYTES, operator_of

REMEDIES = {
    "stale_version": "another operator was first: run the same command again to see what is in force now",
    "agreement_locked": "the agreement is locked: wait for its end, or leave what it protects as it is",
    "bad_signature": "the key is not of an operator of this log: set TALLYROOT_OPERATOR_KEY, _KEYSTORE or _SIGNER",
    "wrong_partition": "a machine's route never changes: put back the site or route that it was registered with",
    "malformed": "a registration can't say this: see `tallyroot register --example ev_charger`",
}
"""What to do about each reason for which a registration is refused."""


class Difference(Struct, frozen=True):
    """One thing that a plan changes, in words; None on a side where it isn't."""

    what: str
    before: str | None
    after: str | None


class MachinePlan(Struct, frozen=True, kw_only=True):
    """What becomes of one machine. `registration` is None where nothing changes.

    `in_force_from_ms` is when the version counts (epoch ms; 0: always), None for one that would be refused.
    """

    machine: str
    action: Literal["register", "change", "retire", "unchanged"]
    registration: Registration | None
    differences: tuple[Difference, ...]
    in_force_from_ms: int | None = None
    verdict: Verdict = None
    remedy: str = ""
    warnings: tuple[str, ...] = ()


def planned(
    log: Log, registry: Registry, forms: Sequence[MachineForm], *, zone: str | None, now_ms: int
) -> list[MachinePlan]:
    """A plan for each form, judged as the stream would judge it now. Raises InvalidInput for what can't be written."""
    return [_plan(log, registry, form, zone, now_ms) for form in forms]


def retirement(log: Log, registry: Registry, name: str, now_ms: int) -> MachinePlan:
    """The plan that retires a machine. Raises InvalidInput where it isn't registered."""
    last = registry.registered(name).last.registration
    if last.retired:
        return MachinePlan(machine=name, action="unchanged", registration=None, differences=())
    wanted = msgspec.structs.replace(last, version=last.version + 1, retired=True, effective_from=0)
    return _judged(log, registry, wanted, last, now_ms, "retire")


def _plan(log: Log, registry: Registry, form: MachineForm, zone: str | None, now_ms: int) -> MachinePlan:
    machine = registry.machine(form.id)
    last = machine.last.registration if machine else None
    wanted = registration_of(
        form,
        currency=log.currency,
        zone=zone,
        version=last.version + 1 if last else 1,
        salt=last.salt if last else secrets.token_hex(16),
        years=offset_years(now_ms),
    )
    if last is not None:
        kept_from = last.effective_from if form.effective_from is None else wanted.effective_from
        same = msgspec.structs.replace(wanted, version=last.version, effective_from=kept_from)
        if _plain(same) == _plain(last):
            return MachinePlan(machine=form.id, action="unchanged", registration=None, differences=())
    return _judged(log, registry, wanted, last, now_ms, "change" if last else "register")


def _judged(
    log: Log, registry: Registry, wanted: Registration, last: Registration | None, now_ms: int,
    action: Literal["register", "change", "retire"],
) -> MachinePlan:  # fmt: skip
    if not wanted.is_valid():
        raise InvalidInput(f"{wanted.machine}: {REMEDIES['malformed']}")
    _check_meters(registry, wanted)
    verdict, machine = registry.judge(record_of(wanted), now_ms)
    from_ms = None if verdict is not None or machine is None else machine.last.in_force_from_ms
    return MachinePlan(
        machine=wanted.machine, action=action, registration=wanted, in_force_from_ms=from_ms, verdict=verdict,
        remedy="" if verdict is None else _remedy(verdict, last, wanted),
        differences=tuple(_differences(log.currency, last, wanted)),
        warnings=tuple(_warnings(wanted, last, from_ms, now_ms)),
    )  # fmt: skip


def _warnings(wanted: Registration, last: Registration | None, from_ms: int | None, now_ms: int) -> Iterable[str]:
    if from_ms is not None and last is not None and 0 < wanted.effective_from < min(from_ms, now_ms):
        yield (
            f"effective_from {moment_text(wanted.effective_from)} lies in the past: sealed windows never change,"
            f" so it counts from {moment_text(from_ms)}; the {span_text(from_ms - wanted.effective_from)} before that"
            f" stay with version {last.version}"
        )
    if wanted.agreement.locked_until is not UNSET and wanted.agreement.locked_until <= now_ms:
        yield f"the lock ended {moment_text(wanted.agreement.locked_until)}: it protects nobody"


def _check_meters(registry: Registry, wanted: Registration) -> None:
    """Raises InvalidInput where a meter that any version had would have another kind or unit (rule 23)."""
    machine = registry.machine(wanted.machine)
    before = {} if machine is None else {m.meter: m for v in machine.versions for m in v.registration.meters}
    for meter in wanted.meters:
        known = before.get(meter.meter, meter)
        if (known.kind, known.unit) != (meter.kind, meter.unit):
            raise InvalidInput(
                f"{wanted.machine}: meter {meter.meter} is a {known.kind} in {known.unit}, and can't become a"
                f" {meter.kind} in {meter.unit}: kind and unit never change, register a meter of another name"
            )


def _remedy(verdict: Reason, last: Registration | None, wanted: Registration) -> str:
    forbidden = what_a_lock_forbids(last, wanted) if verdict == "agreement_locked" and last is not None else []
    return "; ".join([REMEDIES.get(verdict, "see the rules"), *forbidden])


def record_of(registration: Registration) -> Record:
    """The registration as an unsigned record of the log."""
    return control_record(registration.route, REGISTERED, msgspec.json.encode(registration))


def correction_record(route: str, correction: Correction) -> Record:
    """A correction as an unsigned record of the log."""
    return control_record(route, CORRECTED, msgspec.json.encode(correction))


def control_record(route: str, record_type: str, value: bytes) -> Record:
    """What an operator says, as an unsigned record; offset and timestamp are the broker's."""
    return Record(
        0, 0, route.encode(), value, (("ce_type", record_type.encode()), ("content-type", CONTENT_TYPE.encode()))
    )


def signed(log: Log, operator: Operator, record: Record) -> Record:
    """The record with a signature. Raises InvalidInput for an account that doesn't operate the log."""
    operators = log.rulesets[-1].operators
    if operators and operator.address not in operators:
        raise InvalidInput(f"{operator.address} does not operate this log: {REMEDIES['bad_signature']}")
    key, record_type = (record.key or b"").decode(), dict(record.headers)["ce_type"] or b""
    signature = operator.sign_record(log.log_id, key, record_type.decode(), record.value or b"")
    return record._replace(headers=(*record.headers, ("signature", signature)))


def with_signature(log: Log, record: Record, signature: bytes) -> Record:
    """A record with a signature made elsewhere. Raises InvalidInput unless an operator of the log made it."""
    record_type = (dict(record.headers)["ce_type"] or b"").decode()
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidInput("a signature has 65 bytes (r, s, v): take what eth_signTypedData_v4 returned")
    account = operator_of(signature, log.log_id, record.key or b"", record_type, CONTENT_TYPE, record.value or b"")
    if account is None or (log.rulesets[-1].operators and account not in log.rulesets[-1].operators):
        raise InvalidInput(f"the signature is by {account or 'nobody'}, not by an operator of this log")
    return record._replace(headers=(*record.headers, ("signature", signature)))


def offset_years(now_ms: int) -> range:
    """The calendar years whose offsets from UTC a tariff carries: up to the end of the next decade.

    So the same file gives the same registration for years; once in ten years `register` renews the offsets.
    """
    return range(2010, datetime.fromtimestamp(now_ms / 1_000, UTC).year // 10 * 10 + 20)


def facts(registration: Registration, currency: str) -> dict[str, str]:
    """A registration in words, each fact under its name, in the order of a form."""
    units = {meter.meter: meter.unit for meter in registration.meters}
    agreement = registration.agreement
    lines = words_of(registration.tariff.elements, currency, units)
    found = {"kind": registration.kind, "route": registration.route}
    for meter in registration.meters:
        parts = [f"{meter.kind} in {meter.unit}", f"up to {meter.capacity_per_hour:,} per hour"]
        if meter.opening_register is not UNSET:
            parts.append(f"opening at {meter.opening_register:,}")
        if meter.meter_key is not UNSET:
            which = "" if meter.meter_key.obis is UNSET else f", {meter.meter_key.obis}"
            parts.append(f"signed by its key {meter.meter_key.public_key[:18]}... ({meter.meter_key.curve}{which})")
        found[f"meter {meter.meter}"] = ", ".join([*parts, *words_of_moves(meter)])
    found |= {f"tariff {number}": line for number, line in enumerate(lines, 1)}
    orders = words_of_orders(registration.orders or (), currency, registration.meters)
    found |= {f"order {policy.item}": line for policy, line in zip(registration.orders or (), orders, strict=True)}
    found["offsets from UTC"] = _offset_words(registration.tariff.offsets)
    found |= {f"payee {payee}": f"{points / 100:g} %" for payee, points in sorted(agreement.payees.items())}
    found["locked until"] = "no" if agreement.locked_until is UNSET else moment_text(agreement.locked_until)
    found["pays for trust"] = f"{agreement.pays_trust} and above"
    for key in registration.keys:
        found[f"key {key.key_id}"] = key.public_key + (" (hardware)" if key.hardware_backed else "")
    found["signature required"] = "yes" if registration.require_signature else "no"
    if registration.boot is not UNSET:
        found["boot"] = str(registration.boot)
    found["retired"] = "yes" if registration.retired else "no"
    return found


def _differences(currency: str, last: Registration | None, wanted: Registration) -> Iterable[Difference]:
    before, after = {} if last is None else facts(last, currency), facts(wanted, currency)
    for what in {**before, **after}:
        if before.get(what) != after.get(what):
            yield Difference(what, before.get(what), after.get(what))


def _offset_words(offsets: Sequence[tuple[int, int]]) -> str:
    hours = sorted({seconds for _, seconds in offsets})
    shown = ", ".join(f"{'-' if s < 0 else '+'}{abs(s) // 3600:02d}:{abs(s) % 3600 // 60:02d}" for s in hours)
    return shown if len(offsets) == 1 else f"{shown}; changes known to {moment_text(offsets[-1][0])[:4]}"


def _plain(registration: Registration) -> bytes:
    return canonical_json(msgspec.to_builtins(registration))


def check_acceptable(plans: Sequence[MachinePlan]) -> None:
    """Raises InvalidInput for the first plan that the stream would refuse."""
    for plan in plans:
        if plan.verdict is not None:
            raise InvalidInput(f"{plan.machine}: the log would refuse it ({plan.verdict}): {plan.remedy}")
