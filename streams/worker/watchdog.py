"""Ends a worker, from any thread and with a message, if it can't continue or makes no progress."""

import errno
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from schemas.errors import InvalidInput, InvariantBroken
from streams.worker.logs import event_line

if TYPE_CHECKING:  # a supervisor needs `is_away` and no Faust
    from streams.worker.faust_app import Fetched

EXIT_FATAL = 70
"""An error that a restart may or may not fix; the line on stderr says what it is."""

EXIT_STALLED = 75
"""No progress for too long: a supervisor restarts the worker, and it continues from its checkpoint."""

EXIT_TERMINATED = 143
"""The worker couldn't stop in time after a SIGTERM. Nothing is lost: the checkpoints are whole."""

LOOK_SECONDS = 1.0
CHECK_SECONDS = 120.0
CONNECT_SECONDS = 2.0


class Ending:
    """Ends the process at once: Faust would catch an exception and skip the batch that raised it."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._once = threading.Lock()

    def fatal(self, error: BaseException) -> None:
        """Ends the process with 70: one line for InvalidInput, InvariantBroken and a full disk, a traceback for
        others.
        """
        self.now(EXIT_FATAL, message_of(error))

    def now(self, code: int, message: str = "") -> None:
        """Ends the process with this code. Only the first call counts."""
        self._once.acquire()  # never released: a second thread waits here until the process is gone
        try:
            if self._as_json:
                reason = message or "it was asked to stop and could not in time"
                sys.stderr.write(event_line("stopped", exit_code=code, reason=reason))
            elif message:
                sys.stderr.write(message.rstrip("\n") + "\n")
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def message_of(error: BaseException) -> str:
    """The text to print for an error."""
    if isinstance(error, InvalidInput | InvariantBroken):
        return f"tallyroot: {error}"
    if is_full(error):
        line = " ".join(str(error).split())
        return f"tallyroot: the disk is full ({line}): make room for the data folder, nothing is lost, and start again"
    return "".join(traceback.format_exception(error))


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full. DuckDB's and Arrow's messages quote the system's."""
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class StallJudge:
    """Measures how long each partition makes no progress though it has something to do. Times are monotonic seconds."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._since: dict[str, float] = {}
        self._seen: dict[int, tuple[int, int]] = {}

    def verdict(
        self,
        now: float,
        fetched: "str | Mapping[int, Fetched | None]",
        delivered: Mapping[int, int],
        committed: Mapping[int, int],
    ) -> str | None:
        """What has been wrong for longer than the limit, or None.

        `fetched` is a reason why nothing is read at all, or each partition's state; by partition, `delivered` is the
        end of the last slice delivered, `committed` the offset committed.
        """
        if isinstance(fetched, str):
            wrong = [fetched]
        else:
            moves = any(
                partition in self._seen and self._seen[partition][0] != committed.get(partition, 0)
                for partition in fetched
            )
            wrong = [
                f"partition {partition} {fault}"
                for partition, state in fetched.items()
                if (
                    fault := self._fault(
                        partition, state, delivered.get(partition, 0), committed.get(partition, 0), moves=moves
                    )
                )
            ]
        self._since = {what: self._since.get(what, now) for what in wrong}
        return self.standing(now, self._limit_seconds)

    def standing(self, now: float, limit_seconds: float) -> str | None:
        """What was wrong at every look for longer than `limit_seconds`, or None. Any thread may call it."""
        for what, since in sorted(self._since.items()):
            if now - since > limit_seconds:
                return f"{what} for {now - since:.0f} s"
        return None

    def forget(self) -> None:
        """Restarts the measurement."""
        self._since = {}

    def _fault(
        self, partition: int, state: "Fetched | None", delivered: int, committed: int, *, moves: bool
    ) -> str | None:
        """What is wrong with a partition at this look. While any partition `moves`, one whose slice was delivered waits
        for its turn: one thread commits for all.
        """
        if state is None:
            return "was never fetched"
        before = self._seen.get(partition)
        self._seen[partition] = committed, state.answered
        if before is None:
            return None
        if max(state.stable_end, delivered) > committed:
            waits = moves and delivered > committed
            return "has records to commit and makes no progress" if before[0] == committed and not waits else None
        return "gets no answer from its broker" if before[1] == state.answered else None


def is_away(bootstrap_servers: str) -> bool:
    """Whether no broker of the list takes a connection: then restarting a worker would not help."""
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        except OSError:
            continue
        return False
    return True


class Watchdog:
    """Checks every second from a thread of its own, so that it also notices a blocked loop."""

    def __init__(
        self,
        verdict: Callable[[float], str | None],
        excuse: Callable[[], bool],
        ending: Ending,
        check: Callable[[], None] = lambda: None,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """`verdict` is called with the time in monotonic seconds; `excuse` returns whether the cause is not the worker.

        `check` is called every `check_seconds`; an error that it raises ends the process.
        """
        self._verdict = verdict
        self._excuse = excuse
        self._check = check
        self._check_seconds = check_seconds
        self._ending = ending
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, without waiting for one that waits for Kafka."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)

    def _watch(self) -> None:
        checked_at = time.monotonic()
        while not self._stopped.wait(LOOK_SECONDS):
            now = time.monotonic()
            if now - checked_at >= self._check_seconds:
                self._do_check()
                checked_at = now = time.monotonic()
            verdict = self._verdict(now)
            if verdict is not None and not self._excuse():
                self._ending.now(
                    EXIT_STALLED, f"tallyroot: the worker ends, for a supervisor to start it again: {verdict}"
                )

    def _do_check(self) -> None:
        try:
            self._check()
        except Exception as error:  # noqa: BLE001 - after any error the worker can't continue
            if not self._stopped.is_set():
                self._ending.fatal(error)
