"""Orders: placed by levels, closed by receipt and invoice, by cancelling, or by time (rules 28 to 34, and 40)."""

from collections import defaultdict
from dataclasses import dataclass

from schemas.units import DAY_MS, MINUTE_MS
from streams.reference.entries import Plain, Refused

EARLY_MS = 5 * MINUTE_MS
SPENT_OVER_MS = 30 * DAY_MS
LAPSES_AFTER_MS = 90 * DAY_MS
ORDERS_MAX = 64
TERMS = ("machine", "item", "number", "quantity", "unit_price", "supplier", "placed_at", "offset", "row")


@dataclass
class Order:
    """One order, under the terms of its placing; receipt, invoice and cancelling are the records that count."""

    machine: str
    item: str
    number: int
    quantity: int
    unit_price: int
    supplier: str
    placed_at: int
    offset: int
    row: int
    receipt: Plain | None = None
    received_at: int = 0
    invoice: Plain | None = None
    cancelling: Plain | None = None
    settled_at: int | None = None

    @property
    def terms(self) -> Plain:
        """What was placed (rule 40)."""
        return {name: part for name, part in vars(self).items() if name in TERMS}

    @property
    def amount(self) -> int:
        """What it settles for: the least of ordered, received and invoiced pieces (rule 33)."""
        if self.receipt is None or self.invoice is None:
            return 0
        pieces = min(self.quantity, self.receipt["quantity"], self.invoice["quantity"])
        return int(pieces * self.invoice["unit_price"])

    def state(self, now: int) -> str:
        """open, settled, cancelled or lapsed, for whoever asks at a stream time."""
        if self.settled_at is not None:
            return "settled"
        if self.cancelling is not None:
            return "cancelled"
        return "lapsed" if now >= max(self.placed_at, self.received_at) + LAPSES_AFTER_MS else "open"


class OrderBook:
    """All orders of a partition, by machine and item, in the order of placing."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], list[Order]] = defaultdict(list)
        self.placed: list[Order] = []

    def place(self, version: Plain, level: Plain, now: int, offset: int, row: int) -> None:
        """Places what the policies of a version ask for after a level was accepted (rule 29)."""
        for policy in version.get("orders", ()):
            past = self.of[version["machine"], policy["item"]]
            if policy["meter"] == level["meter"] and self.is_due(policy, past, level, now):
                order = Order(version["machine"], policy["item"], len(past) + 1, policy["quantity"],
                              policy["unit_price"], policy["supplier"], now, offset, row)  # fmt: skip
                past.append(order)
                self.placed.append(order)

    def is_due(self, policy: Plain, past: list[Order], level: Plain, now: int) -> bool:
        """Whether a policy places an order at a level (rule 29). `past` are the orders of its item."""
        since = now - SPENT_OVER_MS
        receipt = past[-1].receipt if past else None
        spent = sum(order.amount for order in past if order.settled_at is not None and order.settled_at > since)
        return (
            level["level"] <= policy["reorder_at"]
            and not any(order.state(now) == "open" for order in past)
            and (receipt is None or level["observed_at"] > receipt["observed_at"])
            and sum(order.placed_at > since for order in past) < ORDERS_MAX
            and spent + policy["quantity"] * policy["unit_price"] <= policy["budget"]
        )

    def named(self, content: Plain) -> Order:
        """The last order of an item, if a record names it. Raises Refused."""
        past = self.of[content["machine"], content["item"]]
        if content["number"] > len(past):
            raise Refused("unknown_order")
        if content["number"] < len(past):
            raise Refused("order_closed")
        return past[-1]

    def receive(self, content: Plain, now: int) -> Order:
        """A receipt of goods (rule 30, from `unknown_order` on); returns its order. Raises Refused."""
        order = self.named(content)
        if content["observed_at"] < order.placed_at - EARLY_MS:
            raise Refused("too_late")
        if order.receipt == content:
            raise Refused("duplicate")
        if order.receipt is not None or order.state(now) != "open":
            raise Refused("order_closed")
        order.receipt, order.received_at = content, now
        return _settled(order, now)

    def bill(self, content: Plain, now: int, is_by_supplier: bool) -> Order:
        """An invoice for an order that `named` found (rule 31, from `bad_signature` on). Raises Refused."""
        order = self.named(content)
        if not is_by_supplier:
            raise Refused("bad_signature")
        if order.invoice == content:
            raise Refused("duplicate")
        if order.invoice is not None or order.state(now) != "open":
            raise Refused("order_closed")
        if content["unit_price"] > order.unit_price:
            raise Refused("over_price")
        order.invoice = content
        return _settled(order, now)

    def cancel(self, content: Plain, now: int) -> None:
        """Cancels an order (rule 32, from `unknown_order` on). Raises Refused."""
        order = self.named(content)
        if order.cancelling == content:
            raise Refused("duplicate")
        if order.state(now) != "open":
            raise Refused("order_closed")
        if order.receipt is not None and order.receipt["quantity"] > 0:
            raise Refused("order_received")
        order.cancelling = content


def _settled(order: Order, now: int) -> Order:
    """The order, settled if receipt and invoice are both there (rule 33)."""
    if order.receipt is not None and order.invoice is not None:
        order.settled_at = now
    return order
