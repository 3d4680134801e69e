"""What `register`, `retire` and `correct` do in a data folder: read its log, plan, sign, send, and read back."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.machines import correct
from deploy.machines.correct import planned_correction
from deploy.machines.form import read_form
from deploy.machines.new_log import operator_of, zone_of_log
from deploy.machines.operator import typed_data
from deploy.machines.register import (
    REMEDIES,
    MachinePlan,
    check_acceptable,
    control_record,
    facts,
    planned,
    record_of,
    retirement,
    signed,
    with_signature,
)
from deploy.machines.registry import Registry, Verdict
from deploy.machines.send import send
from schemas.errors import InvalidInput
from schemas.reading import REGISTERED, Correction
from streams.core.records import Record
from streams.kafka.reader import KafkaLogReader

Step = Callable[[str], None]


class Registered(Struct, frozen=True, kw_only=True):
    """The plans of a call, and whether they were sent; `payloads` are what a wallet is to sign, if that was asked."""

    plans: list[MachinePlan]
    sent: bool
    payloads: list[dict[str, object]] = []


class Corrected(Struct, frozen=True):
    """A correction, and whether it was sent."""

    correction: Correction
    sent: bool


class VersionPage(Struct, frozen=True):
    """One version, the moment from which it counts (epoch ms; 0: always), and its facts in words."""

    version: int
    counts_from_ms: int
    facts: dict[str, str]


class MachinePage(Struct, frozen=True, kw_only=True):
    """A machine by its versions, newest first."""

    machine: str
    partition: int
    corrections: int
    versions: list[VersionPage]


def open_registry(data: DataFolder, machines: Sequence[str] | None, step: Step) -> Registry:
    """The log's machines (or those named) as of now. Raises InvalidInput where Kafka doesn't answer."""
    log = data.log()
    registry = Registry(log, KafkaLogReader(data.kafka_servers(), log.topic, 0, data.skipped_ranges()), machines)
    registry.read(lambda count: step(f"  {count:,} records of the log read"))
    return registry


def register(data: DataFolder, files: Sequence[Path], step: Step, *, dry_run: bool, print_payload: bool) -> Registered:
    """Brings the machines of forms into the log; those that are there as the form says stay as they are.

    Raises InvalidInput for what a form can't say and what the log would refuse; then nothing of the call is sent.
    """
    forms = [form for path in files for form in read_form(path)]
    names = [form.id for form in forms]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InvalidInput(f"{twice} stands in two of the files: keep one of the two")
    registry = open_registry(data, names, step)
    plans = planned(data.log(), registry, forms, zone=zone_of_log(data.data_dir), now_ms=_now_ms())
    if print_payload:
        check_acceptable(plans)
        return Registered(
            plans=plans, sent=False, payloads=[_payload(data, plan) for plan in plans if plan.registration]
        )
    return _send_plans(data, registry, plans, step, dry_run=dry_run)


def retire(data: DataFolder, machines: Sequence[str], step: Step, *, dry_run: bool) -> Registered:
    """Retires machines: from the moment that each plan names, their readings are refused as `retired`."""
    registry = open_registry(data, machines, step)
    plans = [retirement(data.log(), registry, machine, _now_ms()) for machine in machines]
    return _send_plans(data, registry, plans, step, dry_run=dry_run)


def send_payloads(data: DataFolder, path: Path, step: Step) -> list[str]:
    """Sends records whose payloads a wallet has signed: a file of `--print-payload`, each with its `signature`.

    Returns the machines that the log took. Raises InvalidInput for a file or signature that isn't right.
    """
    log, records = data.log(), []
    try:
        documents = msgspec.json.decode(path.read_bytes(), type=list[dict[str, object]])
        for document in documents:
            value = bytes.fromhex(str(document["value"]).removeprefix("0x"))
            record = control_record(str(document["key"]), str(document["type"]), value)
            signature = bytes.fromhex(str(document["signature"]).removeprefix("0x"))
            records.append(with_signature(log, record, signature))
    except OSError as error:
        raise InvalidInput(f"can't read {path} ({error.strerror}): check the path") from None
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise InvalidInput(f"{path} is not a file of signed payloads ({error}): see --print-payload") from None
    machines = [str(msgspec.json.decode(record.value or b"", type=dict[str, object])["machine"]) for record in records]
    registry = open_registry(data, machines, step)
    _require_accepted(machines, _sent(data, registry, records, step), REMEDIES)
    return machines


def add_correction(
    data: DataFolder, machine: str, meter: str, step: Step, *, at_ms: int, usage: str | None, reason: str,
    session: str | None, session_started_ms: int | None, fees: int, refund_to: str | None, dry_run: bool,
) -> Corrected:  # fmt: skip
    """Sends a credit or debit note. Raises InvalidInput for one that can't be said, or that the log would refuse."""
    log, registry = data.log(), open_registry(data, [machine], step)
    record, correction, verdict = planned_correction(
        log, registry, machine, meter, at_ms=at_ms, usage=usage, reason=reason, session=session,
        session_started_ms=session_started_ms, fees=fees, refund_to=refund_to, now_ms=_now_ms(),
    )  # fmt: skip
    _require_accepted([machine], [verdict], correct.REMEDIES)
    if not dry_run:
        found = _sent(data, registry, [signed(log, operator_of(data), record)], step)
        _require_accepted([machine], found, correct.REMEDIES)
    return Corrected(correction, not dry_run)


def machine_page(data: DataFolder, name: str, step: Step) -> MachinePage:
    """All versions of a machine, newest first. Raises InvalidInput where it isn't registered."""
    log, registry = data.log(), open_registry(data, [name], step)
    machine = registry.registered(name)
    return MachinePage(
        machine=name,
        partition=registry.partition_of(machine.route),
        corrections=machine.rare.correction_version,
        versions=[
            VersionPage(version.number, version.in_force_from_ms, facts(version.registration, log.currency))
            for version in reversed(machine.versions)
        ],
    )


def _send_plans(
    data: DataFolder, registry: Registry, plans: list[MachinePlan], step: Step, *, dry_run: bool
) -> Registered:
    if not dry_run:
        check_acceptable(plans)
    changed = [plan.registration for plan in plans if plan.registration is not None]
    if dry_run or not changed:
        return Registered(plans=plans, sent=False)
    log, operator = data.log(), operator_of(data)
    step(f"signing {len(changed)} as {operator.address}")
    records = [signed(log, operator, record_of(registration)) for registration in changed]
    _require_accepted([each.machine for each in changed], _sent(data, registry, records, step), REMEDIES)
    return Registered(plans=plans, sent=True)


def _sent(data: DataFolder, registry: Registry, records: Sequence[Record], step: Step) -> list[Verdict]:
    return send(
        data.log(), data.kafka_servers(), registry, records, _now_ms(),
        lambda count: step(f"  {count:,} records of the log read"),
    )  # fmt: skip


def _require_accepted(machines: Sequence[str], verdicts: Sequence[Verdict], remedies: dict[str, str]) -> None:
    for machine, verdict in zip(machines, verdicts, strict=True):
        if verdict is not None:
            raise InvalidInput(f"{machine}: the log refuses it ({verdict}): {remedies.get(verdict, 'see the rules')}")


def _payload(data: DataFolder, plan: MachinePlan) -> dict[str, object]:
    if plan.registration is None:
        return {}
    value, route = record_of(plan.registration).value or b"", plan.registration.route
    return {
        "machine": plan.machine,
        "key": route,
        "type": REGISTERED,
        "value": "0x" + value.hex(),
        "typed_data": typed_data(data.log().log_id, route, REGISTERED, value),
        "signature": "",
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
