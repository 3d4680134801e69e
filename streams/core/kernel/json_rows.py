"""Readings spelled as JSON become lines of `rows` (rules 1 to 3): a strict parser of what is plainly right or wrong.

What it decides, `records.decode_readings` would decide alike; a fuzz holds the two equal. All else is left to that
definition by ASK: escapes, what is not ASCII, fractions and exponents, names given twice, evidence, values of other
types, values that nest. A position that a function returns may be ASK or CUT instead: then the value ends within its
JSON.
"""

import numpy as np

from schemas.reading import ROWS_MAX
from schemas.units import COUNT_MAX
from streams.core.kernel import columns as c
from streams.core.kernel.columns import ASK, NONE, Bytes, Ints, Matrix, Words
from streams.core.kernel.compiled import compiled
from streams.core.kernel.flatbuffer import int64_at
from streams.core.kernel.words import FIELDS, byte, is_word

CUT = -3
"""The value ends too early: it is no JSON, whatever the definition would say of what came before."""

ID_MAX = 64
DIGITS_MAX = 17
"""More digits are left to the definition; so many can't leave 64 bits."""

QUOTE, COMMA, COLON, MINUS, DOT, ZERO = ord('"'), ord(","), ord(":"), ord("-"), ord("."), ord("0")
OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET = ord("{"), ord("}"), ord("["), ord("]")

IS_ID, IS_PLAIN, IS_BLANK = 1, 2, 4
KIND_OF = np.zeros(256, np.uint8)
"""Of each byte: may it stand in an id; in a string, without a meaning of its own; between two tokens?"""
for _letter in range(0x20, 0x80):
    KIND_OF[_letter] = IS_PLAIN
for _letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:*-":
    KIND_OF[_letter] |= IS_ID
for _letter in b'"\\':
    KIND_OF[_letter] = 0
for _letter in b" \t\n\r":
    KIND_OF[_letter] |= IS_BLANK

MACHINE, METER, BOOT, SEQ, OBSERVED_AT = (
    FIELDS.index(name) for name in ("machine", "meter", "boot", "seq", "observed_at")
)
REGISTER, QUANTITY, LEVEL = (FIELDS.index(name) for name in ("register", "quantity", "level"))
SESSION, STARTED_AT = FIELDS.index("session"), FIELDS.index("session_started_at")
START, END, RECONSTRUCTED = (FIELDS.index(name) for name in ("session_start", "session_end", "reconstructed"))
EVIDENCE = FIELDS.index("evidence")

REQUIRED = 1 << MACHINE | 1 << METER | 1 << BOOT | 1 << SEQ | 1 << OBSERVED_AT
UNKNOWN = len(FIELDS)

TEXT, COUNT, FLAG = range(3)
SORT_OF = np.full(len(FIELDS), COUNT, np.int8)
"""What a field's value looks like."""
SORT_OF[[MACHINE, METER, SESSION]] = TEXT
SORT_OF[[START, END, RECONSTRUCTED]] = FLAG

COLUMN_OF = np.zeros(len(FIELDS), np.int64)
"""Where a field's value goes: a text's position (its length is the next column), an integer, or a bit of MARKS."""
for _field, _column in (
    (MACHINE, c.MACHINE_AT), (METER, c.METER_AT), (BOOT, c.BOOT), (SEQ, c.SEQ), (OBSERVED_AT, c.OBSERVED_AT),
    (REGISTER, c.VALUE), (QUANTITY, c.VALUE), (LEVEL, c.VALUE), (SESSION, c.SESSION_AT), (STARTED_AT, c.STARTED_AT),
    (START, c.IS_START), (END, c.IS_END), (RECONSTRUCTED, c.IS_RECONSTRUCTED),
):  # fmt: skip
    COLUMN_OF[_field] = _column

FIELD_BY_SHAPE = np.full(256 * 32, UNKNOWN, np.int8)
"""The only field whose name has this last letter and this length."""
for _field, _name in enumerate(FIELDS):
    FIELD_BY_SHAPE[ord(_name[-1]) * 32 + len(_name)] = _field


SPELLED = np.zeros((len(FIELDS), 2, 2), np.int64)
"""A field's name with its quotes and colon as two integers of eight bytes, and which of their bits count."""
SPELLED_BYTES = np.zeros(len(FIELDS), np.int64)
"""How many bytes that is; 0 where it is more than two such integers."""
for _field, _name in enumerate(FIELDS):
    _spelled = f'"{_name}":'.encode()
    if len(_spelled) <= 16:
        SPELLED_BYTES[_field] = len(_spelled)
        SPELLED[_field] = [np.frombuffer(text.ljust(16, b"\0"), "<i8") for text in (_spelled, b"\xff" * len(_spelled))]


@compiled
def skip_blanks(buffer: Bytes, p: int, end: int) -> int:
    """The position of the next token, or `end`."""
    while p < end and KIND_OF[byte(buffer, p)] & IS_BLANK:
        p += 1
    return p


