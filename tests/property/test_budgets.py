"""However levels fall and whenever bills come: no thirty days of a machine cost more than an item's budget."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.reading import READING
from schemas.units import DAY_MS, HOUR_MS
from streams.core.signature import operator_account
from tests.property.test_bounds import meter, sealed, stock, tariff
from tests.support.dirty_trade import SUPPLIERS
from tests.support.signed_logs import key_of
from tests.support.written_log import Partition

PRICE, PIECES = 7, 3
MONTH_MS = 30 * DAY_MS
DAYS = 120


class Shop:
    """A machine that is always short of beans, its supplier, and what each order settled for, by stream time."""

    def __init__(self, draw: random.Random, budget: int) -> None:
        self._draw, self._partition, self._now_ms, self._seq = draw, Partition(), 0, 0
        self.number = 0
        self._missing: list[str] = []
        self._pieces: list[int] = []
        self.settled: list[tuple[int, int]] = []
        policy = {"item": "beans", "meter": "stock", "reorder_at": 5, "quantity": PIECES, "unit_price": PRICE,
                  "supplier": operator_account(SUPPLIERS[0]), "budget": budget}  # fmt: skip
        assert not self._partition.register(
            meters=[meter("stock", "level")], tariff=tariff(), keys=[key_of("k", 1)], orders=[policy]
        )

    def live(self) -> None:
        """Some days: a level, or the next record that the open order waits for."""
        while self._now_ms < DAYS * DAY_MS:
            self._now_ms += self._draw.choice((HOUR_MS, 9 * HOUR_MS, DAY_MS, 4 * DAY_MS, 13 * DAY_MS))
            if self._missing and self._draw.random() < 0.8:
                self._trade(self._missing.pop(self._draw.randrange(len(self._missing))))
            else:
                self._seq += 1
                assert not self._partition.send(READING, stock(self._seq, self._now_ms), self._now_ms)
                if self._partition.parts[-1].orders:
                    self.number += 1
                    self._missing = ["goods.received", "order.invoiced"]
                    self._pieces = [PIECES, PIECES, PIECES]

    def _trade(self, kind: str) -> None:
        order = {"machine": "m", "item": "beans", "number": self.number}
        pieces = self._draw.choice((PIECES, PIECES, 1, 0, 9))
        self._pieces.append(pieces)
        more = {"observed_at": self._partition.records[-1].timestamp} if kind == "goods.received" else {
            "unit_price": PRICE, "reference": str(self.number)}  # fmt: skip
        signer = {"device": 1} if kind == "goods.received" else {"account": SUPPLIERS[0]}
        assert not self._partition.sign_and_send(kind, order | {"quantity": pieces} | more, self._now_ms, **signer)
        if not self._missing:
            self.settled.append((self._now_ms, min(self._pieces) * PRICE))

    def dues(self) -> list[int]:
        """What the sealed windows owe for orders, in the order of time."""
        return [due.micros for window in sealed(self._partition, (DAYS + 40) * DAY_MS) for due in window.dues]


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from((1, 2, 3, 5)))
def test_no_thirty_days_cost_more_than_the_budget(seed: int, orders: int) -> None:
    shop = Shop(random.Random(seed), orders * PIECES * PRICE)
    shop.live()
    assert shop.dues() == [amount for _, amount in shop.settled if amount], "each order is settled once, as it should"
    for at_ms, _ in shop.settled:
        month = sum(amount for when_ms, amount in shop.settled if at_ms - MONTH_MS < when_ms <= at_ms)
        assert month <= orders * PIECES * PRICE


def test_budgets_hold_these_shops_back() -> None:
    def ordered(budget: int) -> int:
        shops = [Shop(random.Random(seed), budget) for seed in range(6)]
        for shop in shops:
            shop.live()
        return sum(shop.number for shop in shops)

    assert 12 < ordered(PIECES * PRICE) < ordered(100 * PIECES * PRICE)
