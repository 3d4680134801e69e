"""The words that loops compare bytes with, as one table: a compiled loop knows no strings."""

from functools import partial

import numpy as np

from schemas.reading import Reading
from streams.core.kernel.columns import TYPES, Bytes
from streams.core.kernel.compiled import compiled
from streams.core.records import ARROW, JSON, KEY_ID, SIGNATURE

FIELDS = Reading.__struct_fields__
"""The fields of a reading come first in the table, so a field's number is its word's number."""

_WORDS = (*FIELDS, *TYPES, "ce_type", "content-type", SIGNATURE, KEY_ID, JSON, ARROW)

FIRST_TYPE = len(FIELDS)
CE_TYPE, CONTENT_TYPE, SIGNATURE_WORD, KEY_ID_WORD, JSON_WORD, ARROW_WORD = range(FIRST_TYPE + len(TYPES), len(_WORDS))

_SIZES = np.array([len(word) for word in _WORDS], np.int64)
_LETTERS = np.zeros((len(_WORDS), _SIZES.max()), np.uint8)
for _number, _word in enumerate(_WORDS):
    _LETTERS[_number, : len(_word)] = np.frombuffer(_word.encode("ascii"), np.uint8)

CASE = 32
"""The bit between an upper-case letter and its lower-case one in ASCII."""


@compiled
def byte(buffer: Bytes, p: int) -> int:
    """The byte at a position. Unsigned, so that a negative position raises IndexError, and none is counted back."""
    return np.int64(buffer[np.uintp(p)])  # type: ignore[return-value]


@partial(compiled, checks_bounds=False)
def copy(source: Bytes, at: int, size: int, out: Bytes, p: int) -> int:
    """Copies bytes to `p`; returns the position behind them. Raises IndexError beyond either array.

    With a check for each byte it takes ten times as long.
    """
    if at < 0 or p < 0 or size < 0 or at + size > len(source) or p + size > len(out):
        raise IndexError
    for k in range(size):
        out[np.uintp(p + k)] = source[np.uintp(at + k)]
    return p + size


@compiled
def is_word(buffer: Bytes, at: int, size: int, word: int) -> bool:
    """Whether these bytes are exactly that word."""
    if size != _SIZES[word]:
        return False
    for k in range(size):  # noqa: SIM110 - a loop of numba
        if byte(buffer, at + k) != _LETTERS[word, k]:
            return False
    return True


@compiled
def is_word_in_any_case(buffer: Bytes, at: int, size: int, word: int) -> bool:
    """Whether these ASCII bytes are that word, once in lower case."""
    if size != _SIZES[word]:
        return False
    for k in range(size):
        letter = byte(buffer, at + k)
        if 65 <= letter <= 90:
            letter |= CASE
        if letter != _LETTERS[word, k]:
            return False
    return True
