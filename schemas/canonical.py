"""Canonical bytes: JSON as RFC 8785 writes it, for documents made of ASCII keys, strings and safe integers."""

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from schemas.errors import InvariantBroken
from schemas.units import COUNT_MAX


def canonical_json(document: Any) -> bytes:
    """The RFC 8785 bytes of `document`: keys sorted, no spaces, integers within ±2^53.

    Amounts that may leave that range are written as decimal strings by whoever makes the document.
    Raises InvariantBroken for what has no canonical form here: floats, larger integers, non-ASCII keys.
    """
    _check(document)
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _check(value: Any) -> None:
    match value:
        case None | bool() | str():
            return
        case int():
            if not -COUNT_MAX <= value <= COUNT_MAX:
                raise InvariantBroken(f"the integer {value} has no canonical form; write it as a string")
        case dict():
            for key, item in value.items():
                if not (isinstance(key, str) and key.isascii()):
                    raise InvariantBroken(f"the key {key!r} has no canonical place")
                _check(item)
        case list() | tuple():
            for item in value:
                _check(item)
        case _:
            raise InvariantBroken(f"a {type(value).__name__} has no canonical form")


def document_digest(domain: str, document: Any) -> bytes:
    """SHA-256 (32 bytes) of a domain line and the document's canonical bytes; the domain keeps kinds apart."""
    return hashlib.sha256(b"tallyroot " + domain.encode() + b"\n" + canonical_json(document)).digest()


def chain_digest(domain: str, parts: Iterable[bytes]) -> bytes:
    """SHA-256 (32 bytes) of a domain line and 32-byte parts in their order."""
    state = hashlib.sha256(b"tallyroot " + domain.encode() + b"\n")
    for part in parts:
        state.update(part)
    return state.digest()
