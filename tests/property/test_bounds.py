"""What a partition holds at most (rules 7, 8, 16, 20, 21, 28, 29 and 35): at each bound, and one beyond it.

The core and the slow text judge the same records; the expected values come from the rules.
"""

from typing import Any

import pytest

from schemas.payment import PAID
from schemas.reading import READING
from schemas.units import CARRY_BASE, COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from schemas.window import Window
from streams.core.signature import operator_account
from streams.reference.recount import PartitionRecount, plain_windows
from tests.support.dirty_trade import SUPPLIERS
from tests.support.signed_logs import key_of
from tests.support.written_log import ONE, START_MS, Partition

Plain = dict[str, Any]
PAYER = "0x" + "d" * 40


def component(meter: str, price: int, per: int = 1) -> Plain:
    return {"meter": meter, "price": price, "per": per}


def meter(name: str, kind: str, **more: Any) -> Plain:
    return {"meter": name, "unit": "x", "kind": kind, "capacity_per_hour": COUNT_MAX} | more


def tariff(*components: Plain) -> Plain:
    return {"elements": [{"components": list(components)}], "offsets": [[0, 0]]}


def quantity(meter: str, seq: int, at_ms: int, count: int = 1, **more: Any) -> Plain:
    return {"machine": "m", "meter": meter, "boot": 1, "seq": seq, "observed_at": START_MS + at_ms,
            "quantity": count} | more  # fmt: skip


def stock(seq: int, at_ms: int) -> Plain:
    return {"machine": "m", "meter": "stock", "boot": 1, "seq": seq, "observed_at": START_MS + at_ms, "level": 5}


def sealed(partition: Partition, at_ms: int = DAY_MS) -> list[Window]:
    """All windows, once the slow text has found the same of all records."""
    windows = partition.seal(at_ms)
    recount = PartitionRecount(ONE).take(partition.records)
    assert recount.rejects == [(one.offset, one.row, one.reason) for part in partition.parts for one in part.rejects]
    assert plain_windows(windows) == [{k: v for k, v in one.items() if k != "by"} for one in recount.sealed]
    assert len(recount.orders.placed) == sum(len(part.orders) for part in partition.parts)
    return windows


def test_a_window_has_256_lines_and_no_more() -> None:
    """32 meters with another price each minute: 15 minutes would be 480 lines."""
    names = [f"q{number}" for number in range(32)]
    elements = [
        {"components": [component(name, minute + 1) for name in names],
         "restrictions": {"start_time": f"00:{minute:02}", "end_time": f"00:{minute + 1:02}"}}
        for minute in range(15)
    ]  # fmt: skip
    partition = Partition()
    assert not partition.register(
        meters=[meter(name, "quantity") for name in names], tariff={"elements": elements, "offsets": [[0, 0]]}
    )
    for minute in range(9):
        rows = [quantity(name, minute, minute * MINUTE_MS + 1) for name in names]
        refused = partition.send(READING, rows, minute * MINUTE_MS + 1)
        assert refused == (["too_high"] * 32 if minute == 8 else [])
    # The lines that are there take more; a correction can't add one either.
    assert not partition.send(READING, quantity("q0", 99, MINUTE_MS), 9 * MINUTE_MS)
    assert partition.correct(1, 5, 8 * MINUTE_MS + 1, 9 * MINUTE_MS, meter="q0") == ["too_high"]
    assert not partition.correct(1, 5, MINUTE_MS, 9 * MINUTE_MS, meter="q0")
    [window] = sealed(partition)
    assert len(window.lines) == 256
    assert window.readings == 8 * 32 + 1


@pytest.mark.parametrize(("price", "most"), [(2**53, 1), (-(2**53), 1), (2**52, 2), (1, 2**53), (0, 2**53)])
def test_a_line_is_worth_2_53_micros_and_no_more(price: int, most: int) -> None:
    partition = Partition()
    meters = [meter("trips", "quantity", burst=COUNT_MAX)]
    assert not partition.register(meters=meters, tariff=tariff(component("trips", price)))
    row = quantity("trips", 1, 1, min(most, COUNT_MAX))
    assert not partition.send(READING, row, 1)
    assert partition.send(READING, quantity("trips", 2, 2), 2) == ["too_high"]
    assert partition.send(READING, quantity("trips", 2, 2), 2) == []  # Its number is used up.
    # A whole part of the same line fits 2^53 once more where the price is for two units.
    assert partition.correct(1, -1, 1, 3) == []
    assert not partition.send(READING, quantity("trips", 3, 4), 4)
    [window] = sealed(partition)
    assert [(line.usage, line.amount_micros) for line in window.lines] == [(most, most * price)]


def payment(version: int, session: str, **more: Any) -> Plain:
    return {"machine": "m", "version": version, "session": session, "payer": PAYER, "amount": 5,
            "valid_until": START_MS + HOUR_MS, "block": version, "transaction": "0x" + "0" * 64,
            "log_index": 0} | more  # fmt: skip


def test_256_sessions_are_open_and_no_more() -> None:
    partition = Partition()
    assert not partition.register()
    for number in range(1, 258):
        assert not partition.send(PAID, payment(number, f"s{number:03}"), 0)
    assert not partition.send(PAID, payment(258, "s256"), 0)  # A top-up opens nothing.
    assert partition.state.deposits_micros() == 258 * 5
    returned, closed = sealed(partition)
    assert [(one.session, one.paid_micros) for one in returned.sessions] == [("s257", 5)]
    assert len(closed.sessions) == 256
    assert closed.start_ms <= START_MS + HOUR_MS - 1 < closed.end_ms
    assert partition.state.deposits_micros() == 0


