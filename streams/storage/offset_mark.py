"""How far each partition's checkpoint is, for other workers on the same data folder: `partitions/<n>.next`.

DuckDB lets only one process open a checkpoint, so others can't read it. The mark is written after the commit, never
before: it may lag behind a checkpoint, and is never ahead of it. Nothing continues from a mark.
"""

import os
from collections.abc import Mapping
from pathlib import Path

WIDTH = 20
"""Bytes of a mark: an offset in decimal, padded, so that one write replaces all of it."""


class OffsetMark:
    """The mark of a partition, open for its owner."""

    def __init__(self, folder: Path, partition: int) -> None:
        """`folder` is that of the checkpoints; it exists."""
        self._descriptor = os.open(mark_path(folder, partition), os.O_WRONLY | os.O_CREAT, 0o644)

    def set(self, next_offset: int) -> None:
        """The checkpoint has committed everything below `next_offset`."""
        os.pwrite(self._descriptor, str(next_offset).ljust(WIDTH).encode(), 0)

    def close(self) -> None:
        """Closes the file; the mark stays."""
        os.close(self._descriptor)


def mark_path(folder: Path, partition: int) -> Path:
    """The path of a partition's mark."""
    return folder / f"{partition}.next"


def read_mark(folder: Path, partition: int) -> int:
    """The offset below which everything is committed, by the mark; 0 without one."""
    try:
        return int(mark_path(folder, partition).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def partitions_behind(ends: Mapping[int, int], folder: Path) -> dict[int, int]:
    """The partitions whose marks are below their ends, each with its mark."""
    marks = {partition: read_mark(folder, partition) for partition in ends}
    return {partition: mark for partition, mark in marks.items() if mark < ends[partition]}
