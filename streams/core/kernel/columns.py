"""How records and rows lie in arrays: one buffer of bytes, and two matrices of int64 that point into it.

`buffer` (uint8) holds the unpacked record batches of a slice one after the other, and behind them what no batch holds
verbatim. A text is a pair of columns: its position in the buffer, and its length in bytes.

`records` has a line for each record of the slice in the order of the log, `rows` one for each row of a reading record,
in the order of (record, row). A column is named by its number: `rows[k, SEQ]`. An absent integer is NONE.
"""

from typing import Annotated, get_args

import numpy as np
from numpy.typing import NDArray

from schemas.order import CANCELLED, INVOICED, RECEIVED
from schemas.payment import PAID
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED, MeterKind
from schemas.reject import REASONS, Reason

Bytes = Annotated[NDArray[np.uint8], "uint8[::1]"]
Words = Annotated[NDArray[np.uint64], "uint64[::1]"]
Ints = Annotated[NDArray[np.int64], "int64[::1]"]
Matrix = Annotated[NDArray[np.int64], "int64[:, ::1]"]
"""Arrays as loops take them: contiguous, and writable. `compiled` reads numba's spelling of each."""

NONE = -1
"""No such integer: no value, no key, no session."""

ASK = -2
"""What the kernel leaves to the definition in `streams.core.records`: a verdict, a media type, a row's position."""

# ---------------------------------------------------------------- records

(
    OFFSET,
    TIMESTAMP,  # epoch ms
    KEY_AT,
    KEY_LEN,  # NONE: no key
    VALUE_AT,
    VALUE_LEN,  # NONE: no value
    HEADERS_AT,  # the first header, behind their count
    HEADERS_LEN,
    HEADERS,  # their number
    TYPE,  # below
    MEDIA,  # below
    IS_SIGNED,  # 1 if a header of a signature is there, valid or not
    REFUSED,  # 0, or the code of the reason why the whole record is refused
    FIRST_ROW,  # of a reading record that is not refused: its first line in `rows`
    ROWS,  # and how many lines it has there; 0 in all others
    EVIDENCES,  # how many of its rows have evidence
) = range(16)
RECORD_COLUMNS = 16

TYPES = (READING, HEARTBEAT, REGISTERED, CORRECTED, RECEIVED, INVOICED, CANCELLED, PAID)
"""The types of records; TYPE is an index in it, NONE for any other type."""
TYPE_READING, TYPE_HEARTBEAT, TYPE_REGISTERED = range(3)

JSON_MEDIA, ARROW_MEDIA, OTHER_MEDIA = 0, 1, 2
"""MEDIA, or ASK where the spelling of the media type is odd."""

# ---------------------------------------------------------------- rows

(
    RECORD,  # index in `records`
    ROW,  # the row's number in its record, from 0
    VERDICT,  # below
    MACHINE_AT,
    MACHINE_LEN,
    METER_AT,
    METER_LEN,
    BOOT,
    SEQ,
    OBSERVED_AT,  # epoch ms
    KIND,  # REGISTER, QUANTITY or LEVEL
    VALUE,  # in the meter's unit
    SESSION_AT,
    SESSION_LEN,  # 0: no session
    STARTED_AT,  # epoch ms; NONE exactly where there is no session
    MARKS,  # bits, below
) = range(16)
ROW_COLUMNS = 16
"""All other columns of a malformed row hold anything."""

REGISTER, QUANTITY, LEVEL = range(3)
"""KIND: which value the row carries, an index in KINDS."""

KINDS: tuple[MeterKind, ...] = get_args(MeterKind)

IS_START, IS_END, IS_RECONSTRUCTED = 1, 2, 4
"""Bits of MARKS: `session_start`, `session_end`, `reconstructed`."""

ACCEPTED, DUPLICATE = 0, 1
"""VERDICT of a row. A reader leaves ACCEPTED or MALFORMED, a judge writes what the rules make of it."""


CODES = 2
"""The verdict that stands for the first of REASONS: above ACCEPTED and DUPLICATE."""


def code_of(reason: Reason) -> int:
    """The verdict that stands for a reason, in the order of REASONS."""
    return CODES + REASONS.index(reason)


def reason_of(code: int) -> Reason:
    """The reason that a verdict above DUPLICATE stands for."""
    return REASONS[code - CODES]


UNDECODABLE, UNKNOWN_TYPE, MALFORMED = code_of("undecodable"), code_of("unknown_type"), code_of("malformed")

# ---------------------------------------------------------------- refused entries

(
    REFUSED_LINE,  # of its record in `records`
    REFUSED_ROW,  # its number in the record, or WHOLE_RECORD
    REFUSED_CODE,  # of the reason
) = range(3)
REFUSED_COLUMNS = 3

# ---------------------------------------------------------------- registrations that differ in a few words

HOLE_ROUTE, HOLE_SALT = 1, 2
"""What differs is a word, where a text has a hole: the machine (0), its route, its salt."""
HOLES_OF_BLANK = 3

(
    BLANK_AT,  # in the bytes of all blanks: texts without what stands in their holes
    BLANK_LEN,
    BLANK_HOLE,  # for each hole in its order, where it is in the text, and which of the three; NONE behind the last
) = range(3)
BLANK_COLUMNS = BLANK_HOLE + 2 * HOLES_OF_BLANK

(
    FOUND_BLANK,  # the blank that a record fills in, or NONE
    FOUND_NOW,  # stream time at the record (epoch ms)
    FOUND_WORD,  # for each of the three, its position in the buffer and its length; NONE: it has none
) = range(3)
FOUND_COLUMNS = FOUND_WORD + 2 * HOLES_OF_BLANK


def text(buffer: Bytes, at: int, size: int) -> str:
    """An id in the buffer as a string. Ids are ASCII."""
    return buffer[at : at + size].tobytes().decode("ascii")
