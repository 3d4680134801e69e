"""Writes files that are either whole or not there: temporary name, fsync, rename, fsync of the folder.

Light to import: what needs Arrow is in `parquet`.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from files.format import with_format

TEMPORARY = ".tmp"
"""How the name of an unfinished file ends. No reader's pattern matches it."""

FILE_MODE = 0o666
"""Permissions of a new file, less the process' umask."""

Step = Callable[[str], None]
"""Called with the name of each step of a commit once it is done: where crash tests end the process."""


def no_step(_: str) -> None:
    """The Step of everything but the crash tests."""


class OtherDigest(Exception):
    """The bytes written have another SHA-256 than the one expected."""


class Temporary:
    """A file on its way: written under a temporary name, then published in one step, or dropped."""

    def __init__(self, path: Path, mark: str = "") -> None:
        """`path` is the final name; missing folders are created. A `mark` separates concurrent writers of one path."""
        self.path = path
        self.temporary = path.with_name(path.name + mark + TEMPORARY)
        make_folder(path.parent)

    def write(self, content: bytes) -> "Temporary":
        """Writes the whole content; returns itself."""
        self.temporary.write_bytes(content)
        return self

    def digest(self) -> str:
        """SHA-256 of what was written, as hex."""
        return file_digest(self.temporary)

    def publish(self, *, durable: bool = True) -> None:
        """Renames the file to its final name, over an older one; `durable` flushes its bytes to the disk before.

        The folder is the caller's to sync: once for many files.
        """
        if durable:
            sync_file(self.temporary)
        self.temporary.replace(self.path)

    def drop(self) -> None:
        """Removes what was written."""
        self.temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Writes a file in one step, durably. `mode` are the permissions that it has from its first byte on.

    The folder must exist. Raises OSError; then `path` is as it was.
    """
    write_chunks(path, [content], mode=mode)


def write_json(
    path: Path,
    document: object,
    *,
    indent: int = 2,
    mode: int = FILE_MODE,
    enc_hook: Callable[[Any], Any] | None = None,
) -> None:
    """Writes a document as indented JSON, as `write_bytes`; `enc_hook` encodes what msgspec does not know."""
    write_bytes(path, json_bytes(document, indent=indent, enc_hook=enc_hook), mode=mode)


def json_bytes(document: object, *, indent: int = 2, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """A document as the bytes of a JSON file that people read: its format, then what it says, indented, a newline."""
    encoded = msgspec.json.encode(document, enc_hook=enc_hook)
    return plain_json(with_format(encoded, is_object=isinstance(document, msgspec.Struct)), indent=indent)


def plain_json(encoded: bytes, *, indent: int = 2) -> bytes:
    """Encoded JSON as people read it. For a file that a document beside it gives the format of."""
    return msgspec.json.format(encoded, indent=indent) + b"\n"


def write_chunks(path: Path, chunks: Iterable[bytes], sha256: str | None = None, *, mode: int = FILE_MODE) -> None:
    """Writes a file in one step, durably, also beside other writers of the same path: the last rename wins.

    A `path` that is a device or a pipe is written to as it is. Raises OtherDigest if `sha256` (hex) is given and the
    bytes have another, OSError, and whatever `chunks` raises; then `path` is as it was.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            device.writelines(chunks)
        return
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    digest = hashlib.sha256()
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
            file.flush()
            os.fsync(file.fileno())
        if sha256 is not None and digest.hexdigest() != sha256:
            raise OtherDigest
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_secret(path: Path, content: bytes) -> None:
    """Writes a new file that only its owner may read, in one step, durably. Raises OSError, also where there is one."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        write_chunks(temporary, [content], mode=0o600)
        path.hardlink_to(temporary)  # unlike a rename it never replaces what is there
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def rename(source: Path, target: Path) -> None:
    """Renames a file or a folder whose content is on the disk already, durably. `target` must be a free name."""
    source.rename(target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Creates a folder and those above it, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Flushes a file's bytes to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
