"""What became of orders, as `tallyroot orders` finds it: a registry that is given them agrees with the whole core."""

from typing import Any

import msgspec

from deploy.machines.registry import Registry
from schemas.order import CANCELLED, Order
from schemas.reading import READING
from schemas.units import DAY_MS, HOUR_MS
from streams.core.orders import SETTLED
from streams.core.records import Record
from streams.core.replay import advance_by_cuts
from streams.core.state import State
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, shop_record, shop_records


def level(offset: int, moment: int, seq: int) -> Record:
    document = {"machine": "shop", "boot": 1, "meter": "stock", "seq": seq, "level": 2, "observed_at": moment}
    return shop_record(offset, moment, READING, document)


def cancelled(offset: int, moment: int, number: int) -> Record:
    document: dict[str, Any] = {"machine": "shop", "item": "beans", "number": number, "reason": "no need"}
    return shop_record(offset, moment, CANCELLED, document)


def trade() -> list[Record]:
    """Order 1 is settled, 2 cancelled (and not a second time), 3 lapses, 4 stays open."""
    records = shop_records(0, START_MS)
    later = START_MS + 2 * HOUR_MS
    records += [level(6, later, 2), cancelled(7, later, 1), cancelled(8, later, 2), level(9, later + 1, 3)]
    return [*records, level(10, later + 91 * DAY_MS, 4), heartbeat(11, later + 92 * DAY_MS)]


def placed(records: list[Record]) -> tuple[list[Order], State]:
    state = State.new(HOURLY, 0)
    found = [order for done, _ in advance_by_cuts(state, records) for order in done.orders]
    return found, state


def test_every_order_has_the_state_that_the_stream_gave_it() -> None:
    records = trade()
    orders, state = placed(records)
    assert [order.number for order in orders] == [1, 2, 3, 4]
    registry = Registry(HOURLY, SimLog(records), None, {0: orders})
    registry.read(lambda _: None)
    assert [each.order for each in registry.orders] == orders
    outcomes = [each.outcome for each in registry.orders]
    now_ms = registry.stream_time_ms(0)
    assert now_ms is not None
    assert (outcomes[0].ended, outcomes[0].settlement()) == (SETTLED, 3 * 70_000)
    assert outcomes[1].ended not in ("", SETTLED)
    assert not outcomes[2].ended and not outcomes[2].is_open(now_ms)
    assert not outcomes[3].ended and outcomes[3].is_open(now_ms)
    assert outcomes[3] == state.machines["shop"].rare.orders["beans"].last


def test_a_cancellation_is_judged_before_it_is_sent() -> None:
    records = trade()
    orders, _ = placed(records)
    registry = Registry(HOURLY, SimLog(records), ["shop"], {0: orders})
    registry.read(lambda _: None)
    now_ms = registry.stream_time_ms(0) or 0
    assert registry.judge(cancelled(0, 0, 4), now_ms)[0] is None
    assert registry.judge(cancelled(0, 0, 3), now_ms)[0] == "order_closed"
    assert registry.judge(cancelled(0, 0, 5), now_ms)[0] == "unknown_order"
    assert msgspec.structs.astuple(registry.orders[3].outcome)[-1] == "", "judging changes nothing"
