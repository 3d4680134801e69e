"""Supervised workers on a real Kafka: they share the partitions, come back when killed, and none is left behind."""

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.stack import processes
from deploy.stack.outside import ASK_S
from deploy.stack.servers import Stack
from deploy.stack.supervise import Supervised, start_workers, stop_workers
from tests.support.kafka_log import a_log, fill

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def data_dir(kafka: str, tmp_path: Path) -> Iterator[Path]:
    """A log in Kafka whose data folder knows its servers, as `tallyroot up` leaves it."""
    log = a_log("supervised")
    fill(kafka, log, hours=1)
    data_dir = tmp_path / "data"
    Stack.start(data_dir, kafka_bootstrap_servers=kafka, chain_rpc_url="http://127.0.0.1:1")
    DataFolder(data_dir, Settings()).create_log(log)
    yield data_dir
    stop_workers(data_dir)


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def await_shared(data_dir: Path, starts: list[int], seconds: float = 60) -> Supervised:
    """Until the workers were started so often, are well, and read each partition once between them."""
    found: list[Supervised] = []

    def are_well() -> bool:
        found[:] = [now for now in [Supervised.load(data_dir)] if now is not None]
        if not found or [worker.starts for worker in found[0].workers] != starts:
            return False
        answers = [get(worker.port, "/health") for worker in found[0].workers]
        if [status for status, _ in answers] != [200] * len(starts):
            return False
        read = [partition for _, text in answers for partition in json.loads(text)["partitions"]]
        return sorted(read) == [0, 1, 2, 3]

    assert processes.wait_until(are_well, seconds), (data_dir / "logs" / "supervisor.log").read_text()
    return found[0]


def test_a_killed_worker_comes_back_and_a_killed_supervisor_is_replaced(data_dir: Path) -> None:
    assert len(start_workers(data_dir, 2, 0).workers) == 2
    first = await_shared(data_dir, [1, 1])
    killed, other = (worker.process for worker in first.workers)
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    second = await_shared(data_dir, [2, 1])
    assert second.workers[0].process != killed
    assert second.workers[0].last_exit == "signal 9"
    assert second.workers[1].process == other

    os.kill(second.supervisor.pid, signal.SIGKILL)
    assert processes.wait_until(lambda: not second.supervisor.alive(), 10)
    assert start_workers(data_dir, 1, 0).supervisor != second.supervisor
    assert not any(worker.process is not None and worker.process.alive() for worker in second.workers)
    third = await_shared(data_dir, [1])
    lag = [f'tallyroot_partition_lag_records{{partition="{number}"}} 0.0' for number in range(4)]
    port = third.workers[0].port
    assert processes.wait_until(lambda: all(line in get(port, "/metrics")[1].splitlines() for line in lag), 60)

    assert stop_workers(data_dir) == 1
    assert not third.supervisor.alive()
    assert Supervised.load(data_dir) is None
    assert get(port, "/health") == (0, "")
    events = [json.loads(line)["event"] for line in (data_dir / "logs" / "worker-1.log").read_text().splitlines()]
    assert [events.count(event) for event in ("started", "stopped")] == [3, 2], "one of them was killed"


def test_a_frozen_worker_is_replaced(data_dir: Path) -> None:
    """Stopped, not dead: it keeps its locks, and its own watchdog is as frozen as the rest of it."""
    start_workers(data_dir, 2, 0)
    first = await_shared(data_dir, [1, 1])
    frozen = first.workers[0].process
    assert frozen is not None
    time.sleep(ASK_S + 1)  # the supervisor has seen it well; before that it allows for a slow start
    os.kill(frozen.pid, signal.SIGSTOP)
    second = await_shared(data_dir, [2, 1], 120)
    assert second.workers[0].last_exit == "signal 9"
    assert "is killed: its /health has not answered for" in (data_dir / "logs" / "supervisor.log").read_text()
