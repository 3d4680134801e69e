"""How far each partition's checkpoint is, for workers on other hosts: `marks/<topic id>/<partition>` in the store.

As `offset_mark` within a folder: written after a commit, so it may lag behind a checkpoint and is never ahead of one,
and nothing continues from it. Who opens a partition writes its mark at once, also where that is lower than before.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from streams.storage.object_store import ObjectStore

EVERY_SECONDS = 10.0
"""A partition that moves on has a new mark as often as that, and one once it stands at the log's end."""


class SharedMarks:
    """The marks as one worker writes and reads them. Not to be called from two threads at once."""

    def __init__(self, store: ObjectStore, topic_id: str, seconds: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._folder = f"marks/{topic_id}"
        self._seconds = seconds
        self._written: dict[int, tuple[int, float]] = {}

    def write(self, held: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Writes what is due of the partitions held, each with its checkpoint's next offset. Raises StoreAway.

        `ends` are the log's, where they are known.
        """
        self._written = {partition: mark for partition, mark in self._written.items() if partition in held}
        for partition, offset in held.items():
            before = self._written.get(partition)
            is_due = before is None or offset >= ends.get(partition, offset + 1)
            if before is not None and (before[0] == offset or not (is_due or self._is_old(before[1]))):
                continue
            self._store.put(f"{self._folder}/{partition}", [str(offset).encode()])
            self._written[partition] = offset, self._seconds()

    def read(self, partitions: Iterable[int]) -> dict[int, int]:
        """The marks of those partitions that have one. Raises StoreAway."""
        found = {partition: self._store.read(f"{self._folder}/{partition}") for partition in partitions}
        return {partition: int(mark) for partition, mark in found.items() if mark is not None and mark.isdigit()}

    def _is_old(self, written_s: float) -> bool:
        return self._seconds() - written_s >= EVERY_SECONDS
