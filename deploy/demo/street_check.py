"""What the street came to, held against what the log, its views and the topic of orders say: they must agree."""

from contextlib import closing

import msgspec
from msgspec import Struct

from deploy.cli.terminal import Terminal
from deploy.data_folder import DataFolder
from deploy.demo.street import Street
from deploy.demo.street_machines import ROBOT, account_of
from deploy.explain.query import query
from deploy.simulate.fleet import BEARING_MICROS
from deploy.simulate.fleet_days import BEARING, BEARINGS_ORDERED
from deploy.supply.orders_reader import OrdersReader
from deploy.texts import money
from schemas.errors import InvariantBroken
from schemas.order import Order

READ_S = 0.2


class StreetFigures(Struct, frozen=True, kw_only=True):
    """Money in and money spent: `paid` is what customers paid before, of which what they used was collected and the
    rest is refunded; `expenses` is what the robot's supplier is owed.
    """

    sessions: int
    paid_micros: int
    collected_micros: int
    refunds_micros: int
    orders: int
    expenses_micros: int
    currency: str


def checked(data: DataFolder, street: Street) -> StreetFigures:
    """The figures, by the analysts' views. Raises InvariantBroken where an order or a cent is another than foreseen."""
    foreseen = [
        (ROBOT, BEARING, number, BEARINGS_ORDERED, BEARING_MICROS, account_of("supplier"), placed_ms)
        for number, placed_ms in street.orders
    ]
    agree("the topic of orders", _of_topic(data), foreseen)
    columns = 'machine, item, "number", quantity, unit_price_micros, supplier, epoch_ms(placed)'
    viewed = query(data, f'SELECT {columns} FROM orders ORDER BY "number"').rows  # noqa: S608 - fixed words
    agree("the view of orders", [tuple(row) for row in viewed], foreseen)
    ((sessions, paid, collected, refunds),) = query(
        data,
        "SELECT (SELECT count(*) FROM sessions), (SELECT sum(paid_micros) FROM sessions),"
        " (SELECT sum(collected_micros) FROM windows),"
        " (SELECT sum(amount_micros) FROM dues WHERE kind = 'refund')",
    ).rows
    ((settled, expenses),) = query(data, "SELECT count(*), sum(amount_micros) FROM dues WHERE kind = 'expense'").rows
    figures = StreetFigures(
        sessions=int(str(sessions)), paid_micros=int(str(paid or 0)), collected_micros=int(str(collected or 0)),
        refunds_micros=int(str(refunds or 0)), orders=len(foreseen), expenses_micros=int(str(expenses or 0)),
        currency=data.log().currency,
    )  # fmt: skip
    agree("the sessions", figures.sessions, sum(street.sessions.values()))
    agree("what was paid for them", figures.paid_micros, street.paid_micros)
    agree("what was used and comes back", figures.collected_micros + figures.refunds_micros, street.paid_micros)
    agree("the orders that settled", settled, street.received)
    return figures


def show(terminal: Terminal, figures: StreetFigures) -> None:
    """Two lines of the demo's story."""
    paid, collected, refunds, expenses = (
        money(micros, figures.currency)
        for micros in (
            figures.paid_micros, figures.collected_micros, figures.refunds_micros, figures.expenses_micros,
        )
    )  # fmt: skip
    terminal.say(f"{'street':12}{figures.sessions} sessions, {paid} paid before: {collected} used, {refunds} back")
    terminal.say(f"{'':12}{figures.orders} orders of a robot, as its shelf foretold: {expenses} to a supplier")


def _of_topic(data: DataFolder) -> list[tuple[object, ...]]:
    """All orders that left the log, by number."""
    found = []
    with closing(OrdersReader(data.kafka_servers(), data.log(), {})) as reader:
        while not reader.is_at_end:
            found += [msgspec.json.decode(record.value, type=Order) for record in reader.read(READ_S)]
    return [
        (each.machine, each.item, each.number, each.quantity, each.unit_price, each.supplier, each.placed_at)
        for each in sorted(found, key=lambda each: each.number)
    ]


def agree(what: str, found: object, foreseen: object) -> None:
    """Raises InvariantBroken unless both are the same."""
    if found != foreseen:
        raise InvariantBroken(f"{what}: not as the street foresaw: {found}, not {foreseen}")
