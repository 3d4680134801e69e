"""How much a meter can have counted in a time: at most 135 % of its capacity (rules 15 and 25)."""

from schemas.units import ELAPSED_MAX_MS, HOUR_MS, MINUTE_MS

PLAUSIBLE_PERCENT = 135

SLACK_MS = MINUTE_MS
"""The largest slack of a register, and the one that every meter starts with."""


def time_needed_ms(usage: int, capacity_per_hour: int) -> int:
    """How long a usage takes at 135 % of the capacity, rounded up."""
    return -(-usage * HOUR_MS * 100 // (PLAUSIBLE_PERCENT * capacity_per_hour))


def correction_limit(capacity_per_hour: int) -> int:
    """The largest difference that a correction may make: 35 days at 135 % of the capacity."""
    return PLAUSIBLE_PERCENT * capacity_per_hour * (ELAPSED_MAX_MS // HOUR_MS) // 100
