"""Which folder remembers a server or a worker: a copy of it is another one, and the folder itself may be moved."""

from pathlib import Path
from typing import Self

from msgspec import Struct


class Home(Struct, frozen=True):
    """A folder by its path, and by what the file system knows it by when it is renamed."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The folder as it is now."""
        found = folder.stat()
        return cls(str(folder.absolute()), found.st_dev, found.st_ino)

    def has_copy(self, folder: Path) -> bool:
        """Whether `folder` is a copy of this one, which is still where it was.

        Where nothing of this one is left there, `folder` is taken for it: moved to another disk, or restored.
        """
        try:
            original, other = Path(self.path).stat(), folder.stat()
        except OSError:
            return False
        known = (self.device, self.inode)
        return (original.st_dev, original.st_ino) == known != (other.st_dev, other.st_ino)
