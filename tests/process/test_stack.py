"""The embedded servers, really started: what they hold survives, whoever asks finds them, no proxy is in the way."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.config import Settings
from deploy.data_folder import WORKERS_FILE, DataFolder
from deploy.stack import lifecycle, processes
from deploy.stack import servers as stack
from deploy.stack.home import Home
from deploy.stack.kafka_server import KafkaServer
from deploy.stack.servers import Stack, start_evm
from deploy.stack.supervise import Supervised, Worker, _Supervisor
from schemas.errors import InvalidInput


def rpc(url: str, method: str, *params: object) -> object:
    """One JSON-RPC call."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10.0)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", "/", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["result"]


@pytest.mark.kafka
@pytest.mark.chain
def test_the_stack_survives_stop_kill_and_moving(tmp_path: Path) -> None:
    folder = tmp_path / "ä data folder"
    assert Stack.load(folder) is None
    first = Stack.start(folder)
    try:
        assert first.alive()
        assert Stack.load(folder) == first
        assert Stack.start(folder) == first  # nothing to start

        admin = AdminClient({"bootstrap.servers": first.kafka_bootstrap_servers})
        admin.create_topics([NewTopic("kept", num_partitions=2)])["kept"].result(20.0)
        producer = Producer({"bootstrap.servers": first.kafka_bootstrap_servers})
        producer.produce("kept", b"value", partition=1)
        assert producer.flush(20.0) == 0
        rpc(first.chain_rpc_url, "anvil_mine", "0x7")
    finally:
        first.stop()
    assert not first.alive()

    moved = folder.rename(tmp_path / "moved")
    second = Stack.start(moved)
    try:
        assert second.kafka_bootstrap_servers == first.kafka_bootstrap_servers
        assert second.chain_rpc_url == first.chain_rpc_url
        admin = AdminClient({"bootstrap.servers": second.kafka_bootstrap_servers})
        assert len(admin.list_topics("kept", timeout=20.0).topics["kept"].partitions) == 2
        assert rpc(second.chain_rpc_url, "eth_blockNumber") == "0x7"

        assert second.kafka is not None
        signal_and_wait(second.kafka.process)
        assert not second.alive()
        third = Stack.start(moved)
        assert third.alive()
        assert third.evm == second.evm  # only what had ended was started
        third.stop()
    finally:
        second.stop()


def signal_and_wait(process: processes.Process) -> None:
    """SIGKILL, as a crash does."""
    os.kill(process.pid, signal.SIGKILL)
    assert processes.wait_until(lambda: not process.alive(), 10.0)


@pytest.mark.chain
def test_a_copy_of_a_folder_is_another_one_and_a_moved_one_is_not(tmp_path: Path) -> None:
    original, copy = tmp_path / "data", tmp_path / "copy"
    running = Stack.start(original, kafka_bootstrap_servers="broker:9092")
    try:
        Supervised(
            supervisor=processes.Process.of(os.getpid()), workers=[Worker(number=1)], home=Home.of(original)
        ).save(original)
        shutil.copytree(original, copy)
        found = DataFolder(copy, Settings())
        assert found.kafka_servers() == "broker:9092"  # somebody else's, for the copy too
        with pytest.raises(InvalidInput, match=r"no chain runs for .*copy"):
            found.chain_rpc_url()
        assert not found.has_own_chain()
        assert Supervised.load(copy) is None
        assert lifecycle.stop(found) == lifecycle.Stopped(stopped=True, workers=0)
        assert running.alive()

        other = Stack.start(copy, kafka_bootstrap_servers="broker:9092")
        assert (other.alive(), other.chain_rpc_url == running.chain_rpc_url) == (True, False)
        other.stop()
        assert running.alive()

        moved = original.rename(tmp_path / "moved")
        assert DataFolder(moved, Settings()).chain_rpc_url() == running.chain_rpc_url
        assert Supervised.load(moved) is not None
        late = copied(moved, tmp_path / "late")
        for name in ("data", "copy-of-copy"):  # the first lies where the original was
            assert_knows_nothing(copied(copy, tmp_path / name), running)
        assert_knows_nothing(late, running)
        away = moved.rename(tmp_path / "away")
        assert_knows_nothing(late.rename(moved), running)  # a copy where the original was just now
        (away / WORKERS_FILE).unlink()
        lifecycle.stop(DataFolder(away, Settings()))
        assert not running.alive()
    finally:
        running.stop()


def copied(folder: Path, to: Path) -> Path:
    """A copy that keeps all that can be kept, as a backup does."""
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)
    return to


def assert_knows_nothing(copy: Path, running: Stack) -> None:
    """A copy neither shows nor ends the servers and workers of the folder that it was made of."""
    found = DataFolder(copy, Settings())
    with pytest.raises(InvalidInput, match=r"no chain runs for "):
        found.chain_rpc_url()
    assert Supervised.load(copy) is None
    assert lifecycle.stop(found).workers == 0
    assert running.alive()


