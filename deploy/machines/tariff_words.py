"""Tariffs in words, both ways: "EUR 0.42 per kWh on weekdays 16:00-21:00" is one element of an OCPI tariff.

    [METER:] AMOUNT CURRENCY per [N] UNIT | session  [on DAYS] [HH:MM-HH:MM] [from DATE] [until DATE]

Amount and currency may stand in either order; a price below zero is a cost. Days are names, ranges of them (Mon-Fri),
`weekdays` or `weekends`; dates are days of the calendar, `until` exclusive. For each meter the first line that applies
sets the price.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from fractions import Fraction
from typing import get_args

from msgspec import UNSET, UnsetType

from deploy.machines.quantities import FACTORS, units_in
from schemas.errors import InvalidInput
from schemas.registration import Component, DayOfWeek, Element, Restrictions
from schemas.units import CARRY_BASE, COUNT_MAX

MICROS = 1_000_000
DAYS: tuple[DayOfWeek, ...] = get_args(DayOfWeek)
GROUPS = {"weekdays": DAYS[:5], "weekends": DAYS[5:]}

_NUMBER = r"[-\u2212]?[0-9]+(?:\.[0-9]+)?"
_LINE = re.compile(
    r"(?:(?P<meter>[A-Za-z0-9._:*-]+):\s+)?"
    rf"(?:(?P<amount>{_NUMBER})\s+(?P<currency>[A-Z]{{3}})|(?P<currency2>[A-Z]{{3}})\s+(?P<amount2>{_NUMBER}))"
    r"\s+(?:per|an?)\s+(?:(?P<count>[1-9][0-9]*)\s+)?(?P<unit>[A-Za-z]+)(?P<when>.*)"
)
_TIME = r"([01][0-9]|2[0-3]):([0-5][0-9])"


def element_of(line: str, currency: str, units: Mapping[str, str]) -> Element:
    """One line as an element. `units` are the units of the machine's meters by name. Raises InvalidInput."""
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise InvalidInput(
            f"'{line}' is not a price: write one such as {currency} 0.42 per kWh on weekdays 16:00-21:00"
        )
    named = match["currency"] or match["currency2"]
    if named != currency:
        raise InvalidInput(f"'{line}' is in {named}, the log counts {currency}: write prices in {currency}")
    amount = Fraction((match["amount"] or match["amount2"]).replace("\u2212", "-")) * MICROS
    count = int(match["count"] or 1)
    component = _component(line, match["meter"], amount / count, match["unit"], units)
    return Element((component,), _restrictions(line, match["when"]))


def _component(line: str, meter: str | None, price: Fraction, word: str, units: Mapping[str, str]) -> Component:
    is_session = word == "session"
    fitting = [name for name, unit in units.items() if is_session or units_in(word, unit) is not None]
    if meter is not None and meter not in fitting:
        known = f"the meter {meter} counts {units[meter]}" if meter in units else f"the machine has no meter {meter}"
        raise InvalidInput(f"'{line}': {known}; its meters are {', '.join(units)}")
    if meter is None and len(fitting) != 1:
        what = "no meter of the machine counts that" if not fitting else f"{' and '.join(fitting)} could be meant"
        raise InvalidInput(f"'{line}': {what}: begin the line with the meter's name and a colon")
    name = meter or fitting[0]
    if is_session:
        return Component(name, _micros(line, price), per_session=True)
    factor = units_in(word, units[name])
    return _priced_per(line, name, price, int(factor or 1))


def _priced_per(line: str, meter: str, price: Fraction, written: int) -> Component:
    """A component of whole micros: for as many base units as the line is written for, if that divides 3,600,000."""
    each = price / written
    per = next((per for per in (written, each.denominator) if CARRY_BASE % per == 0 == (each * per).denominator - 1), 0)
    if not per:
        raise InvalidInput(f"'{line}' has a price that can't be split exactly: round it to fewer digits")
    return Component(meter, _micros(line, each * per), per=per)


def _micros(line: str, price: Fraction) -> int:
    if price.denominator != 1 or abs(price) > COUNT_MAX:
        raise InvalidInput(f"'{line}': a price has at most six decimals, and fits 2^53 millionths")
    return int(price)


