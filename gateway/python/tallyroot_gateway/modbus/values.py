"""From the 16-bit registers of an answer to a number, exactly: also a float is the fraction that its bits say."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

Order = Literal["big", "little"]
ValueType = Literal["u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]

WORDS: dict[ValueType, int] = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4, "i64": 4, "f32": 2, "f64": 4}
"""How many registers a value takes."""


def raw_integer(registers: Sequence[int], words: Order = "big", bytes: Order = "big") -> int:
    """The bits of registers as an unsigned integer; `words` "little": the lowest word comes first."""
    ordered = list(registers) if words == "big" else list(reversed(registers))
    value = 0
    for word in ordered:
        value = value << 16 | (word if bytes == "big" else (word & 0xFF) << 8 | word >> 8)
    return value


def number(kind: ValueType, bits: int) -> Fraction | None:
    """What the bits say; None for a float that is infinite or not a number."""
    size = 16 * WORDS[kind]
    if kind[0] == "f":
        return exact_float(bits, *((8, 23) if kind == "f32" else (11, 52)))
    return Fraction(bits - (1 << size) if kind[0] == "i" and bits >> (size - 1) else bits)


def exact_float(bits: int, exponent_bits: int, fraction_bits: int) -> Fraction | None:
    """IEEE 754: (-1)^sign × 1.fraction × 2^(exponent - bias); None for an infinity or NaN."""
    fraction = bits & ((1 << fraction_bits) - 1)
    exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1)
    if exponent == (1 << exponent_bits) - 1:
        return None
    bias = (1 << (exponent_bits - 1)) - 1
    if exponent:
        fraction |= 1 << fraction_bits
    size = Fraction(fraction) * Fraction(2) ** (max(exponent, 1) - bias - fraction_bits)
    return -size if bits >> (exponent_bits + fraction_bits) else size
