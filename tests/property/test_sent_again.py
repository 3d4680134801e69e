"""What is sent again changes nothing that matters, wherever the copies come; a boot bills no more than it measured."""

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.order import Order
from schemas.reading import HEARTBEAT
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.advance import Advanced
from streams.core.records import Record, record_type
from streams.core.replay import advance_through
from streams.core.state import State
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.sim_log import HOURLY, START_MS, heartbeat, registration

LOG = small_log()
SPREAD = 1_000
"""Offsets are drawn apart by this, so that copies fit between and every record keeps its own."""


def with_copies(records: list[Record], sent: list[Record], draw: random.Random) -> list[Record]:
    """Each of `sent` again, up to three times, anywhere after itself: it brings no news of the time."""
    spread = [record._replace(offset=record.offset * SPREAD) for record in records]
    found = list(spread)
    for record in sent:
        later = [other for other in spread if other.offset >= record.offset * SPREAD]
        for _ in range(draw.choice((0, 1, 1, 3))):
            after = draw.choice(later)
            offset = after.offset + draw.randrange(1, SPREAD)
            found.append(record._replace(offset=offset, timestamp=min(record.timestamp, after.timestamp)))
    by_offset = {record.offset: record for record in found}
    return [by_offset[offset] for offset in sorted(by_offset)]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from((0.0, 0.1, 0.5, 1.0)))
def test_copies_anywhere_later_move_no_money_fee_payee_tariff_or_order(seed: int, dirt: float) -> None:
    """Nor an order. Unless an operator sets a boot: that forgets which numbers were used (rule 10)."""
    records = dirty_log(seed, dirt, 80, boots=False)
    end = Record(records[-1].offset + 1, records[-1].timestamp + 9 * HOUR_MS, b"", b"", [("ce_type", b"heartbeat")])
    records.append(end)
    once = [record._replace(offset=record.offset * SPREAD) for record in records]
    straight = State.new(LOG, 0)
    alone = advance_through(straight, once)
    refused = {reject.offset for part in alone for reject in part.rejects}
    sent = [record for record in records if record.offset * SPREAD not in refused and record_type(record) != HEARTBEAT]
    again = State.new(LOG, 0)
    copied = advance_through(again, with_copies(records, sent, random.Random(seed)))
    assert windows_of(copied) == windows_of(alone)
    assert orders_of(copied) == orders_of(alone)
    assert again.deposits_micros() == straight.deposits_micros()
    tables, expected = again.tables(), straight.tables()
    assert {name: tables[name] for name in ("carries", "versions")} == {
        name: expected[name] for name in ("carries", "versions")
    }
    assert sum(part.counts.accepted for part in copied) == sum(part.counts.accepted for part in alone)


def windows_of(parts: list[Advanced]) -> list[Any]:
    """All windows whole: amounts, carries, lines with their prices, versions, payees, digests."""
    return [window for part in parts for window in part.windows]


def orders_of(parts: list[Advanced]) -> list[Order]:
    """All orders, with the places of the levels that placed them."""
    return [order for part in parts for order in part.orders]


BOOTS = st.lists(
    st.tuples(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(0, 200)), min_size=1, max_size=4
)


@settings(max_examples=60)
@given(BOOTS, st.integers(0, 10**6))
def test_a_boot_bills_no_more_than_its_last_register_less_its_first(
    boots: list[tuple[list[int], int]], seed: int
) -> None:
    """Late, twice, shuffled or never: what is billed is within what the meter itself counted, boot by boot.

    A boot begins at or under the register that the one before ended with, as meters do that restart.
    """
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    measured, at_ms, last = 0, START_MS, 10**6
    for boot, (steps, fall) in enumerate(boots, 1):
        register = first = last if draw.random() < 0.3 else max(0, draw.choice((0, last - fall)))
        for seq, step in enumerate(steps):
            at_ms += MINUTE_MS
            register += step if seq else 0
            rows.append({"machine": "m0", "meter": "energy", "boot": boot, "seq": seq, "observed_at": at_ms,
                         "register": register})  # fmt: skip
        measured += register - first
        last = register
    records = [registration("m0", 0)]
    arrivals = [row for row in rows for _ in range(draw.choice((0, 1, 1, 2)))]
    disorder = draw.choice((0, 3, 1_000))
    arrivals.sort(key=lambda row: row["observed_at"] + draw.randrange(-disorder, disorder + 1) * MINUTE_MS)
    for row in arrivals:
        value = msgspec.json.encode(row)
        records.append(Record(len(records), at_ms, b"m0", value, []))
    records.append(heartbeat(len(records), at_ms + 2 * HOUR_MS))
    parts = advance_through(State.new(HOURLY, 0), records)
    usage = sum(line.usage for window in windows_of(parts) for line in window.lines)
    assert 0 <= usage <= measured
    if disorder == 0 and len({msgspec.json.encode(row) for row in arrivals}) == len(rows):
        assert usage == measured or any(part.rejects for part in parts)
