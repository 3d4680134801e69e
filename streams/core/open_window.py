"""Open windows: what they have collected so far (rules 21 and 26)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from schemas.units import CARRY_BASE, COUNT_MAX
from schemas.window import LINES_MAX, Due, Statement
from streams.core.rating import PER_SESSION


class LineKey(NamedTuple):
    """Usage is summed by it, and lines are sorted by it. `price` is micros for `per` units, or for a session (0)."""

    meter: str
    version: int
    price_micros: int
    per: int


WindowKey = tuple[int, str, int]
"""(start in ms, machine, start of the adjusted window in ms or NONE): the order in which windows seal."""

Billed = Sequence[tuple[LineKey, int]]
"""Usage to be added, by line; none of it 0."""


class Expense(Struct, frozen=True, array_like=True, order=True):
    """What an order settled for, in micros."""

    item: str
    number: int
    supplier: str
    micros: int


class Extras(Struct, array_like=True):
    """What few windows hold: statements of returned payments, expenses, refunds of corrections, as in the log."""

    statements: list[Statement] = []
    expenses: list[Expense] = []
    refunds: list[Due] = []

    @property
    def refunds_micros(self) -> int:
        """What it owes to customers."""
        return sum(due.micros for due in self.refunds) + sum(returned.refund_micros for returned in self.statements)


def can_bill(usage: Mapping[LineKey, int], billed: Billed) -> bool:
    """Rule 21: whether a window's lines can take more: 256 of them, each with usage and worth within 2^53."""
    new = 0
    for line, added in billed:
        total = usage.get(line, 0) + added
        new += line not in usage
        if abs(total) > COUNT_MAX or abs(total * line.price_micros) > COUNT_MAX * (line.per or 1):
            return False
    return len(usage) + new <= LINES_MAX


def parts(per: int) -> int:
    """3,600,000 / per: the factor from usage × price to parts of 1/3,600,000 micro; a session counts as per 1."""
    return CARRY_BASE if per == PER_SESSION else CARRY_BASE // per


def worth(billed: Billed) -> int:
    """What usage is worth, in 1/3,600,000 of a micro."""
    return sum(usage * line.price_micros * parts(line.per) for line, usage in billed)
