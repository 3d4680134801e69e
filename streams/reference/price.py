"""What usage and starts of sessions cost: tariffs, calendars, fees (rules 18 to 20)."""

import math
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import NamedTuple

from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.reference.entries import Plain
from streams.reference.forms import DAYS
from streams.reference.usage import ELAPSED_MAX_MS

STARTS_KEPT = 4
STARTS_AT_ONCE = 10
EPOCH_DAY = date(1970, 1, 1).toordinal()
CENTURIES_DAYS = 146_097
"""The days of 400 years: the calendar repeats after them, weekdays too."""


class Charge(NamedTuple):
    """Units of one line; `per` is 0 for units that are sessions (rule 21)."""

    version: int
    price: int
    per: int
    units: int

    @property
    def worth(self) -> Fraction:
        """In micros."""
        return Fraction(self.units * self.price, self.per or 1)


@dataclass(frozen=True)
class Starts:
    """The sessions that a meter's rows started, as (session, session_started_at), and what its bucket holds."""

    last: tuple[tuple[str, int], ...] = ()
    highest: int | None = None
    slack: int | None = None


def component(version: Plain, meter: str, at: int, per_session: bool) -> Plain | None:
    """The component of one kind that prices a meter at a moment (rule 18)."""
    for element in version["tariff"]["elements"]:
        if applies(element.get("restrictions", {}), version["tariff"], at):
            for part in element["components"]:
                if part["meter"] == meter and ("per" not in part) == per_session:
                    return dict(part)
    return None


def applies(words: Plain, tariff: Plain, at: int) -> bool:
    """Whether restrictions hold at a moment, in the tariff's local time."""
    seconds = [offset for start, offset in tariff["offsets"] if start <= at][-1]
    day, time = divmod(at + seconds * 1_000, DAY_MS)
    clock = f"{time // HOUR_MS:02}:{time % HOUR_MS // MINUTE_MS:02}"
    start, end = words.get("start_time", "00:00"), words.get("end_time", "24:00")
    in_time = start <= clock < end if start < end else start == end or clock >= start or clock < end
    today = calendar_day(day)
    in_dates = day_of(words.get("start_date", "0001-01-01")) <= today
    in_dates = in_dates and ("end_date" not in words or today < day_of(words["end_date"]))
    weekdays = words.get("day_of_week") or DAYS
    return in_time and in_dates and DAYS[(day + 3) % 7] in weekdays  # the epoch began on a Thursday


def day_of(text: str) -> tuple[int, int, int]:
    """Year, month and day of a date."""
    found = date.fromisoformat(text)
    return found.year, found.month, found.day


def calendar_day(day: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from the epoch, also after the year 9999."""
    rounds = max(0, EPOCH_DAY + day - date.max.toordinal() + CENTURIES_DAYS - 1) // CENTURIES_DAYS
    found = date.fromordinal(EPOCH_DAY + day - rounds * CENTURIES_DAYS)
    return found.year + 400 * rounds, found.month, found.day


def charge_of_usage(version: Plain, meter: str, at: int, units: int) -> Charge:
    """What usage costs at a moment; without a price it is a line of price 0 (rule 21)."""
    part = component(version, meter, at, per_session=False) or {"price": 0, "per": 1}
    return Charge(version["version"], part["price"], part["per"], units)


def charge_of_starts(version: Plain, meter: str, at: int, units: int) -> Charge | None:
    """What starts of sessions at a moment cost; None without such a component (rules 20 and 25)."""
    part = component(version, meter, at, per_session=True)
    return None if part is None else Charge(version["version"], part["price"], 0, units)


class Started(NamedTuple):
    """What a row marked `session_start` does: the starts after it, what it owes, whether a fee was left out."""

    after: Starts
    fee: Charge | None = None
    is_flagged: bool = False


def start_of_session(starts: Starts, row: Plain, meter: Plain, fee: Charge | None) -> Started:
    """What an accepted row marked `session_start` starts (rule 20). `fee` is what a start would cost."""
    session, at = row["session"], row["session_started_at"]
    if any(name == session for name, _ in starts.last):
        return Started(starts)
    if at < row["observed_at"] - DAY_MS:
        return Started(starts, is_flagged=True)
    elapsed = 0 if starts.highest is None else min(ELAPSED_MAX_MS, max(0, at - starts.highest))
    last = (*starts.last, (session, at))[-STARTS_KEPT:]
    highest = at if starts.highest is None else max(at, starts.highest)
    if fee is None:
        return Started(Starts(last, highest, starts.slack))
    needed = math.ceil(Fraction(HOUR_MS, meter.get("starts_per_hour", 60)))
    most = STARTS_AT_ONCE * needed
    slack = most if starts.slack is None else min(most, starts.slack + elapsed)
    if slack < needed:
        return Started(Starts(last, highest, slack), is_flagged=True)
    return Started(Starts(last, highest, slack - needed), fee)
