"""Usage from meter values: registers that continue, reset or are suspect, and quantities (rules 12 to 17)."""

from typing import NamedTuple

from schemas.reading import Reading
from schemas.reject import Reason
from schemas.units import DAY_MS, ELAPSED_MAX_MS, HOUR_MS
from schemas.window import Flag
from streams.core.meters import NONE, SLACK_MS, MeterState, Standing

PLAUSIBLE_PERCENT = 135
FIRST_QUANTITY_MS = DAY_MS
"""The time that a meter's first quantity may cover."""


class Usage(NamedTuple):
    """The usage that a row adds, in the meter's unit, or the reason why it is refused."""

    usage: int = 0
    reason: Reason | None = None
    flag: Flag | None = None


NOTHING = Usage()


def judge_usage(meter: MeterState, row: Reading, capacity_per_hour: int) -> Usage:
    """The usage that a new row bills, by the kind of its value. A level bills nothing (rule 11)."""
    match row.kind:
        case "register":
            return _judge_register(meter, row, capacity_per_hour)
        case "quantity":
            return _judge_quantity(meter, row, capacity_per_hour)
        case "level":
            return NOTHING


def set_opening(meter: MeterState, value: int, at_ms: int) -> None:
    """Makes an opening register the baseline, without a boot, as of `at_ms` (rule 13)."""
    meter.baseline = Standing(NONE, NONE, at_ms, value)
    meter.suspect = None
    meter.slack_ms = SLACK_MS


def time_needed_ms(usage: int, capacity_per_hour: int) -> int:
    """How long a usage takes at 135 % of the capacity, rounded up (rule 15)."""
    return -(-usage * HOUR_MS * 100 // (PLAUSIBLE_PERCENT * capacity_per_hour))


def correction_limit(capacity_per_hour: int) -> int:
    """The largest difference that a correction may make: 35 days at 135 % of the capacity (rule 25)."""
    return PLAUSIBLE_PERCENT * capacity_per_hour * (ELAPSED_MAX_MS // HOUR_MS) // 100


def _judge_register(meter: MeterState, row: Reading, capacity_per_hour: int) -> Usage:
    here = Standing(row.boot, row.seq, row.observed_at, row.value)
    base = meter.baseline
    if meter.current is None or row.boot != meter.current.boot:  # Rule 12: registers of the previous boot add nothing.
        return NOTHING
    if base is None:  # A meter's first register is its baseline and bills nothing.
        meter.baseline = here
        return NOTHING
    if here[:2] < base[:2] or here.observed_at < base.observed_at:  # Rule 12: out of order.
        return NOTHING
    if NONE < base.boot < here.boot and here.value < base.value:  # Rule 14. An opening register has no boot (13).
        meter.baseline, meter.suspect, meter.slack_ms = here, None, SLACK_MS
        return Usage(flag="reset")
    return _continue(meter, base, here, capacity_per_hour)


def _continue(meter: MeterState, base: Standing, here: Standing, capacity_per_hour: int) -> Usage:
    """Rule 16: from the baseline or from the suspect, the higher that isn't above the register and is plausible."""
    origins = [base]
    suspect = meter.suspect
    if suspect is not None and here[:2] > suspect[:2] and here.observed_at > suspect.observed_at:
        origins.append(suspect)
    best: tuple[Standing, int] | None = None
    for origin in origins:
        if origin.value > here.value or (best is not None and origin.value <= best[0].value):
            continue
        elapsed_ms = min(here.observed_at - origin.observed_at, ELAPSED_MAX_MS)
        slack_ms = _slack_after(meter, here.value - origin.value, elapsed_ms, capacity_per_hour)
        if slack_ms is not None:
            best = origin, slack_ms
    if best is None:
        meter.suspect = here
        return Usage(reason="too_low" if here.value < base.value else "too_high")
    origin, meter.slack_ms = best
    meter.baseline, meter.suspect = here, None
    return Usage(here.value - origin.value, flag="rebaselined" if origin is suspect else None)


def _judge_quantity(meter: MeterState, row: Reading, capacity_per_hour: int) -> Usage:
    """Rule 17. The newest quantity is the one observed last."""
    elapsed_ms = FIRST_QUANTITY_MS
    if meter.quantity_at != NONE:
        elapsed_ms = min(abs(row.observed_at - meter.quantity_at), ELAPSED_MAX_MS)
    slack_ms = _slack_after(meter, row.value, elapsed_ms, capacity_per_hour)
    if slack_ms is None:
        return Usage(reason="too_high")
    meter.slack_ms = slack_ms
    meter.quantity_at = max(meter.quantity_at, row.observed_at)
    return Usage(row.value)


def _slack_after(meter: MeterState, usage: int, elapsed_ms: int, capacity_per_hour: int) -> int | None:
    """The slack (ms) that a plausible usage leaves, or None for an implausible one (rule 15)."""
    left_ms = meter.slack_ms + elapsed_ms - time_needed_ms(usage, capacity_per_hour)
    return min(SLACK_MS, left_ms) if left_ms >= 0 else None
