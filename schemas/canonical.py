"""Canonical bytes: JSON as RFC 8785 writes it, for documents made of ASCII keys, strings and safe integers."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import orjson

from schemas.errors import InvariantBroken
from schemas.units import COUNT_MAX

# Not OPT_STRICT_INTEGER: it refuses 2^53 itself, which the wire allows.
OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
SUSPECT = re.compile(rb"[:,\[]-?[0-9]+(?:[.eE]|(?<=[0-9]{16}))")
"""Where a number may be a fraction or too long. A string may hold the same, so a match is checked more closely."""

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
FRACTION = re.compile(rb"[0-9][.eE]")
LONG = re.compile(rb"[0-9]{16,}")


def canonical_json(document: Any) -> bytes:
    """The RFC 8785 bytes of `document`: keys sorted, no spaces, integers within ±2^53.

    Amounts that may leave that range must already be decimal strings.
    Raises InvariantBroken for floats, larger integers, and keys that are not ASCII: they have no canonical form here.
    """
    try:
        text = orjson.dumps(document, option=OPTIONS)
    except orjson.JSONEncodeError as error:
        raise InvariantBroken(f"a document has no canonical form: {error}") from None
    if SUSPECT.search(text) or not text.startswith((b"{", b"[", b'"')):
        _check_numbers(text)
    if not text.isascii():
        _check_keys(document)
    return text


def _check_numbers(text: bytes) -> None:
    numbers = STRING.sub(b"", text)
    if FRACTION.search(numbers):
        raise InvariantBroken("a document with a fraction has no canonical form")
    if any(int(number) > COUNT_MAX for number in LONG.findall(numbers)):
        raise InvariantBroken("a document with an integer beyond 2^53 has no canonical form: write it as a string")


def _check_keys(value: Any) -> None:
    """orjson sorts keys by their UTF-8 bytes, RFC 8785 by UTF-16 units: for ASCII the two agree."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not key.isascii():
                raise InvariantBroken(f"the key {key!r} is not ASCII: RFC 8785 would sort it differently")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)


def document_digest(domain: str, document: Any) -> bytes:
    """SHA-256 (32 bytes) of a domain line and the document's canonical bytes; the domain keeps kinds apart."""
    return hashlib.sha256(b"tallyroot " + domain.encode() + b"\n" + canonical_json(document)).digest()


def chain_digest(domain: str, parts: Iterable[bytes]) -> bytes:
    """SHA-256 (32 bytes) of a domain line and 32-byte parts in their order."""
    state = hashlib.sha256(b"tallyroot " + domain.encode() + b"\n")
    for part in parts:
        state.update(part)
    return state.digest()
