"""Who reads the log's partitions, as far as one worker can see.

A second data folder or any other program in the consumer group takes partitions away, and nobody commits them. What a
worker of the same folder reads has a lock there; a worker on a host with the same store leaves a mark there.
"""

from collections.abc import Callable, Mapping, Set
from pathlib import Path

from files.lock import FileLock

LOOK_SECONDS = 5.0
"""How often a worker looks."""

UNCOVERED_SECONDS = 30.0
"""How long nobody may read a partition: a group that rebalances, or a worker that starts again, takes less."""

UNOPENED_SECONDS = 5.0
"""How long a worker may take to open a partition that it was given."""

MARK_SECONDS = 60.0
"""A mark in the store that is behind the log's end and older has nobody who moves it."""


class Coverage:
    """What one worker sees, from the thread that looks; any thread may ask what is wrong."""

    def __init__(
        self, folder: Path, partitions: int, group: str, read_elsewhere: Callable[[Set[int]], Set[int]]
    ) -> None:
        """`folder` is that of the checkpoints; `read_elsewhere` returns which partitions other hosts read."""
        self._folder = folder
        self._all = frozenset(range(partitions))
        self._group = group
        self._read_elsewhere = read_elsewhere
        self._unopened: dict[int, float] = {}
        self._uncovered: dict[int, float] = {}
        self._hidden: dict[int, int] = {}
        self._hidden_since: dict[int, float] = {}

    def look(self, now: float, assigned: Set[int], held: Set[int], hidden: Mapping[int, int]) -> None:
        """Looks once, at `now` (monotonic seconds): `assigned` to this worker, and of these `held` open by it.

        `hidden` is how many offsets an open transaction hides, by partition.
        """
        self._hidden = dict(hidden)
        self._hidden_since = {number: self._hidden_since.get(number, now) for number in hidden}
        self._unopened = {number: self._unopened.get(number, now) for number in assigned - held}
        others = {number for number in self._all - assigned if not FileLock.is_held(self._folder / f"{number}.lock")}
        missing = others - self._read_elsewhere(others) if others else others
        self._uncovered = {number: self._uncovered.get(number, now) for number in missing}

    def uncovered(self, now: float) -> tuple[int, ...]:
        """The partitions that nobody has read for too long."""
        return tuple(sorted(number for number, since in self._uncovered.items() if now - since > UNCOVERED_SECONDS))

    def unopened(self, now: float) -> tuple[int, ...]:
        """The partitions that this worker was given and can't open."""
        return tuple(sorted(number for number, since in self._unopened.items() if now - since > UNOPENED_SECONDS))

    def notices(self, now: float) -> dict[str, tuple[tuple[int, ...], str]]:
        """What somebody has to look at, by the name of its event: the partitions, and why."""
        long = tuple(sorted(n for n, since in self._hidden_since.items() if now - since > UNCOVERED_SECONDS))
        hidden = ", ".join(f"{self._hidden[number]} offsets of partition {number}" for number in long)
        found = {
            "uncovered": (self.uncovered(now), self.standing(now) or ""),
            "open_transaction": (long, f"an open transaction hides {hidden}: its producer must commit or abort it"),
        }
        return {event: notice for event, notice in found.items() if notice[0]}

    def standing(self, now: float) -> str | None:
        """What is wrong, in words; None if every partition is read."""
        if numbers := self.unopened(now):
            return (
                f"{_named(numbers)} given to this worker and not open: another process holds the lock, or Kafka is away"
            )
        if numbers := self.uncovered(now):
            return (
                f"{_named(numbers)} read by no worker of this data folder or its store: another folder or program is in"
                f" the consumer group {self._group}; give it a log or a group of its own"
            )
        return None


class OtherHosts:
    """Which partitions workers on hosts with the same store read, by their marks."""

    def __init__(
        self, marks: Callable[[Set[int]], Mapping[int, int]], ends: Callable[[Set[int]], Mapping[int, int]]
    ) -> None:
        """By partition, `marks` returns how far others are, `ends` where the log ends."""
        self._marks = marks
        self._ends = ends
        self._moved: dict[int, tuple[int, float]] = {}

    def reading(self, partitions: Set[int], now: float) -> set[int]:
        """Those whose mark stands at the log's end, or has moved lately (`now` in monotonic seconds)."""
        marks, ends = self._marks(partitions), self._ends(partitions)
        for number, mark in marks.items():
            if self._moved.get(number, (None, now))[0] != mark:
                self._moved[number] = mark, now
        return {
            number
            for number, mark in marks.items()
            if number in partitions
            and (mark >= ends.get(number, mark + 1) or now - self._moved[number][1] < MARK_SECONDS)
        }


def _named(numbers: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, numbers))
    return f"partition {listed} is" if len(numbers) == 1 else f"partitions {listed} are"
