"""Worker processes that a test starts, watches and ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec

from schemas.log import Log
from streams.kafka.security import security_of
from streams.worker.app import WorkerProgress
from tests.support.forked import FORKED
from tests.support.worker_main import main_of_forked

ROOT = Path(__file__).parents[2]


class Workers:
    """The workers of one test on one data folder. None outlives the test: it would keep its group's partitions."""

    def __init__(self, bootstrap_servers: str, data_dir: Path, output_dir: Path | None = None) -> None:
        """What they say goes to `output_dir`, if it isn't to be the data folder."""
        self._servers = bootstrap_servers
        self._output_dir = output_dir or data_dir
        self._data_dir = data_dir
        self._started: list[WorkerProcess] = []

    def start(self, log: Log, *, as_command: bool = False, **order: Any) -> "WorkerProcess":
        """A worker that runs until it is ended. `as_command`: by a Python of its own, whose end is part of the test."""
        document: dict[str, Any] = {"bootstrap_servers": str(self._servers), "security": security_of(self._servers)}
        document |= {"data_dir": str(self._data_dir), "log": log} | order
        self._data_dir.mkdir(parents=True, exist_ok=True)
        place = self._output_dir / f"w{len(self._started)}"
        worker = WorkerProcess(msgspec.json.encode(document, enc_hook=str).decode(), place, as_command=as_command)
        self._started.append(worker)
        return worker

    def catch_up(self, log: Log, **order: Any) -> "WorkerProcess":
        """A worker that ran until it had caught up."""
        worker = self.start(log, until_caught_up=True, **order)
        assert worker.wait() == 0, worker.said()
        assert worker.said() == ""
        return worker

    def kill(self) -> None:
        """Ends what still runs."""
        for worker in self._started:
            worker.send_signal(signal.SIGCONT)
            worker.kill()


class WorkerProcess:
    """One worker. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, order: str, place: Path, *, as_command: bool) -> None:
        self.name = place.name
        self._out, self._err = (place.with_suffix(f".{name}.txt") for name in ("out", "err"))
        self._out.touch()
        self._err.touch()
        self._process: subprocess.Popen[bytes] | BaseProcess
        if as_command:
            command = [sys.executable, "-m", "tests.support.worker_main", order]
            with self._out.open("wb") as out, self._err.open("wb") as err:
                self._process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        else:
            self._process = FORKED.Process(target=main_of_forked, args=(order, str(self._out), str(self._err)))
            self._process.start()

    def progress(self) -> list[WorkerProgress]:
        """What it has committed so far."""
        lines = self._out.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line, type=WorkerProgress) for line in lines]

    def said(self) -> str:
        """What it wrote to stderr so far, but for the objects that DuckDB's binding may count there at the very end."""
        return self._err.read_text().partition("nanobind: leaked")[0]

    def rss_bytes(self) -> int:
        """Its resident memory; 0 once it has ended."""
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, check=False)
        return int(found.stdout or 0) * 1_024

    def exit_code(self) -> int | None:
        """None while it runs, negative if a signal ended it."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self._process.pid is not None and self.exit_code() is None:
            os.kill(self._process.pid, number)

    def wait_for(self, done: Callable[[list[WorkerProgress]], bool], seconds: float = 60) -> None:
        """Until its commits satisfy `done`."""
        deadline = time.monotonic() + seconds
        while not done(self.progress()):
            assert self.exit_code() is None, f"it ended with {self.exit_code()}: {self.said()}"
            assert time.monotonic() < deadline, f"{self.progress()[-3:]} {self.said()}"
            time.sleep(0.01)

    def wait(self, seconds: float = 60) -> int:
        """Until it ends; the exit code."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.wait(seconds)
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"it still runs after {seconds} s: {self.progress()[-3:]} {self.said()}"
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def stop(self, seconds: float = 10) -> int:
        """SIGTERM; the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait(seconds)
