"""Which rows are new: boots, high water and holes of one meter (rules 7 and 8)."""

from streams.core.kernel import columns as c
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix, code_of
from streams.core.kernel.compiled import compiled
from streams.core.kernel.names import copy_text, is_text, put_text
from streams.core.kernel.tables import Texts

STALE_BOOT, BOOT_JUMP, SEQ_JUMP = code_of("stale_boot"), code_of("boot_jump"), code_of("seq_jump")
EQUIVOCATION, SEQ_REUSED, BELOW_FLOOR = code_of("equivocation"), code_of("seq_reused"), code_of("below_floor")

STEP_MAX = 2**20


@compiled
def text_of(meters: Matrix, m: int, side: int) -> int:
    """The text of the session at a boot's high water."""
    return meters[m, t.TEXT] + (0 if side == t.CURRENT else 1)


@compiled
def is_equal(meters: Matrix, texts: Texts, m: int, side: int, buffer: Bytes, rows: Matrix, r: int) -> bool:
    """Whether a row states what the one at high water did."""
    return (
        meters[m, side + t.BOOT_OBSERVED] == rows[r, c.OBSERVED_AT]
        and meters[m, side + t.BOOT_KIND] == rows[r, c.KIND]
        and meters[m, side + t.BOOT_VALUE] == rows[r, c.VALUE]
        and meters[m, side + t.BOOT_STARTED] == rows[r, c.STARTED_AT]
        and meters[m, side + t.BOOT_MARKS] == rows[r, c.MARKS]
        and (
            rows[r, c.SESSION_LEN] == 0
            or is_text(texts, text_of(meters, m, side), buffer, rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN])
        )
    )


@compiled
def begin(meters: Matrix, holes: Matrix, m: int, side: int, boot: int) -> None:
    """A boot of which nothing is known but its number. It keeps its line of HOLES."""
    for k in range(t.BOOT_HOLES):
        meters[m, side + k] = NONE
    meters[m, side + t.BOOT_NO] = boot
    meters[m, side + t.BOOT_MARKS] = 0
    meters[m, side + t.BOOT_FLOOR] = 0
    if meters[m, side + t.BOOT_HOLES] != NONE:
        holes[meters[m, side + t.BOOT_HOLES], t.HOLE_COUNT] = 0


@compiled
def boot_of(meters: Matrix, holes: Matrix, texts: Texts, m: int, boot: int, least_boot: int) -> tuple[int, int]:
    """ACCEPTED and the side of a row's boot, begun if it is a new one, or the reason why it is refused (rule 7)."""
    current, previous = meters[m, t.CURRENT], meters[m, t.PREVIOUS]
    if current == NONE:
        begin(meters, holes, m, t.CURRENT, boot)
        return c.ACCEPTED, t.CURRENT
    if boot == current:
        return c.ACCEPTED, t.CURRENT
    if boot > current:
        if boot - current > STEP_MAX:
            return BOOT_JUMP, t.CURRENT
        spare = meters[m, t.PREVIOUS + t.BOOT_HOLES]
        for k in range(t.BOOT_COLUMNS):
            meters[m, t.PREVIOUS + k] = meters[m, t.CURRENT + k]
        if meters[m, t.TEXT] != NONE:
            copy_text(texts, meters[m, t.TEXT], meters[m, t.TEXT] + 1)
        meters[m, t.CURRENT + t.BOOT_HOLES] = spare
        begin(meters, holes, m, t.CURRENT, boot)
        return c.ACCEPTED, t.CURRENT
    if boot == previous:
        return c.ACCEPTED, t.PREVIOUS
    # Below the current boot one more is kept: the highest seen, and none below a registered one.
    if boot < (least_boot if previous == NONE else previous):
        return STALE_BOOT, t.CURRENT
    begin(meters, holes, m, t.PREVIOUS, boot)
    return c.ACCEPTED, t.PREVIOUS


@compiled
def need_texts(meters: Matrix, clock: Ints, m: int) -> None:
    """Gives a meter its six texts: one that never names a session has none."""
    if meters[m, t.TEXT] == NONE:
        meters[m, t.TEXT] = clock[t.TEXTS_USED]
        clock[t.TEXTS_USED] += t.METER_TEXTS


@compiled
def drop_hole(holes: Matrix, h: int, k: int) -> None:
    """Removes hole number `k`."""
    last = holes[h, t.HOLE_COUNT] - 1
    for place in range(2 * k, 2 * last):
        holes[h, place] = holes[h, place + 2]
    holes[h, t.HOLE_COUNT] = last


@compiled
def keep_highest(meters: Matrix, holes: Matrix, m: int, side: int, h: int) -> None:
    """Of more than 16 holes the lowest goes: the floor is one above its end."""
    if holes[h, t.HOLE_COUNT] > t.HOLES_MAX:
        meters[m, side + t.BOOT_FLOOR] = holes[h, 1] + 1
        drop_hole(holes, h, 0)


