"""Worker processes that a test starts, watches and ends."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from schemas.log import Log
from streams.worker.app import WorkerProgress

ROOT = Path(__file__).parents[2]


class Workers:
    """The workers of one test on one data folder. None outlives the test: it would keep its group's partitions."""

    def __init__(self, bootstrap_servers: str, data_dir: Path, output_dir: Path | None = None) -> None:
        """What they say goes to `output_dir`, if it isn't to be the data folder."""
        self._servers = bootstrap_servers
        self._output_dir = output_dir or data_dir
        self._data_dir = data_dir
        self._started: list[WorkerProcess] = []

    def start(self, log: Log, **order: Any) -> "WorkerProcess":
        """A worker that runs until it is ended."""
        place = self._output_dir / f"w{len(self._started)}"
        worker = WorkerProcess(self._servers, log, self._data_dir, place, **order)
        self._started.append(worker)
        return worker

    def catch_up(self, log: Log) -> "WorkerProcess":
        """A worker that ran until it had caught up."""
        worker = self.start(log, until_caught_up=True)
        assert worker.wait() == 0, worker.said()
        assert worker.said() == ""
        return worker

    def kill(self) -> None:
        """Ends what still runs."""
        for worker in self._started:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.kill()


class WorkerProcess:
    """One worker. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, bootstrap_servers: str, log: Log, data_dir: Path, place: Path, **order: Any) -> None:
        self.name = place.name
        document = {"bootstrap_servers": bootstrap_servers, "data_dir": str(data_dir), "log": log} | order
        data_dir.mkdir(parents=True, exist_ok=True)
        self._out = place.with_suffix(".out.txt")
        self._err = place.with_suffix(".err.txt")
        command = [sys.executable, "-m", "tests.support.worker_main", msgspec.json.encode(document).decode()]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)

    def progress(self) -> list[WorkerProgress]:
        """What it has committed so far."""
        lines = self._out.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=WorkerProgress) for line in lines]

    def said(self) -> str:
        """What it wrote to stderr so far, but for the objects that DuckDB's binding may count there at the very end."""
        return self._err.read_text().partition("nanobind: leaked")[0]

    def wait_for(self, done: Callable[[list[WorkerProgress]], bool], seconds: float = 60) -> None:
        """Until its commits satisfy `done`."""
        deadline = time.monotonic() + seconds
        while not done(self.progress()):
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said()}"
            assert time.monotonic() < deadline, f"{self.progress()[-3:]} {self.said()}"
            time.sleep(0.01)

    def wait(self, seconds: float = 60) -> int:
        """Until it ends; the exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 10) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.wait(seconds)
