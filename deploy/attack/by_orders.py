"""Cheats with what machines order: suppliers who bill too much, too early or twice, meters that order too often, and an
operator who sells to its own machines.

Each is tried on a machine of the attack's own, which orders ten fuses once its stock is at two.
"""

from typing import Any

import msgspec

from deploy.attack.cheat import PAYEES, Cheat, Outcome
from deploy.attack.partition_copy import (
    OPERATOR_KEY,
    OTHER_KEY,
    STRANGER_KEY,
    SUPPLIER_KEY,
    THIEF,
    VICTIM_KEY,
    PartitionCopy,
)
from schemas.order import CANCELLED, INVOICED, RECEIVED
from schemas.reading import CORRECTED
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.records import Record
from streams.core.signature import operator_account

PRICE_MICROS = 1_200_000
PIECES = 10
ORDER_MICROS = PIECES * PRICE_MICROS
LOW, FULL = 2, 50
DIPS = 6
HONEST = 2
"""A registration and a level come before each cheat."""

LATER_MS = 2 * HOUR_MS
"""By then a new version is in force."""

INVESTORS = "the investors"
BUDGET_READ = "investors who read the orders of a registration: each item's budget is what 30 days may cost"
CORRECTIONS_READ = "investors who read corrections: each is in the log, and its refund a due of the machine"


def order_cheats(bed: PartitionCopy) -> list[Cheat]:
    """All cheats, in the order of the table."""
    return [*_of_suppliers(bed), *_of_machines(bed), *_of_operators(bed)]


def _of_suppliers(bed: PartitionCopy) -> list[Cheat]:
    shop = bed.name("shop")
    before = (_registered(bed, shop), _level(bed, shop, 1, LOW))
    dear = _invoice(bed, shop, unit_price=PRICE_MICROS + 1)
    foreign = _invoice(bed, shop, signer=STRANGER_KEY)
    receipt = _receipt(bed, shop, OTHER_KEY)

    def unreceived() -> Outcome:
        judged = bed.judge(*before, _invoice(bed, shop), bed.heartbeat(2 * DAY_MS))
        if judged.reasons or judged.orders != 1 or judged.expenses_micros:
            return judged.accepted()
        return judged.watch.outcome("rule 33", "nothing is due before the machine has received the goods")

    def twice() -> Outcome:
        again = _invoice(bed, shop, reference="another")
        judged = bed.judge(*before, receipt, _invoice(bed, shop), again, bed.heartbeat(2 * DAY_MS))
        if judged.expenses_micros != ORDER_MICROS:
            return judged.accepted()
        return judged.refused(31, "order_closed", honest=HONEST + 3)

    return [
        Cheat(
            "an invoice above the order's price", "supplier", PAYEES,
            lambda: bed.judge(*before, dear).refused(31, "over_price", HONEST),
        ),
        Cheat("an invoice for goods that nobody received", "supplier", PAYEES, unreceived),
        Cheat(
            "a receipt signed with another machine's key", "supplier", PAYEES,
            lambda: bed.judge(*before, _receipt(bed, shop, VICTIM_KEY)).refused(30, "bad_signature", HONEST),
        ),
        Cheat("an order invoiced twice", "supplier", PAYEES, twice),
        Cheat(
            "an invoice in the name of another supplier", "stranger", "the supplier",
            lambda: bed.judge(*before, foreign).refused(31, "bad_signature", HONEST),
        ),
    ]  # fmt: skip


def _of_machines(bed: PartitionCopy) -> list[Cheat]:
    """Levels that would order too often, whatever the calendar says; goods that go to who has sold the machine."""
    shop = bed.name("shop")
    before = (_registered(bed, shop), _level(bed, shop, 1, LOW))
    once = (_registered(bed, shop, budget=ORDER_MICROS), _level(bed, shop, 1, LOW))
    paid = (_receipt(bed, shop, OTHER_KEY), _invoice(bed, shop))
    sold = bed.registration(shop, 2, keys=[bed.key_of(VICTIM_KEY)], agreement={"payees": {THIEF: 10_000}})

    def oscillating() -> Outcome:
        levels = [_level(bed, shop, 2 + dip, (FULL, LOW)[dip % 2]) for dip in range(2 * DIPS)]
        judged = bed.judge(*before, *levels)
        if judged.reasons or judged.orders != 1:
            return judged.accepted()
        return judged.watch.outcome("rule 29", f"one order of {1 + DIPS} dips: the first one is open")

    def every_day() -> Outcome:
        days = 31
        levels = [_level(bed, shop, 2 + day, LOW, after_ms=day * DAY_MS) for day in range(1, days + 1)]
        judged = bed.judge(*once, *paid, *levels)
        if judged.reasons or judged.orders != 2:
            return judged.accepted()
        return judged.watch.outcome("rule 29", f"two orders in {days} days: a budget rolls, no month begins anew")

    return [
        Cheat("a level that oscillates about its threshold, to order often", "machine", PAYEES, oscillating),
        Cheat("a budget spent at a month's end, and again the day after", "machine", PAYEES, every_day),
        Cheat(
            "the goods of an open order, received with the key of who has sold the machine", "machine",
            "the machine's buyer",
            lambda: bed.judge(*before, _next(bed, sold), _receipt(bed, shop, OTHER_KEY, LATER_MS))
            .refused(30, "bad_signature", HONEST + 1),
        ),
    ]  # fmt: skip


