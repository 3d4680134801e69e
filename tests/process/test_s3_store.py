"""The same store in a bucket, on a server that speaks S3: moto's, in a process of its own."""

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.backup.backup import backup
from deploy.backup.contents import place_of
from deploy.backup.rehearsal import rehearse
from deploy.backup.restore import restore
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput, InvariantBroken
from streams.storage.object_store import ObjectStore
from streams.storage.shared_epochs import fetch_epochs, stored_manifests
from tests.support import partition_runs as runs
from tests.support import store_runs as hosts
from tests.support.archived_log import fill
from tests.support.sim_log import HOURLY

NEEDED = [name for name in ("moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"no S3 server here: {', '.join(NEEDED)} isn't installed")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket, without a prefix's options."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.1)
        yield f"?region=us-east-1&scheme=http&endpoint_override=127.0.0.1%3A{port}"
    finally:
        server.terminate()
        server.wait(10)
        said.close()


@pytest.fixture
def uri(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-nobody")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    from pyarrow.fs import FileSystem

    name = f"bucket-{time.monotonic_ns()}"
    files, _ = FileSystem.from_uri(f"s3://{name}/{bucket}&allow_bucket_creation=true")
    files.create_dir(name)
    return f"s3://{name}/some/prefix{bucket}"


def test_objects_in_a_bucket(uri: str, bucket: str) -> None:
    store = ObjectStore(uri)
    store.check()
    assert store.names("x") == [] and store.read("x/y") is None
    large = b"\x00\xff" * 5_000_000
    store.put("x/y/z.json", [large, b"end"])
    store.put("x/a", [b""])
    assert store.names("x") == ["x/a", "x/y/z.json"]
    assert store.read("x/y/z.json") == large + b"end" and store.read("x/a") == b""
    store.remove("x/a")
    store.remove("x/a")
    assert store.names("x") == ["x/y/z.json"]
    with pytest.raises(InvalidInput, match="no bucket no-such-bucket"):
        ObjectStore(f"s3://no-such-bucket/x{bucket}").check()


def test_a_host_is_lost_and_the_next_goes_on_from_the_bucket(uri: str, tmp_path: Path) -> None:
    runs.run(tmp_path / "undisturbed")
    undisturbed = runs.final_files(tmp_path / "undisturbed")
    for place, count in enumerate((9, 21, 30, 17)):
        hosts.run_until(tmp_path / str(place), uri, count)
    hosts.run(tmp_path / "last", uri)
    assert runs.final_files(tmp_path / "last") == undisturbed
    store = ObjectStore(uri)
    assert fetch_epochs(store, tmp_path / "fetched", HOURLY) == 4
    assert runs.final_files(tmp_path / "fetched") == undisturbed
    assert len(store.names("snapshots")) == 2
    first = min(stored_manifests(store, 0))
    store.put(f"manifests/0/{first}/{'0' * 64}.json", [b"{}"])
    with pytest.raises(InvariantBroken, match="two manifests"):
        fetch_epochs(store, tmp_path / "again", HOURLY)


def test_a_backup_in_a_bucket_is_rehearsed_and_restored(uri: str, tmp_path: Path) -> None:
    fill(tmp_path / "data", 2)
    data, place = DataFolder(tmp_path / "data", load_settings()), place_of(uri)
    made = backup(data, place, lambda done, text: None)
    assert made.new_files == len(place.names("objects")) and backup(data, place, lambda done, text: None).new_files < 4
    seen = rehearse(data, place, lambda done, text: None)
    assert seen.ok and seen.epochs == 4 and [one.to_read for one in seen.partitions] == [None, None]
    restore(place, tmp_path / "back", lambda done, text: None)
    assert runs.final_files(tmp_path / "back") == runs.final_files(tmp_path / "data")
