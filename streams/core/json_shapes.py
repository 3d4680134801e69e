"""JSON values that are spelled alike, as columns without an object for each row.

Gateways print readings with one routine, so most values of a run differ in their names and digits alone. A *shape* is
what stays the same: the bytes between them, learned from a value that the decoder has accepted. A row is taken here
only if its bytes are exactly those of a shape, with digit strings without leading zeros up to 2^53 and the name of a
registered meter: then the decoder would read the same in it, whatever surrounds it. All other rows are left to
`json_columns`. Nothing here reads past a value: each is read by itself, though all of them lie in one buffer.
"""

import re
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np

from schemas.reading import ROWS_MAX
from schemas.units import COUNT_MAX
from streams.core.columns import IS_RECONSTRUCTED, IS_START, Ints, Mask, Part, is_id
from streams.core.meters import NONE
from streams.core.name_index import NAME_WORDS, WORD, NameIndex, Names, Words

SHAPES_MAX = 4
"""How many shapes are tried in a run; a run with more is not spelled alike."""

DIGITS_MAX = 16
LITERAL_MAX = 64
PAD = LITERAL_MAX + 2 * WORD
"""Bytes before and after the values, so that words around them can be read."""

TEXTS = ("machine", "meter", "session")
INTEGERS = ("boot", "seq", "observed_at", "register", "quantity", "level", "session_started_at")
MARKS = {"session_start": IS_START, "reconstructed": IS_RECONSTRUCTED}
TRIES_MAX = 8
"""How many rows are examined for a shape."""

_VALUE = r'(?:"(?P<text>[A-Za-z0-9._:-]{1,64})"|(?P<digits>0|[1-9][0-9]{0,15})|true|false)'
_MEMBER = re.compile(rf'(?P<before>\{{\s*|\s*,\s*)"(?P<name>[a-z_]+)"\s*:\s*{_VALUE}'.encode())
_END = re.compile(rb"\s*\}")
_ZEROS, _HIGH, _SIXES = (np.uint64(int(digits * 8, 16)) for digits in ("30", "f0", "06"))
_LOW_BYTES = np.array([2 ** (8 * size) - 1 for size in range(WORD + 1)], np.uint64)
_JOINS = [
    (np.uint64(mask), np.uint64(factor), np.uint64(shift))
    for mask, factor, shift in (
        (0x0F0F0F0F0F0F0F0F, 10 * 2**8 + 1, 8),
        (0x00FF00FF00FF00FF, 100 * 2**16 + 1, 16),
        (0x0000FFFF0000FFFF, 10_000 * 2**32 + 1, 32),
    )
]


class Field(NamedTuple):
    """A variable part of a row: `before` are the bytes in front of it, `quotes` the number of quotes before it in the
    row.
    """

    name: str
    before: bytes
    quotes: int
    is_text: bool


class Shape(NamedTuple):
    """How rows are spelled: their fields, the bytes after the last one, and the marks (see `columns`) in the
    literals.
    """

    fields: tuple[Field, ...]
    after: bytes
    marks: int


def shape_of(row: bytes) -> Shape | None:
    """The shape of one well-formed reading; None for an unusual spelling."""
    fields: list[Field] = []
    names: set[str] = set()
    marks = at = begun = 0
    while member := _MEMBER.match(row, at):
        name = member["name"].decode()
        kind = "text" if member["text"] else "digits" if member["digits"] else "mark"
        known: Container[str] = {"text": TEXTS, "digits": INTEGERS, "mark": MARKS}[kind]
        if name in names or name not in known or (at == 0) != member["before"].startswith(b"{"):
            return None
        names.add(name)
        at = member.end()
        if kind == "mark":
            marks |= MARKS[name] if member[0].endswith(b"true") else 0
            continue
        start, end = member.span(kind)
        fields.append(Field(name, row[begun:start], row.count(b'"', 0, start), kind == "text"))
        begun = end
    literals = [*(field.before for field in fields), row[begun:]]
    if not names.issuperset(("machine", "meter", "boot", "seq", "observed_at")) or not _END.fullmatch(row, at):
        return None
    if max(map(len, literals)) > LITERAL_MAX:
        return None
    return Shape(tuple(fields), row[begun:], marks)


class Span(NamedTuple):
    """Where a field lies in each row: [start, end)."""

    start: Ints
    end: Ints

    @property
    def length(self) -> Ints:
        """Bytes in each row."""
        return self.end - self.start


