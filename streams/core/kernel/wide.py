"""Integers of up to 124 bits as pairs: see PAIR_BITS in `tables`."""

from streams.core.kernel.compiled import compiled
from streams.core.kernel.tables import PAIR_BITS as BITS

LOW = (1 << BITS) - 1
HALF = 31
HALF_LOW = (1 << HALF) - 1


@compiled
def multiply(a: int, b: int) -> tuple[int, int]:
    """The product of two integers, each from 0 to 2^62."""
    a_high, a_low, b_high, b_low = a >> HALF, a & HALF_LOW, b >> HALF, b & HALF_LOW
    middle = a_high * b_low + a_low * b_high
    low = a_low * b_low + ((middle & HALF_LOW) << HALF)
    return a_high * b_high + (middle >> HALF) + (low >> BITS), low & LOW


@compiled
def scale(high: int, low: int, factor: int) -> tuple[int, int]:
    """A pair from 0 on, times a factor from 0 to 2^31."""
    more, low = multiply(low, factor)
    return high * factor + more, low


@compiled
def plus(high: int, low: int, other_high: int, other_low: int) -> tuple[int, int]:
    """The sum of two pairs."""
    total = low + other_low
    return high + other_high + (total >> BITS), total & LOW


@compiled
def minus(high: int, low: int, other_high: int, other_low: int) -> tuple[int, int]:
    """The difference of two pairs."""
    rest = low - other_low
    return high - other_high + (rest >> BITS), rest & LOW


@compiled
def negated(high: int, low: int) -> tuple[int, int]:
    """The pair below zero."""
    return minus(0, 0, high, low)


@compiled
def pair(value: int) -> tuple[int, int]:
    """A plain integer as a pair."""
    return value >> BITS, value & LOW


@compiled
def is_above(high: int, low: int, other_high: int, other_low: int) -> bool:
    """Whether the first pair is the greater one."""
    return high > other_high or (high == other_high and low > other_low)


@compiled
def divide(high: int, low: int, divisor: int) -> tuple[int, int, int]:
    """(quotient as a pair, remainder) of a pair from 0 on by a divisor from 1 to 2^60."""
    if high == 0:
        return 0, low // divisor, low % divisor
    quotient_high, rest = high // divisor, high % divisor
    quotient = 0
    for bit in range(BITS - 1, -1, -1):
        rest = 2 * rest + (low >> bit & 1)
        quotient = 2 * quotient
        if rest >= divisor:
            rest -= divisor
            quotient += 1
    return quotient_high, quotient, rest


@compiled
def divide_floor(high: int, low: int, divisor: int) -> tuple[int, int, int]:
    """(quotient as a pair, remainder from 0 on) of any pair by a divisor from 1 to 2^60, rounded down."""
    if high >= 0:
        return divide(high, low, divisor)
    below_high, below = minus(-1, LOW, high, low)  # -value - 1
    quotient_high, quotient, rest = divide(below_high, below, divisor)
    quotient_high, quotient = minus(-1, LOW, quotient_high, quotient)
    return quotient_high, quotient, divisor - 1 - rest


@compiled
def fits(high: int) -> bool:
    """Whether a pair with this high part is an integer of 64 bits."""
    return -2 <= high <= 1


@compiled
def plain(high: int, low: int) -> int:
    """The integer that a pair is, if it fits."""
    return (high << BITS) + low


@compiled
def product(a: int, b: int) -> tuple[int, int]:
    """The product of two integers of any sign, each within ±2^62."""
    high, low = multiply(abs(a), abs(b))
    if (a < 0) != (b < 0):
        return negated(high, low)
    return high, low
