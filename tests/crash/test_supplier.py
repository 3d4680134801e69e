"""A supplier that dies at any step invoices each order once, for no more than its price."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.machines.operator import Operator
from deploy.supply.journal import SupplyJournal
from deploy.supply.orders_reader import OrderRecord
from deploy.supply.supplier import Supplier
from schemas.errors import InvalidInput
from schemas.order import Order
from settlement.chain.signer import Signer
from streams.core.control_step import take_control
from streams.core.records import Record
from streams.core.replay import advance_by_cuts
from streams.core.state import State
from tests.support.forked import FORKED
from tests.support.sim_log import HOURLY, START_MS, SUPPLIER, shop_records

pytestmark = pytest.mark.crash

ACCOUNT = Operator(Signer.from_key(SUPPLIER.hex()))
DIED = 9


def shop() -> tuple[State, Order]:
    """A log in which the shop has ordered, and that order."""
    state = State.new(HOURLY, 0)
    (order,) = [order for done, _ in advance_by_cuts(state, shop_records(0, START_MS)[:4]) for order in done.orders]
    return state, order


class MemoryOrders:
    """The topic of orders, from an offset on."""

    def __init__(self, journal: SupplyJournal, values: list[tuple[bytes, bytes]]) -> None:
        first = journal.positions().get(0, 0)
        self._left = [OrderRecord(0, place, *pair) for place, pair in enumerate(values) if place >= first]

    @property
    def is_at_end(self) -> bool:
        return not self._left

    def read(self, seconds: float) -> list[OrderRecord]:
        found, self._left = self._left, []
        return found


def supply(folder: Path, values: list[tuple[bytes, bytes]], price: int = 60_000, steps: int = 100) -> None:
    """Runs once, or dies after so many steps. What is sent is appended to a file."""
    left = iter(range(steps))

    def step(_: str) -> None:
        if next(left, None) is None:
            os._exit(DIED)

    def send(records: list[Record]) -> None:
        with (folder / "sent").open("ab") as file:
            file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))

    journal = SupplyJournal(folder / "journal.sqlite", HOURLY.log_id, ACCOUNT.address)
    orders = MemoryOrders(journal, values)
    Supplier(HOURLY, ACCOUNT, {"beans": price}, 0, journal, orders, send, lambda _: None, step).run(once=True)
    journal.close()


def sent(folder: Path) -> list[Record]:
    """What the log got, in its order."""
    lines = (folder / "sent").read_bytes().splitlines() if (folder / "sent").exists() else []
    return [
        record._replace(offset=100 + place, timestamp=START_MS)
        for place, record in enumerate(msgspec.json.decode(line, type=Record) for line in lines)
    ]


def in_child(*args: Any) -> int | None:
    child = FORKED.Process(target=supply, args=args)
    child.start()
    child.join(30)
    return child.exitcode


@pytest.mark.parametrize("steps", range(5))
def test_killed_at_each_step_an_order_is_invoiced_once(tmp_path: Path, steps: int) -> None:
    state, order = shop()
    values = [(b"shop", msgspec.json.encode(order))]
    assert in_child(tmp_path, values, 60_000, steps) == (DIED if steps < 4 else 0)
    assert in_child(tmp_path, values) == 0
    records = sent(tmp_path)
    assert 1 <= len(records) <= 2 and len({record.value for record in records}) == 1
    assert [take_control(state, record) for record in records] == [None, "duplicate"][: len(records)]
    invoice = state.machines["shop"].rare.orders["beans"].last.invoice
    assert invoice is not None and (invoice.quantity, invoice.unit_price) == (order.quantity, 60_000)


def test_one_that_lost_its_journal_and_raised_its_price_is_refused(tmp_path: Path) -> None:
    state, order = shop()
    values = [(b"shop", msgspec.json.encode(order))]
    supply(tmp_path, values)
    for path in tmp_path.glob("journal.*"):
        path.unlink()
    supply(tmp_path, values)
    for path in tmp_path.glob("journal.*"):
        path.unlink()
    supply(tmp_path, values, 70_000)
    assert [take_control(state, record) for record in sent(tmp_path)] == [None, "duplicate", "order_closed"]


def test_no_order_is_supplied_for_more_than_its_price_nor_another_s(tmp_path: Path) -> None:
    _, order = shop()
    other = msgspec.structs.replace(order, supplier="0x" + "1" * 40)
    supply(tmp_path, [(b"shop", msgspec.json.encode(each)) for each in (order, other)], 70_001)
    assert sent(tmp_path) == []
    journal = SupplyJournal(tmp_path / "journal.sqlite", HOURLY.log_id, ACCOUNT.address)
    assert [(each.order, each.state) for each in journal.supplied()] == [(order, "declined")]
    with pytest.raises(InvalidInput, match="another process supplies"):
        SupplyJournal(tmp_path / "journal.sqlite", HOURLY.log_id, ACCOUNT.address)
    journal.close()
    with pytest.raises(InvalidInput, match="is the journal of"):
        SupplyJournal(tmp_path / "journal.sqlite", "another", ACCOUNT.address)


def test_what_is_no_order_stops_nobody(tmp_path: Path) -> None:
    _, order = shop()
    whole = msgspec.json.encode(order)
    odd = [
        (b"\xff", whole), (b"shop", b""), (b"shop", b"[]"), (b"shop", b'{"machine":"shop"}'), (b"", whole[:-1]),
        *((b"shop", msgspec.json.encode(msgspec.structs.replace(order, **{name: value})))
          for name, value in (("machine", "a b"), ("item", ""), ("number", 0), ("quantity", -1), ("quantity", 2**60))),
    ]  # fmt: skip
    supply(tmp_path, [*odd, (b"shop", whole), (b"shop", whole)])
    assert len(sent(tmp_path)) == 1