class _Buffer:
    """The values one after the other, readable at any byte as a word of eight."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.bytes = b"".join((bytes(PAD), b"\n".join(values), bytes(PAD)))
        self.chars = np.frombuffer(self.bytes, np.uint8)
        self.words: Words = np.ndarray((len(self.bytes) - WORD + 1,), "<u8", self.bytes, strides=(1,))
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        self.ends = np.cumsum(lengths + 1) + (PAD - 1)
        self.starts = self.ends - lengths

    def has(self, literal: bytes, at: Ints) -> Mask:
        """Whether the literal stands at each of these byte positions."""
        same = np.ones(len(at), np.bool_)
        for begun in range(0, len(literal), WORD):
            part = literal[begun : begun + WORD]
            expected = np.uint64(int.from_bytes(part, "little"))
            same &= self.words[at + begun] & _LOW_BYTES[len(part)] == expected
        return same

    def text(self, span: Span) -> Names:
        """A field's bytes in the form that NameIndex takes."""
        length = span.length
        longest = min(int(length.max(initial=0)), NAME_WORDS * WORD)
        words = [
            self.words[span.start + at] & _LOW_BYTES[np.clip(length - at, 0, WORD)] for at in range(0, longest, WORD)
        ]
        return Names(length, words)

    def numbers(self, span: Span) -> tuple[Ints, Mask]:
        """The integers in a field, and which of them are counts."""
        length = span.length
        fits = (length >= 1) & (length <= DIGITS_MAX)
        value, are_digits = self._digits(span.end, np.clip(length, 0, WORD))
        fits &= are_digits & ((self.chars[span.start] != ord("0")) | (length == 1))
        if length.max(initial=0) > WORD:
            high, are_digits = self._digits(span.end - WORD, np.clip(length - WORD, 0, WORD))
            value += high * np.uint64(10**WORD)
            fits &= are_digits
        return value.astype(np.int64), fits & (value <= COUNT_MAX)

    def _digits(self, end: Ints, length: Ints) -> tuple[Words, Mask]:
        """Up to eight digits before `end`, parsed at once in a little-endian word: pairs, then fours, then the
        number.
        """
        front = _LOW_BYTES[WORD - length]
        word = (self.words[end - WORD] & ~front) | (_ZEROS & front)
        fits: Mask = (word & _HIGH == _ZEROS) & ((word + _SIXES) & _HIGH == _ZEROS)
        for mask, factor, shift in _JOINS:
            word = (word & mask) * factor >> shift
        return word, fits


class _Rows(NamedTuple):
    """The objects in a buffer: first and last byte, the value that each lies in, and how many quotes come before."""

    first: Ints
    last: Ints
    value: Ints
    quotes: Ints


def shaped_part(
    records: Sequence[int], values: Sequence[bytes], index: NameIndex, is_reading: Callable[[bytes], bool]
) -> tuple[Part | None, list[int]]:
    """The rows of those values that are spelled alike, and the indices in `records` of all others.

    `is_reading` returns whether the decoder accepts an object as a reading of known fields.
    """
    buffer = _Buffer(values)
    quotes = np.flatnonzero(buffer.chars == ord('"'))
    rows = _rows_of(buffer, quotes)
    if not len(rows.first):
        return None, list(range(len(records)))
    match = _Match(buffer, rows, quotes, index)
    left = np.arange(len(rows.first))
    shapes = tries = 0
    while len(left) and shapes < SHAPES_MAX and tries < TRIES_MAX:
        tries += 1
        row = buffer.bytes[rows.first[left[0]] : rows.last[left[0]] + 1]
        shape = shape_of(row) if is_reading(row) else None
        if shape is None:
            left = left[1:]
            continue
        shapes += 1
        matched = match.take(shape, left)
        left = left[~matched][0 if matched[0] else 1 :]
    return match.part(np.asarray(records, np.int64))


def _rows_of(buffer: _Buffer, quotes: Ints) -> _Rows:
    first, last = (np.flatnonzero(buffer.chars == ord(sign)) for sign in "{}")
    if len(first) != len(last) or (first > last).any() or (first[1:] < last[:-1]).any():
        index = np.searchsorted(last, first)
        follows = np.r_[first[1:], len(buffer.chars)]
        is_flat = (index < len(last)) & (np.r_[last, len(buffer.chars)][index] < follows)
        first, last = first[is_flat], last[index[is_flat]]
    return _Rows(first, last, np.searchsorted(buffer.ends, first, side="right"), np.searchsorted(quotes, first))


