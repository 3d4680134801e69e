"""Each cheat with orders is caught by the rule that should catch it; the same without the cheat is paid."""

import pytest

from deploy.attack import by_orders
from deploy.attack.by_orders import order_cheats
from deploy.attack.cheat import NOT_CAUGHT, Row
from deploy.attack.partition_copy import OTHER_KEY, PartitionCopy
from schemas.units import DAY_MS
from tests.support.archived_log import LOG, MACHINES, records_of

SAID: dict[str, tuple[str, str]] = {
    "an invoice above the order's price": ("rule 31", "reject: over_price"),
    "an invoice for goods that nobody received": ("rule 33", "nothing is due"),
    "a receipt signed with another machine's key": ("rule 30", "reject: bad_signature"),
    "an order invoiced twice": ("rule 31", "reject: order_closed"),
    "an invoice in the name of another supplier": ("rule 31", "reject: bad_signature"),
    "a level that oscillates about its threshold, to order often": ("rule 29", "one order of 7 dips"),
    "a budget spent at a month's end, and again the day after": ("rule 29", "two orders in 31 days"),
    "the goods of an open order, received with the key of who has sold the machine": (
        "rule 30",
        "reject: bad_signature",
    ),
    "goods taken, and their order cancelled": ("rule 32", "reject: order_received"),
    "an order's budget raised under a lock, by an operator that is the supplier": (
        "rule 23",
        "reject: agreement_locked",
    ),
    "the operator named as supplier under a lock": ("rule 23", "reject: agreement_locked"),
    "the operator sells to its own machine, within the budget that was there before the lock": (
        NOT_CAUGHT,
        "12.00 are due to the operator",
    ),
    "the operator refunds himself: a correction with his own account, under a lock": (
        NOT_CAUGHT,
        "0.30 are due to the operator",
    ),
}


@pytest.fixture(scope="module")
def bed() -> PartitionCopy:
    return PartitionCopy(LOG, 0, records_of(MACHINES[0], 2).records)


def test_each_is_caught_by_its_rule(bed: PartitionCopy) -> None:
    rows = [Row.of(cheat, cheat.run()) for cheat in order_cheats(bed)]
    assert {row.cheat: row.caught_by for row in rows} == {name: rule for name, (rule, _) in SAID.items()}
    assert all(row.as_expected and SAID[row.cheat][1] in row.said for row in rows)


def test_an_honest_order_is_paid(bed: PartitionCopy) -> None:
    shop = bed.name("shop")
    judged = bed.judge(
        by_orders._registered(bed, shop), by_orders._level(bed, shop, 1, by_orders.LOW),
        by_orders._receipt(bed, shop, OTHER_KEY), by_orders._invoice(bed, shop), bed.heartbeat(2 * DAY_MS),
    )  # fmt: skip
    assert (judged.reasons, judged.orders) == ((), 1)
    assert judged.expenses_micros == by_orders.PIECES * by_orders.PRICE_MICROS
