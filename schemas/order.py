"""Orders of machines, and the records that an order is paid by: a goods receipt and an invoice that match it."""

from msgspec import Struct

from schemas.units import Count, Id, Positive, Reason

PLACED = "order.placed"
RECEIVED = "goods.received"
INVOICED = "order.invoiced"
CANCELLED = "order.cancelled"


class Order(Struct, frozen=True, kw_only=True):
    """An order as a machine placed it: by the reading at `offset` and `row`, at stream time `placed_at` (epoch ms).

    `number` counts the orders of (machine, item) from 1. `unit_price` is micros.
    """

    machine: str
    item: str
    number: int
    quantity: int
    unit_price: int
    supplier: str
    placed_at: int
    offset: int
    row: int


class GoodsReceived(Struct, frozen=True, forbid_unknown_fields=True):
    """A `goods.received` record, signed by the machine: pieces of an order that arrived. Times are epoch ms."""

    machine: Id
    item: Id
    number: Positive
    quantity: Count
    observed_at: Count

    def is_valid(self) -> bool:
        """Types say all."""
        return True


class OrderInvoiced(Struct, frozen=True, forbid_unknown_fields=True):
    """An `order.invoiced` record, signed by the order's supplier. `unit_price` is micros; `reference` is theirs."""

    machine: Id
    item: Id
    number: Positive
    quantity: Count
    unit_price: Count
    reference: Id

    def is_valid(self) -> bool:
        """Types say all."""
        return True


class OrderCancelled(Struct, frozen=True, forbid_unknown_fields=True):
    """An `order.cancelled` record, signed by an operator."""

    machine: Id
    item: Id
    number: Positive
    reason: Reason

    def is_valid(self) -> bool:
        """Types say all."""
        return True
