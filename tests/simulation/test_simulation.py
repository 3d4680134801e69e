"""A few seeds of the simulation; `python -m tests.simulation --seeds 1000` runs more of them."""

import pytest

from tests.simulation.__main__ import run_and_check

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("seed", [0, 9, 102])
def test_a_seed_holds(seed: int) -> None:
    happened = run_and_check(seed)
    assert happened["windows"] and happened["epochs"]
