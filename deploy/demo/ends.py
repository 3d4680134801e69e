"""The demo can be ended at any second and leaves nothing running; what a killed one left, the next one ends first.

Its data folder is its own, known by a file in it, and is emptied at each start.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from deploy.demo.workers import worker_words
from deploy.stack.processes import Process, wait_until
from deploy.stack.servers import Stack
from deploy.stack.supervise import stop_workers
from schemas.errors import InvalidInput

MARKER = "demo.txt"
MARKER_TEXT = "Made by `tallyroot demo`, which empties this folder at its next start.\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = "\ntallyroot: interrupted; nothing of the demo runs any more, and `make demo` starts it again\n"
SERVER_WORDS = {b"kafka.Kafka", b"kafka.tools.StorageTool", b"state.json"}
_PROC = Path("/proc")
_END_S = 5.0


@contextmanager
def demo_folder(folder: Path) -> Iterator[None]:
    """The folder, emptied and locked; a signal ends this process with 130, and all that it started.

    Raises InvalidInput where the folder is not a demo's, or another demo runs in it.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise InvalidInput(f"{folder} holds something other than a demo: choose another --data-dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker = (folder / MARKER).open("a")
    except OSError as error:
        raise InvalidInput(f"can't write to {folder} ({error.strerror}): choose another --data-dir") from None
    with marker, _interruptible(folder):
        _lock(marker, folder)
        if not marker.tell():
            marker.write(MARKER_TEXT)
            marker.flush()
        end_leftovers(folder)
        _empty(folder)
        try:
            yield
        except BaseException:
            end_leftovers(folder)  # a demo that failed leaves no server
            raise


def end_leftovers(folder: Path) -> None:
    """Ends servers and workers of an earlier run. Without /proc, not its own workers: they end at the log's end."""
    stop_workers(folder)
    stack = Stack.load(folder)
    if stack is not None:
        stack.stop()
    _kill(Process.of(pid) for pid in _left_in(folder))


def _lock(marker: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidInput(f"another demo runs in {folder}: wait until it ends, or choose another --data-dir") from None


def _empty(folder: Path) -> None:
    """Removes all but the marker, which must be the last to go."""
    for path in folder.iterdir():
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MARKER:
                path.unlink()
        except OSError as error:
            raise InvalidInput(f"can't empty {folder} ({error}): remove it, or choose another --data-dir") from None


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """A signal that isn't already ignored ends us at once.

    Not by an exception, which any code may swallow or replace. A clean stop is not needed, as the next demo empties
    the folder.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _kill(Process.of(pid) for pid in [*_children(), *_left_in(folder)])
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, INTERRUPTED.encode())
        os._exit(130)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(found: Iterable[Process]) -> None:
    ended = list(found)
    for process in ended:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(process.alive() for process in ended), _END_S)


def _pids() -> list[int]:
    return [int(path.name) for path in _PROC.glob("[0-9]*")]


def _children() -> list[int]:
    """Everything that we started and that runs: servers have sessions of their own, but are our children."""
    own = os.getpid()
    if not (_PROC / "self" / "stat").exists():
        answer = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in answer.stdout.splitlines()]
        return [int(pid) for pid, parent in rows if int(parent) == own]
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
            if int(stat.rpartition(")")[2].split()[1]) == own:
                found.append(pid)
    return found


def _left_in(folder: Path) -> list[int]:
    return [pid for pid in _pids() if _works_in(pid, folder)]


def _works_in(pid: int, folder: Path) -> bool:
    """Whether the process is a server or a worker that a demo started for this folder."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
        cwd = str((_PROC / str(pid) / "cwd").readlink()).removesuffix(" (deleted)")
    except OSError:  # it has ended, or is another user's
        return False
    expected = [os.fsencode(word) for word in worker_words(folder)]
    server = cwd in {str(folder.resolve() / name) for name in ("kafka", "evm")} and not SERVER_WORDS.isdisjoint(words)
    return server or words[-len(expected) :] == expected
