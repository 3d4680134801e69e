"""The orders of machines, and what became of each; an operator may cancel one that nothing has arrived for.

A worker found the orders, in the views of its data folder; the log is read for their receipts, invoices and
cancellations, which the real core judges.
"""

import time
from collections.abc import Callable
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.query import query
from deploy.machines.new_log import operator_of
from deploy.machines.register import control_record, signed
from deploy.machines.registry import PlacedOrder, Registry
from deploy.machines.send import send
from schemas.errors import InvalidInput
from schemas.order import CANCELLED, Order, OrderCancelled
from streams.core.orders import SETTLED
from streams.kafka.reader import KafkaLogReader

Step = Callable[[str], None]
State = Literal["open", "settled", "cancelled", "lapsed"]
STATES: tuple[State, ...] = get_args(State)

REMEDIES = {
    "order_closed": "it is settled, cancelled or lapsed: `tallyroot orders` says which",
    "order_received": "its goods have arrived: the supplier is paid what an invoice of it asks for",
    "unknown_order": "`tallyroot orders` lists the orders of the log",
    "bad_signature": "the key is not of an operator of this log: set TALLYROOT_OPERATOR_KEY, _KEYSTORE or _SIGNER",
    "malformed": "a reason has 1 to 256 characters",
}
"""What to do about each reason for which a cancellation is refused."""


class OrderRow(Struct, frozen=True, kw_only=True):
    """An order: its terms, the pieces received and invoiced (null: not yet), and what it settled for.

    A settled order whose receipt or invoice has no pieces settled for 0.
    """

    machine: str
    item: str
    number: int
    state: State
    placed_ms: int
    quantity: int
    unit_price_micros: int
    supplier: str
    received: int | None
    invoiced: int | None
    invoiced_price_micros: int | None
    amount_micros: int | None
    currency: str


class OrdersShown(Struct, frozen=True):
    """Orders, in the order of placing."""

    orders: list[OrderRow]


class CancelledOrder(Struct, frozen=True, kw_only=True):
    """An order that the log took the cancellation of."""

    machine: str
    item: str
    number: int
    reason: str


def listed(data: DataFolder, step: Step, machine: str | None, state: str | None) -> OrdersShown:
    """The orders of the log (or of a machine, or in a state), as of now. Raises InvalidInput."""
    if state is not None and state not in STATES:
        raise InvalidInput(f"'{state}' is no state of an order: choose {', '.join(STATES)}")
    registry = _registry(data, step, machine)
    rows = [_row(registry, each, data.log().currency) for each in registry.orders]
    found = sorted(rows, key=lambda row: (row.placed_ms, row.machine, row.item, row.number))
    return OrdersShown([row for row in found if state in (None, row.state)])


def cancel(data: DataFolder, step: Step, machine: str, item: str, number: int, reason: str) -> CancelledOrder:
    """Cancels an order and reads back that the log took it. Raises InvalidInput for one that the log would refuse."""
    cancelled = OrderCancelled(machine=machine, item=item, number=number, reason=reason.strip())
    value = msgspec.json.encode(cancelled)
    try:
        msgspec.json.decode(value, type=OrderCancelled)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"an order can't be cancelled like this ({error}): see `tallyroot orders`") from None
    log, registry = data.log(), _registry(data, step, machine)
    record = control_record(registry.registered(machine).route, CANCELLED, value)
    now_ms = time.time_ns() // 1_000_000
    _require_taken(cancelled, registry.judge(record, now_ms)[0])
    record = signed(log, operator_of(data), record)
    (verdict,) = send(log, data.kafka_servers(), registry, [record], now_ms, lambda _: None)
    _require_taken(cancelled, verdict)
    return CancelledOrder(machine=machine, item=item, number=number, reason=cancelled.reason)


def _require_taken(cancelled: OrderCancelled, verdict: str | None) -> None:
    if verdict is not None:
        name = f"{cancelled.machine} {cancelled.item} {cancelled.number}"
        raise InvalidInput(f"{name}: the log refuses it ({verdict}): {REMEDIES.get(verdict, 'see the rules')}")


def _registry(data: DataFolder, step: Step, machine: str | None) -> Registry:
    log = data.log()
    placed: dict[int, list[Order]] = {}
    columns = 'machine, item, number, quantity, unit_price_micros, supplier, epoch_ms(placed), "offset", "row"'
    for number, *values in query(data, f'SELECT "partition", {columns} FROM orders').rows:  # noqa: S608 - constants
        order = msgspec.convert(dict(zip(Order.__struct_fields__, values, strict=True)), Order)
        if machine in (None, order.machine):
            placed.setdefault(int(str(number)), []).append(order)
    for orders in placed.values():
        orders.sort(key=lambda order: (order.offset, order.row))
    reader = KafkaLogReader(data.kafka_servers(), log.topic, 0, data.skipped_ranges())
    registry = Registry(log, reader, None if machine is None else [machine], placed)
    registry.read(lambda count: step(f"  {count:,} records of the log read"))
    return registry


def _row(registry: Registry, placed: PlacedOrder, currency: str) -> OrderRow:
    order, outcome = placed
    receipt, invoice, micros = outcome.receipt, outcome.invoice, outcome.settlement()
    now_ms = registry.stream_time_ms(registry.partition_of(registry.registered(order.machine).route)) or 0
    if outcome.ended:
        state: State = "settled" if outcome.ended == SETTLED else "cancelled"
    else:
        state = "open" if outcome.is_open(now_ms) else "lapsed"
    return OrderRow(
        machine=order.machine, item=order.item, number=order.number, state=state,
        placed_ms=order.placed_at, quantity=order.quantity,
        unit_price_micros=order.unit_price, supplier=order.supplier,
        received=None if receipt is None else receipt.quantity,
        invoiced=None if invoice is None else invoice.quantity,
        invoiced_price_micros=None if invoice is None else invoice.unit_price,
        amount_micros=micros if state == "settled" else None, currency=currency,
    )  # fmt: skip
