"""Named objects that several hosts share: in a folder, or in a bucket by `s3://`, both through `pyarrow.fs`.

An object is whole or missing. Objects that must never be overwritten carry the digest of their content in their name:
Arrow's S3 client has no conditional put, and a name that only one content can have needs none.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from files.read import CHUNK_BYTES
from files.write import TEMPORARY, OtherDigest, make_folder, write_chunks
from schemas.errors import InvalidInput, InvariantBroken


class StoreAway(InvalidInput):
    """The store doesn't answer now. The same call may succeed later."""


class ObjectStore:
    """Objects by name, such as `manifests/0/20190901T000000Z/<digest>.json`. Any thread may call."""

    def __init__(self, uri: str) -> None:
        """Connects at the first call, not here. `uri` is as `store_uri` returns it.

        Raises InvalidInput if Arrow can't use it.
        """
        self.uri = uri
        self.is_up = True
        """Whether the last call was answered."""
        self.answered_s: float | None = None
        """When a call was last answered, Unix seconds."""
        self.failures = 0
        try:
            self._files, root = (LocalFileSystem(), uri) if uri.startswith("/") else FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InvalidInput(f"the store {uri} can't be used: {_first_line(error)}") from None
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._files, LocalFileSystem)

    def check(self) -> None:
        """Checks that the store exists; a folder is created. Raises InvalidInput if it doesn't, StoreAway."""
        with self._answer():
            if self._is_local:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            (found,) = self._files.get_file_info([self._root.split("/")[0] or "/"])
        if found.type == FileType.NotFound:
            raise InvalidInput(f"there is no bucket {found.path} for the store {self.uri}: create it, or name another")

    def names(self, folder: str) -> list[str]:
        """The names of all objects under a folder, sorted. Raises StoreAway."""
        selector = FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
        with self._answer():
            found = self._files.get_file_info(selector)
        names = (info.path[len(self._root) + 1 :] for info in found if info.type == FileType.File)
        return sorted(name for name in names if not name.endswith(TEMPORARY))

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Writes an object, over an older one of that name. Durable once it returns. Raises StoreAway."""
        with self._answer():
            if self._is_local:
                path = Path(self._root) / name
                make_folder(path.parent)
                write_chunks(path, chunks)
                return
            # An error between two chunks leaves a partial object; whatever refers to the object is written later.
            with self._files.open_output_stream(f"{self._root}/{name}", compression=None) as stream:
                for chunk in chunks:
                    stream.write(chunk)

    def read(self, name: str) -> bytes | None:
        """An object's bytes, or None if it is missing. Raises StoreAway."""
        try:
            return b"".join(self._chunks(name))
        except FileNotFoundError:
            return None

    def fetch(self, name: str, path: Path, sha256: str) -> None:
        """Copies an object to `path`, over an older file.

        Raises InvariantBroken, and leaves `path` as it was, if the object is missing or has another SHA-256 (hex);
        StoreAway.
        """
        try:
            make_folder(path.parent)
            write_chunks(path, self._chunks(name), sha256)
        except (FileNotFoundError, OtherDigest):
            raise InvariantBroken(
                f"{name} in the store {self.uri} is missing or was changed: restore it from a copy"
            ) from None

    def chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        """An object of a stranger in pieces. Raises FileNotFoundError, InvalidInput past `max_bytes`, StoreAway."""
        left = max_bytes
        for chunk in self._chunks(name):
            left -= len(chunk)
            if left < 0:
                raise InvalidInput(f"{name} in the store {self.uri} has more than {max_bytes:,} bytes")
            yield chunk

    def remove(self, name: str) -> None:
        """Removes an object if it exists. Raises StoreAway."""
        try:
            with self._answer():
                self._files.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            pass

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._answer():
            stream = self._files.open_input_stream(f"{self._root}/{name}", compression=None)
        with stream:
            while True:
                with self._answer():
                    chunk = stream.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    @contextmanager
    def _answer(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._answered()
            raise
        except OSError as error:
            self.is_up = False
            self.failures += 1
            raise StoreAway(
                f"the store {self.uri} doesn't answer ({_first_line(error)}): check that it is up"
            ) from None
        else:
            self._answered()

    def _answered(self) -> None:
        self.is_up, self.answered_s = True, time.time()


def store_uri(text: str) -> str:
    """Normalises the address of a store as typed: an absolute path, or a URI without a secret.

    Raises InvalidInput if it is neither a folder nor `s3://bucket/prefix?...`, or holds a password.
    """
    if "://" not in text:
        return str(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    if parts.scheme == "file" and parts.path.startswith("/"):
        return parts.path if not parts.netloc and "%" not in parts.path else text
    if parts.scheme != "s3" or not parts.netloc:
        raise InvalidInput(f"'{parts.scheme}://…' is not a store: write a folder, or s3://bucket/prefix?region=…")
    if "@" in parts.netloc:
        raise InvalidInput("the store's address holds a key: put it into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return text


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
