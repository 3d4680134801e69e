"""Which folder remembers a server or a worker: the one that the file system knows by the same number, wherever it lies.

A rename keeps that number, and no copy has it, whenever and however it was made (`cp -a`, rsync, a backup that is
restored). So a record that came with a copy speaks of another folder's processes, also where that one is gone: what is
moved to another disk is a copy whose original was removed, and its servers are to be ended before. On another host,
where the number can be the same by chance, no process has the ids and start times of the record (`processes`).
"""

from pathlib import Path
from typing import Self

from msgspec import Struct


class Home(Struct, frozen=True):
    """A folder: its path when it was written down, its device, and its number there (inode)."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The folder as it is now."""
        found = folder.stat()
        return cls(str(folder.absolute()), found.st_dev, found.st_ino)

    def is_at(self, folder: Path) -> bool:
        """Whether `folder` is this very one. Where its path is the same, its device may have another number now."""
        try:
            found = self.of(folder)
        except OSError:
            return False
        return found.inode == self.inode and (found.device == self.device or found.path == self.path)
