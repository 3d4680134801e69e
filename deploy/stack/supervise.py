"""Keeps workers running: `tallyroot up --workers N` starts `python -m deploy.stack.supervise DATA_DIR WORKERS PORT`.

A worker is ended, and started again, where its /health doesn't answer or a partition that it reads stands still.

It writes what runs to `workers.json` and what the workers say to `logs/worker-<number>.log`. SIGTERM ends the workers,
then itself. A worker that ends is started again: at once where it stalled (75), was killed or was stopped cleanly;
after a growing pause where it can't continue (70 and others). One that fails in the same words several times in a
row is given up.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from deploy.cli.terminal import fail
from deploy.config import load_settings
from deploy.data_folder import WORKERS_FILE, DataFolder
from deploy.stack import processes
from deploy.stack.home import Home
from deploy.stack.outside import ASK_S, Answer, Silence, Standstill, ask
from deploy.stack.processes import Process
from files.read import FileMissing, read_json
from files.write import write_json
from schemas.errors import InvalidInput
from streams.storage.offset_mark import read_mark
from streams.worker.watchdog import EXIT_FATAL, EXIT_STALLED, EXIT_TERMINATED, is_away

if TYPE_CHECKING:
    from streams.kafka.reader import KafkaLogReader

LOOK_S = 0.1
STOP_S = 15.0
"""A worker takes 8 s to give up on a clean stop, and needs some for the commit that runs."""

BRIEF_S = 5.0
"""A worker that ran for less is not restarted at once, whatever its exit code: that would be a loop."""

LONG_S = 600.0
"""A worker that ran for longer was healthy: its earlier failures are forgotten."""

PAUSE_MAX_S = 60.0
SAME_MAX = 5
LOG_BYTES_MAX = 16 << 20

AT_ONCE = {0, EXIT_STALLED, EXIT_TERMINATED}


class Worker(msgspec.Struct, kw_only=True):
    """One worker as `workers.json` shows it. Without a process it waits for its next start, or is given up."""

    number: int
    process: Process | None = None
    port: int = 0
    starts: int = 0
    last_exit: str = ""
    given_up: bool = False


class Supervised(msgspec.Struct, kw_only=True):
    """A supervisor and its workers: `workers.json`, and the folder that remembers them."""

    supervisor: Process
    workers: list[Worker]
    home: Home

    @classmethod
    def load(cls, data_dir: Path) -> "Supervised | None":
        """What the folder remembers, running or not; None in a copy of it. Raises InvalidInput for a damaged file."""
        path = data_dir / WORKERS_FILE
        try:
            found = read_json(path, cls, what="a list of workers", remedy="end its workers by hand and remove it")
        except FileMissing:
            return None
        return found if found.home.is_at(data_dir) else None

    def save(self, data_dir: Path) -> None:
        """Writes the file in one step."""
        write_json(data_dir / WORKERS_FILE, self)


class Restarts:
    """Decides when a worker that ended is started again."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._same = 0
        self._said: tuple[int, str] | None = None

    def pause_s(self, code: int, said: str, ran_s: float, kafka_away: Callable[[], bool]) -> float | None:
        """Seconds to wait, None to give it up. `code` is negative for a signal, `said` its last words.

        While Kafka is away no failure counts.
        """
        if ran_s > LONG_S:
            self._pause_s, self._said = 0.0, None
        if code in AT_ONCE or code < 0:
            self._said = None
            if ran_s > BRIEF_S:
                self._pause_s = 0.0
                return 0.0
        elif not kafka_away():
            self._same = self._same + 1 if self._said == (code, said) else 1
            self._said = code, said
            if self._same >= SAME_MAX:
                return None
        self._pause_s = min(PAUSE_MAX_S, max(1.0, 2 * self._pause_s))
        return self._pause_s


