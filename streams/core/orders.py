"""The orders of one machine for one item, and when another may be placed (rules 28 to 34)."""

from msgspec import Struct

from schemas.registration import OrderPolicy
from schemas.units import DAY_MS, MINUTE_MS

SPAN_MS = 30 * DAY_MS
"""Budgets and the number of orders count over so long."""

PLACED_MAX = 64
"""The most orders of an item within 30 days."""

LAPSE_MS = 90 * DAY_MS
SETTLED = "settled"
EARLY_MS = 5 * MINUTE_MS
"""So long before an order was placed its receipt may have been observed: clocks differ."""


class Receipt(Struct, frozen=True, array_like=True):
    """What arrived. `observed_at` is the machine's, `received_at` stream time; the digest (hex) is of the record."""

    quantity: int
    observed_at: int
    received_at: int
    digest: str


class Invoice(Struct, frozen=True, array_like=True):
    """What the supplier asks for; the digest (hex) is of the record."""

    quantity: int
    unit_price: int
    digest: str


class ItemOrder(Struct, array_like=True):
    """The last order of an item, under the terms of its placing. `ended` is empty while it is open."""

    number: int
    quantity: int
    unit_price: int
    supplier: str
    placed_at: int
    receipt: Receipt | None = None
    invoice: Invoice | None = None
    ended: str = ""
    """SETTLED, or the digest (hex) of the record that cancelled it."""

    def is_open(self, now_ms: int) -> bool:
        """Neither settled nor cancelled, nor lapsed: 90 days after its placing, or after its receipt (rule 34)."""
        since_ms = self.placed_at if self.receipt is None else max(self.placed_at, self.receipt.received_at)
        return not self.ended and now_ms < since_ms + LAPSE_MS

    def settlement(self) -> int | None:
        """Rule 33: the amount (micros) of the three that match; None while one is missing."""
        if self.receipt is None or self.invoice is None:
            return None
        return min(self.quantity, self.receipt.quantity, self.invoice.quantity) * self.invoice.unit_price


class ItemOrders(Struct, array_like=True):
    """All that is kept of an item: the last order, and what was placed and settled in 30 days of stream time."""

    last: ItemOrder
    placed_ms: list[int] = []
    settled: list[tuple[int, int]] = []
    """(stream time, micros)."""

    def forget(self, now_ms: int) -> None:
        """Drops what lies 30 days back."""
        self.placed_ms = [at for at in self.placed_ms if at > now_ms - SPAN_MS]
        self.settled = [(at, micros) for at, micros in self.settled if at > now_ms - SPAN_MS]

    def may_order(self, policy: OrderPolicy, observed_at: int, now_ms: int) -> bool:
        """Rule 29, for an item that was ordered before: none is open, its receipt is older, and the budget holds."""
        if self.last.is_open(now_ms):
            return False
        if self.last.receipt is not None and observed_at <= self.last.receipt.observed_at:
            return False
        if sum(at > now_ms - SPAN_MS for at in self.placed_ms) >= PLACED_MAX:
            return False
        spent = sum(micros for at, micros in self.settled if at > now_ms - SPAN_MS)
        return spent + policy.worth <= policy.budget
