"""Finds the indices of registered meters by the bytes of their names, for many rows at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.meters import NONE

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

WORD = 8
NAME_WORDS = 8
"""Words of a name: an id has at most 64 bytes."""

_FACTORS = np.array([pow(0x9E3779B97F4A7C15, 2 * power + 1, 2**64) for power in range(2 * NAME_WORDS)], np.uint64)


class Names(NamedTuple):
    """Names of many rows: their lengths, and their bytes as little-endian words, padded with zeros."""

    length: Ints
    words: Sequence[Words]


class NameIndex:
    """An index over a list of names (machine, meter) that only grows. It may lag: then a new name is not found."""

    def __init__(self, names: Sequence[tuple[str, str]]) -> None:
        """Indexes the names present now."""
        self.names = names
        self.asked = 0
        self._renew()

    def keep_up(self, rows: int) -> "NameIndex":
        """Rebuilds over added names once as many rows were looked up as there are names, so its cost is amortised."""
        self.asked += rows
        if self._size < len(self.names) and (self.asked >= len(self.names) or not self._size):
            self._renew()
        return self

    def find(self, machines: Names, meters: Names) -> Ints:
        """The index of each row's meter, NONE if there is no such name."""
        if not self._size:
            return np.full(len(machines.length), NONE, np.int64)
        given = [*enumerate(machines.words), *enumerate(meters.words, NAME_WORDS)]
        hashes = np.zeros(len(machines.length), np.uint64)
        for at, words in given:
            hashes += words * _FACTORS[at]
        indices = self._order[np.minimum(np.searchsorted(self._hashes, hashes), self._size - 1)]
        same = (self._lengths[indices, 0] == machines.length) & (self._lengths[indices, 1] == meters.length)
        for at, words in given:
            same &= self._words[indices, at] == words
        return np.where(same, indices, NONE)

    def _renew(self) -> None:
        self.asked, self._size = 0, len(self.names)
        self._lengths = np.array([[len(part) for part in name] for name in self.names], np.int64).reshape(-1, 2)
        columns = [np.array([name[part] for name in self.names], f"S{NAME_WORDS * WORD}") for part in (0, 1)]
        self._words = np.concatenate([column.view("<u8").reshape(-1, NAME_WORDS) for column in columns], axis=1)
        hashes = (self._words * _FACTORS).sum(axis=1, dtype=np.uint64)
        # Of names with equal hashes only the first would be found: harmless, and rarer than anything else here.
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
