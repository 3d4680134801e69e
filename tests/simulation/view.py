"""What an analyst sees while workers come and go: every window at most once, and all that was sealed."""

from pathlib import Path
from typing import NamedTuple

import duckdb

from schemas.log import Log
from streams.reference.entries import Plain
from streams.reference.recount import PartitionRecount
from streams.storage.analytics import make_analytics

Seen = set[tuple[str, int, int]]


class Look(NamedTuple):
    """What was seen, where the partitions stood that were open, and how far they had ever been."""

    seen: Seen
    stands: dict[int, int]
    reached: dict[int, int]


class View:
    """Looks at `analytics.duckdb`; what it saw is judged at the end, when the auditor has counted."""

    def __init__(self, root: Path, log: Log) -> None:
        self._root = root
        self._log = log
        self._path: Path | None = None
        self._looks: list[Look] = []

    def look(self, stands: dict[int, int], reached: dict[int, int]) -> None:
        """Looks at the windows while these partitions are open and stand at these offsets."""
        if self._path is None:
            self._path = make_analytics(self._root, self._log)
        found = windows_in(self._path, set(stands))
        self._looks.append(Look(found, stands, dict(reached)))

    def check(self, counted: dict[int, PartitionRecount]) -> None:
        """Each look must have shown what had sealed by its offsets, and nothing else."""
        for look in self._looks:
            for partition, offset in look.stands.items():
                sealed = counted[partition].sealed
                least = {_key(window) for window in sealed if window["by"] < offset}
                most = {_key(window) for window in sealed if window["by"] <= look.reached[partition]}
                here = look.seen & {_key(window) for window in sealed}
                assert least <= here <= most, f"the view at offset {offset} of partition {partition}"
            everything = {_key(window) for naive in counted.values() for window in naive.sealed}
            assert look.seen <= everything, "the view shows a window that nobody earned"


def windows_in(path: Path, partitions: set[int]) -> Seen:
    """The windows of some partitions in `analytics.duckdb`; none of them may be there twice."""
    with duckdb.connect(str(path), read_only=True) as db:
        rows = db.execute(
            'SELECT machine, epoch_ms("start"), coalesce(epoch_ms(adjusts), -1), "partition" FROM windows'
        ).fetchall()
    found = [(row[0], row[1], row[2]) for row in rows if row[3] in partitions]
    assert len(found) == len(set(found)), "the view shows a window twice"
    return set(found)


def _key(window: Plain) -> tuple[str, int, int]:
    return window["machine"], window["start"], window["adjusts"]
