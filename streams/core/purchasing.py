"""Machines that buy: orders are placed, received, invoiced, cancelled and settled (rules 28 to 34)."""

from typing import NamedTuple

from schemas.order import GoodsReceived, Order, OrderCancelled, OrderInvoiced
from schemas.registration import OrderPolicy
from schemas.reject import Reason
from streams.core.control import Outcome, content_digest, opened
from streams.core.machines import Machine
from streams.core.open_window import Expense
from streams.core.orders import EARLY_MS, SETTLED, Invoice, ItemOrder, ItemOrders, Receipt
from streams.core.records import LogRecord
from streams.core.state import State
from streams.core.trust import trust_of


class Level(NamedTuple):
    """A level at or under one at which its meter orders; `now_ms` is stream time at its record (epoch ms)."""

    machine: str
    meter: str
    value: int
    observed_at: int
    now_ms: int
    offset: int
    row: int


def place_orders(state: State, level: Level) -> None:
    """Rule 29: what an accepted level orders, by the policies of the version in force at its stream time."""
    machine = state.machines[level.machine]
    registration = machine.version_at(level.now_ms).content.template
    for policy in registration.orders or ():
        if registration.retired or policy.meter != level.meter or level.value > policy.reorder_at:
            continue
        known = machine.rare.orders.get(policy.item)
        if known.may_order(policy, level.observed_at, level.now_ms) if known else policy.worth <= policy.budget:
            _place(state, machine, policy, level)


def _place(state: State, machine: Machine, policy: OrderPolicy, level: Level) -> None:
    orders, now_ms = machine.change_rare().orders, level.now_ms
    known = orders.get(policy.item)
    number = known.last.number + 1 if known else 1
    order = ItemOrder(number, policy.quantity, policy.unit_price, policy.supplier, now_ms)
    if known is None:
        known = orders[policy.item] = ItemOrders(order)
    known.last = order
    known.forget(now_ms)
    known.placed_ms.append(now_ms)
    state.touch(machine)
    state.placed.append(
        Order(
            machine=machine.machine,
            item=policy.item,
            number=number,
            quantity=policy.quantity,
            unit_price=policy.unit_price,
            supplier=policy.supplier,
            placed_at=now_ms,
            offset=level.offset,
            row=level.row,
        )
    )


def receive(state: State, record: LogRecord) -> Outcome:
    """Judges a `goods.received` record (rule 30)."""
    found = opened(state, record, GoodsReceived, by_operator=False)
    if not isinstance(found, tuple):
        return found
    receipt, plain, machine = found
    signature = state.signatures.of_device(record)
    if not (signature and trust_of(signature, machine.version_at(state.now_ms))):
        return "bad_signature"
    if receipt.observed_at > state.now_ms + state.ruleset.skew_ms:
        return "from_the_future"
    order = _order(machine, receipt)
    if not isinstance(order, ItemOrder):
        return order
    if receipt.observed_at < order.placed_at - EARLY_MS:
        return "too_late"
    digest = content_digest(plain)
    if order.receipt is not None and order.receipt.digest == digest:
        return "duplicate"
    if order.receipt is not None or not order.is_open(state.now_ms):
        return "order_closed"
    order.receipt = Receipt(receipt.quantity, receipt.observed_at, state.now_ms, digest)
    _settle(state, machine, receipt.item, order, record.offset)
    return None


def invoice(state: State, record: LogRecord) -> Outcome:
    """Judges an `order.invoiced` record (rule 31)."""
    found = opened(state, record, OrderInvoiced, by_operator=False)
    if not isinstance(found, tuple):
        return found
    invoiced, plain, machine = found
    order = _order(machine, invoiced)
    if not isinstance(order, ItemOrder):
        return order
    if state.signatures.account_of(record) != order.supplier:
        return "bad_signature"
    digest = content_digest(plain)
    if order.invoice is not None and order.invoice.digest == digest:
        return "duplicate"
    if order.invoice is not None or not order.is_open(state.now_ms):
        return "order_closed"
    if invoiced.unit_price > order.unit_price:
        return "over_price"
    order.invoice = Invoice(invoiced.quantity, invoiced.unit_price, digest)
    _settle(state, machine, invoiced.item, order, record.offset)
    return None


def cancel(state: State, record: LogRecord) -> Outcome:
    """Judges an `order.cancelled` record (rule 32)."""
    found = opened(state, record, OrderCancelled, by_operator=True)
    if not isinstance(found, tuple):
        return found
    cancelled, plain, machine = found
    order = _order(machine, cancelled)
    if not isinstance(order, ItemOrder):
        return order
    digest = content_digest(plain)
    if order.ended == digest:
        return "duplicate"
    if not order.is_open(state.now_ms):
        return "order_closed"
    if order.receipt is not None and order.receipt.quantity:
        return "order_received"
    order.ended = digest
    state.touch(machine)
    return None


def _order(machine: Machine, record: GoodsReceived | OrderInvoiced | OrderCancelled) -> ItemOrder | Reason:
    """The order that a record is about, which is the last of its item."""
    known = machine.rare.orders.get(record.item)
    if known is None or record.number > known.last.number:
        return "unknown_order"
    return "order_closed" if record.number < known.last.number else known.last


def _settle(state: State, machine: Machine, item: str, order: ItemOrder, offset: int) -> None:
    """Rule 33: what the order, its receipt and its invoice agree on is due to the supplier."""
    state.touch(machine)
    micros = order.settlement()
    if micros is None:
        return
    order.ended = SETTLED
    machine.change_rare().orders[item].settled.append((state.now_ms, micros))
    if micros:
        extras = state.add_to_window(state.now_key(machine.machine), offset)
        extras.expenses.append(Expense(item, order.number, order.supplier, micros))
