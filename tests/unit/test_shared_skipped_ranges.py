"""What an operator had stepped over on one host reaches the others through the store."""

from pathlib import Path

import msgspec
import pytest

from files.lock import FileLock
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from streams.core.signature import operator_account
from streams.core.skipped_ranges import sign_skipped_range
from streams.storage.object_store import ObjectStore
from streams.storage.skipped_ranges_file import FOLDER, add_skipped_range, load_skipped_ranges, share_skipped_ranges

KEY = b"\x07" * 32


def the_log() -> Log:
    return Log(log_id="shared", topic="shared", partitions=2, rulesets=(Ruleset(operators=(operator_account(KEY),)),))


def test_hosts_that_sign_at_once_know_of_each_other(tmp_path: Path) -> None:
    log, store = the_log(), ObjectStore(str(tmp_path / "store"))
    one, other = (sign_skipped_range(KEY, log, number, 5, 7, "why") for number in range(2))
    for name, each in (("a", one), ("b", other)):
        add_skipped_range(tmp_path / name, log, each)
        share_skipped_ranges(store, tmp_path / name, log)
    assert share_skipped_ranges(store, tmp_path / "a", log) == load_skipped_ranges(tmp_path / "a", log) == (one, other)
    assert share_skipped_ranges(store, tmp_path / "new", log) == (one, other)
    assert len(store.names(FOLDER)) == 2


def test_two_that_overlap_stop_both(tmp_path: Path) -> None:
    log, store = the_log(), ObjectStore(str(tmp_path / "store"))
    add_skipped_range(tmp_path / "a", log, sign_skipped_range(KEY, log, 0, 5, 7, "why"))
    add_skipped_range(tmp_path / "b", log, sign_skipped_range(KEY, log, 0, 6, 9, "why"))
    share_skipped_ranges(store, tmp_path / "a", log)
    with pytest.raises(InvalidInput, match="overlaps another"):
        share_skipped_ranges(store, tmp_path / "b", log)
    assert len(load_skipped_ranges(tmp_path / "b", log)) == 1


def test_what_is_no_exception_is_not_believed(tmp_path: Path) -> None:
    log, store = the_log(), ObjectStore(str(tmp_path / "store"))
    forged = msgspec.structs.replace(sign_skipped_range(KEY, log, 0, 5, 7, "why"), next_offset=70)
    store.put(f"{FOLDER}/a.json", [msgspec.json.encode(forged)])
    with pytest.raises(InvalidInput, match="not by an operator"):
        share_skipped_ranges(store, tmp_path / "a", log)
    store.put(f"{FOLDER}/a.json", [b"{"])
    with pytest.raises(InvalidInput, match=r"skipped_ranges/a.json in the store .* is not a skipped range"):
        share_skipped_ranges(store, tmp_path / "a", log)


def test_a_partition_that_a_worker_reads_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.storage.skipped_ranges_file.LOCK_SECONDS", 0.1)
    log = the_log()
    (tmp_path / "partitions").mkdir()
    lock = FileLock.acquire(tmp_path / "partitions" / "0.lock")
    assert lock is not None
    with pytest.raises(InvalidInput, match="run `tallyroot down` first"):
        add_skipped_range(tmp_path, log, sign_skipped_range(KEY, log, 0, 5, 7, "why"))
    lock.release()
