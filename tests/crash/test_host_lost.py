"""Hosts that are lost with their disks: the next one goes on from the store, and the bytes are those of a quiet run."""

import random
import shutil
from pathlib import Path

import pytest

from streams.storage.object_store import ObjectStore
from streams.storage.shared_epochs import fetch_epochs
from tests.support import partition_runs as runs
from tests.support import store_runs as hosts
from tests.support.forked import FORKED
from tests.support.sim_log import HOURLY

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    runs.run(folder)
    return runs.final_files(folder)


def test_a_new_host_at_every_step_of_one_run(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    store, seen = tmp_path / "store", tmp_path / "seen"
    while True:
        child = FORKED.Process(target=hosts.die_at_new_step, args=(tmp_path / "hosts", str(store), seen))
        child.start()
        child.join(60)
        if child.exitcode != runs.DIED:
            break
        assert len(seen.read_text().splitlines()) < 200
    assert child.exitcode == 0
    lines = seen.read_text().splitlines()
    assert {line.rpartition(" ")[0] for line in lines} >= {
        "0 restored", "0 snapshot", "1 committed", "4 manifest", "4 files stored", "4 manifest stored",
        "4 snapshot stored", "5 dropped",
    }  # fmt: skip
    assert runs.final_files(tmp_path / "hosts" / str(len(lines))) == undisturbed
    assert len(ObjectStore(str(store)).names("snapshots/0")) == 2


@pytest.mark.parametrize("seed", range(3))
def test_hosts_die_return_and_lose_their_disks(tmp_path: Path, undisturbed: dict[str, str], seed: int) -> None:
    chance = random.Random(seed)
    store = str(tmp_path / "store")
    for _ in range(10):
        host = tmp_path / chance.choice("abc")
        if chance.random() < 0.4:
            shutil.rmtree(host, ignore_errors=True)
        hosts.run_until(host, store, chance.randrange(1, 40))
    for name in "abc":
        hosts.run(tmp_path / name, store)
        assert runs.final_files(tmp_path / name) == undisturbed, name
    fetched = tmp_path / "fetched"
    assert fetch_epochs(ObjectStore(store), fetched, HOURLY) == 4
    assert runs.final_files(fetched) == undisturbed


@pytest.mark.parametrize("seed", range(2))
def test_two_hosts_at_once_give_the_same_bytes(tmp_path: Path, undisturbed: dict[str, str], seed: int) -> None:
    chance = random.Random(seed)
    store = str(tmp_path / "store")
    log = runs.the_log()
    names = ["one", "other"]
    held = {name: hosts.opened(tmp_path / name, store, background=chance.random() < 0.5) for name in names}
    while names:
        name = chance.choice(names)
        start = held[name].next_offset or 0
        records = [record for record in log.records if record.offset >= start][: chance.randrange(1, 20)]
        rest = records and records[-1] is not log.records[-1]
        held[name].process(start, records[-1].offset + 1 if rest else log.end, records)
        if not rest:
            names.remove(name)
    for name, partition in held.items():
        partition.drain()
        partition.close()
        assert runs.final_files(tmp_path / name) == undisturbed
    assert fetch_epochs(ObjectStore(store), tmp_path / "third", HOURLY) == 4
    assert runs.final_files(tmp_path / "third") == undisturbed