def start_workers(data_dir: Path, count: int, port: int, patience_s: float = processes.START_PATIENCE_S) -> Supervised:
    """Starts a supervisor of `count` workers, in place of one that runs, and returns once all have been started.

    The workers serve /health and /metrics on `port` and the ports after it; 0: on any free ports.
    Raises InvalidInput if it does not start.
    """
    stop_workers(data_dir)
    logs = data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "supervisor.log"
    command = [sys.executable, "-m", "deploy.stack.supervise", str(data_dir), str(count), str(port)]
    home = Home.of(data_dir)
    process = processes.start(
        command, Path.cwd(), log, lambda process: Supervised(supervisor=process, workers=[], home=home).save(data_dir)
    )

    def has_started() -> bool:
        found = Supervised.load(data_dir)
        return found is not None and bool(found.workers) and all(worker.starts for worker in found.workers)

    processes.await_ready("supervisor", process, has_started, log, patience_s)
    found = Supervised.load(data_dir)
    if found is None:
        raise InvalidInput(f"the supervisor ended at once; its log {log} ends: {processes.tail(log)}")
    return found


def stop_workers(data_dir: Path) -> int:
    """Ends the supervisor of a folder, then the workers of one that was killed. Returns how many workers there were."""
    found = Supervised.load(data_dir)
    if found is None:
        return 0
    found.supervisor.stop(STOP_S + 10.0)
    for worker in (Supervised.load(data_dir) or found).workers:
        if worker.process is not None:
            worker.process.stop(STOP_S)
    (data_dir / WORKERS_FILE).unlink(missing_ok=True)
    return len(found.workers)


class _Slot:
    """One worker: its process, and when it is to be started."""

    def __init__(self, data_dir: Path, number: int, port: int) -> None:
        self.shown = Worker(number=number)
        self.child: subprocess.Popen[bytes] | None = None
        self._data_dir = data_dir
        self._port = port
        self._log = data_dir / "logs" / f"worker-{number}.log"
        self._restarts = Restarts()
        self._started_s = 0.0
        self._due_s = 0.0
        self._said_from = 0
        self._silence = Silence(0.0)
        self.answer: Answer | None = None
        """What the worker answered last."""

    def ask(self, host: str) -> None:
        """Asks the worker how it is, and kills one that is silent for too long. From the thread that looks."""
        child, silence = self.child, self._silence
        if child is None or child.poll() is not None:
            return
        self.answer = ask(host, self.shown.port)
        if fault := silence.fault(time.monotonic(), self.answer):
            self.kill(child, fault)

    def kill(self, child: "subprocess.Popen[bytes]", why: str) -> None:
        """Ends the process at once: a frozen one takes no other signal."""
        _note(f"worker {self.shown.number} is killed: {why}")
        child.kill()

    def look(self, now_s: float) -> bool:
        """Starts the worker if it is due, or notes that it has ended. Returns whether anything happened."""
        if self.child is None:
            if self.shown.given_up or now_s < self._due_s:
                return False
            self._start(now_s)
            return True
        code = self.child.poll()
        if code is None:
            return False
        self._ended(code, now_s)
        return True

    def _start(self, now_s: float) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.replace(self._log.with_suffix(".log.old"))
        wanted = self._port or self.shown.port
        self.shown.port = self._port or processes.free_ports(1, [wanted] if wanted else [])[0]
        words = ["stream", "--log-json", "--metrics-port", str(self.shown.port), "--data-dir", str(self._data_dir)]
        with self._log.open("ab") as output:
            self._said_from = output.tell()
            self.child = _popen([sys.executable, "-m", "deploy", *words], output)
        self.shown.process = Process.of(self.child.pid)
        self.shown.starts += 1
        self._started_s = now_s
        self._silence, self.answer = Silence(now_s), None

    def _ended(self, code: int, now_s: float) -> None:
        said = last_words(self._log, self._said_from)
        pause_s = self._restarts.pause_s(code, said, now_s - self._started_s, self._kafka_is_away)
        self.child = self.shown.process = None
        self.shown.last_exit = f"{_exit_text(code)}: {said}" if said and code else _exit_text(code)
        self.shown.given_up = pause_s is None
        self._due_s = now_s + (pause_s or 0.0)
        then = "given up: it failed in the same words before" if pause_s is None else f"starts again in {pause_s:.0f} s"
        _note(f"worker {self.shown.number} ended with {self.shown.last_exit}; {then}")

    def _kafka_is_away(self) -> bool:
        try:
            return is_away(DataFolder(self._data_dir, load_settings()).kafka_servers())
        except InvalidInput:
            return True  # the folder's own broker has ended: a worker is of no use until it is back