def _of_operators(bed: PartitionCopy) -> list[Cheat]:
    """An operator that is its own supplier, on a machine whose agreement is locked; and one that takes goods."""
    shop, own = bed.name("shop"), operator_account(OPERATOR_KEY)
    lock = {"payees": {THIEF: 5_000, own: 5_000}, "locked_until": bed.now_ms + 365 * DAY_MS}
    locked = bed.registration(shop, agreement=lock)
    before = (_registered(bed, shop, locked), _level(bed, shop, 1, LOW))
    own_before = (_registered(bed, shop, locked, supplier=own), _level(bed, shop, 1, LOW))

    def changed(**policy: Any) -> Outcome:
        later = _with_policy(locked | {"version": 2}, **policy)
        return bed.judge(*before, _next(bed, later)).refused(23, "agreement_locked", HONEST)

    def within_budget() -> Outcome:
        bill = _invoice(bed, shop, signer=OPERATOR_KEY)
        judged = bed.judge(*own_before, _receipt(bed, shop, OTHER_KEY), bill, bed.heartbeat(2 * DAY_MS))
        return judged.watch.outcome("", f"{judged.expenses_micros / 10**6:.2f} are due to the operator")

    def cancelled() -> Outcome:
        document = {"machine": shop, "item": "fuse", "number": 1, "reason": "not needed"}
        end = bed.control(document, CANCELLED, route=shop, after_ms=3 * MINUTE_MS)
        return bed.judge(*before, _receipt(bed, shop, OTHER_KEY), end).refused(32, "order_received", HONEST + 1)

    def refunded() -> Outcome:
        document = {
            "machine": shop, "version": 1, "meter": "energy", "observed_at": bed.now_ms, "difference": -1_000,
            "session": "s", "session_started_at": bed.now_ms - HOUR_MS, "refund_to": own, "reason": "goodwill",
        }  # fmt: skip
        judged = bed.judge(*before, bed.control(document, CORRECTED, route=shop), bed.heartbeat(2 * DAY_MS))
        return judged.watch.outcome("", f"{judged.refunds_micros / 10**6:.2f} are due to the operator")

    return [
        Cheat("goods taken, and their order cancelled", "operator", "the supplier", cancelled),
        Cheat(
            "an order's budget raised under a lock, by an operator that is the supplier", "operator", INVESTORS,
            lambda: changed(budget=101 * ORDER_MICROS),
        ),
        Cheat(
            "the operator named as supplier under a lock", "operator", INVESTORS, lambda: changed(supplier=own),
        ),
        Cheat(
            "the operator sells to its own machine, within the budget that was there before the lock", "operator",
            INVESTORS, within_budget, BUDGET_READ,
        ),
        Cheat(
            "the operator refunds himself: a correction with his own account, under a lock", "operator", INVESTORS,
            refunded, CORRECTIONS_READ,
        ),
    ]  # fmt: skip


def _registered(bed: PartitionCopy, shop: str, plain: dict[str, Any] | None = None, **policy: Any) -> Record:
    return bed.control(_with_policy(bed.registration(shop) if plain is None else plain, **policy), route=shop)


def _with_policy(plain: dict[str, Any], **changes: Any) -> dict[str, Any]:
    policy = {
        "item": "fuse", "meter": "stock", "reorder_at": LOW, "quantity": PIECES, "unit_price": PRICE_MICROS,
        "supplier": operator_account(SUPPLIER_KEY), "budget": 100 * ORDER_MICROS,
    }  # fmt: skip
    stock = {"meter": "stock", "unit": "count", "kind": "level", "capacity_per_hour": 1_000}
    return plain | {"meters": [*plain["meters"], stock], "orders": [policy | changes]}


def _next(bed: PartitionCopy, document: dict[str, Any]) -> Record:
    return bed.control(document, route=document["route"], after_ms=90_000)


def _level(bed: PartitionCopy, shop: str, seq: int, level: int, after_ms: int = 0) -> Record:
    row = {"machine": shop, "meter": "stock", "boot": 1, "seq": seq, "level": level}
    after_ms = after_ms or seq * MINUTE_MS
    return bed.signed(
        bed.reading(row | {"observed_at": bed.now_ms + after_ms}, route=shop, after_ms=after_ms), OTHER_KEY
    )


def _receipt(bed: PartitionCopy, shop: str, key: bytes, after_ms: int = 2 * MINUTE_MS) -> Record:
    document = _order(shop) | {"observed_at": bed.now_ms + after_ms}
    value = msgspec.json.encode(document)
    return bed.signed(bed.raw(value, route=shop, after_ms=after_ms, kind=RECEIVED), key, kind=RECEIVED)


def _invoice(bed: PartitionCopy, shop: str, signer: bytes = SUPPLIER_KEY, **changes: Any) -> Record:
    document = _order(shop) | {"unit_price": PRICE_MICROS, "reference": "INV-1"} | changes
    return bed.control(document, INVOICED, route=shop, after_ms=3 * MINUTE_MS, signer=signer)


def _order(shop: str) -> dict[str, Any]:
    return {"machine": shop, "item": "fuse", "number": 1, "quantity": PIECES}
