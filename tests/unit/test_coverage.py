"""A worker says which partitions nobody reads, and which it was given and can't open."""

from collections.abc import Set
from pathlib import Path

from files.lock import FileLock
from streams.worker.coverage import MARK_SECONDS, UNCOVERED_SECONDS, UNOPENED_SECONDS, Coverage, OtherHosts


def nobody(_: Set[int]) -> set[int]:
    return set()


def test_what_a_worker_of_the_same_folder_holds_is_read(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "1.lock")
    assert lock is not None
    coverage = Coverage(tmp_path, 3, "tallyroot-x", nobody)
    for now in (0.0, UNCOVERED_SECONDS + 1):
        coverage.look(now, {0}, {0}, {})
    assert coverage.uncovered(UNCOVERED_SECONDS + 1) == (2,)
    said = coverage.standing(UNCOVERED_SECONDS + 1) or ""
    assert said.startswith(
        "partition 2 is read by no worker of this data folder or its store: another folder or program"
    )
    assert "consumer group tallyroot-x" in said
    lock.release()
    coverage.look(UNCOVERED_SECONDS + 2, {0}, {0}, {})
    assert coverage.uncovered(UNCOVERED_SECONDS + 2) == (2,), "a worker that starts again takes its time"
    assert coverage.uncovered(2 * UNCOVERED_SECONDS + 3) == (1, 2)
    coverage.look(2 * UNCOVERED_SECONDS + 4, {0, 1, 2}, {0, 1, 2}, {})
    assert coverage.standing(9 * UNCOVERED_SECONDS) is None


def test_looking_takes_no_lock_away(tmp_path: Path) -> None:
    assert not FileLock.is_held(tmp_path / "0.lock")
    lock = FileLock.acquire(tmp_path / "0.lock")
    assert lock is not None
    assert FileLock.is_held(tmp_path / "0.lock")
    lock.release()
    assert not FileLock.is_held(tmp_path / "0.lock")
    again = FileLock.acquire(tmp_path / "0.lock")
    assert again is not None
    again.release()


def test_what_it_was_given_and_cannot_open_is_said(tmp_path: Path) -> None:
    coverage = Coverage(tmp_path, 2, "g", nobody)
    for now in (0.0, UNOPENED_SECONDS + 1):
        coverage.look(now, {0, 1}, {1}, {})
    assert (coverage.standing(UNOPENED_SECONDS + 1) or "").startswith(
        "partition 0 is given to this worker and not open"
    )


def test_an_open_transaction_is_a_notice_once_it_lasts(tmp_path: Path) -> None:
    coverage = Coverage(tmp_path, 1, "g", nobody)
    coverage.look(0.0, {0}, {0}, {0: 7})
    assert coverage.notices(1.0) == {}
    coverage.look(UNCOVERED_SECONDS + 1, {0}, {0}, {0: 9})
    ((numbers, text),) = coverage.notices(UNCOVERED_SECONDS + 1).values()
    assert numbers == (0,)
    assert text == "an open transaction hides 9 offsets of partition 0: its producer must commit or abort it"
    coverage.look(UNCOVERED_SECONDS + 2, {0}, {0}, {})
    assert coverage.notices(9 * UNCOVERED_SECONDS) == {}


def test_hosts_with_the_same_store_are_seen_by_their_marks() -> None:
    marks, ends = {1: 5, 2: 5}, {1: 9, 2: 5, 3: 4}
    hosts = OtherHosts(lambda _: marks, lambda _: ends)
    assert hosts.reading({1, 2, 3}, 0.0) == {1, 2}
    assert hosts.reading({1, 2, 3}, MARK_SECONDS + 1) == {2}, "it stands below the log's end"
    marks[1] = 6
    assert hosts.reading({1, 2, 3}, MARK_SECONDS + 2) == {1, 2}
