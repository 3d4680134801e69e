"""Some inputs for every door in each run; a million by `python -m tests.fuzz --count 1000000`."""

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.doors import DOORS


@pytest.mark.parametrize("name", DOORS)
def test_nothing_that_strangers_send_crashes(name: str) -> None:
    became, crashes = run(name, 1, 2_000)
    assert crashes == 0 and became.total() == 2_000
    assert len(became) > 1, "no input reached further than any other"
