"""What a backup is: objects named by the SHA-256 of their content, and a list of files for each time it was made.

    objects/<two digits>/<SHA-256>     a file's content, once, however many backups hold it
    backups/<moment>.json              the files of one backup: written last, so without it there is none

The place is a folder or `s3://bucket/prefix?…`, as the store of hosts is; it belongs to one data folder.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath

from msgspec import Struct

from files.read import decode_json
from schemas.errors import InvalidInput
from streams.storage.object_store import ObjectStore, store_uri

Progress = Callable[[float, str], None]
"""How much is done (0 to 1), and what."""

OBJECTS, BACKUPS = "objects", "backups"
MOMENT = "%Y%m%dT%H%M%S%fZ"


class BackedUp(Struct, frozen=True):
    """A file: its path in the data folder, its bytes and their digest (hex)."""

    path: str
    size: int
    sha256: str


class Backup(Struct, frozen=True, kw_only=True):
    """One backup. `offsets` are those that each partition's checkpoint stands at; a partition without one is absent.

    `lacking` are files that a manifest names and that were neither in the folder nor in an earlier backup.
    """

    log_id: str
    made_at: str
    version: str
    files: tuple[BackedUp, ...]
    offsets: dict[int, int]
    lacking: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def place_of(address: str) -> ObjectStore:
    """Where backups are. Raises InvalidInput for what is neither a folder nor `s3://…`, StoreAway."""
    place = ObjectStore(store_uri(address))
    place.check()
    return place


def object_name(sha256: str) -> str:
    """The name of a content."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


def new_name() -> str:
    """The name of a backup that is made now: names sort by time."""
    return datetime.now(UTC).strftime(MOMENT)


def names_of(place: ObjectStore) -> list[str]:
    """The names of the backups in a place, oldest first. Raises StoreAway."""
    return [PurePosixPath(name).stem for name in place.names(BACKUPS) if name.endswith(".json")]


def backup_file(name: str) -> str:
    """The object that lists a backup's files."""
    return f"{BACKUPS}/{name}.json"


def read_backup(place: ObjectStore, name: str | None = None) -> tuple[str, Backup]:
    """A backup by its name, else the newest, with its name. Raises InvalidInput if there is none, StoreAway."""
    names = names_of(place)
    if not names or (name is not None and name not in names):
        which = f"no backup {name}" if name else "no backup"
        known = f"it has {', '.join(names[-3:])}" if names else "make one with `tallyroot backup`"
        raise InvalidInput(f"there is {which} in {place.uri}: {known}")
    chosen = name or names[-1]
    found = decode_json(
        place.read(backup_file(chosen)) or b"", Backup, f"{backup_file(chosen)} in {place.uri}",
        what="a list of files", remedy="name an older backup with --backup",
    )  # fmt: skip
    for file in found.files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or len(file.sha256) != 64:
            raise InvalidInput(f"{backup_file(chosen)} in {place.uri} names no file of a data folder: {file.path!r}")
    return chosen, found
