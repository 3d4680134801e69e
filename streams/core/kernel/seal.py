"""Windows seal: their lines, amounts and carries, in columns; then they are given back (rules 6, 21, 22 and 26).

usage × price × (3,600,000 / per), summed over the lines, + carry in = gross × 3,600,000 + carry out
"""

from schemas.units import CARRY_BASE
from schemas.window import flag_bits
from streams.core.kernel import sealed as s
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.price import offset_at, registered_meter, version_at
from streams.core.kernel.tables import Tables, Texts
from streams.core.kernel.wide import divide_floor, fits, minus, multiply, negated, pair, plain, plus, scale
from streams.core.kernel.windows import put_windows, touch

EQUIVOCATION = flag_bits(["equivocation"])
WORTH_MAX = 1 << 32
"""The highest high part of usage × price that `amount_of` takes. Rule 21 keeps it below 2^13."""


@compiled
def compare_bytes(one: Bytes, at: int, size: int, other: Bytes, other_at: int, other_size: int) -> int:
    """Below 0 where the first text comes first, 0 where they are equal; texts are in the order of their bytes."""
    for k in range(min(size, other_size)):
        difference = int(one[at + k]) - int(other[other_at + k])
        if difference != 0:
            return difference
    return size - other_size


@compiled
def is_before(names: Bytes, machines: Matrix, keys: Matrix, a: int, b: int) -> bool:
    """Whether window `a` comes before window `b`: by the ids of their machines, start, what they adjust."""
    m, n = keys[t.WINDOW_MACHINE, a], keys[t.WINDOW_MACHINE, b]
    if m != n:
        at, size = machines[m, t.NAME_AT], machines[m, t.NAME_LEN]
        return compare_bytes(names, at, size, names, machines[n, t.NAME_AT], machines[n, t.NAME_LEN]) < 0
    if keys[t.START, a] != keys[t.START, b]:
        return keys[t.START, a] < keys[t.START, b]
    return keys[t.ADJUSTS, a] < keys[t.ADJUSTS, b]


@compiled
def sort_windows(names: Bytes, machines: Matrix, keys: Matrix, order: Ints, spare: Ints) -> None:
    """Sorts `order`, the places of all windows in `keys` (start, machine, what it adjusts): a merge sort."""
    count, width = len(order), 1
    while width < count:
        for low in range(0, count, 2 * width):
            a, middle, end = low, min(low + width, count), min(low + 2 * width, count)
            b = middle
            for k in range(low, end):
                if a < middle and (b == end or not is_before(names, machines, keys, order[b], order[a])):
                    spare[k] = order[a]
                    a += 1
                else:
                    spare[k] = order[b]
                    b += 1
        for k in range(count):
            order[k] = spare[k]
        width *= 2


@compiled
def is_line_before(lines: Matrix, words: Texts, a: int, b: int) -> bool:
    """Whether line `a` comes before line `b` of a window: by meter, version, price, per."""
    one, other = lines[a, t.LINE_NAME], lines[b, t.LINE_NAME]
    if one != other:
        size, other_size = words[one, t.TEXT_MAX], words[other, t.TEXT_MAX]
        for k in range(min(size, other_size)):
            if words[one, k] != words[other, k]:
                return words[one, k] < words[other, k]
        return size < other_size
    for column in (t.LINE_VERSION, t.LINE_PRICE, t.LINE_PER):
        if lines[a, column] != lines[b, column]:
            return lines[a, column] < lines[b, column]
    return False


@compiled
def sort_lines(lines: Matrix, words: Texts, first: int, order: Ints) -> int:
    """The lines of a window from `first` on, sorted, into `order`; returns how many there are."""
    count, k = 0, first
    while k != NONE:
        place = count
        while place > 0 and is_line_before(lines, words, k, order[place - 1]):
            order[place] = order[place - 1]
            place -= 1
        order[place] = k
        count += 1
        k = lines[k, t.LINE_NEXT]
    return count


@compiled
def unit_of(tables: Tables, m: int, name: int) -> int:
    """The unit of a machine's meter, a word: in all versions that have it, it is one (rule 23)."""
    versions, term_meters = tables[t.VERSIONS], tables[t.TERM_METERS]
    version = tables[t.MACHINES][m, t.LAST_VERSION]
    g = NONE
    while g == NONE:
        g = registered_meter(tables[t.TERMS], term_meters, versions[version, t.VERSION_TERMS], name)
        version = versions[version, t.VERSION_BEFORE]
    return term_meters[g, t.TM_UNIT]