def test_a_restored_folder_is_another_one_though_nothing_of_the_first_is_left(tmp_path: Path) -> None:
    original = tmp_path / "data"
    original.mkdir()
    home, backup = Home.of(original), copied(original, tmp_path / "backup")
    shutil.rmtree(original)
    assert not home.is_at(backup)
    assert not home.is_at(original)
    assert msgspec.structs.replace(Home.of(backup), device=-1).is_at(backup)  # after a restart of the host
    assert not msgspec.structs.replace(Home.of(backup), device=-1).is_at(original)


def test_a_supervisor_whose_folder_was_moved_writes_nothing_in_a_copy_at_its_path(tmp_path: Path) -> None:
    original = tmp_path / "data"
    original.mkdir()
    supervisor = _Supervisor(original, 1, 0)
    supervisor._save()
    found = Supervised.load(original)
    assert found is not None
    moved = original.rename(tmp_path / "moved")
    copied(moved, original)
    theirs = (original / WORKERS_FILE).write_text("theirs")
    supervisor._save()
    assert (original / WORKERS_FILE).stat().st_size == theirs


def test_what_a_killed_start_left_is_ended(tmp_path: Path) -> None:
    """A server that was started and had not served yet: `down` ends it, and the next start does."""
    left = processes.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, tmp_path / "log")
    named = Stack.start(tmp_path, kafka_bootstrap_servers="broker:9092", chain_rpc_url="http://chain:8545")
    msgspec.structs.replace(named, starting=left)._save()
    lifecycle.stop(DataFolder(tmp_path, Settings()))
    assert not left.alive()


@pytest.mark.chain
def test_a_start_killed_while_a_server_starts_leaves_what_down_ends(tmp_path: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-m", "deploy", "up", "--data-dir", str(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def starting() -> processes.Process | None:
        found = Stack.load(tmp_path)
        return None if found is None else found.starting

    assert processes.wait_until(lambda: starting() is not None, 60.0)
    left = starting()
    killed.kill()
    killed.wait()
    assert left is not None
    lifecycle.stop(DataFolder(tmp_path, Settings()))
    assert not left.alive()


def test_a_failed_start_leaves_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[processes.Process] = []

    def kafka(folder: Path, ports: tuple[int, ...], patience_s: float, note: Callable[..., None]) -> KafkaServer:
        folder.mkdir()
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        started.append(processes.start(command, folder, tmp_path / "log", note))
        return KafkaServer(started[0], 1, 2)

    monkeypatch.setattr(stack, "start_kafka", kafka)
    (tmp_path / "evm").mkdir()
    (tmp_path / "evm" / "state.json").write_text("no chain")
    with pytest.raises(InvalidInput, match="EVM node ended at once"):
        Stack.start(tmp_path)
    assert [process.alive() for process in started] == [False]
    found = Stack.load(tmp_path)
    assert found is not None and found.starting is not None and not found.starting.alive()


@pytest.mark.chain
def test_finalized_lags_as_on_a_real_chain(tmp_path: Path) -> None:
    node = start_evm(tmp_path)
    try:
        rpc(node.rpc_url, "anvil_mine", "0x14")
        heights = [rpc(node.rpc_url, "eth_getBlockByNumber", tag, False) for tag in ("latest", "safe", "finalized")]
        assert [int(str(block["number"]), 16) for block in heights if isinstance(block, dict)] == [20, 16, 12]
    finally:
        node.stop()


@pytest.mark.chain
def test_a_port_taken_between_our_look_and_the_node_s_bind_is_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_ports = processes.free_ports
    with socket.create_server(("127.0.0.1", 0)) as taken:
        chosen = iter([[taken.getsockname()[1]]])
        monkeypatch.setattr(processes, "free_ports", lambda *given: next(chosen, None) or free_ports(*given))
        node = start_evm(tmp_path)
        node.stop()
        assert node.port != taken.getsockname()[1]


def test_named_servers_are_used_and_never_stopped(tmp_path: Path) -> None:
    named = Stack.start(tmp_path, kafka_bootstrap_servers="broker:9092", chain_rpc_url="http://chain:8545")
    assert (named.kafka, named.evm) == (None, None)
    assert Stack.load(tmp_path) == named
    assert named.alive()
    named.stop()


def test_a_stack_file_that_is_no_stack_is_refused(tmp_path: Path) -> None:
    (tmp_path / stack.STACK_FILE).write_text("[]")
    with pytest.raises(InvalidInput, match="remove it"):
        Stack.load(tmp_path)


@pytest.mark.chain
def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("no chain")
    with pytest.raises(InvalidInput, match=r"EVM node ended at once; its log .* ends: ") as caught:
        start_evm(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("kafka")
def test_the_suite_s_broker_refuses_unknown_topics(kafka: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    assert "never-made" not in admin.list_topics(timeout=20.0).topics
    assert admin.list_topics("never-made", timeout=20.0).topics["never-made"].error is not None


def test_the_suite_s_node_is_a_development_chain(evm: str) -> None:
    assert rpc(evm, "eth_chainId") == "0x7a69"
