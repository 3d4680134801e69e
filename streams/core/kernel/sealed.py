"""How sealed windows and their lines lie in arrays, and the bytes that their digests cover.

    windows[GROSS, i]    lines[AMOUNT, k]

A row for each column, so that each is an Arrow column as it is. Windows are in the order of their machines' ids, then
by start, then by what they adjust; lines in the order of the windows, then as in the window.
"""

import numpy as np

from schemas.window import DOMAIN
from streams.core.kernel import tables as t
from streams.core.kernel.archived import put
from streams.core.kernel.columns import Bytes, Ints, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.tables import TEXT_MAX, Tables
from streams.core.kernel.words import copy

(
    MACHINE,
    START,  # from here to TRUST in the order of the canonical bytes
    END,
    ADJUSTS,  # NONE: nothing
    UTC_OFFSET,
    GROSS,
    EXPENSES,
    UNCOLLECTED,
    NET,
    COLLECTED,
    CARRY_IN,
    CARRY_OUT,
    VERSION_NUMBER,
    READINGS,
    FIRST_OFFSET,
    LAST_OFFSET,
    SKIPPED,
    FLAGS,
    TRUST,
    VERSION,  # the line in VERSIONS
    LINES_END,  # behind its last line
) = range(21)
COLUMNS = 21

(WINDOW, POSITION, METER, UNIT, LINE_VERSION, USAGE, PRICE, PER, AMOUNT) = range(9)
LINE_COLUMNS = 9
"""WINDOW is the window's place; METER and UNIT are words."""

(RARE_WINDOW, RARE_EXPENSES, RARE_UNCOLLECTED, RARE_COLLECTED, RARE_END) = range(5)
RARE_COLUMNS = 5
"""What few windows have, a line for each, in the order of the windows: its sums, and where its statements and dues end
in the bytes of all of them.
"""

WORD_SIZE = TEXT_MAX + 1

WINDOW_BYTES = len(DOMAIN) + 2 * (2 + TEXT_MAX) + 18 * 8 + 32 + 3 * 4
LINE_BYTES = 2 * (2 + TEXT_MAX) + 5 * 8
"""What a window takes at most beside its lines, statements and dues, and what a line takes."""

_DOMAIN = np.frombuffer(DOMAIN, np.uint8)


@compiled
def put_text(out: Bytes, p: int, source: Bytes, at: int, size: int) -> int:
    """A text with its length at `p`; returns the position behind it."""
    return copy(source, at, size, out, put(out, p, size, 2))


@compiled
def put_word(out: Bytes, p: int, words: Bytes, word: int) -> int:
    """A word with its length at `p`; returns the position behind it."""
    return put_text(out, p, words, word * WORD_SIZE, words[word * WORD_SIZE + TEXT_MAX])


@compiled
def put_hex(out: Bytes, p: int, words: Bytes, word: int) -> int:
    """The bytes that a word spells in hex, at `p`; returns the position behind them."""
    at, size = word * WORD_SIZE, words[word * WORD_SIZE + TEXT_MAX] // 2
    for k in range(size):
        value = 0
        for digit in range(2):
            letter = int(words[at + 2 * k + digit])
            value = 16 * value + letter - (48 if letter <= 57 else 87)
        out[p + k] = value
    return p + size


@compiled
def write_windows(
    tables: Tables, names: Bytes, words: Bytes, windows: Matrix, lines: Matrix, first: int, end: int, rare: Matrix,
    rare_bytes: Bytes, out: Bytes, ends: Ints,
) -> None:  # fmt: skip
    """What is hashed of the windows from `first` on, before `end`, one after the other: `ends` says where each ends.

    That is a domain line, the salt of its registration, and what `Window.canonical` says. `words` are those of the
    store, flat.
    """
    machines, versions, contents = tables[t.MACHINES], tables[t.VERSIONS], tables[t.CONTENTS]
    p, r, line = 0, 0, 0 if first == 0 else windows[LINES_END, first - 1]
    while r < len(rare) and rare[r, RARE_WINDOW] < first:
        r += 1
    for i in range(first, end):
        m, version = windows[MACHINE, i], windows[VERSION, i]
        for k in range(len(_DOMAIN)):
            out[p + k] = _DOMAIN[k]
        p += len(_DOMAIN)
        p = put_text(out, p, names, max(versions[version, t.SALT_AT], 0), max(versions[version, t.SALT_LEN], 0))
        p = put_text(out, p, names, machines[m, t.NAME_AT], machines[m, t.NAME_LEN])
        for column in range(START, TRUST + 1):
            p = put(out, p, windows[column, i], 8)
        p = put_hex(out, p, words, contents[versions[version, t.VERSION_CONTENT], t.CONTENT_AGREEMENT])
        p = put(out, p, windows[LINES_END, i] - line, 4)
        while line < windows[LINES_END, i]:
            p = put_word(out, put_word(out, p, words, lines[METER, line]), words, lines[UNIT, line])
            for column in range(LINE_VERSION, AMOUNT + 1):
                p = put(out, p, lines[column, line], 8)
            line += 1
        if r < len(rare) and rare[r, RARE_WINDOW] == i:
            at = 0 if r == 0 else rare[r - 1, RARE_END]
            p = copy(rare_bytes, at, rare[r, RARE_END] - at, out, p)
            r += 1
        else:
            p = put(out, p, 0, 8)
        ends[i - first] = p
