"""A few random rounds of settling; `python -m tests.chain.rounds` plays more."""

from pathlib import Path

import pytest

from tests.chain.rounds import ACTS, rounds

pytestmark = [pytest.mark.chain, pytest.mark.crash, pytest.mark.slow]


def test_a_round_of_kills_and_a_node_that_plays_tricks_posts_each_epoch_once(tmp_path: Path) -> None:
    assert rounds(1, 2, tmp_path).total() == ACTS