@compiled
def end_of_text(buffer: Bytes, p: int, end: int) -> int:
    """The position of the quote that ends the plain text at `p`, ASK or CUT."""
    while p < end and KIND_OF[byte(buffer, p)] & IS_PLAIN:
        p += 1
    if p >= end:
        return CUT
    return p if byte(buffer, p) == QUOTE else ASK


@compiled
def read_name(buffer: Bytes, p: int, end: int) -> tuple[int, int]:
    """The name of a member at its first quote: (field or UNKNOWN, position of its value)."""
    if p >= end:
        return UNKNOWN, CUT
    if byte(buffer, p) != QUOTE:
        return UNKNOWN, ASK
    first = p + 1
    p = end_of_text(buffer, first, end)
    if p < 0:
        return UNKNOWN, p
    size = p - first
    field = UNKNOWN
    if 0 < size < 32:
        field = int(FIELD_BY_SHAPE[byte(buffer, p - 1) * 32 + size])
        if field != UNKNOWN and not is_word(buffer, first, size, field):
            field = UNKNOWN
    p = skip_blanks(buffer, p + 1, end)
    if p >= end:
        return field, CUT
    if byte(buffer, p) != COLON:
        return field, ASK
    p = skip_blanks(buffer, p + 1, end)
    return field, (p if p < end else CUT)


@compiled
def is_spelled(words: Words, p: int, end: int, field: int) -> bool:
    """Whether a field's name stands at `p`, with quotes and colon and no blank, and something behind it."""
    size = SPELLED_BYTES[field]
    if size == 0 or p + size >= end or (int64_at(words, p) ^ SPELLED[field, 0, 0]) & SPELLED[field, 1, 0] != 0:
        return False
    return bool(size <= 8 or (int64_at(words, p + 8) ^ SPELLED[field, 0, 1]) & SPELLED[field, 1, 1] == 0)


@compiled
def next_name(words: Words, buffer: Bytes, p: int, end: int, before: int, follows: Ints) -> tuple[int, int]:
    """As `read_name`. What followed the field `before` the last time is looked for first: records are alike."""
    p = skip_blanks(buffer, p, end)
    field = follows[before]
    if is_spelled(words, p, end, field):
        p = skip_blanks(buffer, p + SPELLED_BYTES[field], end)
        return field, (p if p < end else CUT)
    field, p = read_name(buffer, p, end)
    if field != UNKNOWN:
        follows[before] = field
    return field, p


@compiled
def read_id(buffer: Bytes, p: int, end: int) -> tuple[int, int]:
    """A text: (its length, or NONE if it is no id; the position behind it)."""
    if byte(buffer, p) != QUOTE:
        return NONE, ASK
    first = p + 1
    p = first
    while p < end and KIND_OF[byte(buffer, p)] & IS_ID:
        p += 1
    size = p - first
    if p < end and byte(buffer, p) == QUOTE:
        return (size if 1 <= size <= ID_MAX else NONE), p + 1
    p = end_of_text(buffer, p, end)
    return NONE, (p + 1 if p >= 0 else p)


@compiled
def read_count(buffer: Bytes, p: int, end: int) -> tuple[int, int]:
    """An integer: (its value, or NONE if it is out of range; the position behind it)."""
    is_negative = byte(buffer, p) == MINUS
    if is_negative:
        p += 1
    first, number = p, 0
    while p < end:
        digit = byte(buffer, p) - ZERO
        if digit < 0 or digit > 9:
            break
        if p - first == DIGITS_MAX:
            return NONE, ASK
        number = number * 10 + digit
        p += 1
    if p >= end:
        return NONE, CUT
    if p == first or (byte(buffer, first) == ZERO and (p > first + 1 or is_negative)):
        return NONE, ASK
    if byte(buffer, p) == DOT or byte(buffer, p) | 0x20 == ord("e"):
        return NONE, ASK
    return (NONE if is_negative or number > COUNT_MAX else number), p


@compiled
def read_flag(buffer: Bytes, p: int, end: int) -> tuple[int, int]:
    """true or false: (1 or 0, the position behind it)."""
    if end - p >= 4 and byte(buffer, p) == ord("t"):
        if byte(buffer, p + 1) == ord("r") and byte(buffer, p + 2) == ord("u") and byte(buffer, p + 3) == ord("e"):
            return 1, p + 4
    elif end - p >= 5 and byte(buffer, p) == ord("f") and byte(buffer, p + 1) == ord("a"):  # noqa: SIM102 - one word a line
        if byte(buffer, p + 2) == ord("l") and byte(buffer, p + 3) == ord("s") and byte(buffer, p + 4) == ord("e"):
            return 0, p + 5
    return 0, ASK


@compiled
def skip_number(buffer: Bytes, p: int, end: int) -> int:
    """The position behind an integer or a decimal fraction; ASK for an exponent."""
    if byte(buffer, p) == MINUS:
        p += 1
    for part in range(2):
        first = p
        while p < end and ZERO <= byte(buffer, p) <= ZERO + 9:
            p += 1
        if p >= end:
            return CUT
        if p == first or p - first > DIGITS_MAX or (part == 0 and byte(buffer, first) == ZERO and p > first + 1):
            return ASK
        if part == 1 or byte(buffer, p) != DOT:
            break
        p += 1
    return ASK if byte(buffer, p) == DOT or byte(buffer, p) | 0x20 == ord("e") else p