def _restrictions(line: str, text: str) -> Restrictions:
    """What stands behind the price."""
    rest = f" {text.strip()} "
    start_time: str | UnsetType = UNSET
    end_time: str | UnsetType = UNSET
    days: tuple[DayOfWeek, ...] = ()
    dates: dict[str, str] = {}
    while rest.strip():
        words = rest.strip().removeprefix(",").strip()
        if (times := re.match(rf"(?:from\s+)?{_TIME}\s*(?:-|–|to)\s*{_TIME}", words)) is not None:
            start_time, end_time = f"{times[1]}:{times[2]}", f"{times[3]}:{times[4]}"
            rest = words[times.end() :]
        elif (day := re.match(r"(from|until)\s+([0-9]{4}-[0-9]{2}-[0-9]{2})", words)) is not None:
            dates[day[1]] = _date(line, day[2])
            rest = words[day.end() :]
        elif (named := re.match(r"on\s+([A-Za-z]+(?:\s*(?:-|–|,|\band\b)\s*[A-Za-z]+)*)", words)) is not None:
            days = _days(line, named[1])
            rest = words[named.end() :]
        else:
            raise InvalidInput(
                f"'{line}': '{words}' is not understood: write days as 'on weekdays', times as 16:00-21:00,"
                " dates as 'from 2026-01-01 until 2027-01-01'"
            )
    return Restrictions(
        start_time=start_time, end_time=end_time, day_of_week=days,
        start_date=dates.get("from", UNSET), end_date=dates.get("until", UNSET),
    )  # fmt: skip


def _date(line: str, text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"'{line}': {text} is not a day of the calendar") from None
    return text


def _days(line: str, text: str) -> tuple[DayOfWeek, ...]:
    found: list[DayOfWeek] = []
    for part in re.split(r"\s*(?:,|\band\b)\s*", text):
        if part in GROUPS:
            found += GROUPS[part]
            continue
        ends = [_day(line, word) for word in re.split(r"\s*[-–]\s*", part)]
        first, last = ends[0], ends[-1]
        found += DAYS[first : last + 1] if first <= last else DAYS[first:] + DAYS[: last + 1]
    return tuple(day for day in DAYS if day in found)


def _day(line: str, word: str) -> int:
    for number, day in enumerate(DAYS):
        if len(word) >= 3 and (day + "S").startswith(word.upper()):
            return number
    raise InvalidInput(f"'{line}': '{word}' is not a day: write Monday or Mon, weekdays or weekends")


def words_of(elements: Sequence[Element], currency: str, units: Mapping[str, str]) -> list[str]:
    """A tariff's lines in the words that `element_of` reads, in the order in which they are asked."""
    return [
        f"{part.meter}: {_price_words(part, currency, units.get(part.meter, 'units'))}{_when_words(each.restrictions)}"
        for each in elements
        for part in each.components
    ]


def _price_words(part: Component, currency: str, unit: str) -> str:
    if part.per is UNSET:
        return f"{currency} {amount_text(part.price)} per session"
    price = Fraction(part.price, part.per * MICROS)
    word = {"Wh": "kWh", "m": "km", "s": "h"}.get(unit, unit)
    shown = price * (FACTORS[unit][word] if unit in FACTORS else 1)
    if 10**12 % shown.denominator == 0 and (shown * MICROS).denominator == 1:
        return f"{currency} {amount_text(int(shown * MICROS))} per {word}"
    return f"{currency} {amount_text(part.price)} per {part.per} {unit}"


def amount_text(micros: int) -> str:
    """Micros as an amount, exact, with at least two decimals."""
    whole, rest = divmod(abs(micros), MICROS)
    digits = f"{rest:06d}".rstrip("0")
    return f"{'-' if micros < 0 else ''}{whole}.{digits.ljust(2, '0')}"


def _when_words(when: Restrictions) -> str:
    parts = []
    if when.day_of_week:
        group = next((name for name, days in GROUPS.items() if days == when.day_of_week), None)
        parts.append("on " + (group or ", ".join(day.capitalize() for day in when.day_of_week)))
    if when.start_time is not UNSET or when.end_time is not UNSET:
        start = "00:00" if when.start_time is UNSET else when.start_time
        parts.append(f"{start}-{'00:00' if when.end_time is UNSET else when.end_time}")
    if when.start_date is not UNSET:
        parts.append(f"from {when.start_date}")
    if when.end_date is not UNSET:
        parts.append(f"until {when.end_date}")
    return "".join(f" {part}" for part in parts)
