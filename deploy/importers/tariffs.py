"""Writes tariffs: a zone's offsets go in by value, so that daylight saving needs no database in the stream.

The offsets come from the pinned `tzdata` package, never from the system's: one release, one tariff, on any machine.
"""

from datetime import UTC, datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from schemas.errors import InvalidInput
from schemas.registration import Component, DayOfWeek, Element, Restrictions, Tariff
from schemas.units import DAY_MS, SECOND_MS

YEARS = range(2010, 2040)
"""The years that a tariff covers by default; before and after, the first and last offset continue."""

WORKDAYS: tuple[DayOfWeek, ...] = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY")


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone of that name, as the pinned `tzdata` has it. Raises InvalidInput for an unknown one."""
    package = resources.files("tzdata")
    if name not in package.joinpath("zones").read_text().split():
        raise InvalidInput(f"there is no time zone {name!r}: use an IANA name such as America/Los_Angeles")
    with package.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def offsets_of(name: str, years: range = YEARS) -> tuple[tuple[int, int], ...]:
    """(from epoch ms, seconds east of UTC) of an IANA zone for whole UTC years; the first one holds from 0 on."""
    zone = zone_of(name)
    first, end = (_year_start_ms(year) for year in (years.start, years.stop))
    offsets = [(0, _offset_s(zone, first))]
    for day in range(first, end, DAY_MS):
        if _offset_s(zone, day + DAY_MS) != offsets[-1][1]:
            start = _change_ms(zone, day, day + DAY_MS)
            offsets.append((start, _offset_s(zone, start)))
    return tuple(offsets)


def flat(prices: dict[str, tuple[int, int]], zone: str = "UTC") -> Tariff:
    """One price for each meter, always: meter to (price in micros, per units)."""
    parts = tuple(Component(meter, price, per=per) for meter, (price, per) in prices.items())
    return Tariff((Element(parts),), offsets_of(zone) if zone != "UTC" else ((0, 0),))


def time_of_use(meters: tuple[str, ...], zone: str, peak_micros: int, base_micros: int, per: int) -> Tariff:
    """A peak price from 16:00 to 21:00 on working days of `zone`, else a base price; micros for every `per` units."""
    peak, base = (tuple(Component(meter, price, per=per) for meter in meters) for price in (peak_micros, base_micros))
    hours = Restrictions(start_time="16:00", end_time="21:00", day_of_week=WORKDAYS)
    return Tariff((Element(peak, hours), Element(base)), offsets_of(zone))


def _year_start_ms(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS


def _offset_s(zone: ZoneInfo, moment_ms: int) -> int:
    offset = datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).astimezone(zone).utcoffset()
    if offset is None:
        raise InvalidInput(f"the time zone {zone.key} has no offset at {moment_ms}: choose another")
    return offset.days * 86_400 + offset.seconds


def _change_ms(zone: ZoneInfo, before_ms: int, after_ms: int) -> int:
    """The first second of the new offset in (before, after], where exactly one change lies."""
    old = _offset_s(zone, before_ms)
    while after_ms - before_ms > SECOND_MS:
        middle = (before_ms + after_ms) // (2 * SECOND_MS) * SECOND_MS
        before_ms, after_ms = (middle, after_ms) if _offset_s(zone, middle) == old else (before_ms, middle)
    return after_ms
