"""The log root of a range, made as its records come: the worker's, the archive's and an auditor's.

Nothing of a record is kept but the state of one SHA-256: what a chunk holds so far can be compared at any moment.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct

from schemas.errors import InvariantBroken
from streams.core.log_root import CHUNK_OFFSETS, DOMAIN, merkle_root, skipped_leaf_of
from streams.core.records import LogRecord
from streams.core.skipped_ranges import SkippedBatch

ROOM = 1 << 19
"""Bytes of records that are written before they are hashed; what the processor's caches hold."""


class Leaf(Struct, frozen=True):
    """The leaf (32 bytes) of one chunk, which holds offsets from `chunk` * CHUNK_OFFSETS on."""

    chunk: int
    digest: bytes


class LogDigest:
    """Collects the leaves of one range from its records, which may come in slices of any size."""

    def __init__(self) -> None:
        self._leaves: list[Leaf] = []
        self._chunk: int | None = None
        self._sha = hashlib.sha256()
        self._last_offset = -1

    def add(self, records: Sequence[LogRecord]) -> None:
        """Adds the next records of the range. Raises InvariantBroken if their offsets don't ascend."""
        from streams.core.kernel.archived import canonical_room, write_canonical
        from streams.core.kernel.entries import EntryRecords

        entries = EntryRecords.of(records)
        buffer, lines, k, room = entries.entries.buffer, entries.lines, 0, np.empty(ROOM, np.uint8)
        while k < len(lines):
            offset = int(entries.offsets[k])
            if offset <= self._last_offset:
                raise InvariantBroken(f"offsets of the log don't ascend near {self._last_offset}")
            if (wanted := canonical_room(lines, k)) > len(room):
                room = np.empty(wanted, np.uint8)
            k, size = write_canonical(buffer, lines, k, self._last_offset, room)
            self._enter(offset // CHUNK_OFFSETS)
            self._sha.update(room[:size].data)
            self._last_offset = int(entries.offsets[k - 1])

    @property
    def tail(self) -> Leaf | None:
        """The leaf of the chunk that isn't closed yet, of its records so far; None if there is no such chunk."""
        return None if self._chunk is None else Leaf(self._chunk, self._sha.digest())

    def close(self) -> None:
        """Ends the open chunk, if any: the range ends, or a cell of the grid does."""
        if (tail := self.tail) is not None:
            self._leaves.append(tail)
            self._chunk, self._sha = None, hashlib.sha256()

    def take(self) -> list[Leaf]:
        """The leaves of the chunks that were closed since the last call, and forgets them."""
        taken, self._leaves = self._leaves, []
        return taken

    def finish(self, skipped: Iterable[SkippedBatch] = ()) -> tuple[bytes, list[Leaf]]:
        """The log root (32 bytes) of all records added and the batches skipped among them; the leaves of the chunks."""
        self.close()
        batches = [skipped_leaf_of(each.raw) for each in skipped]
        return merkle_root([leaf.digest for leaf in self._leaves] + batches), self._leaves

    def _enter(self, chunk: int) -> None:
        if chunk != self._chunk:
            self.close()
            self._chunk = chunk
            self._sha.update(b"\x00" + DOMAIN)
