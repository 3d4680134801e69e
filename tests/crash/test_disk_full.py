"""A disk that is full ends a worker with one line; once there is room it goes on, and nothing shows."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.worker.app import WorkerProgress
from tests.support.kafka_log import a_log, fill, outcome, without_faust
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB, in memory. Only root can mount one, and not everywhere."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path) -> Path:
    """A file that takes all that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 4_096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


def test_a_full_disk_ends_a_worker_until_there_is_room(kafka: str, small_disk: Path, tmp_path: Path) -> None:
    log = a_log("full", partitions=1)
    fill(kafka, log, hours=2)
    workers = Workers(kafka, small_disk / "data", tmp_path)

    def has_begun(progress: list[WorkerProgress]) -> bool:
        return len(progress) >= 3

    try:
        worker = workers.start(log, records_max=60, on_progress="dawdle", session_seconds=2.0)
        worker.wait_for(has_begun)
        ballast = fill_up(small_disk)
        assert worker.wait() == 70
        (line,) = worker.said().splitlines()
        assert line.startswith("tallyroot: the disk is full (")
        ballast.unlink()
        workers.catch_up(log)
    finally:
        workers.kill()
    expected = without_faust(kafka, log, tmp_path / "expected")
    assert expected.differences(outcome(small_disk / "data")) == []
