"""Usage from meter values: registers that continue, reset or are suspect, and quantities (rules 11 to 17).

What a row would change is worked out first and applied only once it is accepted: nothing else may change then.
"""

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import UNSET

from schemas.reading import Reading
from schemas.registration import Meter
from schemas.reject import Reason
from schemas.units import DAY_MS, ELAPSED_MAX_MS, HOUR_MS
from schemas.window import Flag
from streams.core.meters import NONE, SLACK_MS, MeterState, Standing

PLAUSIBLE_PERCENT = 135
FIRST_QUANTITY_MS = DAY_MS
"""The time that a meter's first quantity may cover."""

STOPPED_CLOCK_MS = HOUR_MS
"""The longest time that counts by stream time, where a meter's clock stands or stepped back."""


class Usage(NamedTuple):
    """The usage that a row adds, in the meter's unit, with its flags; or the reason why it is refused.

    `after` is the meter's state that an accepted row leaves, without its boots; None if that stays.
    """

    usage: int = 0
    reason: Reason | None = None
    flags: tuple[Flag, ...] = ()
    after: "After | None" = None


class After(NamedTuple):
    """What `judge_usage` may change of a meter."""

    baseline: Standing | None
    suspect: Standing | None
    displaced: Standing | None
    slack_ms: int
    oldest_ms: int
    newest_ms: int

    @classmethod
    def of(cls, meter: MeterState) -> "After":
        """As it is now."""
        return cls(
            meter.baseline, meter.suspect, meter.displaced, meter.slack_ms, meter.oldest_ms, meter.newest_ms
        )  # fmt: skip

    def apply(self, meter: MeterState) -> None:
        """Makes it so."""
        meter.baseline, meter.suspect, meter.displaced, meter.slack_ms, meter.oldest_ms, meter.newest_ms = self


class _Origin(NamedTuple):
    """A standing that a register may continue from, with the usage and the time (ms) since then."""

    standing: Standing
    usage: int
    elapsed_ms: int
    slack_ms: int


def judge_usage(meter: MeterState, row: Reading, registered: Meter, now_ms: int) -> Usage:
    """The usage that a new row bills, by the kind of its value. A level bills nothing (rule 11).

    A suspect is noted at once; everything else changes with `Usage.after`. `now_ms` is stream time.
    """
    match row.kind:
        case "register":
            return _judge_register(meter, row, registered, now_ms)
        case "quantity":
            return _judge_quantity(meter, row, registered)
        case "level":
            return Usage()


def set_opening(meter: MeterState, value: int, at_ms: int, seen_ms: int) -> None:
    """Makes an opening register the baseline, without a boot, as of `at_ms` (rule 13)."""
    meter.baseline = Standing(NONE, NONE, value, at_ms, seen_ms)
    meter.suspect = meter.displaced = None
    meter.slack_ms = SLACK_MS


