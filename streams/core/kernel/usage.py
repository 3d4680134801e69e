"""Usage from meter values: registers that continue, reset or are suspect, and quantities (rules 11 to 17).

A judge says what an accepted row would leave in `after`, a line of AFTER columns: nothing else changes before a row is
accepted, but that a refused register becomes the suspect.
"""

from schemas.units import DAY_MS, ELAPSED_MAX_MS, HOUR_MS
from schemas.window import flag_bits
from streams.core.kernel import columns as c
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix, code_of
from streams.core.kernel.compiled import compiled
from streams.core.kernel.wide import divide, is_above, minus, multiply, pair, plus
from streams.core.plausible_usage import SLACK_MS

TOO_HIGH, TOO_LOW = code_of("too_high"), code_of("too_low")
BEHIND, CLOCK_FLAG = flag_bits(["behind"]), flag_bits(["clock"])
REBASELINED, RESET = flag_bits(["rebaselined"]), flag_bits(["reset"])

AFTER_FROM = t.BASELINE
AFTER_COLUMNS = t.NEWEST + 1 - t.BASELINE
"""What usage may change of a meter: the columns from BASELINE to NEWEST. `after` holds them in their order."""

# Behind these in `after`: what a row's evidence says (rule 42), and whether what it adds is proven by it
(OWN_PROVEN, BEGIN, IS_PROVEN) = range(AFTER_COLUMNS, AFTER_COLUMNS + 3)
AFTER_AND_PROOF = AFTER_COLUMNS + 3

BASE, SUS, DIS = 0, t.SUSPECT - t.BASELINE, t.DISPLACED - t.BASELINE
SLACK_HIGH, SLACK = t.SLACK_HIGH - t.BASELINE, t.SLACK - t.BASELINE
OLDEST, NEWEST = t.OLDEST - t.BASELINE, t.NEWEST - t.BASELINE


@compiled
def time_needed(usage: int, capacity: int) -> tuple[int, int]:
    """How long a usage takes at 135 % of the capacity, in ms, rounded up: a pair of `wide` (rule 15)."""
    high, low = multiply(usage, 8_000_000)
    high, low, rest = divide(high, low, 3 * capacity)
    return plus(high, low, 0, 1) if rest > 0 else (high, low)


@compiled
def slack_after(after: Ints, usage: int, elapsed: int, registered: Matrix, g: int) -> tuple[bool, int, int]:
    """Whether a usage is plausible, and the slack that it leaves, unbounded, as a pair (rule 15)."""
    need_high, need = time_needed(usage, registered[g, t.TM_CAPACITY])
    elapsed_high, elapsed_low = pair(elapsed)
    high, low = plus(after[SLACK_HIGH], after[SLACK], elapsed_high, elapsed_low)
    high, low = minus(high, low, need_high, need)
    with_burst, _ = plus(high, low, registered[g, t.TM_BURST_HIGH], registered[g, t.TM_BURST])
    return usage == 0 or with_burst >= 0, high, low


@compiled
def at_most(high: int, low: int, limit: int) -> tuple[int, int]:
    """The lesser of a pair and a limit."""
    if is_above(high, low, 0, limit):
        return 0, limit
    return high, low


@compiled
def is_behind(after: Ints, boot: int, seq: int, observed_at: int) -> bool:
    """Rule 12: before the baseline by boot and number; an opening register has neither, and comes before by time."""
    base_boot = after[BASE + t.STAND_BOOT]
    if base_boot == NONE:
        return observed_at < after[BASE + t.STAND_TIME]
    return boot < base_boot or (boot == base_boot and seq < after[BASE + t.STAND_SEQ])


@compiled
def stand(after: Ints, place: int, boot: int, seq: int, value: int, time_ms: int, seen_ms: int) -> None:
    """Writes the standing of the row at hand."""
    after[place + t.STAND_BOOT] = boot
    after[place + t.STAND_SEQ] = seq
    after[place + t.STAND_VALUE] = value
    after[place + t.STAND_TIME] = time_ms
    after[place + t.STAND_SEEN] = seen_ms
    after[place + t.STAND_PROVEN] = after[OWN_PROVEN]