@compiled
def add_hole(meters: Matrix, holes: Matrix, clock: Ints, m: int, side: int, first: int, last: int) -> None:
    """A hole above all others."""
    if meters[m, side + t.BOOT_HOLES] == NONE:
        meters[m, side + t.BOOT_HOLES] = clock[t.HOLES_USED]
        holes[clock[t.HOLES_USED], t.HOLE_COUNT] = 0
        clock[t.HOLES_USED] += 1
    h = meters[m, side + t.BOOT_HOLES]
    count = holes[h, t.HOLE_COUNT]
    holes[h, 2 * count], holes[h, 2 * count + 1] = first, last
    holes[h, t.HOLE_COUNT] = count + 1
    keep_highest(meters, holes, m, side, h)


@compiled
def raise_high_water(
    meters: Matrix, holes: Matrix, texts: Texts, clock: Ints, m: int, side: int, buffer: Bytes, rows: Matrix, r: int
) -> None:
    """The row is the highest of its boot: what is left out below it is a hole."""
    last, seq = meters[m, side + t.BOOT_SEQ], rows[r, c.SEQ]
    if seq > last + 1:
        add_hole(meters, holes, clock, m, side, last + 1, seq - 1)
    meters[m, side + t.BOOT_SEQ] = seq
    meters[m, side + t.BOOT_OBSERVED] = rows[r, c.OBSERVED_AT]
    meters[m, side + t.BOOT_KIND] = rows[r, c.KIND]
    meters[m, side + t.BOOT_VALUE] = rows[r, c.VALUE]
    meters[m, side + t.BOOT_STARTED] = rows[r, c.STARTED_AT]
    meters[m, side + t.BOOT_MARKS] = rows[r, c.MARKS]
    meters[m, side + t.BOOT_LATEST] = max(meters[m, side + t.BOOT_LATEST], rows[r, c.OBSERVED_AT])
    if rows[r, c.SESSION_LEN] > 0:
        need_texts(meters, clock, m)
        put_text(texts, text_of(meters, m, side), buffer, rows[r, c.SESSION_AT], rows[r, c.SESSION_LEN])


@compiled
def leave_hole(meters: Matrix, holes: Matrix, m: int, side: int, seq: int) -> bool:
    """Removes a number from its hole, which may split; False if it is in none."""
    h = meters[m, side + t.BOOT_HOLES]
    if h == NONE:
        return False
    for k in range(holes[h, t.HOLE_COUNT]):
        first, last = holes[h, 2 * k], holes[h, 2 * k + 1]
        if not first <= seq <= last:
            continue
        if first == last:
            drop_hole(holes, h, k)
        elif seq == first:
            holes[h, 2 * k] = seq + 1
        elif seq == last:
            holes[h, 2 * k + 1] = seq - 1
        else:
            count = holes[h, t.HOLE_COUNT]
            for place in range(2 * count - 1, 2 * k + 1, -1):
                holes[h, place + 2] = holes[h, place]
            holes[h, 2 * k + 1] = seq - 1
            holes[h, 2 * k + 2], holes[h, 2 * k + 3] = seq + 1, last
            holes[h, t.HOLE_COUNT] = count + 1
            keep_highest(meters, holes, m, side, h)
        return True
    return False


@compiled
def judge_identity(
    meters: Matrix,
    holes: Matrix,
    texts: Texts,
    clock: Ints,
    m: int,
    least_boot: int,
    buffer: Bytes,
    rows: Matrix,
    r: int,
) -> tuple[int, int]:
    """The verdict on a row's boot and number, and how many numbers a new row skips. A new row uses its number up."""
    verdict, side = boot_of(meters, holes, texts, m, rows[r, c.BOOT], least_boot)
    if verdict != c.ACCEPTED:
        return verdict, 0
    if meters[m, side + t.BOOT_SEQ] == NONE:  # All numbers under a boot's first are one hole, and none of them counts.
        raise_high_water(meters, holes, texts, clock, m, side, buffer, rows, r)
        return c.ACCEPTED, 0
    step = rows[r, c.SEQ] - meters[m, side + t.BOOT_SEQ]
    if step > STEP_MAX:
        return SEQ_JUMP, 0
    if step > 0:
        raise_high_water(meters, holes, texts, clock, m, side, buffer, rows, r)
        return c.ACCEPTED, step - 1
    if step == 0:
        return (c.DUPLICATE if is_equal(meters, texts, m, side, buffer, rows, r) else EQUIVOCATION), 0
    if rows[r, c.OBSERVED_AT] > meters[m, side + t.BOOT_LATEST]:  # These numbers began again.
        return SEQ_REUSED, 0
    if leave_hole(meters, holes, m, side, rows[r, c.SEQ]):
        return c.ACCEPTED, 0
    return (BELOW_FLOOR if rows[r, c.SEQ] < meters[m, side + t.BOOT_FLOOR] else c.DUPLICATE), 0
