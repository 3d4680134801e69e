"""Amounts with units, as people write them ("22 kW", "6 parcels/h"), in the whole base units that a meter counts.

Text becomes a fraction and then an integer; a float never stands in between.
"""

import re
from fractions import Fraction

from schemas.errors import InvalidInput
from schemas.units import COUNT_MAX

FACTORS = {
    "Wh": {"Wh": Fraction(1), "kWh": Fraction(1_000), "MWh": Fraction(1_000_000)},
    "m": {"m": Fraction(1), "km": Fraction(1_000)},
    "s": {"s": Fraction(1), "min": Fraction(60), "h": Fraction(3_600)},
}
"""Base unit to the units that people use for it, and how many base units each is."""

LONG_WORDS = {
    "second": "s", "seconds": "s", "minute": "min", "minutes": "min", "hour": "h", "hours": "h", "metre": "m",
    "metres": "m", "meter": "m", "meters": "m", "kilometre": "km", "kilometres": "km", "kilometer": "km",
    "kilometers": "km",
}  # fmt: skip

POWER = {"W": Fraction(1), "kW": Fraction(1_000), "MW": Fraction(1_000_000)}
"""Units of power in Wh per hour."""

PER_HOUR = {"h": Fraction(1), "hour": Fraction(1), "min": Fraction(60), "minute": Fraction(60), "s": Fraction(3_600),
            "second": Fraction(3_600), "day": Fraction(1, 24)}  # fmt: skip
"""How often an hour holds each."""

_NUMBER = r"((?:[0-9]{1,3}(?:,[0-9]{3}){1,5}|[0-9]{1,18})(?:\.[0-9]{1,18})?)"


def units_in(word: str, unit: str) -> Fraction | None:
    """How many of a meter's `unit` one `word` is: 1000 for kWh of Wh, 1 for parcel of parcels; None for neither."""
    family = FACTORS.get(unit)
    if family is not None:
        return family.get(LONG_WORDS.get(word, word))
    return Fraction(1) if word.removesuffix("s") == unit.removesuffix("s") else None


def whole_units(text: str, unit: str) -> int:
    """An amount such as "12.5 kWh" or "3" in whole units of a meter. Raises InvalidInput."""
    match = re.fullmatch(rf"{_NUMBER}(?:\s*([A-Za-z]+))?", text.strip())
    factor = None if match is None else units_in(match[2] or unit, unit)
    if match is None or factor is None:
        raise InvalidInput(f"'{text}' is not an amount of {unit}: write a number and its unit, such as 10 {unit}")
    return _whole(_number(match[1]) * factor, text, unit)


def per_hour(text: str, unit: str) -> int:
    """A rate such as "22 kW", "6 parcels/h" or "100 km per hour" in whole units per hour. Raises InvalidInput."""
    words = text.strip()
    power = re.fullmatch(rf"{_NUMBER}\s*([kM]?W)", words)
    if power is not None and unit == "Wh":
        return _whole(_number(power[1]) * POWER[power[2]], text, f"{unit} per hour")
    match = re.fullmatch(rf"{_NUMBER}\s*([A-Za-z]*)\s*(?:/|\bper\b)\s*([a-z]+)", words)
    factor = None if match is None else units_in(match[2] or unit, unit)
    if match is None or factor is None or match[3] not in PER_HOUR:
        example = "22 kW" if unit == "Wh" else f"6 {unit}/h"
        raise InvalidInput(f"'{text}' is not a rate of {unit}: write one such as {example}")
    return _whole(_number(match[1]) * factor * PER_HOUR[match[3]], text, f"{unit} per hour")


def amount_words(amount: int, unit: str) -> str:
    """A whole amount in the largest usual unit that it fills: "1 kWh", "65,536 Wh". `whole_units` reads it back."""
    family = FACTORS.get(unit, {unit: Fraction(1)})
    word, factor = max(
        ((word, factor) for word, factor in family.items() if amount % factor == 0), key=lambda item: item[1]
    )
    shown = f"{int(amount / factor):,}" if amount else "0"
    return f"{shown} {word}" if word.isalpha() else shown


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _whole(value: Fraction, text: str, unit: str) -> int:
    if value.denominator != 1:
        raise InvalidInput(f"'{text}' is not a whole number of {unit}: round it")
    if value > COUNT_MAX:
        raise InvalidInput(f"'{text}' is more than 2^53 {unit}: write a smaller amount")
    return int(value)
