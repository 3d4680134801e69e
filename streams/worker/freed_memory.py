"""Gives freed memory back to the system. Left alone, a worker only grows: some 200 MB a day of 1,000 machines.

Each epoch is read from the log again for its archive, by a consumer of its own. It ends as a cycle of objects that
holds what it fetched, and few other objects come and go here: Python's collector would look for cycles once in weeks.
Allocators keep what large allocations have left besides.
"""

import ctypes
import gc
import sys
import time
from contextlib import suppress

import pyarrow as pa

EVERY_S = 5.0
SHARE = 100
"""It takes at most one part in so many of the time."""

M_ARENA_MAX = -8
"""From glibc's malloc.h: how many heaps threads may have, each with holes of its own; by default eight per core."""


class FreedMemory:
    """Call `give_back` as often as you like: it does something every few seconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._next = time.monotonic() + EVERY_S
        with suppress(AttributeError):  # musl has no such switch
            if self._libc is not None:
                self._libc.mallopt(M_ARENA_MAX, 2)

    def give_back(self) -> None:
        """Returns what is free."""
        begun = time.monotonic()
        if begun < self._next:
            return
        gc.collect()
        pa.default_memory_pool().release_unused()
        with suppress(AttributeError):
            if self._libc is not None:
                self._libc.malloc_trim(0)
        ended = time.monotonic()
        self._next = ended + max(EVERY_S, SHARE * (ended - begun))
