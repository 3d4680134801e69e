"""Server processes: started apart from the terminal, recognised by process id and start time."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from schemas.errors import InvalidInput

LOOPBACK = "127.0.0.1"

CLEAN_ENVIRONMENT = (
    "/usr/bin/env", "-u", "JAVA_TOOL_OPTIONS", "-u", "JDK_JAVA_OPTIONS", "-u", "_JAVA_OPTIONS", "LC_ALL=C.UTF-8",
    "/bin/sh", "-c", 'exec "$0" "$@"',
)  # fmt: skip
"""Java names files in the locale's encoding: UTF-8, wherever it was started from; options meant for other programs'
Java (a debugger's port, an agent, a heap) are not for ours. The shell is for paths with an equals sign."""

_POLL_S = 0.02
_TAIL_BYTES = 2_000


class Process(msgspec.Struct, frozen=True):
    """A process that we started. The start time distinguishes it from a later one with the same id."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this id now."""
        return cls(pid, _start_time(pid) or "")

    def alive(self) -> bool:
        """Whether this very process still runs."""
        _reap(self.pid)
        return _start_time(self.pid) == self.started

    def stop(self, patience_s: float) -> None:
        """Sends SIGTERM, and SIGKILL after that many seconds. Another process with its id is left alone."""
        for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            wait_until(lambda: not self.alive(), wait_s)


def start(command: Sequence[str], folder: Path, log: Path) -> Process:
    """Starts a server in the folder, both its streams appended to the log; it outlives us and no Ctrl-C reaches it.

    Raises InvalidInput if the program can't be run.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                [*CLEAN_ENVIRONMENT, *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise InvalidInput(f"can't run {command[0]}: {error.strerror}") from None
    child.returncode = 0  # we wait for it by its id; Popen shall not warn that it still runs
    return Process.of(child.pid)


def await_ready(name: str, process: Process, ready: Callable[[], bool], log: Path, patience_s: float) -> None:
    """Returns once the server answers.

    Raises InvalidInput, with the tail of its log in one line, if it ends or does not answer in time; it is ended then.
    """
    try:
        if wait_until(lambda: not process.alive() or ready(), patience_s) and process.alive():
            return
    except BaseException:  # Ctrl-C: no file knows of it yet
        process.stop(patience_s=1.0)
        raise
    why = f"did not answer within {patience_s:.0f} s" if process.alive() else "ended at once"
    process.stop(patience_s=1.0)
    raise InvalidInput(f"the embedded {name} {why}; its log {log} ends: {tail(log)}")


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Whether the condition became true within that many seconds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def tail(log: Path) -> str:
    """The end of a log as one line."""
    if not log.exists():
        return "(empty)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return " ".join(text.split())[-600:] or "(empty)"


def free_ports(count: int, wanted: Sequence[int] = ()) -> list[int]:
    """That many different ports free on 127.0.0.1: the wanted ones if they all are."""
    for choice in ([*wanted], [0] * count):
        with contextlib.ExitStack() as held:
            ports = []
            try:
                for port in choice:
                    server = held.enter_context(socket.socket())
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    server.bind((LOOPBACK, port))
                    ports.append(int(server.getsockname()[1]))
            except OSError:
                continue
        if len(ports) == count:
            return ports
    raise InvalidInput(f"no free port on {LOOPBACK}: close some programs")


def accepts(port: int) -> bool:
    """Whether something listens on the port of 127.0.0.1."""
    try:
        socket.create_connection((LOOPBACK, port), 0.5).close()
    except OSError:
        return False
    return True


def _reap(pid: int) -> None:
    """Reaps our own child, so that it does not stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_time(pid: int) -> str | None:
    """When the process started, in the system's own words; None if there is no such process, or only its remains."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else f"{boot} {fields[19]}"
    answer = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    state, _, started = answer.stdout.decode("ascii", "replace").strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()
