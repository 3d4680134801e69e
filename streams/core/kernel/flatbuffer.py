"""Integers in bytes, and the tables of a FlatBuffer, each read with a bound.

A FlatBuffer is a tree of tables: https://flatbuffers.dev/internals. A table begins with the distance back to its
vtable, which lists where each field lies; 0 for one left out. All integers are little-endian and aligned.

Positions are those of the slice's buffer; a buffer is [base, end). A function that finds anything but what a correct
writer writes returns ASK.
"""

import numpy as np

from streams.core.kernel.columns import ASK, Words
from streams.core.kernel.compiled import compiled


@compiled
def int64_at(words: Words, p: int) -> int:
    """The eight bytes at any position of a buffer as an integer; `words` is the same buffer, eight bytes each."""
    shift = np.uint64((p & 7) << 3)
    low = words[np.uintp(p >> 3)] >> shift
    high = (words[np.uintp((p >> 3) + 1)] << np.uint64(1)) << (np.uint64(63) - shift)
    return np.int64(low | high)  # type: ignore[return-value]


@compiled
def uint32_at(words: Words, p: int) -> int:
    """The four bytes at any position."""
    return int64_at(words, p) & 0xFFFF_FFFF


@compiled
def int32_at(words: Words, p: int) -> int:
    """The same, with a sign."""
    value = uint32_at(words, p)
    return value - ((value & 0x8000_0000) << 1)


@compiled
def uint16_at(words: Words, p: int) -> int:
    """The two bytes at any position."""
    return int64_at(words, p) & 0xFFFF


@compiled
def is_table(words: Words, base: int, end: int, table: int, fields: int) -> bool:
    """Whether a table with its vtable lies in the buffer, and has none but its first `fields` fields."""
    if table < base or table + 4 > end or (table - base) & 3:
        return False
    vtable = table - int32_at(words, table)
    if vtable < base or vtable + 4 > end or (vtable - base) & 1:
        return False
    size = uint16_at(words, vtable)
    if size < 4 or size & 1 or vtable + size > end or table + uint16_at(words, vtable + 2) > end:
        return False
    for entry in range(vtable + 4 + 2 * fields, vtable + size, 2):  # noqa: SIM110 - a loop of numba
        if uint16_at(words, entry) != 0:
            return False
    return True


@compiled
def field_at(words: Words, base: int, end: int, table: int, number: int, size: int) -> int:
    """The position of a field of `size` bytes of a table that `is_table`; 0: left out; ASK: beyond the buffer."""
    vtable = table - int32_at(words, table)
    entry = 4 + 2 * number
    offset = uint16_at(words, vtable + entry) if entry < uint16_at(words, vtable) else 0
    if offset == 0:
        return 0
    p = table + offset
    return ASK if p + size > end or (p - base) & (size - 1) else p


@compiled
def followed(words: Words, base: int, end: int, p: int) -> int:
    """Where the offset at `p` points to, or ASK."""
    target = p + uint32_at(words, p)
    return ASK if target == p or target + 4 > end or (target - base) & 3 else target


@compiled
def target_of(words: Words, base: int, end: int, table: int, number: int) -> int:
    """Where a table's field that is an offset points to: four bytes at least; 0 if it is left out, else ASK."""
    p = field_at(words, base, end, table, number, 4)
    return p if p <= 0 else followed(words, base, end, p)


@compiled
def count_of(words: Words, base: int, end: int, vector: int, size: int) -> int:
    """How many elements of `size` bytes a vector holds, or ASK if they don't lie in the buffer."""
    count = uint32_at(words, vector)
    return ASK if count * size > end - vector - 4 or (vector + 4 - base) & (min(size, 8) - 1) else count
