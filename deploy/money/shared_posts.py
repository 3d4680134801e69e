"""Posts in the store that hosts share: the settling job puts them there, an auditor's host fetches them.

`posts/<sequence>/<manifest hash>/<file>`: the chain names the hash, so a post that was disputed and posted again is
another name, and nothing that is final is overwritten. The manifest is put last: with it all files are there.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from files.read import file_chunks, read_bytes
from files.write import make_folder, rename, write_chunks
from schemas.keccak import keccak
from settlement.history import Posted
from settlement.storage.posts import FILE_BYTES_MAX, RESTORE
from settlement.storage.published_post import MANIFEST_BYTES_MAX, POST_FILES
from streams.storage.object_store import ObjectStore

_LAST = POST_FILES[0]


class SharedPosts:
    """The posts of one data folder in its store. Remembers which are there: each is asked for once in a process."""

    def __init__(self, store: ObjectStore, data_dir: Path) -> None:
        self._store = store
        self._posts = data_dir / "settlement" / "posts"
        self._known: set[tuple[int, bytes]] = set()

    def put(self, live: Iterable[Posted]) -> None:
        """Stores the live posts that this folder has and the store lacks. Raises StoreAway."""
        for sequence, digest in self._unknown(live):
            folder = self._posts / str(sequence)
            if not _is_here(folder, digest):
                continue
            name = _name(sequence, digest)
            if f"{name}/{_LAST}" not in self._store.names(name):
                for file in (*POST_FILES[1:], _LAST):
                    self._store.put(f"{name}/{file}", file_chunks(folder / file))
            self._known.add((sequence, digest))

    def fetch(self, live: Iterable[Posted]) -> int:
        """Fetches the live posts that the store has and this folder lacks, each whole or not at all; returns how many.

        What a settling job of this folder wrote is never touched. Raises InvalidInput for a file that is too large,
        StoreAway.
        """
        fetched = 0
        make_folder(self._posts)
        for sequence, digest in self._unknown(live):
            folder = self._posts / str(sequence)
            if not _is_here(folder, digest) and not (folder / "header.json").exists():
                name = _name(sequence, digest)
                if f"{name}/{_LAST}" not in self._store.names(name):
                    continue  # not yet, or withheld: the audit says so
                self._fetch_one(name, folder)
                fetched += 1
                if not _is_here(folder, digest):
                    continue  # another file, or one that lacks: the next look asks again
            self._known.add((sequence, digest))
        return fetched

    def _fetch_one(self, name: str, folder: Path) -> None:
        temporary = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for file in POST_FILES:
            most = MANIFEST_BYTES_MAX if file == _LAST else FILE_BYTES_MAX
            try:
                write_chunks(temporary / file, self._store.chunks(f"{name}/{file}", most))
            except FileNotFoundError:
                continue  # withheld
        shutil.rmtree(folder, ignore_errors=True)  # of a post that is dead now
        rename(temporary, folder)

    def _unknown(self, live: Iterable[Posted]) -> list[tuple[int, bytes]]:
        keys = [(posted.header.sequence, posted.header.manifest_hash) for posted in live]
        return [key for key in keys if key not in self._known]


def _is_here(folder: Path, digest: bytes) -> bool:
    """Whether a folder has all files of the post with this manifest. Raises InvalidInput if one can't be read."""
    if not all((folder / file).exists() for file in POST_FILES):
        return False
    return keccak(read_bytes(folder / _LAST, remedy=RESTORE, max_bytes=MANIFEST_BYTES_MAX)) == digest


def _name(sequence: int, digest: bytes) -> str:
    return f"posts/{sequence}/{digest.hex()}"
