"""Cheats with what machines order: suppliers who bill too much, too early or twice, and meters that order too often.

Each is tried on a machine of the attack's own, which orders ten fuses once its stock is at two.
"""

from typing import Any

import msgspec

from deploy.attack.cheat import PAYEES, Cheat, Outcome
from deploy.attack.partition_copy import OTHER_KEY, SUPPLIER_KEY, VICTIM_KEY, PartitionCopy
from schemas.order import INVOICED, RECEIVED
from schemas.units import DAY_MS, MINUTE_MS
from streams.core.records import Record
from streams.core.signature import operator_account

PRICE_MICROS = 1_200_000
PIECES = 10
LOW, FULL = 2, 50
DIPS = 6
HONEST = 2
"""A registration and a level come before each cheat."""


def order_cheats(bed: PartitionCopy) -> list[Cheat]:
    """All cheats, in the order of the table."""
    shop = bed.name("shop")
    before = (_registered(bed, shop), _level(bed, shop, 1, LOW))
    receipt, dear = _receipt(bed, shop, OTHER_KEY), _invoice(bed, shop, unit_price=PRICE_MICROS + 1)

    def unreceived() -> Outcome:
        judged = bed.judge(*before, _invoice(bed, shop), bed.heartbeat(2 * DAY_MS))
        if judged.reasons or judged.orders != 1 or judged.expenses_micros:
            return judged.accepted()
        return judged.watch.outcome("rule 33", "nothing is due before the machine has received the goods")

    def twice() -> Outcome:
        again = _invoice(bed, shop, reference="another")
        judged = bed.judge(*before, receipt, _invoice(bed, shop), again, bed.heartbeat(2 * DAY_MS))
        if judged.expenses_micros != PIECES * PRICE_MICROS:
            return judged.accepted()
        return judged.refused(31, "order_closed", honest=HONEST + 3)

    def oscillating() -> Outcome:
        levels = [_level(bed, shop, 2 + dip, (FULL, LOW)[dip % 2]) for dip in range(2 * DIPS)]
        judged = bed.judge(*before, *levels)
        if judged.reasons or judged.orders != 1:
            return judged.accepted()
        return judged.watch.outcome("rule 29", f"one order of {1 + DIPS} dips: the first one is open")

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
        Cheat("a level that oscillates about its threshold, to order often", "machine", PAYEES, oscillating),
    ]  # fmt: skip


def _registered(bed: PartitionCopy, shop: str) -> Record:
    plain = bed.registration(shop)
    policy = {
        "item": "fuse", "meter": "stock", "reorder_at": LOW, "quantity": PIECES, "unit_price": PRICE_MICROS,
        "supplier": operator_account(SUPPLIER_KEY), "budget": 100 * PIECES * PRICE_MICROS,
    }  # fmt: skip
    stock = {"meter": "stock", "unit": "count", "kind": "level", "capacity_per_hour": 1_000}
    return bed.control(plain | {"meters": [*plain["meters"], stock], "orders": [policy]}, route=shop)


def _level(bed: PartitionCopy, shop: str, seq: int, level: int) -> Record:
    row = {"machine": shop, "meter": "stock", "boot": 1, "seq": seq, "level": level}
    after_ms = seq * MINUTE_MS
    return bed.signed(
        bed.reading(row | {"observed_at": bed.now_ms + after_ms}, route=shop, after_ms=after_ms), OTHER_KEY
    )


def _receipt(bed: PartitionCopy, shop: str, key: bytes) -> Record:
    document = _order(shop) | {"observed_at": bed.now_ms + 2 * MINUTE_MS}
    value = msgspec.json.encode(document)
    return bed.signed(bed.raw(value, route=shop, after_ms=2 * MINUTE_MS, kind=RECEIVED), key, kind=RECEIVED)


def _invoice(bed: PartitionCopy, shop: str, **changes: Any) -> Record:
    document = _order(shop) | {"unit_price": PRICE_MICROS, "reference": "INV-1"} | changes
    return bed.control(document, INVOICED, route=shop, after_ms=3 * MINUTE_MS, signer=SUPPLIER_KEY)


def _order(shop: str) -> dict[str, Any]:
    return {"machine": shop, "item": "fuse", "number": 1, "quantity": PIECES}
