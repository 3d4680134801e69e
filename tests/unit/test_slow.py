"""The slow count of an audit: it agrees with what is right, also where rules change and signatures count."""

from typing import Any

import msgspec
import pytest

from schemas.log import Log, Ruleset
from schemas.units import DAY_MS, MINUTE_MS
from streams.core.recompute import recompute
from streams.core.records import Record, record_type
from streams.core.signature import operator_account, sign_control, sign_reading
from streams.reference.compare import _hold, recompute_and_compare
from streams.reference.recount import PartitionRecount
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.signed_logs import SignedLog, key_of, private_key

LOG = small_log()
OPERATOR, OTHER = bytes([7]) * 32, bytes([8]) * 32


def counted(log: Log, records: list[Record]) -> list[str]:
    """What the two counts differ in; that they say the same epochs."""
    said: list[str] = []
    slow = list(recompute_and_compare(log, 0, [records], (), None, said.append, lambda _: None))
    assert slow == list(recompute(log, 0, [records]))
    assert sum(len(result.windows) for result in slow) > 5
    return said


@pytest.mark.parametrize("seed", range(6))
def test_both_count_the_same_of_signed_and_dirty_logs(seed: int) -> None:
    assert counted(LOG, SignedLog(LOG.log_id, seed, share=0.7, dirt=0.3).of(dirty_log(seed, 0.2, 400))) == []


@pytest.mark.parametrize("graces", [(10, 25, 3), (30, 1, 12)])
def test_both_follow_rules_that_change(graces: tuple[int, int, int]) -> None:
    records = dirty_log(3, 0.1, 600)
    first = LOG.epoch_of(records[0].timestamp)
    rules = [
        Ruleset(first_epoch=first + number if number else 0, grace_ms=minutes * MINUTE_MS, skew_ms=number * MINUTE_MS,
                operators=(operator_account(OPERATOR),) if number == 1 else ())
        for number, minutes in enumerate(graces)
    ]  # fmt: skip
    log = msgspec.structs.replace(LOG, rulesets=tuple(rules))
    assert counted(log, [by_operator(record, record.offset % 5 != 0) for record in records]) == []


def by_operator(record: Record, rightly: bool) -> Record:
    """A control record with an operator's signature, or with another's."""
    kind = record_type(record)
    if record.value is None or kind not in ("machine.registered", "usage.corrected"):
        return record
    key = OPERATOR if rightly else OTHER
    signature = sign_control(key, LOG.log_id, record.key or b"", kind, "application/json", record.value)
    return record._replace(headers=[*record.headers, ("signature", signature)])


def test_both_judge_the_signatures_of_receipts_invoices_and_payments_alike() -> None:
    """Each comes first with a wrong signature, then with a right one: an order is paid, a session refunded."""
    log = msgspec.structs.replace(LOG, rulesets=(Ruleset(operators=(operator_account(OPERATOR),)),))
    start = 1_700_000_100_000 // log.window_ms * log.window_ms
    supplier, payer = bytes([9]) * 32, "0x" + "d" * 40
    registration = {
        "machine": "m", "route": "m", "version": 1, "kind": "robot", "effective_from": start,
        "meters": [{"meter": "stock", "unit": "count", "kind": "level", "capacity_per_hour": 1}],
        "tariff": {"elements": [], "offsets": [[0, 0]]}, "agreement": {"payees": {"a": 10_000}},
        "keys": [key_of("k", 1)],
        "orders": [{"item": "beans", "meter": "stock", "reorder_at": 5, "quantity": 4, "unit_price": 7,
                    "supplier": operator_account(supplier), "budget": 100}],
    }  # fmt: skip
    order = {"machine": "m", "item": "beans", "number": 1}
    payment = {"machine": "m", "version": 1, "session": "s", "payer": payer, "amount": 50, "valid_until": start + 900,
               "block": 1, "transaction": "0x" + "0" * 64, "log_index": 0}  # fmt: skip
    level = {"machine": "m", "meter": "stock", "boot": 0, "seq": 0, "observed_at": start, "level": 5}
    receipt, invoice = {"quantity": 3, "observed_at": start}, {"quantity": 9, "unit_price": 6, "reference": "INV-1"}
    sent = [
        ("machine.registered", registration, OTHER), ("machine.registered", registration, OPERATOR),
        ("reading", level, 1), ("goods.received", order | receipt, 2), ("goods.received", order | receipt, 1),
        ("order.invoiced", order | invoice, OPERATOR), ("order.invoiced", order | invoice, supplier),
        ("payment.received", payment, OTHER), ("payment.received", payment, OPERATOR),
    ]  # fmt: skip
    records = [sent_by(log, place, start + place, *one) for place, one in enumerate(sent)]
    records.append(Record(len(records), start + DAY_MS, None, b"", [("ce_type", b"heartbeat")]))
    recount = PartitionRecount(log).take(records)
    assert recount.rejects == [(place, -1, "bad_signature") for place in (0, 3, 5, 7)]
    due = {(one["kind"], one["account"], one["micros"]) for window in recount.sealed for one in window["dues"]}
    assert due == {("expense", operator_account(supplier), 3 * 6), ("refund", payer, 50)}
    said: list[str] = []
    assert [
        len(epoch.windows) for epoch in recompute_and_compare(log, 0, [records], (), None, said.append, lambda _: None)
    ]
    assert said == []


def sent_by(log: Log, offset: int, timestamp: int, kind: str, content: dict[str, Any], key: bytes | int) -> Record:
    """A record of machine m, signed by an account's key or by the device's key of a number."""
    value = msgspec.json.encode(content)
    record = Record(offset, timestamp, b"m", value, [("ce_type", kind.encode())])
    parts = (log.log_id, b"m", kind, "application/json", value)
    if isinstance(key, int):
        signed = [("signature", sign_reading(private_key(key), *parts)), ("key-id", b"k")]
    else:
        signed = [("signature", sign_control(key, *parts))]
    return record._replace(headers=[*record.headers, *signed])


def test_a_window_that_is_counted_otherwise_is_named() -> None:
    """The naive loop is kept from one record that the epochs were made of."""
    records = dirty_log(1, 0.1, 300)
    right = list(recompute(LOG, 0, [records]))
    hidden = next(window for result in right for window in result.windows if window.readings).first_offset
    recount = PartitionRecount(LOG, 0).take(record for record in records if record.offset != hidden)
    said: list[str] = []
    for result in right:
        _hold(recount, result, said.append)
    assert "is counted otherwise: " in said[0] or "by the slow count" in said[0]
