"""Registrations of a fleet differ in their machine's name, its route and its salt: what they share is decoded once.

A text's holes are where these three stand in it; a *blank* is a text of which nothing but its holes may differ.
`decode_control` is the definition; a text is only shared where what it says with other words in its holes can't differ
from that.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET, structs

from schemas.registration import Registration
from schemas.reject import Reason
from streams.core.kernel.columns import BLANK_COLUMNS, NONE, Bytes, Matrix
from streams.core.machines import content_of
from streams.core.records import JSON, LogRecord, Record, decode_control, media_type

KEPT = 1_024
"""Texts that are remembered, and as many that were seen once."""

_HOLE = re.compile(rb'"(machine|route|salt)":[ \t\r\n]*"([A-Za-z0-9._:*-]{1,64})"')
_SALT = re.compile(rb"[0-9a-f]{32}")

_NAMES = (b"machine", b"route", b"salt")
_FILLED = (b"tallyroot:machine", b"tallyroot:route", b"7a11f00d" * 4)
"""The holes, and what stands in them in a text that is remembered."""

_FALSE = {"retired": False, "require_signature": False}
"""Counts as absent, and nothing else does (rule 8)."""


class Decoded(NamedTuple):
    """A registration, the plain object that it was decoded from without what counts as absent, and its content."""

    registration: Registration
    plain: dict[str, Any]
    content: bytes


class Blanks:
    """Blanks of first versions as loops compare values with them: one after the other, without their holes."""

    def __init__(self) -> None:
        self.decoded: list[Decoded] = []
        """What each says of somebody."""
        self.texts: Bytes = np.zeros(0, np.uint8)
        self.lines: Matrix = np.zeros((0, BLANK_COLUMNS), np.int64)

    def add(self, text: bytes, decoded: Decoded) -> None:
        """Adds a text with _FILLED in its holes."""
        holes = sorted((text.index(filled), kind) for kind, filled in enumerate(_FILLED) if filled in text)
        parts, at = [], 0
        for start, kind in holes:
            parts.append(text[at:start])
            at = start + len(_FILLED[kind])
        parts.append(text[at:])
        ends = np.cumsum([len(part) for part in parts]).tolist()
        cells = [cell for end, (_, kind) in zip(ends, holes, strict=False) for cell in (end, kind)]
        line = np.full((1, BLANK_COLUMNS), NONE, np.int64)
        line[0, : 2 + len(cells)] = len(self.texts), ends[-1], *cells
        self.lines = np.concatenate([self.lines, line])
        text = b"".join(parts)
        self.texts = np.concatenate([self.texts, np.frombuffer(text, np.uint8)])
        self.decoded.append(decoded)


class SharedTexts:
    """The texts that registrations of a partition have in common. No result depends on which of them are known."""

    def __init__(self) -> None:
        self.blanks = Blanks()
        self._once: set[bytes] = set()
        """Seen once: what comes once costs no more."""
        self._known: dict[bytes, Decoded | None] = {}
        """What a text says of somebody; None where it can't be shared."""

    def decode(self, record: LogRecord) -> Decoded | Reason:
        """A registration, or the reason why it is refused."""
        value = record.value or b""
        holes = [*_HOLE.finditer(value)]
        if media_type(record) != JSON or not _is_fit(value, holes):
            return _decoded(record)
        parts, at = [], 0
        for hole in holes:
            parts += [value[at : hole.start(2)], _FILLED[_NAMES.index(hole[1])]]
            at = hole.end(2)
        text = b"".join([*parts, value[at:]])
        known = self._known.get(text)
        if known is None:
            self._note(text)
            return _decoded(record)
        own = {hole[1].decode(): hole[2].decode() for hole in holes}
        return Decoded(structs.replace(known.registration, **own), known.plain | own, known.content)

    def _note(self, text: bytes) -> None:
        """Remembers a text that is seen for the second time."""
        if text in self._known:
            return
        if text not in self._once:
            if len(self._once) == KEPT:
                self._once.clear()
            self._once.add(text)
            return
        if len(self._known) == KEPT:
            self._known, self.blanks = {}, Blanks()
        self._once.remove(text)
        decoded = self._known[text] = _shareable(text)
        if decoded is not None and _is_of_newcomers(decoded):
            self.blanks.add(text, decoded)


def _is_of_newcomers(decoded: Decoded) -> bool:
    """Whether it is a first version that states no boot, and no salt but one in a hole."""
    registration = decoded.registration
    return registration.version == 1 and registration.boot is UNSET and decoded.plain.get("salt") != ""


def _is_fit(value: bytes, holes: Sequence[re.Match[bytes]]) -> bool:
    """Whether these are the holes of a registration, each there once, and nothing else in it looks like what fills
    one.
    """
    salts = [hole[2] for hole in holes if hole[1] == b"salt"]
    return (
        len(holes) == 2 + len(salts)
        and {hole[1] for hole in holes} >= {b"machine", b"route"}
        and all(_SALT.fullmatch(salt) for salt in salts)
        and len(salts) <= 1
        and not any(filled in value for filled in _FILLED)
    )


def _decoded(record: LogRecord) -> Decoded | Reason:
    decoded = decode_control(record.value, media_type(record), Registration)
    if not isinstance(decoded, tuple):
        return decoded
    registration, plain = decoded
    plain = {name: part for name, part in plain.items() if _FALSE.get(name) is not part}
    return Decoded(registration, plain, content_of(plain))


def _shareable(text: bytes) -> Decoded | None:
    """What a text says of somebody, where its holes are machine, route and salt, and nothing else; else None.

    Without a backslash a string says what stands between its quotes: one that says what fills a hole, which stands in
    the text but once, is that hole. Another word there, of an id's characters, changes this string and nothing else.
    """
    decoded = _decoded(Record(0, 0, None, text, ()))
    if not isinstance(decoded, Decoded) or b"\\" in text:
        return None
    said = [decoded.plain.get(name.decode()) for name in _NAMES]
    is_said = all(said[kind] == filled.decode() for kind, filled in enumerate(_FILLED) if filled in text)
    return decoded if is_said else None
