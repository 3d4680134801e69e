"""Registrations of a fleet differ in their machine's name, its route and its salt: what they share is decoded once.

`decode` is the definition; a text is only shared where what it says with these in their places can't differ from that.
"""

import re
from typing import Any, NamedTuple

from msgspec import structs

from schemas.registration import Registration
from schemas.reject import Reason
from streams.core.control import decode
from streams.core.machines import content_of
from streams.core.records import JSON, LogRecord, Record, media_type

KEPT = 1_024
"""Texts that are remembered."""

_NAME = re.compile(rb"[A-Za-z0-9_-]{1,64}")
"""Nothing that can stand between one string's end and another's beginning: in quotes, it is a string."""

_SALT = re.compile(rb'"salt":"([0-9a-f]{32})"')
_SOMEBODY, _SALTED = "tallyroot:somebody", "0" * 32
_MARK = b'"%b"' % _SOMEBODY.encode()

_FALSE = {"retired": False, "require_signature": False}
"""Counts as absent, and nothing else does (rule 8)."""


class Decoded(NamedTuple):
    """A registration, the plain object that it was decoded from without what counts as absent, and its content."""

    registration: Registration
    plain: dict[str, Any]
    content: bytes


_shared: dict[bytes, Decoded | None] = {}
"""What a text says of somebody; None where it was seen once, or can't be shared: what comes once costs no more."""


def decode_registration(record: LogRecord) -> Decoded | Reason:
    """A registration, or the reason why it is refused."""
    value, key = record.value or b"", record.key or b""
    if not _NAME.fullmatch(key) or _MARK in value or media_type(record) != JSON:
        return _decoded(record)
    text, salt = value.replace(b'"%b"' % key, _MARK), None
    if found := _SALT.search(text):
        salt = found[1].decode()
        text = text[: found.start(1)] + _SALTED.encode() + text[found.end(1) :]
    shared = _shared.get(text)
    if shared is None:
        if text in _shared:
            _shared[text] = _shareable(text, has_salt=salt is not None)
        else:
            _note(text)
        return _decoded(record)
    own = {name: key.decode() for name in ("machine", "route") if shared.plain[name] == _SOMEBODY}
    if salt is not None:
        own["salt"] = salt
    return Decoded(structs.replace(shared.registration, **own), shared.plain | own, shared.content)


def _decoded(record: LogRecord) -> Decoded | Reason:
    decoded = decode(record, Registration)
    if not isinstance(decoded, tuple):
        return decoded
    registration, plain = decoded
    plain = {name: part for name, part in plain.items() if _FALSE.get(name) is not part}
    return Decoded(registration, plain, content_of(plain))


def _note(text: bytes) -> None:
    if len(_shared) == KEPT:
        _shared.clear()
    _shared[text] = None


def _shareable(text: bytes, *, has_salt: bool) -> Decoded | None:
    """What a text says of somebody, where the marks in it are machine, route and salt, and nothing else; else None."""
    decoded = _decoded(Record(0, 0, None, text, ()))
    if not isinstance(decoded, Decoded):
        return None
    plain = decoded.plain
    places = sum(plain[name] == _SOMEBODY for name in ("machine", "route"))
    is_salt_alone = text.count(b'"salt"') == 1 and plain.get("salt") == _SALTED
    is_fit = places and places == text.count(_MARK) and (is_salt_alone or not has_salt)
    return decoded if is_fit else None
