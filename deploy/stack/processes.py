"""Server processes: started apart from the terminal, recognised by process id and start time."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from schemas.errors import InvalidInput

S = TypeVar("S")

LOOPBACK = "127.0.0.1"

_ENV = ("/usr/bin/env", "-u", "JAVA_TOOL_OPTIONS", "-u", "JDK_JAVA_OPTIONS", "-u", "_JAVA_OPTIONS", "LC_ALL=C.UTF-8")
CLEAN_ENVIRONMENT = (*_ENV, "/bin/sh", "-c", 'exec "$0" "$@"')
"""Java names files in the locale's encoding: UTF-8, wherever it was started from; options meant for other programs'
Java (a debugger's port, an agent, a heap) are not for ours. The shell is for paths with an equals sign."""

_WHEN_NOTED = (*_ENV, "/bin/sh", "-c", 'read -r line && exec "$0" "$@" </dev/null')
"""The same, once a line comes in; ends where we end before."""

START_PATIENCE_S = 120.0
"""How long a server that starts may show no sign of life."""

PATIENCES_MAX = 10
"""A server that is busy and never answers is ended after that many patiences."""

LIVELY = 0.05
"""Of a core: a Java runtime that only waits takes less, one that reads its log on a busy machine more."""

SERVER_STOP_S = 20.0
"""How long a server may take to end before it is killed."""

TRIES = 3
"""How often free ports are looked for, where another program took those that were found."""

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


class Server(msgspec.Struct, frozen=True):
    """A running embedded server, and the port at which its clients find it."""

    process: Process
    port: int

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether the server's process runs."""
        return self.process.alive()

    def stop(self) -> None:
        """Ends the server; what it holds is in its folder then."""
        self.process.stop(SERVER_STOP_S)


def start(
    command: Sequence[str], folder: Path, log: Path, note: Callable[[Process], None] = lambda process: None
) -> Process:
    """Starts a server in the folder, both its streams appended to the log; it outlives us and no Ctrl-C reaches it.

    `note` writes the process down before the program runs: killed before that, we leave nothing behind.
    Raises InvalidInput if the program can't be run.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                [*_WHEN_NOTED, *command],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise InvalidInput(f"can't run {command[0]}: {error.strerror}") from None
    child.returncode = 0  # we wait for it by its id; Popen shall not warn that it still runs
    process = Process.of(child.pid)
    with child.stdin or contextlib.nullcontext() as line:
        note(process)
        if line is not None:
            line.write(b"\n")
    return process


def await_ready(name: str, process: Process, ready: Callable[[], bool], log: Path, patience_s: float) -> None:
    """Returns once the server answers. Patience begins again with each sign of life: a longer log, or work done.

    Raises InvalidInput, with the tail of its log in one line, if it ends or the patience does; it is ended then.
    """
    began_s = seen_s = time.monotonic()
    seen = _signs(process, log)
    try:
        while process.alive():
            if ready() and process.alive():
                return
            now_s, signs = time.monotonic(), _signs(process, log)
            if signs[0] != seen[0] or signs[1] - seen[1] > LIVELY * patience_s:
                seen_s, seen = now_s, signs
            if now_s - seen_s > patience_s or now_s - began_s > PATIENCES_MAX * patience_s:
                break
            time.sleep(_POLL_S)
    except BaseException:  # Ctrl-C
        process.stop(patience_s=1.0)
        raise
    waited = f"did not answer within {time.monotonic() - began_s:.0f} s (set a longer TALLYROOT_START_PATIENCE)"
    why = waited if process.alive() else "ended at once"
    process.stop(patience_s=1.0)
    raise InvalidInput(f"the embedded {name} {why}; its log {log} ends: {tail(log)}")


def _signs(process: Process, log: Path) -> tuple[int, float]:
    """Bytes of its log, and seconds of CPU that the process has taken; 0 where that can't be known."""
    size = log.stat().st_size if log.exists() else 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{process.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return size, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return size, 0.0


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


def on_free_ports(name: str, count: int, wanted: Sequence[int], start_on: Callable[..., S]) -> S:
    """What `start_on` returns for that many free ports; another program may take one before the server binds it.

    Raises InvalidInput, with the server's own words, if it does not come up for another reason, or after TRIES.
    """
    for left in reversed(range(TRIES)):
        try:
            return start_on(*free_ports(count, wanted))
        except InvalidInput as error:
            if not left or "in use" not in str(error):
                raise
    raise InvalidInput(f"the embedded {name} found no free port")


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
