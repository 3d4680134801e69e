"""A disk that forgets what nobody asked it to keep.

A killed process leaves what it wrote; DuckDB's log may end within the transaction that was on its way. A power cut
takes more: of a file that was never synced any part may be missing, and a name is only sure to be there, or to be
gone, once its folder was synced. DuckDB syncs its own files, out of our sight: they are as they were at the moment.
"""

import os
import random
import shutil
import stat
from pathlib import Path
from types import TracebackType

FOLDERS = ("epochs", "log", "live")
"""What we write by ourselves."""

Image = dict[str, bytes]
"""Files by name, relative to the data folder."""


class SimDisk:
    """A data folder. As a context it listens to every `os.fsync` of the process."""

    def __init__(self, draw: random.Random, root: Path) -> None:
        self.root = root
        self._draw = draw
        self._fsync = os.fsync
        self._synced: dict[tuple[int, int], bytes] = {}
        """Content that is sure, by (inode, modified ns)."""
        self._names: dict[str, dict[str, tuple[int, int]]] = {}
        """Names that are sure, by folder: what each stood for when its folder was synced."""
        self._logged: dict[int, int] = {}

    def __enter__(self) -> "SimDisk":
        os.fsync = self._sync
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.fsync = self._fsync

    # A process that is killed

    def mark(self, partition: int) -> None:
        """Notes how long DuckDB's log is: what comes after it may be cut off."""
        self._logged[partition] = self._size_of_log(partition)

    def image(self, partition: int) -> Image:
        """What a killed process leaves of a checkpoint and its live files."""
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in self._files_of(partition)}

    def torn(self, partition: int, image: Image) -> Image:
        """The same, killed within the last transaction: its end is missing from DuckDB's log."""
        name, before = f"partitions/{partition}.duckdb.wal", self._logged.get(partition, 0)
        whole = image.get(name, b"")
        if len(whole) <= before or not before:
            return image
        return image | {name: whole[: self._draw.randint(before, len(whole))]}

    def restore(self, partition: int, image: Image) -> None:
        """Makes it so. Nobody has these files open."""
        sure = {path: _identity(path) for path in self._files_of(partition) if _identity(path) in self._synced}
        for path in self._files_of(partition):
            path.unlink()
        for name, content in image.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if path in sure and self._synced[sure[path]] == content:
                self._move(path, sure[path])

    def _move(self, path: Path, before: tuple[int, int]) -> None:
        """A file was put back as it was: what was sure of it still is."""
        names = self._names.get(path.parent.as_posix(), {})
        self._synced[_identity(path)] = self._synced[before]
        if names.get(path.name) == before:
            names[path.name] = _identity(path)

    def _files_of(self, partition: int) -> list[Path]:
        found = [*(self.root / "partitions").glob(f"{partition}.duckdb*")]
        return found + [path for path in (self.root / "live" / str(partition)).glob("*") if path.is_file()]

    def _size_of_log(self, partition: int) -> int:
        path = self.root / "partitions" / f"{partition}.duckdb.wal"
        return path.stat().st_size if path.exists() else 0

    # A power cut

    def cut_power(self) -> None:
        """Loses what was never synced, or some of it. All processes are dead."""
        for folder in [self.root / name for name in FOLDERS]:
            sure = self._names.get(folder.as_posix(), {})
            for path in [path for path in folder.glob("*") if path.is_dir()]:
                if path.name not in sure and self._draw.random() < 0.5:
                    shutil.rmtree(path)
                else:
                    self._lose_names(path)

    def _lose_names(self, folder: Path) -> None:
        sure = self._names.get(folder.as_posix(), {})
        there = {path.name: _identity(path) for path in folder.iterdir()}
        for name in sorted({*sure, *there}):
            path, now, before = folder / name, there.get(name), sure.get(name)
            if now != before and self._draw.random() < 0.5:
                path.unlink(missing_ok=True)
                if before is not None and before in self._synced:
                    path.write_bytes(self._synced[before])
            elif now is not None and now not in self._synced:
                content = path.read_bytes()
                path.write_bytes(content[: self._draw.choice((0, len(content) // 2, len(content)))])

    def _sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            tops = [self.root / name for name in FOLDERS if (self.root / name).is_dir()]
            folders = tops + [path for top in tops for path in top.iterdir() if path.is_dir()]
            for folder in folders:
                if folder.stat().st_ino == status.st_ino:
                    self._names[folder.as_posix()] = {path.name: _identity(path) for path in folder.iterdir()}
        elif status.st_size < 2**24:
            self._synced[status.st_ino, status.st_mtime_ns] = os.pread(descriptor, status.st_size, 0)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