class _Supervisor:
    """All workers of one data folder."""

    def __init__(self, data_dir: Path, count: int, port: int) -> None:
        self._data_dir, self._home = data_dir, Home.of(data_dir)
        self._slots = [_Slot(data_dir, number, port and port + number - 1) for number in range(1, count + 1)]
        self._is_stopping = threading.Event()
        self._outside = threading.Thread(target=self._look_from_outside, name="outside", daemon=True)
        self._standstill = Standstill()
        self._reader: tuple[str, KafkaLogReader] | None = None

    def run(self) -> int:
        """Runs until SIGTERM, or until every worker is given up. Returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._is_stopping.set())
        self._outside.start()
        try:
            while not self._is_stopping.is_set():
                happened = [slot.look(time.monotonic()) for slot in self._slots]
                if any(happened):
                    self._save()
                if all(slot.shown.given_up for slot in self._slots):
                    _note(
                        "no worker is left: fix what they report, then start them again with `tallyroot up --workers`"
                    )
                    return EXIT_FATAL
                self._is_stopping.wait(LOOK_S)
        finally:
            self._stop()
        if self._home.is_at(self._data_dir):
            (self._data_dir / WORKERS_FILE).unlink(missing_ok=True)
        return 0

    def _look_from_outside(self) -> None:
        while not self._is_stopping.wait(ASK_S):
            host = load_settings().metrics_host
            for slot in self._slots:
                slot.ask(host)
            try:
                data = DataFolder(self._data_dir, load_settings())
                still = self._still(data)
            except InvalidInput:
                continue  # Kafka is away: nobody can move on
            for slot in self._slots:
                child, answer = slot.child, slot.answer
                read = () if child is None or answer is None else answer.partitions
                if child is not None and (stuck := [number for number in read if number in still]):
                    slot.kill(child, f"partition {stuck[0]} stands still for {still[stuck[0]]:.0f} s, below its end")

    def _still(self, data: DataFolder) -> dict[int, float]:
        log, servers = data.log(), data.kafka_servers()
        if self._reader is None or self._reader[0] != servers:
            from streams.kafka.reader import KafkaLogReader

            self._reader = servers, KafkaLogReader(servers, log.topic)
        ends = {number: end for number, (_, end) in self._reader[1].ranges(list(range(log.partitions))).items()}
        folder = self._data_dir / "partitions"
        return self._standstill.look(time.monotonic(), {number: read_mark(folder, number) for number in ends}, ends)

    def _save(self) -> None:
        if not self._home.is_at(self._data_dir):
            return  # moved away: what lies there now, perhaps a copy with workers of its own, is not ours to write in
        Supervised(
            supervisor=Process.of(os.getpid()), workers=[slot.shown for slot in self._slots], home=self._home
        ).save(self._data_dir)

    def _stop(self) -> None:
        children = [slot.child for slot in self._slots if slot.child is not None]
        for child in children:
            child.terminate()
        deadline_s = time.monotonic() + STOP_S
        for child in children:
            try:
                child.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def last_words(log: Path, start: int) -> str:
    """What went wrong, by the last line of a worker's log from that byte on, without its clock; "" if nothing did."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 65_536))
        lines = file.read().decode("utf-8", "replace").splitlines()
    line = next((line for line in reversed(lines) if line.strip()), "")
    try:
        document = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return line
    if document.get("level") == "info":
        return ""
    text = str(document.get("reason") or document.get("event") or "").strip()
    return text.splitlines()[-1] if text else ""


def _popen(command: list[str], output: BinaryIO) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _note(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")
    sys.stderr.flush()


def main() -> int:
    """The process itself."""
    data_dir = Path(sys.argv[1])
    with (data_dir / "supervisor.lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"another supervisor runs for {data_dir}: stop it with `tallyroot down`")
            return 1
        return _Supervisor(data_dir, int(sys.argv[2]), int(sys.argv[3])).run()


if __name__ == "__main__":
    sys.exit(main())
