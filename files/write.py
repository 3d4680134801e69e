"""Final files, whole or not there: temporary name, fsync, rename, fsync of the folder. And an flock on a side file."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TEMPORARY = ".tmp"
"""How a file ends that is still being written. No reader's pattern matches it."""

ROW_GROUP = 65_536
"""Rows in a group of a Parquet file: fixed, so that the same rows give the same bytes."""


class Temporary:
    """A file on its way: written under a temporary name, then published in one step, or dropped."""

    def __init__(self, path: Path, mark: str = "") -> None:
        """`path` is the final name; its folder is made if it is missing. A `mark` tells apart who writes it at once."""
        self.path = path
        self.temporary = path.with_name(path.name + mark + TEMPORARY)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent.parent)

    def write(self, content: bytes) -> "Temporary":
        """Writes all of the file."""
        self.temporary.write_bytes(content)
        return self

    def write_table(self, table: pa.Table) -> "Temporary":
        """Writes all of the file as Parquet; equal rows give equal bytes under one version of Arrow."""
        pq.write_table(table.combine_chunks(), self.temporary, row_group_size=ROW_GROUP, compression="zstd")
        return self

    def digest(self) -> str:
        """SHA-256 of what was written, as hex."""
        return file_digest(self.temporary)

    def publish(self, *, durable: bool = True) -> None:
        """Gives the file its final name, over an older one. The folder is the caller's to sync: once for many files."""
        if durable:
            with self.temporary.open("rb") as file:
                os.fsync(file.fileno())
        self.temporary.replace(self.path)

    def drop(self) -> None:
        """Forgets what was written."""
        self.temporary.unlink(missing_ok=True)


class FileLock:
    """An flock on a side file: DuckDB's own lock falls when its file is opened twice in a process."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is an open file that holds the lock; see `take`."""
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "FileLock | None":
        """The lock, with our process id in the file, or None if another one holds it. Never waits."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Lets go. The file stays: removing it would let two processes hold two locks of one name."""
        os.close(self._descriptor)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nothing(_: str) -> None:
    """What is done between two steps of a commit outside of the crash tests."""


Step = Callable[[str], None]
"""Told the name of each step of a commit once it is done."""
