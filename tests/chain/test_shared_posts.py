"""Posts in the store: an auditor's host has nothing but the log, the chain and what the settling job put there."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain.watch import Watch, WatchOptions
from deploy.money import treasury as treasury_module
from deploy.money.shared_posts import SharedPosts
from deploy.money.treasury import Round, Treasury
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain.job import SettleOptions
from settlement.chain.watcher import Done, Look
from streams.storage.object_store import ObjectStore, StoreAway
from tests.support.watched_folder import WatchedFolder

pytestmark = pytest.mark.chain


@pytest.fixture
def hosts(watched: WatchedFolder, tmp_path: Path) -> tuple[Treasury, DataFolder, Path]:
    """The treasury, an auditor's folder that has its archives and none of its posts, and the store of both."""
    settings = structs.replace(load_settings(), store=str(tmp_path / "store"), chain_rpc_url=watched.node.rpc_url)
    auditor = tmp_path / "auditor"
    shutil.copytree(watched.folder, auditor, ignore=shutil.ignore_patterns("settlement", "store.json"))
    return Treasury(DataFolder(watched.folder, settings)), DataFolder(auditor, settings), tmp_path / "store"


def watch(data: DataFolder) -> list[str]:
    seen: list[Done | Look] = []
    Watch(data, seen.append, WatchOptions(from_archive=True)).once()
    return [f"{done.event} {done.sequence} {done.text}" for done in seen if isinstance(done, Done)]


def settle(treasury: Treasury) -> None:
    treasury.settle(SettleOptions(max_epochs=1, max_posts=1))


def test_an_auditor_attests_what_the_store_has(hosts: tuple[Treasury, DataFolder, Path]) -> None:
    treasury, auditor, store = hosts
    settle(treasury)
    assert [line.split()[:2] for line in watch(auditor)] == [["attested", "1"]]
    fetched = auditor.data_dir / "settlement" / "posts" / "1"
    assert {path.name for path in fetched.iterdir()} == {"manifest.json", "windows.parquet", "payouts.json"}
    assert sorted(path.name for path in store.rglob("posts/1/*/*")) == sorted(path.name for path in fetched.iterdir())


def test_settle_that_follows_waits_for_its_store_and_puts_the_post_then(
    hosts: tuple[Treasury, DataFolder, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The post is made all the same, and its files are not forgotten."""
    treasury, auditor, store = hosts
    settle(treasury)
    away, put = [True], ObjectStore.put

    def may_fail(self: ObjectStore, name: str, chunks: Iterator[bytes]) -> None:
        if away:
            raise StoreAway("the store doesn't answer")
        put(self, name, chunks)

    monkeypatch.setattr(ObjectStore, "put", may_fail)
    monkeypatch.setattr(treasury_module, "FOLLOW_S", 0.0)
    rounds: list[str] = []

    def count(done: Round) -> None:
        rounds.append(done.outcome)
        if len(rounds) == 2:
            away.clear()
        if len(rounds) == 3:
            raise KeyboardInterrupt

    following = treasury.follow(SettleOptions(), count)
    assert isinstance(next(following), StoreAway)
    with pytest.raises(KeyboardInterrupt):
        next(following)
    assert rounds == ["waiting", "waiting", "nothing"]
    assert len({path.parent.parent.name for path in store.rglob("posts/*/*/manifest.json")}) == 2
    assert watch(auditor)[0].startswith("attested 2")


def test_what_was_settled_before_the_store_was_set_is_put_too(hosts: tuple[Treasury, DataFolder, Path]) -> None:
    treasury, auditor, _ = hosts
    service.settle(treasury.data_dir, treasury.chain, treasury.log, treasury.keys, SettleOptions(max_posts=1))
    Treasury(treasury.data).settle(SettleOptions())
    assert [line.split()[0] for line in watch(auditor)] == ["attested"]


def test_a_post_that_is_kept_back_is_alarmed_of_and_a_changed_one_found(
    hosts: tuple[Treasury, DataFolder, Path],
) -> None:
    treasury, auditor, store = hosts
    settle(treasury)
    (manifest,) = store.rglob("posts/1/*/manifest.json")
    whole = manifest.read_bytes()
    manifest.unlink()
    assert [line.split()[:2] for line in watch(auditor)] == [["wait", "1"]]  # and disputes in the end
    manifest.write_bytes(whole.replace(b"{", b"[", 1))
    (found,) = watch(auditor)
    assert found.startswith("wait 1") and "manifest.json" in found
    manifest.write_bytes(whole)
    shutil.rmtree(auditor.data_dir / "settlement" / "posts" / "1")
    assert [line.split()[0] for line in watch(auditor)] == ["attested"]


def test_a_settling_jobs_own_posts_are_never_replaced(hosts: tuple[Treasury, DataFolder, Path]) -> None:
    treasury, _, _ = hosts
    settle(treasury)
    own = treasury.data_dir / "settlement" / "posts" / "1" / "manifest.json"
    own.write_bytes(b"changed")
    treasury.fetch_posts()
    assert own.read_bytes() == b"changed"


def test_a_fetch_that_was_cut_off_is_repeated(
    hosts: tuple[Treasury, DataFolder, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    treasury, auditor, store = hosts
    settle(treasury)
    live = treasury._live_posts()
    shared = SharedPosts(ObjectStore(str(store)), auditor.data_dir)
    chunks = ObjectStore.chunks

    def dies(self: ObjectStore, name: str, max_bytes: int) -> object:
        if name.endswith("payouts.json"):
            raise KeyboardInterrupt
        return chunks(self, name, max_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "chunks", dies)
        with pytest.raises(KeyboardInterrupt):
            shared.fetch(live)
    assert not (auditor.data_dir / "settlement" / "posts" / "1").exists()
    assert shared.fetch(live) == 1
    assert shared.fetch(live) == 0


def test_a_watcher_that_lives_on_fetches_again_what_was_mended(hosts: tuple[Treasury, DataFolder, Path]) -> None:
    """It would count an honest post as withheld, and dispute it, until somebody starts it again."""
    treasury, auditor, store = hosts
    settle(treasury)
    live, shared = treasury._live_posts(), SharedPosts(ObjectStore(str(store)), auditor.data_dir)
    (manifest,) = store.rglob("posts/1/*/manifest.json")
    (payouts,) = store.rglob("posts/1/*/payouts.json")
    for damaged in (manifest, payouts):
        whole = damaged.read_bytes()
        damaged.unlink() if damaged is payouts else damaged.write_bytes(b"another")
        shared.fetch(live)
        damaged.write_bytes(whole)
        assert shared.fetch(live) == 1
        fetched = auditor.data_dir / "settlement" / "posts" / "1"
        assert (fetched / damaged.name).read_bytes() == whole
        shutil.rmtree(fetched)
        shared = SharedPosts(ObjectStore(str(store)), auditor.data_dir)


def test_a_pipe_among_the_posts_is_refused_not_waited_for(hosts: tuple[Treasury, DataFolder, Path]) -> None:
    treasury, auditor, _ = hosts
    settle(treasury)
    folder = auditor.data_dir / "settlement" / "posts" / "1"
    folder.mkdir(parents=True)
    for name in ("windows.parquet", "payouts.json"):
        (folder / name).touch()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(InvalidInput, match="not a regular file"):
        Treasury(auditor, trusts_folder=False).fetch_posts()
