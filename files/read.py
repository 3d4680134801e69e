"""Opens files that others may have written: regular files only, bounded in size, decoded to one known type.

Every InvalidInput names the file, what is wrong with it, and what to do (`remedy`). Parquet is in `parquet`.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from schemas.errors import InvalidInput

T = TypeVar("T")

BYTES_MAX = 256 << 20
"""The largest file that is read whole where the caller states no other bound."""

CHUNK_BYTES = 16 << 20
"""How much of a file is in memory at once on its way elsewhere."""


class FileMissing(InvalidInput):
    """There is no such file: for many callers a normal state."""


def open_regular(path: Path, *, remedy: str, max_bytes: int = BYTES_MAX) -> BinaryIO:
    """A regular file of at most `max_bytes`, opened for reading; a FIFO or a device is never waited for.

    Raises FileMissing, and InvalidInput for anything but a regular file, a larger one, or one that can't be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileMissing(f"{path} is missing: {remedy}") from None
    except OSError as error:
        raise InvalidInput(f"can't read {path} ({error.strerror}): {remedy}") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= max_bytes:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    fault = f"larger than {max_bytes:,} bytes" if stat.S_ISREG(found.st_mode) else "not a regular file"
    raise InvalidInput(f"{path} is {fault}: {remedy}")


def read_bytes(path: Path, *, remedy: str, max_bytes: int = BYTES_MAX) -> bytes:
    """The bytes of a regular file of at most `max_bytes`. Raises FileMissing, InvalidInput."""
    with open_regular(path, remedy=remedy, max_bytes=max_bytes) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise InvalidInput(f"can't read {path} ({error.strerror}): {remedy}") from None
    if len(content) > max_bytes:  # it has grown since
        raise InvalidInput(f"{path} is larger than {max_bytes:,} bytes: {remedy}")
    return content


def read_json(path: Path, kind: type[T], *, what: str, remedy: str, max_bytes: int = BYTES_MAX) -> T:
    """The JSON of a file, decoded to `kind` (a type that msgspec knows); `what` names it in messages: "a manifest".

    Raises FileMissing, and InvalidInput as `read_bytes` or where the JSON is not of that type.
    """
    content = read_bytes(path, remedy=remedy, max_bytes=max_bytes)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is not {what} ({error}): {remedy}") from None


def file_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file of ours, a bounded part at a time. Raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