@compiled
def amount_of(usage: int, price: int, per: int, carry: int) -> tuple[bool, int, int]:
    """Rule 21: (whether it fits 64 bits, amount in micros, the carry that it leaves); a session counts as per 1."""
    high, low = multiply(abs(usage), abs(price))
    if high > WORTH_MAX:
        return False, 0, 0
    high, low = scale(high, low, CARRY_BASE // max(per, 1))
    if (usage < 0) != (price < 0):
        high, low = negated(high, low)
    high, low = plus(high, low, 0, carry)
    high, low, carry = divide_floor(high, low, CARRY_BASE)
    return fits(high), plain(high, low), carry


@compiled
def seal_lines(
    tables: Tables, words: Texts, w: int, i: int, windows: Matrix, sealed: Matrix, line: int, order: Ints
) -> int:
    """Rule 21: lines with usage, sorted, with their amounts; then the window's gross and what it leaves.

    Returns the place behind its last line, or NONE where an amount leaves 64 bits.
    """
    lines, carry, position = tables[t.LINES], windows[s.CARRY_IN, i], 0
    gross_high, gross = 0, 0
    for place in range(sort_lines(lines, words, tables[t.WINDOWS][w, t.FIRST_LINE], order)):
        k = order[place]
        usage, price, per = lines[k, t.LINE_USAGE], lines[k, t.LINE_PRICE], lines[k, t.LINE_PER]
        if usage == 0:
            continue
        is_fit, amount, carry = amount_of(usage, price, per, carry)
        if not is_fit:
            return NONE
        high, low = pair(amount)
        gross_high, gross = plus(gross_high, gross, high, low)
        sealed[s.WINDOW, line], sealed[s.POSITION, line] = i, position
        sealed[s.METER, line] = lines[k, t.LINE_NAME]
        sealed[s.UNIT, line] = unit_of(tables, windows[s.MACHINE, i], lines[k, t.LINE_NAME])
        sealed[s.LINE_VERSION, line], sealed[s.USAGE, line] = lines[k, t.LINE_VERSION], usage
        sealed[s.PRICE, line], sealed[s.PER, line], sealed[s.AMOUNT, line] = price, per, amount
        line, position = line + 1, position + 1
    net_high, net = pair(windows[s.EXPENSES, i])
    net_high, net = minus(gross_high, gross, net_high, net)
    less_high, less = pair(windows[s.UNCOLLECTED, i])
    net_high, net = minus(net_high, net, less_high, less)
    windows[s.GROSS, i], windows[s.NET, i] = plain(gross_high, gross), plain(net_high, net)
    windows[s.CARRY_OUT, i], windows[s.LINES_END, i] = carry, line
    return line if fits(gross_high) and fits(net_high) else NONE


@compiled
def seal_windows(
    tables: Tables, words: Texts, clock: Ints, carries: Ints, numbers: Ints, rare: Matrix, windows: Matrix,
    sealed: Matrix, order: Ints,
) -> int:  # fmt: skip
    """Fills the columns of these windows, which are in order, and of their lines (`sealed`), and moves the carries.

    `order` has room for the lines of one window. Returns NONE, or the place of a window whose amounts leave 64 bits.
    """
    machines, versions, open_windows = tables[t.MACHINES], tables[t.VERSIONS], tables[t.WINDOWS]
    line, r = 0, 0
    for i in range(len(numbers)):
        w = numbers[i]
        m, start, adjusts = open_windows[w, t.WINDOW_MACHINE], open_windows[w, t.START], open_windows[w, t.ADJUSTS]
        moment_ms = start if adjusts == NONE else adjusts  # Rule 22: of what it adjusts.
        version = version_at(versions, machines[m, t.LAST_VERSION], moment_ms)
        carrier = versions[version, t.CARRY_VERSION]
        windows[s.MACHINE, i], windows[s.VERSION, i] = m, version
        windows[s.START, i], windows[s.END, i], windows[s.ADJUSTS, i] = start, start + clock[t.WINDOW_MS], adjusts
        windows[s.UTC_OFFSET, i] = offset_at(tables, versions[version, t.VERSION_TERMS], moment_ms)
        windows[s.VERSION_NUMBER, i] = versions[version, t.VERSION_NO]
        for k in range(t.TRUST + 1 - t.READINGS):
            windows[s.READINGS + k, i] = open_windows[w, t.READINGS + k]
        if machines[m, t.IS_MARKED] == 1:
            windows[s.FLAGS, i] |= EQUIVOCATION
        windows[s.EXPENSES, i] = windows[s.UNCOLLECTED, i] = windows[s.COLLECTED, i] = 0
        if r < len(rare) and rare[r, s.RARE_WINDOW] == i:
            windows[s.EXPENSES, i], windows[s.COLLECTED, i] = rare[r, s.RARE_EXPENSES], rare[r, s.RARE_COLLECTED]
            windows[s.UNCOLLECTED, i] = rare[r, s.RARE_UNCOLLECTED]
            r += 1
        windows[s.CARRY_IN, i] = max(carries[carrier], 0)
        line = seal_lines(tables, words, w, i, windows, sealed, line, order)
        if line == NONE:
            return i
        carries[carrier] = windows[s.CARRY_OUT, i]
    return NONE


@compiled
def touch_carries(tables: Tables, clock: Ints, windows: Matrix) -> None:
    """Notes that the carries of sealed windows changed; TOUCHED has room for as many."""
    for i in range(windows.shape[1]):
        touch(tables, clock, t.TOUCHED_CARRY, tables[t.VERSIONS][windows[s.VERSION, i], t.CARRY_VERSION])


@compiled
def free_windows(tables: Tables, index: Ints, clock: Ints, numbers: Ints) -> None:
    """Gives windows and their lines back, and makes the table of those that are left anew."""
    windows, lines = tables[t.WINDOWS], tables[t.LINES]
    for i in range(len(numbers)):
        w = numbers[i]
        k = windows[w, t.FIRST_LINE]
        while k != NONE:
            after = lines[k, t.LINE_NEXT]
            lines[k, t.LINE_NEXT] = clock[t.FREE_LINE]
            clock[t.FREE_LINE] = k
            k = after
        windows[w, t.START] = NONE
        windows[w, t.NEXT_FREE] = clock[t.FREE_WINDOW]
        clock[t.FREE_WINDOW] = w
    clock[t.WINDOWS_OPEN] -= len(numbers)
    put_windows(index, windows, clock[t.WINDOWS_USED])
