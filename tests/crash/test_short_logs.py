"""Caught up means every partition of the log: see `short_logs`."""

import time
from pathlib import Path

import pytest

from tests.crash.short_logs import SECONDS, play, unread
from tests.support.kafka_log import a_log, fill
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("seed", [1])
def test_no_worker_ends_before_the_whole_log_is_read(kafka: str, tmp_path: Path, seed: int) -> None:
    assert play(kafka, tmp_path, seed) == []


def test_a_worker_without_a_partition_waits_for_the_one_that_has_it(kafka: str, tmp_path: Path) -> None:
    log = a_log("one-partition", partitions=1)
    fill(kafka, log, hours=1)
    workers = Workers(kafka, tmp_path)
    try:
        slow = {"until_caught_up": True, "records_max": 20, "on_progress": "dawdle"}
        both = [workers.start(log, **slow) for _ in range(2)]
        deadline = time.monotonic() + SECONDS
        while all(worker.exit_code() is None for worker in both) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert unread(kafka, log, tmp_path) == []
        assert [worker.wait(SECONDS) for worker in both] == [0, 0]
    finally:
        workers.kill()
