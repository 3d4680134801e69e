"""A lock between processes that ends with its process: flock(2) on a side file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """An flock on a side file. DuckDB's own lock is lost when its file is opened twice in one process."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is an open file that holds the lock; see `acquire`."""
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> "FileLock | None":
        """The lock, with our process id in the file, or None if another process holds it. Never waits."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return cls(descriptor)

    @classmethod
    @contextmanager
    def waited_for(cls, path: Path) -> "Iterator[None]":
        """Holds the lock for a while, as soon as whoever holds it now releases it or ends."""
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @classmethod
    def is_held(cls, path: Path) -> bool:
        """Whether a process holds the lock now, this one or another."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Releases the lock. The file stays: removing it would let two processes hold two locks of one name."""
        os.close(self._descriptor)
