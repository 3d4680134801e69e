"""What a supervisor sees of its workers from outside: a watchdog lives inside of the process that it guards.

A worker that doesn't answer /health at all is frozen, on a dead disk, or has lost its thread. One that answers and
whose partitions stand still below the log's end is stuck in a way that its own watchdog doesn't see.
"""

import http.client
from collections.abc import Mapping

import msgspec

ASK_S = 5.0
"""How often a worker is asked, and how long it may take for one answer."""

SILENT_S = 30.0
"""A worker that has not answered for so long is ended. Before its first answer it may take START_S."""

START_S = 120.0

STILL_S = 180.0
"""So long a partition may stand still below the log's end: three times what a worker's own watchdog allows."""


class Answer(msgspec.Struct, frozen=True):
    """What a worker's /health says: what is wrong, if anything, and what it reads."""

    reason: str | None
    partitions: tuple[int, ...] = ()


def ask(host: str, port: int) -> Answer | None:
    """What the /health of a worker that listens on `host` says, well or not; None without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=ASK_S)  # noqa: S104
    try:
        connection.request("GET", "/health")
        return msgspec.json.decode(connection.getresponse().read(1 << 16), type=Answer)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        connection.close()


class Silence:
    """How long one process has not answered, in monotonic seconds."""

    def __init__(self, started_s: float) -> None:
        self._since_s = started_s
        self._limit_s = START_S

    def fault(self, now_s: float, answer: Answer | None) -> str:
        """Why the process has to be ended; empty if it needn't."""
        if answer is not None:
            self._since_s, self._limit_s = now_s, SILENT_S
        silent_s = now_s - self._since_s
        return f"its /health has not answered for {silent_s:.0f} s" if silent_s > self._limit_s else ""


class Standstill:
    """Which partitions stand still though the log goes on, by their checkpoints' marks."""

    def __init__(self) -> None:
        self._since_s: dict[int, tuple[int, float]] = {}

    def look(self, now_s: float, marks: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, float]:
        """The partitions below their ends whose marks have not moved for longer than STILL_S, each with how long."""
        behind = {number: mark for number, mark in marks.items() if mark < ends.get(number, 0)}
        before = self._since_s
        self._since_s = {
            number: before[number] if number in before and before[number][0] == mark else (mark, now_s)
            for number, mark in behind.items()
        }
        return {number: now_s - since for number, (_, since) in self._since_s.items() if now_s - since > STILL_S}