@compiled
def leave(after: Ints, place: int) -> None:
    """A standing is no more."""
    for k in range(t.STANDING_COLUMNS):
        after[place + k] = NONE


@compiled
def keeps_displaced(after: Ints, observed_at: int) -> bool:
    """Rule 16: what a suspect leaves behind is remembered, unless a higher one is."""
    return (
        after[DIS + t.STAND_VALUE] > after[BASE + t.STAND_VALUE]
        and observed_at - after[DIS + t.STAND_TIME] <= ELAPSED_MAX_MS
    )


@compiled
def is_after(after: Ints, boot: int, seq: int) -> bool:
    """Whether a row comes after the suspect."""
    suspect_boot = after[SUS + t.STAND_BOOT]
    return boot > suspect_boot or (boot == suspect_boot and seq > after[SUS + t.STAND_SEQ])


@compiled
def usage_from(origin: int, value: int, modulus: int) -> int:
    """The usage since an origin, also over a roll-over; NONE if there is none."""
    if origin <= value:
        return value - origin
    if modulus == NONE or origin >= modulus:
        return NONE
    usage = value + modulus - origin
    return usage if 2 * usage <= modulus else NONE


@compiled
def elapsed_since(after: Ints, place: int, observed_at: int, now_ms: int) -> int:
    """Rule 15: the time since an origin; by stream time, up to an hour, where the meter's clock doesn't move on."""
    time_ms = after[place + t.STAND_TIME]
    if observed_at > time_ms:
        return min(observed_at - time_ms, ELAPSED_MAX_MS)
    return min(HOUR_MS, now_ms - after[place + t.STAND_SEEN])


@compiled
def best_origin(
    registered: Matrix, g: int, rows: Matrix, r: int, now_ms: int, after: Ints
) -> tuple[int, int, int, int, int]:
    """(place of the standing, usage, elapsed, slack left as a pair) of the least plausible usage, or NONE (rule 16)."""
    value, observed_at = rows[r, c.VALUE], rows[r, c.OBSERVED_AT]
    best, best_usage, best_elapsed, best_high, best_low = NONE, 0, 0, 0, 0
    for place in (BASE, SUS, DIS):
        origin = after[place + t.STAND_VALUE]
        if origin == NONE:
            continue
        if place == SUS and not is_after(after, rows[r, c.BOOT], rows[r, c.SEQ]):
            continue
        if place == DIS and observed_at - after[DIS + t.STAND_TIME] > ELAPSED_MAX_MS:
            continue
        usage = usage_from(origin, value, registered[g, t.TM_MODULUS])
        if usage == NONE or (best != NONE and usage >= best_usage):
            continue
        elapsed = elapsed_since(after, place, observed_at, now_ms)
        is_plausible, high, low = slack_after(after, usage, elapsed, registered, g)
        if is_plausible:
            best, best_usage, best_elapsed, best_high, best_low = place, usage, elapsed, high, low
    return best, best_usage, best_elapsed, best_high, best_low


