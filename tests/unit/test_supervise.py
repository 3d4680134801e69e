"""When a worker that ended is started again, and what it said last."""

import json
from pathlib import Path

import pytest

from deploy.stack.supervise import SAME_MAX, Restarts, last_words


def here() -> bool:
    return False


def away() -> bool:
    return True


class TestRestarts:
    @pytest.mark.parametrize("code", [75, 0, 143, -9, -15])
    def test_a_stall_a_kill_and_a_clean_stop_start_again_at_once(self, code: int) -> None:
        restarts = Restarts()
        assert [restarts.pause_s(code, "", 60.0, here) for _ in range(20)] == [0.0] * 20

    def test_but_not_in_a_loop(self) -> None:
        restarts = Restarts()
        assert [restarts.pause_s(-9, "", 0.5, here) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
        assert restarts.pause_s(-9, "", 30.0, here) == 0.0

    def test_one_that_says_the_same_again_and_again_is_given_up(self) -> None:
        restarts = Restarts()
        assert [restarts.pause_s(70, "no", 3.0, here) for _ in range(SAME_MAX)] == [1, 2, 4, 8, None]

    def test_one_that_says_something_new_is_not(self) -> None:
        restarts = Restarts()
        pauses = [restarts.pause_s(70, f"partition {place % 2}", 3.0, here) for place in range(20)]
        assert None not in pauses
        assert pauses[-1] == 60.0

    def test_neither_is_one_that_was_well_for_long_or_was_killed_in_between(self) -> None:
        restarts = Restarts()
        assert [restarts.pause_s(70, "no", 601.0, here) for _ in range(20)] == [1.0] * 20
        restarts = Restarts()
        codes = [70, 70, 70, 70, -9, 70, 70, 70, 70]
        assert None not in [restarts.pause_s(code, "no", 3.0, here) for code in codes]

    def test_while_kafka_is_away_nothing_counts(self) -> None:
        restarts = Restarts()
        assert None not in [restarts.pause_s(70, "Kafka went away", 3.0, away) for _ in range(20)]
        assert restarts.pause_s(70, "Kafka went away", 3.0, here) == 60.0


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], ""),
        (['{"event": "started", "pid": 3}', "tallyroot: no topic: make it", ""], "tallyroot: no topic: make it"),
        ([json.dumps({"event": "stopped", "reason": "Traceback\n  x\nKeyError: 1\n"})], "KeyError: 1"),
        ([json.dumps({"event": "a fault", "time": "now", "level": "error"})], "a fault"),
        ([json.dumps({"event": "assigned", "time": "now", "level": "info"})], ""),
    ],
)
def test_last_words_are_without_a_clock(tmp_path: Path, lines: list[str], says: str) -> None:
    log = tmp_path / "log"
    before = "what an earlier worker said\n"
    log.write_text(before + "\n".join(lines))
    assert last_words(log, len(before)) == says
