"""The price of usage at a moment: the terms of OCPI 2.2.1, looked up in integers (rules 18 to 20)."""

from typing import NamedTuple

from msgspec import UNSET

from schemas.parsing import day_number
from schemas.registration import Element, Restrictions, Tariff
from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS

DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
EPOCH_WEEKDAY = DAYS.index("THURSDAY")
EVERY_DAY = 2 ** len(DAYS) - 1
MINUTES_A_DAY = DAY_MS // MINUTE_MS
FAR_DAY = 2**60
"""Beyond any day."""

PER_SESSION = 0
"""The `per` of a line that counts sessions."""


class Price(NamedTuple):
    """Micros for every `per` units, or for each session (PER_SESSION)."""

    micros: int
    per: int


UNPRICED = Price(0, 1)


class Hours(NamedTuple):
    """Restrictions in integers: minutes of the day, days since 1970, a bit for each weekday from Monday."""

    start_minute: int
    end_minute: int
    start_day: int
    end_day: int
    weekdays: int

    @classmethod
    def of(cls, words: Restrictions) -> "Hours":
        """What they say; what they leave out restricts nothing."""
        return cls(
            _minute(words.start_time) if words.start_time is not UNSET else 0,
            _minute(words.end_time) if words.end_time is not UNSET else MINUTES_A_DAY,
            day_number(words.start_date) if words.start_date is not UNSET else -FAR_DAY,
            day_number(words.end_date) if words.end_date is not UNSET else FAR_DAY,
            sum(1 << DAYS.index(day) for day in set(words.day_of_week)) or EVERY_DAY,
        )

    def holds(self, day: int, minute: int) -> bool:
        """Starts are inclusive, ends exclusive; an end before its start runs over midnight; equal times: all day."""
        start, end = self.start_minute, self.end_minute
        if start < end:
            in_time = start <= minute < end
        else:
            in_time = start == end or minute >= start or minute < end
        return in_time and self.start_day <= day < self.end_day and self.weekdays >> (day + EPOCH_WEEKDAY) % 7 & 1 == 1


class _Priced(NamedTuple):
    """An element: when it holds, and its first component of each kind for a meter."""

    when: Hours
    by_meter: dict[tuple[str, bool], Price]

    @classmethod
    def of(cls, element: Element) -> "_Priced":
        by_meter: dict[tuple[str, bool], Price] = {}
        for part in element.components:
            per = PER_SESSION if part.per is UNSET else part.per
            by_meter.setdefault((part.meter, part.per is UNSET), Price(part.price, per))
        return cls(Hours.of(element.restrictions), by_meter)


class Prices:
    """A tariff compiled for look-ups by meter and moment."""

    def __init__(self, tariff: Tariff) -> None:
        self._offsets = tariff.offsets
        self._elements = [_Priced.of(element) for element in tariff.elements]

    def of_usage(self, meter: str, moment_ms: int) -> Price:
        """The price of a meter's usage at a moment (epoch ms); UNPRICED if it has none."""
        return self._find(meter, False, moment_ms) or UNPRICED

    def of_session(self, meter: str, moment_ms: int) -> Price | None:
        """The price of a session that starts on a meter at a moment (epoch ms); None if it has none."""
        return self._find(meter, True, moment_ms)

    def utc_offset_s(self, moment_ms: int) -> int:
        """Seconds east of UTC at a moment (epoch ms): restrictions are in this local time."""
        return next(seconds for start_ms, seconds in reversed(self._offsets) if start_ms <= moment_ms)

    def _find(self, meter: str, per_session: bool, moment_ms: int) -> Price | None:
        local_ms = moment_ms + self.utc_offset_s(moment_ms) * SECOND_MS
        day, minute = local_ms // DAY_MS, local_ms % DAY_MS // MINUTE_MS
        for element in self._elements:
            price = element.by_meter.get((meter, per_session))
            if price is not None and element.when.holds(day, minute):
                return price
        return None


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])