@compiled
def skip_value(buffer: Bytes, p: int, end: int) -> int:
    """The position behind the value of an unknown field: a plain text, a number, true, false or null."""
    letter = byte(buffer, p)
    if letter == QUOTE:
        p = end_of_text(buffer, p + 1, end)
        return p + 1 if p >= 0 else p
    if letter == ord("n"):
        if (
            end - p >= 4
            and byte(buffer, p + 1) == ord("u")
            and byte(buffer, p + 2) == ord("l")
            and byte(buffer, p + 3) == ord("l")
        ):
            return p + 4
        return ASK
    if letter == ord("t") or letter == ord("f"):
        _, p = read_flag(buffer, p, end)
        return p
    return skip_number(buffer, p, end)


@compiled
def read_value(buffer: Bytes, p: int, end: int, field: int, rows: Matrix, r: int) -> tuple[bool, int]:
    """The value of a known field into its column: (whether it is one that the field may have, position behind it)."""
    if SORT_OF[field] == TEXT:
        size, after = read_id(buffer, p, end)
        rows[r, COLUMN_OF[field]], rows[r, COLUMN_OF[field] + 1] = p + 1, size
        return size != NONE, after
    if SORT_OF[field] == FLAG:
        flag, after = read_flag(buffer, p, end)
        rows[r, c.MARKS] |= flag * COLUMN_OF[field]
        return True, after
    number, after = read_count(buffer, p, end)
    rows[r, COLUMN_OF[field]] = number
    if REGISTER <= field <= LEVEL:
        rows[r, c.KIND] = field - REGISTER
    return number != NONE, after


@compiled
def is_reading(seen: int, rows: Matrix, r: int) -> bool:
    """Whether a row with these fields, each of which has a value that it may have, is one (rule 3).

    Exactly one value; a session with its start, not after the reading; a mark of a session only with one.
    """
    values = seen >> REGISTER & 7
    if seen & REQUIRED != REQUIRED or values == 0 or values & (values - 1) != 0:
        return False
    if (seen >> SESSION ^ seen >> STARTED_AT) & 1:
        return False
    if seen >> SESSION & 1:
        return bool(rows[r, c.STARTED_AT] <= rows[r, c.OBSERVED_AT])
    return bool(rows[r, c.MARKS] & (c.IS_START | c.IS_END) == 0)


@compiled
def read_row(words: Words, buffer: Bytes, p: int, end: int, follows: Ints, rows: Matrix, r: int) -> int:
    """One object at `p` into the line `r`, its verdict too. Returns the position behind it, ASK or CUT."""
    if p >= end:
        return CUT
    if byte(buffer, p) != OPEN_BRACE:
        return ASK
    rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN], rows[r, c.STARTED_AT], rows[r, c.MARKS] = 0, 0, NONE, 0
    seen, is_right, before = 0, True, UNKNOWN
    while True:
        field, p = next_name(words, buffer, p + 1, end, before, follows)
        if p < 0:
            return p
        if field == UNKNOWN:
            p = skip_value(buffer, p, end)
        else:
            if seen >> field & 1 or field == EVIDENCE:
                return ASK
            seen, before = seen | 1 << field, field
            is_fit, p = read_value(buffer, p, end, field, rows, r)
            is_right &= is_fit
        if p < 0:
            return p
        p = skip_blanks(buffer, p, end)
        if p >= end:
            return CUT
        if byte(buffer, p) == CLOSE_BRACE:
            rows[r, c.VERDICT] = c.ACCEPTED if is_right and is_reading(seen, rows, r) else c.MALFORMED
            return p + 1
        if byte(buffer, p) != COMMA:
            return ASK


@compiled
def read_json(
    words: Words, buffer: Bytes, p: int, end: int, follows: Ints, rows: Matrix, first: int
) -> tuple[int, int]:  # fmt: skip
    """A whole value into the lines from `first` on: (how many rows it has, the position behind it, ASK or CUT).

    `words` is the same buffer, eight bytes each. `follows` is, for each field and for none (UNKNOWN), the one that came
    after it last; any at first. `rows` has room for ROWS_MAX lines from `first` on. RECORD is left to the caller.
    """
    p = skip_blanks(buffer, p, end)
    count = 0
    if p < end and byte(buffer, p) == OPEN_BRACKET:
        while True:
            if count == ROWS_MAX:
                return 0, ASK
            p = read_row(words, buffer, skip_blanks(buffer, p + 1, end), end, follows, rows, first + count)
            if p < 0:
                return 0, p
            rows[first + count, c.ROW] = count
            count += 1
            p = skip_blanks(buffer, p, end)
            if p >= end:
                return 0, CUT
            if byte(buffer, p) == CLOSE_BRACKET:
                p += 1
                break
            if byte(buffer, p) != COMMA:
                return 0, ASK
    else:
        p = read_row(words, buffer, p, end, follows, rows, first)
        if p < 0:
            return 0, p
        rows[first, c.ROW], count = 0, 1
    return count, (p if skip_blanks(buffer, p, end) == end else ASK)
