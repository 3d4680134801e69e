"""A few seeds of `settle` on a chain in memory; `python -m tests.simulation.settling --seeds 1000` runs more."""

from collections import Counter

import pytest

from tests.simulation.settling import run_and_check

pytestmark = pytest.mark.crash


def test_thirty_seeds_hold() -> None:
    happened: Counter[str] = Counter()
    for seed in range(30):
        happened.update(run_and_check(seed))
    assert {"posts", "end: finished", "killed", "reorganisation", "already known", "taken back"} <= happened.keys()
