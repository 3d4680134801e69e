"""Killed at every numbered step, with more commits on top before the drain: nothing lost, nothing twice, same bytes.

The processes of tests/crash die for real and at random; here a death at each step in turn is an image of the disk.
"""

import random
import shutil
import threading
from itertools import count
from pathlib import Path

import pytest

from files.write import no_step
from streams.core.recompute import recompute
from streams.storage.analytics import make_analytics
from streams.worker.partition import Partition
from tests.simulation.disk import Image, SimDisk
from tests.simulation.view import Seen, windows_in
from tests.simulation.workers import Died
from tests.support.partition_runs import GatedLog, feed, final_files
from tests.support.sim_log import HOURLY, SimLog, small_log, with_shop

pytestmark = [pytest.mark.crash, pytest.mark.slow]


def the_log() -> SimLog:
    """Two epochs, an empty one before them, and the beginning of another."""
    return with_shop(small_log(machines=2, minutes=70, silent_hours=1), 20)


def whole(root: Path) -> dict[str, str]:
    """A folder that nothing ever happened to: its final files."""
    log = the_log()
    partition = Partition.open(root, HOURLY, 0, log.topic_id(), log)
    assert partition is not None
    feed(partition, log)
    partition.close()
    return final_files(root)


def all_committed_nothing_final(root: Path, saved: Path) -> None:
    """Commits the whole log while no archive can be read, and keeps the folder as it then is."""
    sim = the_log()
    log = GatedLog(sim.records, end=sim.end)
    log.gate = threading.Event()
    partition = Partition.open(root, HOURLY, 0, log.topic_id(), log, background=True)
    assert partition is not None
    try:
        feed(partition, log)
        pending = partition.pending
        shutil.copytree(root, saved)
    finally:
        log.gate.set()
        partition.close()
    assert len(pending) == 3
    shutil.rmtree(root)


def drain(root: Path, dies_after: int | None = None) -> Image | None:
    """Opens the partition, which drains it. Gives what it left if it died."""
    disk, log = SimDisk(random.Random(0), root), the_log()
    images: list[Image] = []
    left = iter(range(dies_after or 0))

    def step(name: str) -> None:
        if next(left, None) is None:
            images.append(disk.image(0))
            raise Died(name)

    try:
        partition = Partition.open(root, HOURLY, 0, log.topic_id(), log, step=no_step if dies_after is None else step)
    except Died:
        disk.restore(0, images[0])
        return images[0]
    assert partition is not None
    assert not partition.pending
    partition.close()
    return None


def windows_of_the_log() -> Seen:
    """Every window that has sealed when the log ends, from the log alone."""
    return {
        (window.machine, window.start_ms, -1 if window.adjusts_ms is None else window.adjusts_ms)
        for result in recompute(HOURLY, 0, [the_log().records])
        for window in result.windows
    }


def test_killed_at_every_step_of_a_drain_with_later_commits_on_top(tmp_path: Path) -> None:
    undisturbed = whole(tmp_path / "undisturbed")
    root, saved = tmp_path / "data", tmp_path / "saved"
    all_committed_nothing_final(root, saved)
    expected = windows_of_the_log()
    assert len(expected) > 8
    root.mkdir()
    view = shutil.move(make_analytics(root, HOURLY), tmp_path / "analytics.duckdb")
    for dies_after in count():
        shutil.copytree(saved, root, dirs_exist_ok=True)
        has_died = drain(root, dies_after) is not None
        assert windows_in(view, {0}) == expected, f"dead after {dies_after} steps"
        assert drain(root) is None
        assert windows_in(view, {0}) == expected, f"back after {dies_after} steps"
        assert final_files(root) == undisturbed
        shutil.rmtree(root)
        if not has_died:
            break
    assert dies_after > 14
