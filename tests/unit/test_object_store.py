"""What a store refuses, what it passes over, and that a host without anything gets all from it."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec
import pytest
from msgspec import structs

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from files.read import file_chunks
from schemas.errors import InvalidInput, InvariantBroken
from streams.kafka.failures import KafkaAway
from streams.kafka.outbox_topic import RejectedMessage
from streams.storage import partition_store
from streams.storage.checkpoint_identity import FORMAT, CheckpointIdentity
from streams.storage.object_store import ObjectStore, StoreAway, store_uri
from streams.storage.shared_epochs import fetch_epochs, stored_manifests
from streams.storage.snapshot import Snapshot, newest_snapshot
from streams.worker.partition import Partition
from streams.worker.partition_owner import PartitionOwner
from tests.support import partition_runs as runs
from tests.support import store_runs as hosts
from tests.support.sim_log import HOURLY

IDENTITY = CheckpointIdentity(format=FORMAT, partition=0, topic_id="topic-1", log=HOURLY)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder after a quiet run with a store beside it."""
    folder = tmp_path_factory.mktemp("quiet")
    hosts.run(folder / "data", str(folder / "store"))
    return folder


@pytest.fixture
def store(quiet: Path, tmp_path: Path) -> ObjectStore:
    """A copy of that run's store."""
    copied, original = ObjectStore(str(tmp_path / "store")), ObjectStore(str(quiet / "store"))
    for folder in ("epochs", "log", "manifests", "snapshots"):
        for name in original.names(folder):
            copied.put(name, [original.read(name) or b""])
    return copied


def resumed_at(data_dir: Path, store: ObjectStore) -> int | None:
    """The offset at which a host goes on."""
    partition = hosts.opened(data_dir, store.uri)
    next_offset = partition.next_offset
    partition.close()
    return next_offset


def test_objects_come_and_go(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path / "a folder" / "of ours"))
    store.check()
    assert store.names("x") == [] and store.read("x/y") is None
    store.put("x/y/z.json", [b"one", b"two"])
    store.put("x/a", [b""])
    assert store.names("x") == ["x/a", "x/y/z.json"]
    assert store.read("x/y/z.json") == b"onetwo" and store.read("x/a") == b""
    store.put("x/a", [b"again"])
    store.remove("x/a")
    store.remove("x/a")
    assert store.names("x") == ["x/y/z.json"]


