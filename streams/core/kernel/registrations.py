"""Registrations whose text is known but for their machine, route and salt: found without an object each.

What a blank says, and that other words in its holes change nothing else, is `streams.core.shared_text`'s to know.
"""

from functools import partial

import numpy as np

from streams.core.kernel import columns as c
from streams.core.kernel.columns import NONE, Bytes, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.words import byte
from streams.core.stream_time import TIMESTAMP_MAX_MS

WORD_MAX, SALT_LEN = 64, 32
ROUTE, SALT = c.FOUND_WORD + 2 * c.HOLE_ROUTE, c.FOUND_WORD + 2 * c.HOLE_SALT
OF_AN_ID, OF_A_SALT = 1, 2

_LETTERS = np.zeros(256, np.uint8)
"""Bits of each byte: whether an id may hold it, whether a salt may."""
for _letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:*-":
    _LETTERS[_letter] |= OF_AN_ID
for _letter in b"0123456789abcdef":
    _LETTERS[_letter] |= OF_A_SALT

MULTIPLIER, SEED, MASK = 0x5BD1E995, 0x9747B28C, 0xFFFFFFFF


@compiled
def partition_of(buffer: Bytes, at: int, size: int, partitions: int) -> int:
    """What `streams.core.murmur2` defines, of a key in the buffer."""
    state, whole = SEED ^ size, size & ~3
    for p in range(at, at + whole, 4):
        block = byte(buffer, p) | byte(buffer, p + 1) << 8 | byte(buffer, p + 2) << 16 | byte(buffer, p + 3) << 24
        block = (block * MULTIPLIER) & MASK
        block = ((block ^ block >> 24) * MULTIPLIER) & MASK
        state = ((state * MULTIPLIER) & MASK) ^ block
    if size > whole:
        rest = 0
        for k in range(size - whole):
            rest |= byte(buffer, at + whole + k) << 8 * k
        state = ((state ^ rest) * MULTIPLIER) & MASK
    state = ((state ^ state >> 13) * MULTIPLIER) & MASK
    return ((state ^ state >> 15) & 0x7FFFFFFF) % partitions


@partial(compiled, checks_bounds=False)
def is_equal(buffer: Bytes, at: int, texts: Bytes, text_at: int, size: int) -> bool:
    """Whether bytes of the buffer are these of `texts`: all are looked at, which is faster than to stop at the first
    that differs. Raises IndexError beyond either array.
    """
    if at < 0 or text_at < 0 or size < 0 or at + size > len(buffer) or text_at + size > len(texts):
        raise IndexError
    differ = np.uint8(0)
    for k in range(size):
        differ |= buffer[np.uintp(at + k)] ^ texts[np.uintp(text_at + k)]
    return differ == 0


@compiled
def fills_in(
    buffer: Bytes, at: int, size: int, texts: Bytes, blanks: Matrix, blank: int, found: Matrix, k: int
) -> bool:
    """Whether a value is this blank, filled in; then the words are in line `k` of `found`."""
    p, end, done = at, at + size, 0
    text_at, text_len = blanks[blank, c.BLANK_AT], blanks[blank, c.BLANK_LEN]
    for hole in range(c.BLANK_HOLE, c.BLANK_COLUMNS, 2):
        if blanks[blank, hole] == NONE:
            break
        part, kind = blanks[blank, hole] - done, blanks[blank, hole + 1]
        if part > end - p or not is_equal(buffer, p, texts, text_at + done, part):
            return False
        p, done = p + part, done + part
        first, letters = p, OF_A_SALT if kind == c.HOLE_SALT else OF_AN_ID
        while p < end and p - first <= WORD_MAX and _LETTERS[byte(buffer, p)] & letters:
            p += 1
        if not (p - first == SALT_LEN if kind == c.HOLE_SALT else 0 < p - first <= WORD_MAX):
            return False
        found[k, c.FOUND_WORD + 2 * kind], found[k, c.FOUND_WORD + 2 * kind + 1] = first, p - first
    return end - p == text_len - done and is_equal(buffer, p, texts, text_at + done, text_len - done)


@compiled
def find_blank(
    buffer: Bytes, records: Matrix, line: int, texts: Bytes, blanks: Matrix, likely: int, found: Matrix, k: int
) -> int:
    """The blank that a record fills in, whose key is its route, or NONE. The likely one is looked at first."""
    at, size = records[line, c.VALUE_AT], records[line, c.VALUE_LEN]
    key_at, key_len = records[line, c.KEY_AT], records[line, c.KEY_LEN]
    for turn in range(-1, len(blanks)):
        blank = likely if turn < 0 else turn
        found[k, SALT], found[k, SALT + 1] = NONE, NONE
        if fills_in(buffer, at, size, texts, blanks, blank, found, k):
            is_key = found[k, ROUTE + 1] == key_len and is_equal(buffer, key_at, buffer, found[k, ROUTE], key_len)
            return blank if is_key else NONE
    return NONE


@compiled
def find_registrations(
    buffer: Bytes,
    records: Matrix,
    line: int,
    texts: Bytes,
    blanks: Matrix,
    now_ms: int,
    seals_ms: int,
    partition: int,
    partitions: int,
    found: Matrix,
) -> int:
    """Looks at the registrations from a line on, up to the first record that is none or moves stream time from `now_ms`
    to `seals_ms`; what it finds is in `found`, a line each. Returns how many it has looked at.

    A blank is found for those that fill in a known one, and whose key is their route and belongs into the partition.
    """
    likely = 0
    for k in range(len(found)):
        r, stamp = line + k, records[line + k, c.TIMESTAMP]
        now_ms = max(now_ms, stamp if stamp <= TIMESTAMP_MAX_MS else NONE)
        if records[r, c.REFUSED] != 0 or records[r, c.TYPE] != c.TYPE_REGISTERED or now_ms >= seals_ms:
            return k
        found[k, c.FOUND_NOW], found[k, c.FOUND_BLANK] = now_ms, NONE
        if records[r, c.MEDIA] != c.JSON_MEDIA or records[r, c.VALUE_LEN] == NONE or len(blanks) == 0:
            continue
        blank = find_blank(buffer, records, r, texts, blanks, likely, found, k)
        if blank != NONE and partition_of(buffer, records[r, c.KEY_AT], records[r, c.KEY_LEN], partitions) == partition:
            found[k, c.FOUND_BLANK] = likely = blank
    return len(found)