@compiled
def judge_register(
    meters: Matrix, m: int, registered: Matrix, g: int, rows: Matrix, r: int, now_ms: int, after: Ints
) -> tuple[int, int, int]:
    """As `judge_usage`, for registers."""
    value, observed_at, modulus = rows[r, c.VALUE], rows[r, c.OBSERVED_AT], registered[g, t.TM_MODULUS]
    boot, seq = rows[r, c.BOOT], rows[r, c.SEQ]
    if modulus != NONE and value >= modulus:  # Rule 11
        return TOO_HIGH, 0, 0
    base_value, base_boot = after[BASE + t.STAND_VALUE], after[BASE + t.STAND_BOOT]
    if boot != meters[m, t.CURRENT] or (base_value != NONE and is_behind(after, boot, seq, observed_at)):  # Rule 12
        return c.ACCEPTED, 0, BEHIND
    if base_value == NONE:  # A meter's first register is its baseline and bills nothing.
        stand(after, BASE, boot, seq, value, observed_at, now_ms)
        return c.ACCEPTED, 0, 0
    time_ms = max(observed_at, after[BASE + t.STAND_TIME])
    if NONE < base_boot < boot and value < base_value:  # Rule 14. An opening register has no boot (13).
        stand(after, BASE, boot, seq, value, time_ms, now_ms)
        leave(after, SUS)
        leave(after, DIS)
        return c.ACCEPTED, 0, RESET
    best, usage, elapsed, high, low = best_origin(registered, g, rows, r, now_ms, after)
    if best == NONE:  # Rule 16: no origin is plausible.
        stand(after, SUS, boot, seq, value, time_ms, now_ms)
        for k in range(t.STANDING_COLUMNS):
            meters[m, t.SUSPECT + k] = after[SUS + k]
        return (TOO_LOW if value < base_value else TOO_HIGH), 0, 0
    is_origin_proven = after[best + t.STAND_PROVEN] == 1 or after[best + t.STAND_VALUE] == after[BEGIN]
    after[IS_PROVEN] = after[OWN_PROVEN] if usage == 0 or is_origin_proven else 0
    origin_time = after[best + t.STAND_TIME]
    flags = CLOCK_FLAG if observed_at < origin_time else 0
    if best != BASE:
        flags |= REBASELINED
        if best == DIS or not keeps_displaced(after, observed_at):
            leave(after, DIS)
        if best == SUS and after[DIS + t.STAND_VALUE] == NONE:
            for k in range(t.STANDING_COLUMNS):
                after[DIS + k] = after[BASE + k]
    leave(after, SUS)
    stand(after, BASE, boot, seq, value, max(time_ms, origin_time + elapsed), now_ms)
    after[SLACK_HIGH], after[SLACK] = at_most(high, low, SLACK_MS)
    return c.ACCEPTED, usage, flags


@compiled
def judge_quantity(registered: Matrix, g: int, rows: Matrix, r: int, after: Ints) -> tuple[int, int, int]:
    """As `judge_usage`, for quantities: each has the time by which it widens the span of those accepted (rule 17)."""
    at_ms, oldest, newest = rows[r, c.OBSERVED_AT], after[OLDEST], after[NEWEST]
    elapsed = DAY_MS
    if newest == NONE:
        oldest, newest = at_ms, at_ms
    else:
        wider = max(newest, at_ms) - min(oldest, at_ms)
        elapsed = min(wider - (newest - oldest), ELAPSED_MAX_MS)
        oldest, newest = min(oldest, at_ms), max(newest, at_ms)
    is_plausible, high, low = slack_after(after, rows[r, c.VALUE], elapsed, registered, g)
    if not is_plausible:
        return TOO_HIGH, 0, 0
    after[SLACK_HIGH], after[SLACK] = at_most(high, low, ELAPSED_MAX_MS)
    after[OLDEST], after[NEWEST] = oldest, newest
    return c.ACCEPTED, rows[r, c.VALUE], 0


@compiled
def judge_usage(
    meters: Matrix, m: int, registered: Matrix, g: int, rows: Matrix, r: int, now_ms: int, after: Ints
) -> tuple[int, int, int]:
    """(verdict, usage, flags) of a new row; what it leaves is in `after`. Line `g` of `registered` is the meter's."""
    for k in range(AFTER_COLUMNS):
        after[k] = meters[m, AFTER_FROM + k]
    after[IS_PROVEN] = after[OWN_PROVEN]
    if rows[r, c.KIND] == c.REGISTER:
        return judge_register(meters, m, registered, g, rows, r, now_ms, after)
    if rows[r, c.KIND] == c.QUANTITY:
        return judge_quantity(registered, g, rows, r, after)
    return c.ACCEPTED, 0, 0
