"""The price of usage at a moment: the terms of OCPI 2.2.1, looked up in integers (rules 18 to 20)."""

from typing import NamedTuple

from msgspec import UNSET

from schemas.parsing import day_number
from schemas.registration import Element, Restrictions, Tariff
from schemas.units import DAY_MS, MINUTE_MS, SECOND_MS

DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
EPOCH_WEEKDAY = DAYS.index("THURSDAY")
MINUTES_A_DAY = DAY_MS // MINUTE_MS

FOREVER_MS = 2**62
"""Later than any moment on the wire."""

PER_SESSION = 0
"""The `per` of a line that counts sessions."""


class Price(NamedTuple):
    """Micros for every `per` units, or for each session (PER_SESSION)."""

    micros: int
    per: int


UNPRICED = Price(0, 1)


class _Window(NamedTuple):
    """Restrictions in integers: minutes of the day, days since 1970, weekdays from Monday."""

    start_minute: int
    end_minute: int
    start_day: int | None
    end_day: int | None
    weekdays: frozenset[int]

    @classmethod
    def of(cls, words: Restrictions) -> "_Window":
        return cls(
            _minute(words.start_time) if words.start_time is not UNSET else 0,
            _minute(words.end_time) if words.end_time is not UNSET else MINUTES_A_DAY,
            day_number(words.start_date) if words.start_date is not UNSET else None,
            day_number(words.end_date) if words.end_date is not UNSET else None,
            frozenset(DAYS.index(day) for day in words.day_of_week),
        )

    @property
    def is_always(self) -> bool:
        """Whether it restricts nothing."""
        return self == _ALWAYS

    def holds(self, day: int, minute: int) -> bool:
        """Starts are inclusive, ends exclusive; an end before its start runs over midnight; equal times: all day."""
        start, end = self.start_minute, self.end_minute
        if start < end:
            in_time = start <= minute < end
        else:
            in_time = start == end or minute >= start or minute < end
        return (
            in_time
            and (self.start_day is None or day >= self.start_day)
            and (self.end_day is None or day < self.end_day)
            and (not self.weekdays or (day + EPOCH_WEEKDAY) % 7 in self.weekdays)
        )


_ALWAYS = _Window(0, MINUTES_A_DAY, None, None, frozenset())


class _Priced(NamedTuple):
    """An element: when it holds, and its first component of each kind for a meter."""

    when: _Window
    by_meter: dict[tuple[str, bool], Price]

    @classmethod
    def of(cls, element: Element) -> "_Priced":
        by_meter: dict[tuple[str, bool], Price] = {}
        for part in element.components:
            per = PER_SESSION if part.per is UNSET else part.per
            by_meter.setdefault((part.meter, part.per is UNSET), Price(part.price, per))
        return cls(_Window.of(element.restrictions), by_meter)


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

    def has_session_price(self, meter: str) -> bool:
        """Whether the tariff has a per-session price for a meter at any time."""
        return any((meter, True) in element.by_meter for element in self._elements)

    def usage_span(self, meter: str, moment_ms: int) -> tuple[Price, int, int]:
        """The price of a meter's usage at a moment, and a span [from, to) in epoch ms around it in which it doesn't
        change.

        Within one offset and one local day, a restriction changes only at its start and at its end.
        """
        priced = [element for element in self._elements if (meter, False) in element.by_meter]
        if not priced or priced[0].when.is_always:
            return self.of_usage(meter, moment_ms), 0, FOREVER_MS
        index = next(index for index in reversed(range(len(self._offsets))) if self._offsets[index][0] <= moment_ms)
        offset_ms = self._offsets[index][1] * SECOND_MS
        local_ms = moment_ms + offset_ms
        day_ms, minute = local_ms - local_ms % DAY_MS, local_ms % DAY_MS // MINUTE_MS
        edges = {0, MINUTES_A_DAY}
        for element in priced:
            edges |= {element.when.start_minute, element.when.end_minute}
        from_ms = day_ms + max(edge for edge in edges if edge <= minute) * MINUTE_MS - offset_ms
        to_ms = day_ms + min(edge for edge in edges if edge > minute) * MINUTE_MS - offset_ms
        offset_to_ms = self._offsets[index + 1][0] if index + 1 < len(self._offsets) else FOREVER_MS
        return self.of_usage(meter, moment_ms), max(from_ms, self._offsets[index][0]), min(to_ms, offset_to_ms)

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
