"""Each cheat with orders is caught by the rule that should catch it; the same without the cheat is paid."""

import pytest

from deploy.attack import by_orders
from deploy.attack.by_orders import order_cheats
from deploy.attack.cheat import Row
from deploy.attack.partition_copy import OTHER_KEY, PartitionCopy
from schemas.units import DAY_MS
from tests.support.archived_log import LOG, MACHINES, records_of

SAID = {
    "an invoice above the order's price": ("rule 31", "reject: over_price"),
    "an invoice for goods that nobody received": ("rule 33", "nothing is due"),
    "a receipt signed with another machine's key": ("rule 30", "reject: bad_signature"),
    "an order invoiced twice": ("rule 31", "reject: order_closed"),
    "a level that oscillates about its threshold, to order often": ("rule 29", "one order of 7 dips"),
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