def test_a_session_takes_2_53_micros_and_uses_2_53_and_no_more() -> None:
    partition = Partition()
    prices = tariff(component("trips", 2**53), component("more", 1, CARRY_BASE))
    meters = [meter("trips", "quantity", burst=COUNT_MAX), meter("more", "quantity")]
    assert not partition.register(meters=meters, tariff=prices)
    assert not partition.send(PAID, payment(1, "s", amount=2**53), 0)
    assert not partition.send(PAID, payment(2, "s"), 0)  # Returned: more than 2^53 would be paid.
    in_session = {"session": "s", "session_started_at": START_MS}
    assert not partition.send(READING, quantity("trips", 1, 1, **in_session), 1)
    # A part of a micro is too much, in another window too; out of the session it is not.
    later_ms = 20 * MINUTE_MS
    assert partition.send(READING, quantity("more", 1, later_ms, **in_session), later_ms) == ["too_high"]
    assert not partition.send(READING, quantity("more", 2, later_ms), later_ms)
    windows = sealed(partition)
    found = [(one.paid_micros, one.used_micros, one.refund_micros) for window in windows for one in window.sessions]
    assert found == [(5, 0, 5), (2**53, 2**53, 0)]


def test_64_orders_in_30_days_and_no_more() -> None:
    policy = {"item": "beans", "meter": "stock", "reorder_at": 5, "quantity": 1, "unit_price": 7,
              "supplier": operator_account(SUPPLIERS[0]), "budget": 7}  # fmt: skip
    partition = Partition()
    assert not partition.register(meters=[meter("stock", "level")], tariff=tariff(), keys=[key_of("k", 1)],
                                  orders=[policy])  # fmt: skip

    def level(seq: int, at_ms: int) -> int:
        assert not partition.send(READING, stock(seq, at_ms), at_ms)
        return len(partition.parts[-1].orders)

    def cancel(number: int, at_ms: int) -> None:
        document = {"machine": "m", "item": "beans", "number": number, "reason": "not now"}
        assert not partition.send("order.cancelled", document, at_ms)

    placed = 0
    for number in range(1, 67):
        placed += level(number, number * SECOND_MS)
        if placed == number:
            cancel(number, number * SECOND_MS)
    assert placed == 64
    assert level(70, 30 * DAY_MS + 500) == 0
    assert level(71, 30 * DAY_MS + SECOND_MS) == 1  # The first of them was placed 30 days ago.
    sealed(partition, 40 * DAY_MS)


def test_256_items_and_no_more() -> None:
    def policies(first: int) -> list[Plain]:
        return [
            {"item": f"i{first + number}", "meter": "stock", "reorder_at": 0, "quantity": 1, "unit_price": 1,
             "supplier": PAYER, "budget": 0}
            for number in range(16)
        ]  # fmt: skip

    partition = Partition()
    stock: Plain = {"meters": [meter("stock", "level")], "tariff": tariff()}
    for version in range(1, 17):
        assert not partition.register(version, orders=policies(16 * (version - 1)), **stock)
    assert partition.register(17, orders=policies(1_000), **stock) == ["malformed"]
    assert partition.register(17, orders=[*policies(0), policies(16)[0]], **stock) == ["malformed"]  # 17 of them
    assert not partition.register(17, orders=policies(0), **stock)
    sealed(partition)


def test_only_orders_within_the_budget_and_only_receipts_by_the_machine() -> None:
    """Two orders of 7 within a budget of 10: the second waits for 30 days after the first was settled."""
    policy = {"item": "beans", "meter": "stock", "reorder_at": 5, "quantity": 1, "unit_price": 7,
              "supplier": operator_account(SUPPLIERS[0]), "budget": 10}  # fmt: skip
    partition = Partition()
    assert not partition.register(meters=[meter("stock", "level")], tariff=tariff(), keys=[key_of("k", 1)],
                                  orders=[policy])  # fmt: skip
    receipt = {"machine": "m", "item": "beans", "number": 1, "quantity": 9, "observed_at": START_MS + 2}
    assert not partition.send(READING, stock(1, 1), 1)
    assert partition.send("goods.received", receipt, 2) == ["bad_signature"]
    assert partition.sign_and_send("goods.received", receipt, 2, device=2) == ["bad_signature"]
    assert not partition.sign_and_send("goods.received", receipt, 2, device=1)
    invoice = {"machine": "m", "item": "beans", "number": 1, "quantity": 9, "unit_price": 7, "reference": "1"}
    assert not partition.sign_and_send("order.invoiced", invoice, 3, account=SUPPLIERS[0])
    for seq, at_ms in enumerate((4, DAY_MS, 30 * DAY_MS + 2), 2):
        assert not partition.send(READING, stock(seq, at_ms), at_ms)
        assert not partition.parts[-1].orders
    assert not partition.send(READING, stock(9, 30 * DAY_MS + 3), 30 * DAY_MS + 3)
    assert [order.number for order in partition.parts[-1].orders] == [2]
    windows = sealed(partition, 40 * DAY_MS)
    assert [(due.micros, window.net_micros) for window in windows for due in window.dues] == [(7, -7)]