def time_needed_ms(usage: int, capacity_per_hour: int) -> int:
    """How long a usage takes at 135 % of the capacity, rounded up (rule 15)."""
    return -(-usage * HOUR_MS * 100 // (PLAUSIBLE_PERCENT * capacity_per_hour))


def correction_limit(capacity_per_hour: int) -> int:
    """The largest difference that a correction may make: 35 days at 135 % of the capacity (rule 25)."""
    return PLAUSIBLE_PERCENT * capacity_per_hour * (ELAPSED_MAX_MS // HOUR_MS) // 100


def _judge_register(meter: MeterState, row: Reading, registered: Meter, now_ms: int) -> Usage:
    if registered.modulus is not UNSET and row.value >= registered.modulus:  # Rule 11
        return Usage(reason="too_high")
    base = meter.baseline
    is_previous = meter.current is None or row.boot != meter.current.boot
    if is_previous or (base is not None and _is_behind(base, row)):  # Rule 12
        return Usage(flags=("behind",))
    after = After.of(meter)
    if base is None:  # A meter's first register is its baseline and bills nothing.
        here = Standing(row.boot, row.seq, row.value, row.observed_at, now_ms)
        return Usage(after=after._replace(baseline=here))
    here = Standing(row.boot, row.seq, row.value, max(row.observed_at, base.time_ms), now_ms)
    if NONE < base.boot < row.boot and row.value < base.value:  # Rule 14. An opening register has no boot (13).
        return Usage(flags=("reset",), after=after._replace(baseline=here, suspect=None, displaced=None))
    found = min(_plausible(meter, base, row, registered, now_ms), key=lambda origin: origin.usage, default=None)
    if found is None:  # Rule 16: no origin is plausible.
        meter.suspect = here
        return Usage(reason="too_low" if row.value < base.value else "too_high")
    flags: tuple[Flag, ...] = ("clock",) if row.observed_at < found.standing.time_ms else ()
    here = here._replace(time_ms=max(here.time_ms, found.standing.time_ms + found.elapsed_ms))
    after = after._replace(baseline=here, suspect=None, slack_ms=min(SLACK_MS, found.slack_ms))
    if found.standing is not base:
        flags += ("rebaselined",)
        after = after._replace(displaced=_displaced(meter, base, row) if found.standing is meter.suspect else None)
    return Usage(found.usage, flags=flags, after=after)


def _is_behind(base: Standing, row: Reading) -> bool:
    """Rule 12: before the baseline by boot and number; an opening register has neither, and comes before by time."""
    if base.boot == NONE:
        return row.observed_at < base.time_ms
    return (row.boot, row.seq) < (base.boot, base.seq)


def _plausible(
    meter: MeterState, base: Standing, row: Reading, registered: Meter, now_ms: int
) -> Iterator[_Origin]:  # fmt: skip
    """Rule 16: the plausible origins, in order."""
    suspect, displaced = meter.suspect, meter.displaced
    for standing in (base, suspect, displaced):
        if standing is None:
            continue
        if standing is suspect and (row.boot, row.seq) <= (suspect.boot, suspect.seq):
            continue
        if standing is displaced and not _is_recent(displaced, row):
            continue
        usage = _usage_from(standing.value, row.value, registered)
        if usage is None:
            continue
        elapsed_ms = _elapsed_ms(standing, row.observed_at, now_ms)
        slack_ms = _slack_after(meter, usage, elapsed_ms, registered)
        if slack_ms is not None:
            yield _Origin(standing, usage, elapsed_ms, slack_ms)


def _usage_from(origin: int, value: int, registered: Meter) -> int | None:
    """The usage since an origin, also over a roll-over; None if there is none."""
    if origin <= value:
        return value - origin
    modulus = registered.modulus
    if modulus is UNSET or origin >= modulus:
        return None
    usage = value + modulus - origin
    return usage if 2 * usage <= modulus else None


def _elapsed_ms(origin: Standing, observed_at: int, now_ms: int) -> int:
    """Rule 15: the time since an origin; by stream time, up to an hour, where the meter's clock doesn't move on."""
    if observed_at > origin.time_ms:
        return min(observed_at - origin.time_ms, ELAPSED_MAX_MS)
    return min(STOPPED_CLOCK_MS, now_ms - origin.seen_ms)


def _displaced(meter: MeterState, base: Standing, row: Reading) -> Standing:
    """Rule 16: what a suspect leaves behind is remembered, unless a higher one is."""
    kept = meter.displaced
    return kept if kept is not None and _is_recent(kept, row) and kept.value > base.value else base


def _is_recent(displaced: Standing, row: Reading) -> bool:
    return row.observed_at - displaced.time_ms <= ELAPSED_MAX_MS


def _judge_quantity(meter: MeterState, row: Reading, registered: Meter) -> Usage:
    """Rule 17: a quantity has the time by which it widens the span of those accepted."""
    at_ms = row.observed_at
    if meter.newest_ms == NONE:
        elapsed_ms, oldest_ms, newest_ms = FIRST_QUANTITY_MS, at_ms, at_ms
    else:
        oldest_ms, newest_ms = min(at_ms, meter.oldest_ms), max(at_ms, meter.newest_ms)
        elapsed_ms = min((newest_ms - oldest_ms) - (meter.newest_ms - meter.oldest_ms), ELAPSED_MAX_MS)
    slack_ms = _slack_after(meter, row.value, elapsed_ms, registered)
    if slack_ms is None:
        return Usage(reason="too_high")
    after = After.of(meter)._replace(
        slack_ms=min(ELAPSED_MAX_MS, slack_ms), oldest_ms=oldest_ms, newest_ms=newest_ms
    )  # fmt: skip
    return Usage(row.value, after=after)


def _slack_after(meter: MeterState, usage: int, elapsed_ms: int, registered: Meter) -> int | None:
    """The slack (ms) that a plausible usage leaves, unbounded, or None for an implausible one (rule 15)."""
    left_ms = meter.slack_ms + elapsed_ms - time_needed_ms(usage, registered.capacity_per_hour)
    is_plausible = usage == 0 or left_ms >= -time_needed_ms(registered.burst, registered.capacity_per_hour)
    return left_ms if is_plausible else None