def test_what_is_no_store_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_uri("shared") == str(tmp_path / "shared")
    assert store_uri("file:///shared/of%20us") == "file:///shared/of%20us"
    assert store_uri("s3://bucket/prefix?region=eu-west-1") == "s3://bucket/prefix?region=eu-west-1"
    for text, words in (
        ("http://host/x", "not a store"),
        ("s3:///x", "not a store"),
        ("s3://key:secret@b/x", "AWS_ACCESS_KEY"),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            store_uri(text)
        assert "secret@" not in str(caught.value)
    with pytest.raises(InvalidInput, match="can't be used"):
        ObjectStore("s3://bucket/x?no_such_option=1")
    (tmp_path / "file").touch()
    with pytest.raises(StoreAway, match="doesn't answer"):
        ObjectStore(str(tmp_path / "file")).check()


def test_a_store_changes_no_byte(quiet: Path, tmp_path: Path) -> None:
    runs.run(tmp_path)
    assert runs.final_files(quiet / "data") == runs.final_files(tmp_path)
    assert not list((quiet / "data").rglob("*.snapshot"))


def test_a_new_host_goes_on_at_the_last_cut(quiet: Path, store: ObjectStore, tmp_path: Path) -> None:
    last = max(stored_manifests(store, 0))
    whole = msgspec.json.decode((quiet / "data" / "epochs" / last / "0.manifest.json").read_bytes())
    assert resumed_at(tmp_path / "new", store) == whole["manifest"]["next_offset"]
    assert runs.final_files(tmp_path / "new") == runs.final_files(quiet / "data")
    assert resumed_at(quiet / "data", store) == runs.the_log().end, "the higher offset wins"


def test_snapshots_that_are_not_what_they_should_be_are_passed_over(
    store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = store.names("snapshots/0")
    newest = newest_snapshot(store, IDENTITY, 0)
    content = store.read(newer) or b""
    snapshot = msgspec.msgpack.decode(content, type=Snapshot)
    clock = snapshot.tables["clock"]
    shifted = structs.replace(snapshot, tables=snapshot.tables | {"carries": clock})
    older_content = store.read(older) or b""
    without = {name: table for name, table in snapshot.tables.items() if name != "machines"}
    bad = [
        b"", content[: len(content) // 2], older_content, msgspec.msgpack.encode(shifted),
        msgspec.msgpack.encode(structs.replace(snapshot, tables=without)),
    ]  # fmt: skip
    assert newest is not None
    for each in bad:
        store.put(newer, [each])
        with caplog.at_level(logging.WARNING):
            found = newest_snapshot(store, IDENTITY, 0)
        assert found is not None and found.manifest.epoch == newest.manifest.epoch - 1
        assert "not used" in caplog.text
        caplog.clear()
    store.put(older, [b"x"])
    assert newest_snapshot(store, IDENTITY, 0) is None
    assert resumed_at(tmp_path / "new", store) is None
    hosts.run(tmp_path / "new", store.uri)
    assert newest_snapshot(store, IDENTITY, 0) == newest
    assert resumed_at(tmp_path / "another", store) == newest.manifest.next_offset


def test_a_snapshot_without_its_manifest_is_passed_over(store: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
    last = max(stored_manifests(store, 0))
    store.remove(f"manifests/0/{last}/{stored_manifests(store, 0)[last]}.json")
    found = newest_snapshot(store, IDENTITY, 0)
    assert found is not None and "no manifest" in caplog.text


def test_a_store_of_another_log_or_topic_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    log = runs.the_log()
    with pytest.raises(InvalidInput, match="belongs to the log small"):
        Partition.open(tmp_path / "a", structs.replace(HOURLY, log_id="other"), 0, "topic-1", log, store=store)
    with pytest.raises(InvalidInput, match="topic was recreated"):
        Partition.open(tmp_path / "b", HOURLY, 0, "topic-2", log, store=store)
    with pytest.raises(InvalidInput, match="belongs to the log small"):
        fetch_epochs(store, tmp_path / "c", structs.replace(HOURLY, log_id="other"))


def test_another_manifest_of_an_epoch_stops(store: ObjectStore, quiet: Path, tmp_path: Path) -> None:
    first = min(stored_manifests(store, 0))
    digest = stored_manifests(store, 0)[first]
    content = store.read(f"manifests/0/{first}/{digest}.json") or b""
    other = f"manifests/0/{first}/{'0' * 64}.json"
    for name in store.names("snapshots/0"):
        store.remove(name)
    store.remove(f"manifests/0/{first}/{digest}.json")
    store.put(other, [content])
    with pytest.raises(InvariantBroken, match="another host had different records or rules"):
        hosts.run(tmp_path / "new", store.uri)
    assert store.names(f"manifests/0/{first}") == [other], "nothing of ours was put beside it"
    store.put(f"manifests/0/{first}/{digest}.json", [content])
    for host in ("again", "new"):
        with pytest.raises(InvariantBroken, match="two manifests"):
            hosts.run(tmp_path / host, store.uri)
    with pytest.raises(InvariantBroken, match="two manifests"):
        fetch_epochs(store, tmp_path / "fetched", HOURLY)


def test_what_was_changed_in_the_store_is_not_fetched(store: ObjectStore, tmp_path: Path) -> None:
    store.put("manifests/of somebody else", [b""])
    names = [name for folder in ("epochs", "log", "manifests/0") for name in store.names(folder)]
    assert len(names) > 4 * 4
    for name in (names[0], store.names("log")[-1], store.names("manifests/0")[-1]):
        content = store.read(name) or b""
        store.put(name, [content[:-1] + b"?"])
        with pytest.raises(InvariantBroken, match="missing or was changed"):
            fetch_epochs(store, tmp_path / "fetched", HOURLY)
        epoch = PurePosixPath(name).parent.name
        assert not list((tmp_path / "fetched").glob(f"epochs/{epoch}/*.manifest.json"))
        store.put(name, [content])
    fetch_epochs(store, tmp_path / "fetched", HOURLY)
    assert len(list((tmp_path / "fetched").glob("epochs/*/*.manifest.json"))) == 4
    assert fetch_epochs(store, tmp_path / "fetched", HOURLY) == 0


def test_a_partition_that_a_worker_holds_is_left_to_it(store: ObjectStore, tmp_path: Path) -> None:
    partition = hosts.opened(tmp_path, None)
    assert fetch_epochs(store, tmp_path, HOURLY) == 0
    partition.close()
    assert fetch_epochs(store, tmp_path, HOURLY) == 4


def test_epochs_from_before_the_store_are_put_into_it(tmp_path: Path) -> None:
    runs.run(tmp_path / "data")
    store = ObjectStore(str(tmp_path / "store"))
    resumed_at(tmp_path / "data", store)
    assert fetch_epochs(store, tmp_path / "fetched", HOURLY) == 4
    assert runs.final_files(tmp_path / "fetched") == runs.final_files(tmp_path / "data")
    damaged = next((tmp_path / "data").glob("epochs/*/0.windows.parquet"))
    damaged.write_bytes(b"?" + file_content(damaged)[1:])
    with pytest.raises(InvariantBroken, match="isn't the file"):
        resumed_at(tmp_path / "data", ObjectStore(str(tmp_path / "second")))


def file_content(path: Path) -> bytes:
    return b"".join(file_chunks(path))


def test_a_store_that_is_away_holds_up_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(partition_store, "AGAIN_SECONDS", 0.01)
    store = tmp_path / "store"
    partition = hosts.opened(tmp_path / "data", str(store), background=True)
    store.touch()  # a file where the folder shall be: nothing can be put
    runs.feed(partition, runs.the_log())
    assert partition.next_offset == runs.the_log().end
    while "Retrying" not in caplog.text:
        threading.Event().wait(0.01)
    assert len(partition.pending) == 4
    store.unlink()
    partition.drain()
    partition.close()
    assert fetch_epochs(ObjectStore(str(store)), tmp_path / "fetched", HOURLY) == 4
    assert len(ObjectStore(str(store)).names("snapshots")) == 2


class Rejected:
    """A RejectsTopic and its partition that may be away."""

    def __init__(self) -> None:
        self.is_away = True
        self.sent: list[int] = []

    def open(self, partition: int, topic_id: str) -> "Rejected":
        if self.is_away:
            raise KafkaAway("away.")
        return self

    @property
    def last_offset(self) -> int:
        return max(self.sent, default=-1)

    def send(self, messages: Sequence[RejectedMessage]) -> None:
        self.sent += [message.offset for message in messages]

    def close(self) -> None:
        pass


def test_a_snapshot_waits_until_what_was_refused_before_it_is_sent(tmp_path: Path) -> None:
    log = runs.the_log()
    store = ObjectStore(str(tmp_path / "store"))
    for host in ("inside", "beside"):
        topic = Rejected()
        partition = Partition.open(
            tmp_path / host, HOURLY, 0, "topic-1", log, rejected=topic, store=store, background=host == "beside"
        )
        assert partition is not None
        runs.feed(partition, log)
        if host == "beside":
            while len(stored_manifests(store, 0)) < 2:
                threading.Event().wait(0.01)
        first = min(stored_manifests(store, 0))
        assert store.names("snapshots") == [f"snapshots/0/{first}.snapshot"], "nothing was refused in the first epoch"
        topic.is_away = False
        if host == "beside":
            partition.drain()
            assert len(store.names("snapshots")) == 2
            assert topic.sent == sorted(set(topic.sent)) != []
        partition.close()
        if host == "inside":
            for name in store.names("manifests") + store.names("snapshots"):
                store.remove(name)


class Flaky(ObjectStore):
    """A store that may give no answer."""

    is_away = False

    def names(self, folder: str) -> list[str]:
        if self.is_away:
            raise StoreAway("no answer")
        return super().names(folder)


def test_a_worker_takes_no_new_partition_while_the_store_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, store = runs.the_log(), Flaky(str(tmp_path / "store"))
    owned = PartitionOwner(
        tmp_path / "data",
        structs.replace(HOURLY, partitions=3),
        log,
        log,
        store=store,
        fatal=lambda error: None,
        on_commit=lambda committed: None,
        on_resumed=lambda assigned: None,
    )
    assert asyncio.run(owned.open({1}, only=True)) == {1: 0}
    store.is_away = True
    assert asyncio.run(owned.open({0, 1, 2}, only=True)) == {1: 0}, "what is held stays held"
    assert caplog.text.count("Retrying") == 1
    store.is_away = False
    assert asyncio.run(owned.open({0, 1, 2}, only=True)) == {0: 0, 1: 0, 2: 0}
    owned.end()


def test_a_new_log_is_in_the_store_before_a_worker_has_run(tmp_path: Path) -> None:
    settings = structs.replace(load_settings(), store=str(tmp_path / "store"))
    made = DataFolder(tmp_path / "operator", settings).create_log(HOURLY)
    assert DataFolder(tmp_path / "worker", settings).log() == made
