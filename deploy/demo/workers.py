"""The demo's workers: two share the partitions, one is killed in the middle, and a third continues in its place."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, SimpleQueue

from msgspec import Struct

from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

COMMIT_RECORDS = 2_000
"""Small commits, so that there is a middle in which to be killed."""

COMMITS_BEFORE = 2
SECONDS_MAX = 300.0
COMMIT = re.compile(r"partition (\d+): [\d,]+ records up to offset ([\d,]+)")


class Kill(Struct, frozen=True):
    """A worker killed after its commit up to `next_offset`; `away_seconds` until the partition's next commit."""

    partition: int
    next_offset: int
    away_seconds: float


def worker_words(data_dir: Path) -> list[str]:
    """The end of a worker's command line, by which a later demo recognises one that was left."""
    words = ["deploy", "stream", "--until-caught-up", "--commit-records", str(COMMIT_RECORDS)]
    return [*words, "--data-dir", str(data_dir)]


class _Worker:
    """One `tallyroot stream` as a process; its lines go to a queue, with its number, and None once it has ended."""

    def __init__(self, number: int, data_dir: Path, lines: "SimpleQueue[tuple[int, str | None]]") -> None:
        command = [sys.executable, "-m", *worker_words(data_dir)]
        self.number = number
        # In a session of its own: a terminal's Ctrl-C is for the demo, which ends its workers itself.
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._lines = lines
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self._lines.put((self.number, line.rstrip()))
        self._lines.put((self.number, None))


def stream_with_a_kill(data_dir: Path, terminal: Terminal, records: int) -> Kill | None:
    """Streams to the end of a log of so many records.

    The first of two workers that has committed a few times is killed, a third one starts. None where the log is so
    short that none was. Raises InvalidInput.
    """
    lines: SimpleQueue[tuple[int, str | None]] = SimpleQueue()
    workers = {number: _Worker(number, data_dir, lines) for number in (1, 2)}
    deadline = time.monotonic() + SECONDS_MAX
    commits: Counter[int] = Counter()
    reached: dict[int, int] = {}
    running, victim, killed_at = set(workers), 0, 0.0
    killed, kill = (0, 0), None
    terminal.progress(0.0, "two workers start")
    try:
        while running:
            number, line = _next(lines, deadline)
            if line is None:
                running.discard(number)
                if workers[number].process.wait() and number != victim:
                    raise InvalidInput(f"worker {number} ended with exit code {workers[number].process.returncode}")
                continue
            found = COMMIT.search(line)
            if found is None:
                terminal.step(f"  worker {number}: {line.strip()}")
                continue
            partition, next_offset = int(found[1]), int(found[2].replace(",", ""))
            reached[partition] = max(next_offset, reached.get(partition, 0))
            done = sum(reached.values())
            text = f"{done:,} of {records:,} records by {len(running)} workers"
            terminal.progress(done / records, text, f"worker {number}: {line.strip()}")
            if number == victim:
                continue
            commits[number] += 1
            if victim and kill is None and partition == killed[0]:
                kill = Kill(*killed, time.monotonic() - killed_at)
                terminal.step(f"  partition {partition} continues after {kill.away_seconds:.1f} s")
            if not victim and commits[number] == COMMITS_BEFORE:
                os.kill(workers[number].process.pid, signal.SIGKILL)
                victim, killed_at, killed = number, time.monotonic(), (partition, next_offset)
                terminal.step(f"  SIGKILL to worker {number}, in the middle of a batch; worker 3 starts")
                workers[3] = _Worker(3, data_dir, lines)
                running.add(3)
    finally:
        for worker in workers.values():
            if worker.process.poll() is None:
                worker.process.terminate()
            worker.process.wait()
    return kill


def _next(lines: "SimpleQueue[tuple[int, str | None]]", deadline: float) -> tuple[int, str | None]:
    try:
        return lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except Empty:
        raise InvalidInput(f"the workers did not finish within {SECONDS_MAX:.0f} s: run the demo again") from None
