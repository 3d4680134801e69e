"""Two hosts without a shared disk on one log: one is lost with its disk, and a third has the same manifests."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from schemas.log import Log
from schemas.units import HOUR_MS
from streams.storage.object_store import ObjectStore
from streams.storage.shared_epochs import fetch_epochs
from streams.storage.snapshot import SUFFIX
from streams.worker.app import WorkerProgress
from tests.support.kafka_log import Sender, a_log, fill, outcome, readings, without_faust
from tests.support.sim_log import START_MS
from tests.support.workers import WorkerProcess, Workers

pytestmark = [pytest.mark.crash, pytest.mark.kafka]


def has_cut(progress: list[WorkerProgress]) -> bool:
    return any(each.cut is not None for each in progress)


def has_cut_both(progress: list[WorkerProgress]) -> bool:
    """Two cuts in each partition: the snapshot at the first one is in the store by then."""
    return all(sum(each.cut is not None for each in progress if each.partition == part) > 1 for part in (0, 1))


def starts(progress: list[WorkerProgress]) -> list[int]:
    """No more than the offsets at which a worker went on, by partition."""
    firsts = {each.partition: each for each in reversed(progress)}
    return [each.next_offset - each.records - 20 for each in firsts.values()]


class Growing:
    """The log of two hosts: it grows until both have done their part, however the partitions pass between them."""

    def __init__(self, kafka: str, log: Log) -> None:
        self._sender = Sender(kafka, log)
        self._hour = 3

    def until(self, done: Callable[[], bool], workers: Sequence[WorkerProcess]) -> None:
        """Adds hours, each of which ends an epoch in every partition. The workers must live."""
        deadline = time.monotonic() + 120
        while not done():
            for worker in workers:
                assert worker.exit_code() is None, worker.said()
                assert time.monotonic() < deadline, f"{worker.progress()[-3:]} {worker.said()}"
            self._sender.send(readings(1, machines=2, start_ms=START_MS + self._hour * HOUR_MS))
            self._hour += 1
            self._sender.end(START_MS + self._hour * HOUR_MS)
            time.sleep(0.2)


def test_a_host_is_lost_and_the_others_go_on(kafka: str, tmp_path: Path) -> None:
    log = a_log("two-hosts", partitions=2)
    fill(kafka, log, hours=2)
    growing = Growing(kafka, log)
    store = ObjectStore(str(tmp_path / "store"))
    hosts = {name: Workers(kafka, tmp_path / name) for name in ("first", "second", "third")}
    order = {"store": store.uri, "records_max": 60, "session_seconds": 2.0}
    try:
        first = hosts["first"].start(log, **order)
        second = hosts["second"].start(log, **order)
        growing.until(lambda: has_cut(first.progress()) and has_cut(second.progress()), [first, second])
        first.kill()
        shutil.rmtree(tmp_path / "first")
        growing.until(lambda: has_cut_both(second.progress()), [second])
        second.kill()
        third = hosts["third"].catch_up(log, **order)
        assert len(starts(third.progress())) == 2
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


def test_hosts_that_share_only_a_store_have_caught_up_together(kafka: str, tmp_path: Path) -> None:
    """Each has a partition at its end, and waited for the other's for ever."""
    log = a_log("hosts-caught-up", partitions=2)
    fill(kafka, log, hours=2)
    order = {"store": str(tmp_path / "store"), "records_max": 20, "session_seconds": 2.0, "on_progress": "dawdle"}
    hosts = [Workers(kafka, tmp_path / name) for name in ("first", "second")]
    try:
        workers = [host.start(log, until_caught_up=True, **order) for host in hosts]
        for worker in workers:
            assert worker.wait(60) == 0, worker.said()
            assert worker.said() == ""
        assert all({each.partition for each in worker.progress()} for worker in workers), "each read a part of it"
    finally:
        for host in hosts:
            host.kill()
    fetched = tmp_path / "fetched"
    fetch_epochs(ObjectStore(order["store"]), fetched, log)
    assert outcome(fetched).manifests == without_faust(kafka, log, tmp_path / "expected").manifests
