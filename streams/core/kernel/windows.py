"""Open windows and their lines: found, opened, added to, given back (rules 21 and 26)."""

import numpy as np

from schemas.units import COUNT_MAX
from schemas.window import HARDWARE_BACKED
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.tables import Tables
from streams.core.kernel.wide import is_above, multiply

_PRIME, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@compiled
def slot_of(m: int, start: int, adjusts: int, slots: int) -> int:
    """Where in a table of `slots` (a power of two) a window is first looked for."""
    mixed = np.uint64(start) * _PRIME
    mixed = (mixed ^ (mixed >> np.uint64(29)) ^ np.uint64(m)) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(32)) ^ np.uint64(adjusts + 1)) * _PRIME
    mixed ^= mixed >> np.uint64(29)
    return np.int64(mixed & np.uint64(slots - 1))  # type: ignore[return-value]


@compiled
def find_window(index: Ints, windows: Matrix, m: int, start: int, adjusts: int) -> int:
    """The open window of a machine that begins at `start`, or its adjustment of `adjusts` there; NONE without one."""
    slot = slot_of(m, start, adjusts, len(index))
    while index[slot] != NONE:
        w = index[slot]
        if windows[w, t.START] == start and windows[w, t.WINDOW_MACHINE] == m and windows[w, t.ADJUSTS] == adjusts:
            return w
        slot = (slot + 1) & (len(index) - 1)
    return NONE


@compiled
def put_window(index: Ints, windows: Matrix, w: int) -> None:
    """Puts a window into the table, which must have room."""
    slot = slot_of(windows[w, t.WINDOW_MACHINE], windows[w, t.START], windows[w, t.ADJUSTS], len(index))
    while index[slot] != NONE:
        slot = (slot + 1) & (len(index) - 1)
    index[slot] = w


@compiled
def put_windows(index: Ints, windows: Matrix, count: int) -> None:
    """Puts all open windows of the first `count` lines into a table emptied before."""
    for k in range(len(index)):
        index[k] = NONE
    for w in range(count):
        if windows[w, t.START] != NONE:
            put_window(index, windows, w)


@compiled
def open_window(index: Ints, windows: Matrix, clock: Ints, m: int, start: int, adjusts: int) -> int:
    """That window, opened if it isn't open."""
    w = find_window(index, windows, m, start, adjusts)
    if w != NONE:
        return w
    w = clock[t.FREE_WINDOW]
    if w != NONE:
        clock[t.FREE_WINDOW] = windows[w, t.NEXT_FREE]
    else:
        w = clock[t.WINDOWS_USED]
        clock[t.WINDOWS_USED] += 1
    for k in range(t.WINDOW_COLUMNS):
        windows[w, k] = 0
    windows[w, t.START], windows[w, t.WINDOW_MACHINE], windows[w, t.ADJUSTS] = start, m, adjusts
    windows[w, t.FIRST_OFFSET_OF] = windows[w, t.LAST_OFFSET_OF] = NONE
    windows[w, t.TRUST], windows[w, t.FIRST_LINE] = HARDWARE_BACKED, NONE
    put_window(index, windows, w)
    clock[t.WINDOWS_OPEN] += 1
    return w


@compiled
def note_offset(windows: Matrix, w: int, offset: int) -> None:
    """Notes that something of the record at `offset` lies here; offsets ascend."""
    if windows[w, t.FIRST_OFFSET_OF] == NONE:
        windows[w, t.FIRST_OFFSET_OF] = offset
    windows[w, t.LAST_OFFSET_OF] = offset


@compiled
def find_line(tables: Tables, w: int, name: int, version: int, price: int, per: int) -> int:
    """The line of a window with this key, or NONE; also of no window."""
    if w == NONE:
        return NONE
    lines = tables[t.LINES]
    k = tables[t.WINDOWS][w, t.FIRST_LINE]
    while k != NONE and not (
        lines[k, t.LINE_NAME] == name
        and lines[k, t.LINE_VERSION] == version
        and lines[k, t.LINE_PRICE] == price
        and lines[k, t.LINE_PER] == per
    ):
        k = lines[k, t.LINE_NEXT]
    return k


@compiled
def can_bill(lines: Matrix, k: int, usage: int, price: int, per: int) -> bool:
    """Whether line `k` (NONE: a new one) can take more usage: usage and worth stay within 2^53 (rule 21)."""
    total = usage + (0 if k == NONE else lines[k, t.LINE_USAGE])
    if abs(total) > COUNT_MAX:
        return False
    high, low = multiply(abs(total), abs(price))
    limit_high, limit = multiply(COUNT_MAX, max(per, 1))
    return not is_above(high, low, limit_high, limit)


@compiled
def bill(
    tables: Tables, clock: Ints, w: int, k: int, name: int, version: int, price: int, per: int, usage: int
) -> None:
    """Adds usage to line `k`, or to a new line if that is NONE."""
    windows, lines = tables[t.WINDOWS], tables[t.LINES]
    if k == NONE:
        k = clock[t.FREE_LINE]
        if k != NONE:
            clock[t.FREE_LINE] = lines[k, t.LINE_NEXT]
        else:
            k = clock[t.LINES_USED]
            clock[t.LINES_USED] += 1
        lines[k, t.LINE_NAME], lines[k, t.LINE_VERSION] = name, version
        lines[k, t.LINE_PRICE], lines[k, t.LINE_PER], lines[k, t.LINE_USAGE] = price, per, 0
        lines[k, t.LINE_NEXT] = windows[w, t.FIRST_LINE]
        windows[w, t.FIRST_LINE] = k
        windows[w, t.LINE_COUNT] += 1
    lines[k, t.LINE_USAGE] += usage


@compiled
def put_back(tables: Tables, index: Ints, clock: Ints, keys: Matrix, ints: Matrix) -> None:
    """Opens windows as they were written: (machine, start, adjusts) of each, and its integers from READINGS on."""
    for k in range(len(keys)):
        w = open_window(index, tables[t.WINDOWS], clock, keys[k, 0], keys[k, 1], keys[k, 2])
        for column in range(ints.shape[1]):
            tables[t.WINDOWS][w, t.READINGS + column] = ints[k, column]


@compiled
def put_lines_back(tables: Tables, index: Ints, clock: Ints, keys: Matrix, lines: Matrix) -> None:
    """Lines of open windows as they were written: the window's key, then name, version, price, per and usage."""
    for k in range(len(keys)):
        w = find_window(index, tables[t.WINDOWS], keys[k, 0], keys[k, 1], keys[k, 2])
        bill(tables, clock, w, NONE, lines[k, 0], lines[k, 1], lines[k, 2], lines[k, 3], lines[k, 4])


@compiled
def touch(tables: Tables, clock: Ints, kind: int, line: int) -> None:
    """Notes in the list `kind` of TOUCHED that a line changed since the state was last written."""
    things, flag, length = tables[t.TOUCHES[kind, 0]], t.TOUCHES[kind, 1], t.METERS_TOUCHED + kind
    if things[line, flag] == 0:
        things[line, flag] = 1
        tables[t.TOUCHED][clock[length], kind] = line
        clock[length] += 1
