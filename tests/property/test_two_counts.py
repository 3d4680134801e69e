"""Two ways to one sum: in the core, and in fractions by somebody who did not write it."""

import random
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import CARRY_BASE
from schemas.window import Window
from streams.core.advance import advance
from streams.core.records import Record
from streams.core.sealing import open_windows
from streams.core.state import State
from streams.reference.recount import PartitionRecount, plain_windows
from tests.support import fleet_logs
from tests.support.fleet_logs import fleet_log

FORMS = (("json", 1), ("json", 9), ("arrow", 40), ("mixed", 9))


def in_the_core(records: list[Record], draw: random.Random) -> list[Window]:
    """Every window, also what is still open, from slices of any size."""
    state, windows = State.new(fleet_logs.LOG, 0), []
    while records:
        done = advance(state, records[: draw.randint(1, 900)])
        windows += done.windows
        records = records[done.consumed :]
    return windows + open_windows(state)


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from((0.0, 0.02, 0.1, 0.5, 1.0)), st.sampled_from(FORMS))
def test_core_and_fractions_count_the_same(seed: int, dirt: float, form: tuple[str, int]) -> None:
    records = fleet_log(seed, dirt=dirt, encoding=form[0], batch=form[1], rows=400)
    windows = in_the_core(records, random.Random(seed))
    recount = PartitionRecount(fleet_logs.LOG).take(records)
    sealed = [{name: part for name, part in one.items() if name != "by"} for one in recount.sealed]
    assert plain_windows(windows) == sealed + recount.open_windows()
    amounts, usage, carry = defaultdict(int), defaultdict(Fraction), {}
    for window in windows:
        amounts[window.machine] += window.gross_micros
        carry[window.machine, window.agreement.digest()] = window.carry_out
        for line in window.lines:
            usage[window.machine] += Fraction(line.usage * line.price_micros * CARRY_BASE, line.per or 1)
    for machine, amount in amounts.items():
        carried = sum(rest for (name, _), rest in carry.items() if name == machine)
        exact = sum(money for (name, _), money in recount.money.items() if name == machine)
        assert amount * CARRY_BASE + carried == usage[machine] == exact * CARRY_BASE


@pytest.mark.parametrize("form", FORMS)
def test_the_logs_earn_and_refuse(form: tuple[str, int]) -> None:
    """Else the test above would say nothing."""
    recount = PartitionRecount(fleet_logs.LOG).take(fleet_log(1, dirt=0.5, encoding=form[0], batch=form[1], rows=400))
    assert sum(recount.money.values()) > 1_000_000
    assert len({reason for _, _, reason in recount.rejects}) > 5