class _Match:
    """Rows as they are taken by shape after shape."""

    def __init__(self, buffer: _Buffer, rows: _Rows, quotes: Ints, index: NameIndex) -> None:
        self.buffer, self.rows, self.index = buffer, rows, index
        self.quotes = np.r_[quotes, 0]
        size = len(rows.first)
        self.meter = np.full(size, NONE, np.int64)
        self.is_taken = np.zeros(size, np.bool_)
        self.numbers = {name: np.full(size, NONE, np.int64) for name in INTEGERS}
        self.marks = np.zeros(size, np.int64)
        self.sessions: dict[int, str] = {}

    def take(self, shape: Shape, left: Ints) -> Mask:
        """Takes those of the rows `left` that have the shape; returns which."""
        spans, fits = self._spans(shape, left)
        found = {}
        for field, span in zip(shape.fields, spans, strict=True):
            if not field.is_text:
                found[field.name], are_counts = self.buffer.numbers(span)
                fits &= are_counts
        by_name = {field.name: span for field, span in zip(shape.fields, spans, strict=True)}
        meter = self.index.find(*(self.buffer.text(by_name[name]) for name in ("machine", "meter")))
        fits &= meter != NONE
        if "session" in by_name:
            self._take_sessions(by_name["session"], left, fits)
        taken = left[fits]
        for name, values in found.items():
            self.numbers[name][taken] = values[fits]
        self.meter[taken] = meter[fits]
        self.marks[taken] = shape.marks
        self.is_taken[taken] = True
        return fits

    def _spans(self, shape: Shape, left: Ints) -> tuple[list[Span], Mask]:
        """Where the fields of a shape lie in these rows, and which of the rows have all its literals."""
        first, last, quotes = (part[left] for part in (self.rows.first, self.rows.last, self.rows.quotes))
        fits = np.ones(len(left), np.bool_)
        spans = []
        at = first
        for number, field in enumerate(shape.fields):
            fits &= self.buffer.has(field.before, at)
            start = np.minimum(at + len(field.before), last)
            after = shape.after if number + 1 == len(shape.fields) else shape.fields[number + 1].before
            if b'"' in after:
                end = self.quotes[np.minimum(quotes + field.quotes, len(self.quotes) - 1)] - after.index(b'"')
            else:
                end = last + 1 - len(after)
            at = np.clip(end, start, last)
            spans.append(Span(start, at))
        return spans, fits & self.buffer.has(shape.after, at)

    def _take_sessions(self, span: Span, left: Ints, fits: Mask) -> None:
        """Keeps the sessions of rows that fit; a row whose session is not an id does not fit."""
        known: dict[bytes, str | None] = {}
        indices = np.flatnonzero(fits)
        for index, row, start, end in zip(
            indices.tolist(),
            left[indices].tolist(),
            span.start[indices].tolist(),
            span.end[indices].tolist(),
            strict=True,
        ):
            name = self.buffer.bytes[start:end]
            if name not in known:
                text = name.decode("ascii", "replace")
                known[name] = text if is_id(text) else None
            session = known[name]
            if session is None:
                fits[index] = False
            else:
                self.sessions[row] = session

    def part(self, records: Ints) -> tuple[Part | None, list[int]]:
        """The rows of the values all of whose rows were taken, and the indices of the other values."""
        rows, values = self.rows, len(records)
        is_valid = np.bincount(rows.value, minlength=values) > 0
        is_valid[rows.value[~(self.is_taken & self._are_joined())]] = False
        chosen = np.flatnonzero(is_valid[rows.value])
        left: list[int] = np.flatnonzero(~is_valid).tolist()
        if not len(chosen):
            return None, left
        value = rows.value[chosen]
        numbers = {name: column[chosen] for name, column in self.numbers.items()}
        has_session = np.zeros(len(chosen), np.bool_)
        if self.sessions:
            has_session = np.fromiter((row in self.sessions for row in chosen.tolist()), np.bool_, len(chosen))
        begun = np.flatnonzero(np.r_[True, value[1:] != value[:-1]])
        part = Part(
            record=records[value],
            row=np.arange(len(value)) - np.repeat(begun, np.diff(np.r_[begun, len(value)])),
            meter=self.meter[chosen],
            boot=numbers["boot"],
            seq=numbers["seq"],
            observed_at=numbers["observed_at"],
            registers=numbers["register"],
            quantities=numbers["quantity"],
            levels=numbers["level"],
            started_at=numbers["session_started_at"],
            has_session=has_session,
            marks=self.marks[chosen],
            is_bad=np.zeros(len(chosen), np.bool_),
            texts=_ShapeTexts(self, chosen),
        )
        return part, left

    def _are_joined(self) -> Mask:
        """Whether around each row its value has nothing, or the brackets and commas of an array."""
        chars, rows = self.buffer.chars, self.rows
        start, end = self.buffer.starts[rows.value], self.buffer.ends[rows.value]
        is_array = chars[start] == ord("[")
        is_first = np.r_[True, rows.value[1:] != rows.value[:-1]]
        is_last = np.r_[is_first[1:], True]
        before = np.r_[0, rows.last[:-1]]
        gap = rows.first - before
        is_comma = (chars[before + 1] == ord(",")) & ((gap == 2) | ((gap == 3) & (chars[before + 2] == ord(" "))))
        front = np.where(is_first, rows.first == start + is_array, is_array & is_comma)
        is_closed = np.where(is_array, chars[rows.last + 1] == ord("]"), True) & (rows.last + 1 + is_array == end)
        few = np.bincount(rows.value, minlength=len(self.buffer.ends))[rows.value] <= ROWS_MAX
        joined: Mask = front & (is_closed | ~is_last) & few
        return joined


class _ShapeTexts:
    """Names and sessions of the rows that were taken."""

    def __init__(self, match: _Match, rows: Ints) -> None:
        self._match, self._rows = match, rows

    def names(self, at: int) -> tuple[str, str]:
        return self._match.index.names[int(self._match.meter[self._rows[at]])]

    def session(self, at: int) -> str:
        return self._match.sessions.get(int(self._rows[at]), "")
