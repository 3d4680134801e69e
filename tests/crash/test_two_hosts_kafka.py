"""Two hosts without a shared disk on one log: one is lost with its disk, and a third has the same manifests."""

import shutil
from pathlib import Path

import pytest

from streams.storage.object_store import ObjectStore
from streams.storage.shared_epochs import fetch_epochs
from streams.storage.snapshot import SUFFIX
from streams.worker.app import WorkerProgress
from tests.support.kafka_log import a_log, fill, outcome, without_faust
from tests.support.workers import Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.slow]


def has_cut(progress: list[WorkerProgress]) -> bool:
    return any(each.cut is not None for each in progress)


def has_cut_both(progress: list[WorkerProgress]) -> bool:
    """Two cuts in each partition: the snapshot at the first one is in the store by then."""
    return all(sum(each.cut is not None for each in progress if each.partition == part) > 1 for part in (0, 1))


def starts(progress: list[WorkerProgress]) -> list[int]:
    """No more than the offsets at which a worker went on, by partition."""
    firsts = {each.partition: each for each in reversed(progress)}
    return [each.next_offset - each.records - 20 for each in firsts.values()]


def test_a_host_is_lost_and_the_others_go_on(kafka: str, tmp_path: Path) -> None:
    log = a_log("two-hosts", partitions=2)
    fill(kafka, log, hours=2)
    store = ObjectStore(str(tmp_path / "store"))
    hosts = {name: Workers(kafka, tmp_path / name) for name in ("first", "second", "third")}
    order = {"store": store.uri, "records_max": 60}
    try:
        first = hosts["first"].start(log, **order)
        second = hosts["second"].start(log, **order)
        first.wait_for(has_cut)
        first.kill()
        shutil.rmtree(tmp_path / "first")
        second.wait_for(has_cut_both)
        second.kill()
        third = hosts["third"].start(log, until_caught_up=True, **order)
        assert third.wait() == 0, third.said()
        assert third.said() == ""
        assert all(start > 0 for start in starts(third.progress()))
    finally:
        for host in hosts.values():
            host.kill()
    expected = without_faust(kafka, log, tmp_path / "expected").manifests
    assert outcome(tmp_path / "third").manifests == expected
    fetch_epochs(store, tmp_path / "fetched", log)
    assert outcome(tmp_path / "fetched").manifests == expected
    assert all(name.endswith(SUFFIX) for name in store.names("snapshots"))
    assert len(store.names("snapshots")) == 2 * log.partitions
