"""The format of our files: one number, which every file carries, and an older version refuses a newer one by.

Where it stands: in JSON the first member `format`; in Parquet the metadata `tallyroot.format`; in SQLite
`user_version`. What is no object in JSON is kept under `content`. A file without a number, as a person writes one, has
format 1.
"""

import re
from pathlib import Path

from schemas.errors import InvalidInput

FORMAT = 1
"""Grows with every change of a file that an older version would read wrongly. All formats from 1 on are read."""

METADATA = b"tallyroot.format"
"""The key of the number in a Parquet file's metadata."""

_MEMBER = re.compile(rb'\s*\{\s*"format"\s*:\s*([0-9]{1,9})\s*(,|(?=\}))')


def check_format(found: int, name: Path | str) -> None:
    """Raises InvalidInput, which names the file, if a later version wrote it."""
    if found > FORMAT:
        raise InvalidInput(
            f"{name} has format {found}, this version of tallyroot reads formats up to {FORMAT}: use the version that"
            " wrote it, or a later one"
        )


def with_format(encoded: bytes, *, is_object: bool) -> bytes:
    """JSON as msgspec encodes it, with the format as its first member; other JSON than an object becomes `content`."""
    head = b'{"format":%d' % FORMAT
    if not is_object:
        return head + b',"content":' + encoded + b"}"
    return head + (b"," if encoded != b"{}" else b"") + encoded[1:]


def without_format(content: bytes, name: Path | str) -> tuple[bytes, bool]:
    """JSON without the format, and whether it had one. Raises InvalidInput, which names the file, for a later one."""
    found = _MEMBER.match(content)
    if found is None:
        return content, False
    check_format(int(found[1]), name)
    return b"{" + content[found.end() :], True


def check_metadata(metadata: dict[bytes, bytes] | None, name: Path | str) -> None:
    """Raises InvalidInput if the metadata of a Parquet file is that of a later version."""
    stated = (metadata or {}).get(METADATA, b"1")
    check_format(int(stated) if stated.isdigit() else FORMAT + 1, name)
