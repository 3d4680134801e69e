"""Units of the field as integers in a meter's unit: exactly, from the text of a number, never through a float.

    value × 10^scale × (size of its unit / size of the meter's unit) = whole + rest,  0 ≤ rest < 1

A register or a level is its whole part, and what is cut off stays in the next one. A quantity has no next one: it must
be whole, or its meter needs a smaller unit.
"""

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.reading import COUNT_MAX

EXPONENT_MAX = 40
"""No number of a device needs more digits than this before or after its point."""

TEXT_MAX = 80
"""No number of a device is a longer text."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

_PREFIXES = {"": Fraction(1), "m": Fraction(1, 1000), "k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9)}

_BASES: dict[str, tuple[str, Fraction]] = {
    "Wh": ("energy", Fraction(1)), "J": ("energy", Fraction(1, 3600)), "Ws": ("energy", Fraction(1, 3600)),
    "varh": ("reactive", Fraction(1)), "VAh": ("apparent", Fraction(1)),
    "W": ("power", Fraction(1)), "var": ("reactive power", Fraction(1)), "VA": ("apparent power", Fraction(1)),
    "A": ("current", Fraction(1)), "V": ("voltage", Fraction(1)), "Ah": ("charge", Fraction(1)),
    "Hz": ("frequency", Fraction(1)), "m": ("length", Fraction(1)), "l": ("volume", Fraction(1)),
    "g": ("mass", Fraction(1)), "s": ("time", Fraction(1)),
}  # fmt: skip
"""What a unit measures, and its size; each may have a prefix m, k, M or G."""

_OTHERS: dict[str, tuple[str, Fraction]] = {
    "count": ("count", Fraction(1)), "Wmin": ("energy", Fraction(1, 60)), "m3": ("volume", Fraction(1000)),
    "min": ("time", Fraction(60)), "h": ("time", Fraction(3600)), "d": ("time", Fraction(86400)),
    "mi": ("length", Fraction(1_609_344, 1000)),
    "Percent": ("ratio", Fraction(1, 100)), "%": ("ratio", Fraction(1, 100)), "permille": ("ratio", Fraction(1, 1000)),
    "ppm": ("ratio", Fraction(1, 10**6)), "t": ("mass", Fraction(10**6)),
}  # fmt: skip

UNITS: dict[str, tuple[str, Fraction]] = {
    **{prefix + name: (what, size * by) for name, (what, size) in _BASES.items() for prefix, by in _PREFIXES.items()},
    **_OTHERS,
}
"""Every unit that can be converted: what it measures, and its size."""


def number_of(text: str | int | Decimal) -> Fraction:
    """The number that a device wrote, exactly. Raises InvalidInput for what is none, or is absurdly long."""
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        raise InvalidInput(f"not a number: {str(text)[:TEXT_MAX]!r}")
    written = str(text).strip()
    if len(written) > TEXT_MAX or _NUMBER.fullmatch(written) is None:
        raise InvalidInput(f"not a number: {written[:TEXT_MAX]!r}")
    number = Decimal(written)
    if number and abs(number.adjusted()) > EXPONENT_MAX:
        raise InvalidInput(f"not a number of this world: {written!r}")
    return Fraction(number)


def convert(value: Fraction, unit: str, to: str, scale: int = 0) -> Fraction:
    """`value` × 10^`scale` of `unit` in the unit `to`. Raises InvalidInput where one can't become the other."""
    if unit == to:
        return value * Fraction(10) ** scale
    try:
        (what, size), (wanted, step) = UNITS[unit], UNITS[to]
    except KeyError as error:
        raise InvalidInput(f"unknown unit {error.args[0]!r}: use one such as Wh, kWh, m, s, count") from None
    if what != wanted:
        raise InvalidInput(f"{unit} is no {to}: one measures {what}, the other {wanted}")
    return value * Fraction(10) ** scale * size / step


def whole_part(value: Fraction) -> int:
    """A register or a level in its meter's unit. Raises InvalidInput below 0 or beyond 2^53."""
    whole = value.numerator // value.denominator
    if not 0 <= whole <= COUNT_MAX:
        raise InvalidInput(f"{whole} is not between 0 and 2^53")
    return whole


def whole_quantity(value: Fraction) -> int:
    """A quantity in its meter's unit. Raises InvalidInput where it isn't whole, or not between 0 and 2^53."""
    if value.denominator != 1:
        raise InvalidInput(f"{float(value)} is not whole: give the meter a smaller unit")
    return whole_part(value)


def decode_json(data: bytes | str, *, unique_names: bool = False) -> Any:
    """JSON whose numbers with a point or an exponent are Decimals. Raises InvalidInput for what isn't JSON.

    With `unique_names` an object with a name twice is refused; without, its last value counts.
    """
    pairs = _unique if unique_names else None
    try:
        return json.loads(
            data, parse_float=_decimal, parse_int=_integer, parse_constant=_no_constant, object_pairs_hook=pairs
        )
    except (ValueError, RecursionError):
        raise InvalidInput("not JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidInput("a name stands twice in an object")
    return found


def _decimal(text: str) -> Decimal:
    if len(text) > TEXT_MAX:
        raise ValueError(text)
    return Decimal(text)


def _integer(text: str) -> int:
    if len(text) > TEXT_MAX:
        raise ValueError(text)
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(text)
