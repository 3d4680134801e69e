"""Rule 21 in 124 bits, the order of windows, and what leaves 64 bits: against Python's own integers and sorting."""

import random

import numpy as np
import pytest

from schemas.errors import InvariantBroken
from schemas.units import CARRY_BASE, COUNT_MAX
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE
from streams.core.kernel.seal import amount_of
from streams.core.open_window import Expense, LineKey
from streams.core.replay import advance_through
from streams.core.sealed import order_of
from streams.core.sealing import open_windows
from streams.core.state import State
from tests.support.sim_log import HOURLY, START_MS, registration

PERS = [per for per in (1, 2, 1_000, 3_600, 60_000, 1_800_000, CARRY_BASE) if CARRY_BASE % per == 0]


def test_amounts_are_those_of_python() -> None:
    draw = random.Random(21)
    for _ in range(2_000):
        per = draw.choice([0, *PERS])
        worth = draw.choice([COUNT_MAX, 10**6]) * max(per, 1)
        usage = draw.randint(1, min(worth, COUNT_MAX)) * draw.choice([-1, 1])
        price = draw.randint(0, min(worth // abs(usage), COUNT_MAX)) * draw.choice([-1, 1])
        carry = draw.choice([0, CARRY_BASE - 1, draw.randrange(CARRY_BASE)])
        expected = divmod(usage * price * (CARRY_BASE // max(per, 1)) + carry, CARRY_BASE)
        assert amount_of(usage, price, per, carry) == (True, *expected)


def test_what_rule_21_never_lets_through_is_noticed() -> None:
    for price in (COUNT_MAX, -COUNT_MAX):
        assert amount_of(COUNT_MAX, price, 1, 0)[0] is False
        assert amount_of(COUNT_MAX, price // 2**20, 1_000, 0)[0] is False


def test_windows_are_in_the_order_of_their_machines_ids() -> None:
    draw = random.Random(6)
    state = State.new(HOURLY, 0)
    names = [*{"".join(draw.choices("aB.-9", k=draw.randint(1, 6))) for _ in range(200)}]
    for name in names:
        state.book.add_machine(name, name)
    keys = [(draw.choice([0, 900]), draw.randrange(len(names)), draw.choice([NONE, 5, 7])) for _ in range(600)]
    order = order_of(state.book, np.array(keys, np.int64).T.copy()).tolist()
    assert sorted(order) == list(range(len(keys)))
    assert [keys[place] for place in order] == sorted(keys, key=lambda key: (names[key[1]].encode(), key[0], key[2]))


def test_sums_beyond_64_bits_stop_the_process() -> None:
    state = State.new(HOURLY, 0)
    advance_through(state, [registration("m0", 0)])
    extras = state.add_to_window(state.now_key("m0"), 1)
    extras.expenses = [Expense("ink", number, "0x" + "c3" * 20, 2**62) for number in range(2)]
    with pytest.raises(InvariantBroken, match=f"m0 at {START_MS} leaves 64 bits"):
        open_windows(state)
    extras.expenses.pop()
    assert open_windows(state)[0].net_micros == -(2**62)
    state.add_to_window(state.now_key("m0"), 2, [(LineKey("energy", 1, COUNT_MAX, 1), COUNT_MAX)])
    with pytest.raises(InvariantBroken, match=f"m0 at {START_MS} leaves 64 bits"):
        open_windows(state)
    assert state.store.matrix(t.WINDOWS)[0, t.LINE_COUNT] == 1
