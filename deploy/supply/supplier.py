"""A supplier: takes the orders of its account from their topic, delivers in simulation, and invoices each once.

(1) what was read is in the journal   (2) an invoice and its signature are in the journal   (3) it is in the log
(4) the journal says so

Killed before (4), the same bytes are sent again, and the log takes them as a duplicate. Its reference follows from the
order alone: a supplier that lost its journal says nothing new either, and one that changed its price is refused.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from deploy.machines.operator import Operator
from deploy.machines.register import control_record
from deploy.supply.journal import Supplied, SupplyJournal
from deploy.supply.orders_reader import OrderRecord
from deploy.texts import money
from files.write import Step, no_step
from schemas.log import Log
from schemas.order import INVOICED, Order, OrderInvoiced
from streams.core.murmur2 import partition_of
from streams.core.records import Record

LOOK_SECONDS = 0.2


class Orders(Protocol):
    """The topic of orders."""

    @property
    def is_at_end(self) -> bool:
        """Whether all that was there has been read."""
        ...

    def read(self, seconds: float) -> list[OrderRecord]:
        """What has come, perhaps nothing, after at most that long."""
        ...


class Supplier:
    """One account that sells items at a price each."""

    def __init__(
        self, log: Log, account: Operator, prices: Mapping[str, int], delay_ms: int, journal: SupplyJournal,
        orders: Orders, send: Callable[[list[Record]], None], say: Callable[[str], None], step: Step = no_step,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:  # fmt: skip
        """`prices` are micros by item. `send` returns once the log has acknowledged the records."""
        self._log = log
        self._account = account
        self._prices = prices
        self._delay_ms = delay_ms
        self._journal = journal
        self._orders = orders
        self._send = send
        self._say = say
        self._step = step
        self._now_ms = now_ms

    def run(self, *, once: bool) -> None:
        """Follows the topic; with `once` returns when all that was there is invoiced or declined."""
        self._send_signed()
        while True:
            self._take(self._orders.read(LOOK_SECONDS))
            self._deliver()
            self._send_signed()
            if once and self._orders.is_at_end and not self._journal.supplied("ordered"):
                return

    def _take(self, records: list[OrderRecord]) -> None:
        taken, positions = [], {}
        for record in records:
            positions[record.partition] = record.offset + 1
            order = self._order_of(record)
            if order is not None and order.supplier == self._account.address:
                taken.append(self._judged(order, record.key.decode()))
        if positions:
            # (1)
            self._journal.take(positions, taken)
            self._step("1 taken")

    def _judged(self, order: Order, route: str) -> Supplied:
        price = self._prices.get(order.item)
        name = f"{order.machine} {order.item} {order.number}"
        if price is None or price > order.unit_price:
            wanted = "have no price" if price is None else f"ask {money(price, self._log.currency)}"
            self._say(
                f"{name}: declined, it pays {money(order.unit_price, self._log.currency)} at most, and we {wanted}"
            )
            return Supplied(order=order, route=route, price_micros=0, due_ms=0, state="declined")
        self._say(f"{name}: {order.quantity:,} ordered, will be delivered (simulated)")
        due_ms = self._now_ms() + self._delay_ms
        return Supplied(order=order, route=route, price_micros=price, due_ms=due_ms, state="ordered")

    def _order_of(self, record: OrderRecord) -> Order | None:
        """The order of a record; None where it says none that an invoice could be of, whoever wrote that."""
        try:
            order = msgspec.json.decode(record.value, type=Order, strict=True)
            record.key.decode()
            msgspec.json.decode(_invoice(self._log, order, order.unit_price), type=OrderInvoiced)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            order = None
        if order is None or partition_of(record.key, self._log.partitions) != record.partition:
            self._say(f"partition {record.partition}, offset {record.offset}: passed over, it is no order")
            return None
        return order

    def _deliver(self) -> None:
        now_ms = self._now_ms()
        for each in self._journal.supplied("ordered"):
            order = each.order
            if each.due_ms > now_ms:
                continue
            value = _invoice(self._log, order, each.price_micros)
            signature = self._account.sign_record(self._log.log_id, each.route, INVOICED, value)
            # (2)
            self._journal.sign(order, value, signature)
            self._step("2 signed")
            self._say(
                f"{order.machine} {order.item} {order.number}: {order.quantity:,} delivered (simulated), invoiced at"
                f" {money(each.price_micros, self._log.currency)} each"
            )

    def _send_signed(self) -> None:
        signed = self._journal.supplied("signed")
        if not signed:
            return
        records = []
        for each in signed:
            record = control_record(each.route, INVOICED, each.invoice)
            records.append(record._replace(headers=(*record.headers, ("signature", each.signature))))
        # (3)
        self._send(records)
        self._step("3 sent")
        # (4)
        for each in signed:
            self._journal.acknowledge(each.order)
        self._step("4 acknowledged")


def _invoice(log: Log, order: Order, price: int) -> bytes:
    """The value of an order's invoice, the same each time. The reference is a digest: ids of machines may be long."""
    named = f"{log.log_id}\n{order.machine}\n{order.item}\n{order.number}"
    return msgspec.json.encode(
        OrderInvoiced(
            machine=order.machine, item=order.item, number=order.number, quantity=order.quantity, unit_price=price,
            reference=f"INV-{hashlib.sha256(named.encode()).hexdigest()[:32]}",
        )
    )  # fmt: skip
