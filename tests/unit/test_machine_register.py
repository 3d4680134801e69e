"""From a form to an accepted registration: plans, diffs, what would be refused, races, corrections."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.keys import open_key
from deploy.machines.correct import planned_correction
from deploy.machines.form import MachineForm, example, read_form
from deploy.machines.operator import (
    OWN_KEY,
    Operator,
    key_settings,
    load_operator,
    make_keystore,
    own_keystore,
    typed_data,
)
from deploy.machines.register import (
    MachinePlan,
    check_acceptable,
    facts,
    planned,
    record_of,
    retirement,
    signed,
    with_signature,
)
from deploy.machines.registry import Registry
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.reading import Correction
from schemas.units import DAY_MS, MINUTE_MS
from settlement.chain.signer import Signer
from streams.core.records import LogRecord, Record
from streams.core.signature import control_digest
from streams.core.stream_time import TIMESTAMP_MAX_MS

OPERATOR, STRANGER = (Operator(Signer.from_seed("test", name)) for name in ("operator", "stranger"))
NOW_MS = 1_790_000_000_000
LOG = Log(log_id="log-1", currency="EUR", partitions=3, rulesets=(Ruleset(operators=(OPERATOR.address,)),))


class MemoryLog:
    """A log in memory that a registry reads, and tests append to."""

    def __init__(self) -> None:
        self.records: list[list[Record]] = [[] for _ in range(LOG.partitions)]
        self.now_ms = NOW_MS

    def append(self, partition: int, record: Record) -> None:
        self.records[partition].append(record._replace(offset=len(self.records[partition]), timestamp=self.now_ms))

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        return iter(self.records[partition][first:next])

    def range(self, partition: int) -> tuple[int, int]:
        return 0, len(self.records[partition])

    def topic_id(self) -> str:
        return "topic"

    def close(self) -> None:
        pass


def registry_of(log: MemoryLog) -> Registry:
    registry = Registry(LOG, log)
    registry.read(lambda _: None)
    return registry


def plans(log: MemoryLog, forms: list[MachineForm]) -> list[MachinePlan]:
    return planned(LOG, registry_of(log), forms, zone=None, now_ms=log.now_ms)


def send(log: MemoryLog, plan: MachinePlan, operator: Operator = OPERATOR) -> None:
    assert plan.registration is not None
    record = signed(LOG, operator, record_of(plan.registration))
    log.append(registry_of(log).partition_of(plan.registration.route), record)


@pytest.fixture
def forms(tmp_path: Path) -> list[MachineForm]:
    path = tmp_path / "form.toml"
    path.write_text(example("ev_charger"))
    return read_form(path)


def test_the_same_form_twice_changes_nothing(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    first = plans(log, forms)
    assert [(plan.action, plan.verdict, plan.in_force_from_ms) for plan in first] == [("register", None, 0)] * 2
    for plan in first:
        send(log, plan)
    assert [(plan.action, plan.registration) for plan in plans(log, forms)] == [("unchanged", None)] * 2


def test_a_changed_form_is_the_next_version_and_says_what_changes_and_when(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    for plan in plans(log, forms):
        send(log, plan)
    tariff = ("EUR 0.45 per kWh", *(forms[0].tariff or ())[1:])
    (changed,) = plans(log, [msgspec.structs.replace(forms[0], tariff=tariff)])
    assert changed.action == "change"
    assert changed.registration is not None and changed.registration.version == 2
    assert [(each.what, each.before, each.after) for each in changed.differences] == [
        ("tariff 1", "energy: EUR 0.49 per kWh on weekdays 16:00-21:00", "energy: EUR 0.45 per kWh")
    ]
    window_ms = LOG.window_ms
    assert changed.in_force_from_ms == (NOW_MS + 5 * MINUTE_MS) // window_ms * window_ms + window_ms


def test_effective_from_in_the_past_is_warned_of(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    for plan in plans(log, forms):
        send(log, plan)
    (changed,) = plans(log, [msgspec.structs.replace(forms[0], effective_from="2026-01-01", tariff=("EUR 1 per kWh",))])
    (warning,) = changed.warnings
    assert warning.startswith("effective_from 2026-01-01 00:00 UTC lies in the past")
    assert warning.endswith("so it counts from 2026-09-21 14:30 UTC; the 263 d 14 h before that stay with version 1")


def test_a_meter_keeps_its_kind_and_unit(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    for plan in plans(log, forms):
        send(log, plan)
    meters = {"energy": msgspec.structs.replace((forms[0].meters or {})["energy"], counts="quantity")}
    with pytest.raises(InvalidInput, match="meter energy is a register in Wh, and can't become a quantity in Wh"):
        plans(log, [msgspec.structs.replace(forms[0], meters=meters)])


ORDER = (
    "reorder 100 bearings at 20 left from 0x3333333333333333333333333333333333333333 at EUR 1.2 each,"
    " budget EUR 500 in 30 days"
)


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"tariff": ("parts: EUR 0.12 per part", "energy: EUR -0.26 per kWh")}, "lowest price of energy would fall"),
        ({"tariff": ("parts: EUR -1 per session", "energy: EUR -0.25 per kWh")}, "parts per session would fall"),
        ({"orders": (ORDER.replace("100", "101"),)}, "the quantity of bearings would rise"),
        ({"orders": (ORDER.replace("bearings", "nuts").replace("reorder", "bearings: reorder"),)}, "would order nuts"),
        ({"orders": (ORDER.replace("3333", "4444"),)}, "the supplier of bearings would change"),
        ({"lock": "2029-01-01"}, "the lock would end earlier"),
    ],
)  # fmt: skip
def test_a_lock_says_what_it_protects(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    path = tmp_path / "form.toml"
    path.write_text(example("robot"))
    (form,) = read_form(path)
    log, locked = MemoryLog(), msgspec.structs.replace(form, lock="2030-01-01")
    send(log, plans(log, [locked])[0])
    (refused,) = plans(log, [msgspec.structs.replace(locked, **changes)])
    assert refused.verdict == "agreement_locked" and why in refused.remedy
    (allowed,) = plans(log, [msgspec.structs.replace(locked, orders=None, tariff=("parts: EUR 0.12 per part",))])
    assert allowed.verdict is None


def test_a_locked_agreement_is_refused_before_anything_is_sent(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    (plan,) = plans(log, [msgspec.structs.replace(forms[0], lock="2030-01-01")])
    send(log, plan)
    payees = tuple(
        msgspec.structs.replace(payee, share=share)
        for payee, share in zip(forms[0].payees or (), ("90 %", "10 %"), strict=True)
    )
    (refused,) = plans(log, [msgspec.structs.replace(forms[0], lock="2030-01-01", payees=payees)])
    assert refused.verdict == "agreement_locked"
    with pytest.raises(InvalidInput, match="2222 would fall from 15 % to 10 %"):
        check_acceptable([refused])


def test_of_two_operators_who_race_one_is_told(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    mine, theirs = plans(log, forms[:1])[0], plans(log, [msgspec.structs.replace(forms[0], kind="other")])[0]
    assert mine.registration is not None and theirs.registration is not None
    registry = registry_of(log)
    record = signed(LOG, OPERATOR, record_of(mine.registration))
    registry.awaits(record.value or b"")
    send(log, theirs)
    log.append(registry.partition_of(mine.registration.route), record)
    registry.read(lambda _: None)
    assert registry.verdict_on(record.value or b"") == (True, "stale_version")


def test_only_an_operator_signs(forms: list[MachineForm]) -> None:
    (plan,) = plans(MemoryLog(), forms[:1])
    assert plan.registration is not None
    with pytest.raises(InvalidInput, match="does not operate this log"):
        signed(LOG, STRANGER, record_of(plan.registration))


def test_a_wallet_signs_what_it_is_shown(forms: list[MachineForm]) -> None:
    """The typed data is the EIP-712 document of the record: its digest by another implementation is ours."""
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    (plan,) = plans(MemoryLog(), forms[:1])
    assert plan.registration is not None
    record = record_of(plan.registration)
    wallet = Account.create()
    mine = msgspec.structs.replace(LOG, rulesets=(Ruleset(operators=(wallet.address.lower(),)),))
    message = encode_typed_data(
        full_message=dict(typed_data("log-1", "depot-1", "machine.registered", record.value or b""))
    )
    digest = control_digest("log-1", "depot-1", "machine.registered", "application/json", record.value or b"")
    signature = bytes(Account.sign_message(message, wallet.key).signature)
    assert Account.unsafe_sign_hash(digest, wallet.key).signature == signature
    assert dict(with_signature(mine, record, signature).headers)["signature"] == signature
    with pytest.raises(InvalidInput, match="not by an operator"):
        with_signature(LOG, record, signature)


def test_a_machine_is_retired_and_comes_back(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    send(log, plans(log, forms[:1])[0])
    away = retirement(LOG, registry_of(log), "charger-1", log.now_ms)
    assert [(each.what, each.after) for each in away.differences] == [("retired", "yes")]
    send(log, away)
    log.now_ms += DAY_MS
    assert retirement(LOG, registry_of(log), "charger-1", log.now_ms).action == "unchanged"
    (back,) = plans(log, forms[:1])
    assert back.registration is not None and (back.registration.version, back.registration.retired) == (3, False)


def test_a_correction_is_judged_and_counted(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    send(log, plans(log, forms[:1])[0])
    at_ms = NOW_MS - DAY_MS

    def correct(usage: str, meter: str = "energy") -> tuple[int, int, str | None]:
        record, correction, verdict = planned_correction(
            LOG, registry_of(log), "charger-1", meter, at_ms=at_ms, usage=usage, reason="meter test", now_ms=log.now_ms
        )
        if verdict is None:
            log.append(registry_of(log).partition_of("depot-1"), signed(LOG, OPERATOR, record))
        return correction.version, correction.difference, verdict

    assert correct("-1.5 kWh") == (1, -1_500, None)
    assert correct("+20") == (2, 20, None)
    assert correct("-100 MWh") == (3, -100_000_000, "too_high")
    with pytest.raises(InvalidInput, match="has no sign"):
        correct("5 kWh")
    with pytest.raises(InvalidInput, match="no meter water"):
        correct("-5", "water")


def test_a_fee_is_taken_back_and_refunded(forms: list[MachineForm]) -> None:
    log, started_ms = MemoryLog(), NOW_MS - DAY_MS
    send(log, plans(log, forms[:1])[0])

    def correct(session: str | None = "s", **fields: Any) -> tuple[Correction, str | None]:
        _, correction, verdict = planned_correction(
            LOG, registry_of(log), "charger-1", "energy", at_ms=NOW_MS, reason="refund", now_ms=log.now_ms,
            usage=None, session=session, session_started_ms=started_ms if session else None, **fields,
        )  # fmt: skip
        return correction, verdict

    correction, verdict = correct(fees=-1, refund_to="0x" + "A" * 40)
    assert (correction.fees, correction.difference, correction.refund_to, verdict) == (-1, 0, "0x" + "a" * 40, None)
    with pytest.raises(InvalidInput, match="--usage or --fees"):
        correct()
    with pytest.raises(InvalidInput, match="are of a session"):
        correct(fees=-1, session=None)
    with pytest.raises(InvalidInput, match="too many"):
        correct(fees=-1_001)


def test_there_is_no_fee_without_a_price_per_session(forms: list[MachineForm]) -> None:
    log = MemoryLog()
    send(log, plans(log, [msgspec.structs.replace(forms[0], tariff=("EUR 1 per kWh",))])[0])
    _, _, verdict = planned_correction(
        LOG, registry_of(log), "charger-1", "energy", at_ms=NOW_MS, usage=None, reason="refund", session="s",
        session_started_ms=NOW_MS, fees=-1, now_ms=log.now_ms,
    )  # fmt: skip
    assert verdict == "no_fee"


def test_readings_only_move_time(forms: list[MachineForm]) -> None:
    """A registry passes readings over, but a version counts from after their time."""
    log = MemoryLog()
    (plan,) = plans(log, forms[:1])
    send(log, plan)
    assert plan.registration is not None
    partition = registry_of(log).partition_of(plan.registration.route)
    log.now_ms += 10 * DAY_MS
    log.append(partition, Record(0, 0, b"depot-1", b"no JSON"))
    log.now_ms -= 10 * DAY_MS
    (changed,) = plans(log, [msgspec.structs.replace(forms[0], tariff=("EUR 1 per kWh",))])
    assert changed.in_force_from_ms is not None and changed.in_force_from_ms > NOW_MS + 10 * DAY_MS


def test_a_timestamp_that_is_no_time_moves_nothing(forms: list[MachineForm]) -> None:
    """A registry keeps time as the stream does: what lies beyond the year 9999 counts as no timestamp."""
    log = MemoryLog()
    log.append(0, Record(0, 0, b"depot-1", b"no JSON"))
    log.now_ms = TIMESTAMP_MAX_MS + 1
    log.append(0, Record(0, 0, b"depot-1", b"no JSON"))
    assert registry_of(log).stream_time_ms(0) == NOW_MS
    log.now_ms = NOW_MS + DAY_MS
    log.append(0, Record(0, 0, b"depot-1", b"no JSON"))
    assert registry_of(log).stream_time_ms(0) == NOW_MS + DAY_MS


def test_a_keystore_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    account = make_keystore(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()] == [0o600, 0o600]
    assert open_key(key_settings(tmp_path, OWN_KEY)).address == account
    with pytest.raises(InvalidInput, match="can't write the operator's key"):
        make_keystore(tmp_path)
    assert load_operator(tmp_path) is None


def test_a_key_whose_making_was_killed_is_taken_or_made(tmp_path: Path) -> None:
    """A password alone is replaced; a keystore that it opens is kept; one that nothing opens is never thrown away."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "operator.password").write_text("of a keystore that was never written")
    account = open_key(key_settings(tmp_path, own_keystore(tmp_path))).address
    assert open_key(key_settings(tmp_path, own_keystore(tmp_path))).address == account
    (tmp_path / "keys" / "operator.password").unlink()
    with pytest.raises(InvalidInput, match="is a key that nothing names, and can't be opened"):
        own_keystore(tmp_path)
    with pytest.raises(InvalidInput, match="can't write the operator's key"):
        make_keystore(tmp_path)


def test_facts_are_in_words(forms: list[MachineForm]) -> None:
    (plan,) = plans(MemoryLog(), forms[:1])
    assert plan.registration is not None
    found = facts(plan.registration, "EUR")
    assert found["meter energy"] == "register in Wh, up to 22,000 per hour, at most 30 starts an hour"
    assert found["offsets from UTC"].startswith("+01:00, +02:00; changes known to 20")
    assert found["payee 0x1111111111111111111111111111111111111111"] == "85 %"
