"""Opens files that others may have written: regular files only, bounded in size, decoded to one known type.

Every InvalidInput names the file, what is wrong with it, and what to do (`remedy`). Parquet is in `parquet`.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from files.format import without_format
from schemas.errors import InvalidInput

T = TypeVar("T")

BYTES_MAX = 256 << 20
"""The largest file that is read whole where the caller states no other bound."""

CHUNK_BYTES = 16 << 20
"""How much of a file is in memory at once on its way elsewhere."""


OF_THE_HOST = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
"""What an operating system says where the fault is the reader's: its rights, its disk, its limits."""


class FileMissing(InvalidInput):
    """There is no such file: for many callers a normal state."""


class HostFault(InvalidInput):
    """The system here can't read it: that says nothing about who wrote it."""


def open_regular(path: Path, *, remedy: str, max_bytes: int = BYTES_MAX, within: Path | None = None) -> BinaryIO:
    """A regular file of at most `max_bytes`, opened for reading; a FIFO or a device is never waited for.

    With `within` no link may lead out of that folder. Raises FileMissing, HostFault, and InvalidInput for anything but
    a regular file, a larger one, or one that can't be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileMissing(f"{path} is missing: {remedy}") from None
    except OSError as error:
        raise _unread(path, error, remedy) from None
    except ValueError:  # a NUL in the name
        raise InvalidInput(f"{str(path)!r} is no name of a file: {remedy}") from None
    fault = _unfit(descriptor, path, max_bytes, within)
    if not fault:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise InvalidInput(f"{path} is {fault}: {remedy}")


def read_bytes(path: Path, *, remedy: str, max_bytes: int = BYTES_MAX, within: Path | None = None) -> bytes:
    """The bytes of a regular file of at most `max_bytes`. Raises what `open_regular` does."""
    with open_regular(path, remedy=remedy, max_bytes=max_bytes, within=within) as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError as error:
            raise _unread(path, error, remedy) from None
    if len(content) > max_bytes:  # it has grown since
        raise InvalidInput(f"{path} is larger than {max_bytes:,} bytes: {remedy}")
    return content


def read_json(
    path: Path,
    kind: type[T],
    *,
    what: str,
    remedy: str,
    max_bytes: int = BYTES_MAX,
    dec_hook: Callable[[type, Any], Any] | None = None,
) -> T:
    """The JSON of a file, decoded to `kind` (a type that msgspec knows); `what` names it in messages: "a manifest".

    Raises FileMissing, and InvalidInput as `read_bytes` or `decode_json`.
    """
    content = read_bytes(path, remedy=remedy, max_bytes=max_bytes)
    return decode_json(content, kind, path, what=what, remedy=remedy, dec_hook=dec_hook)


def decode_json(
    content: bytes,
    kind: type[T],
    name: Path | str,
    *,
    what: str,
    remedy: str,
    dec_hook: Callable[[type, Any], Any] | None = None,
) -> T:
    """The same of bytes that were read: what `write_json` wrote, or a person.

    Raises InvalidInput, which names `name`, where the JSON is not of that type or a later version wrote it.
    """
    plain, has_format = without_format(content, name)
    try:
        if not has_format or _is_object(kind):
            return msgspec.json.decode(plain, type=kind, dec_hook=dec_hook)
        return msgspec.json.decode(plain, type=_Content[kind], dec_hook=dec_hook).content  # type: ignore[valid-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{name} is not {what} ({error}): {remedy}") from None


class _Content(msgspec.Struct, Generic[T]):
    """What is no object of its own: a list, a text, or names that a person chose."""

    content: T


def _is_object(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def file_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file of ours, a bounded part at a time. Raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _unfit(descriptor: int, path: Path, max_bytes: int, within: Path | None) -> str:
    """What an opened file is that it must not be; empty if nothing."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_size > max_bytes:
        return f"larger than {max_bytes:,} bytes"
    if within is not None and not _opened(descriptor, path).is_relative_to(within.resolve()):
        return f"a link that leads out of {within}"
    return ""


def _opened(descriptor: int, path: Path) -> Path:
    """The file that was opened, without links: by the system where it says so, so that nobody can swap it meanwhile."""
    return Path(f"/proc/self/fd/{descriptor}").readlink() if sys.platform == "linux" else path.resolve()


def _unread(path: Path, error: OSError, remedy: str) -> InvalidInput:
    kind = HostFault if error.errno in OF_THE_HOST else InvalidInput
    return kind(f"can't read {path} ({error.strerror}): {remedy}")
