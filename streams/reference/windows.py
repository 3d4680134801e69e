"""What lies in a window and what it comes to when it seals (rules 21, 26, 27 and 38)."""

import math
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from streams.reference.entries import Plain, Refused
from streams.reference.price import Charge

WORTH_MAX = 2**53
LINES_MAX = 256


class Statement(NamedTuple):
    """What a prepaid session came to, in micros (rule 37)."""

    session: str
    payer: str
    paid: int
    used: int

    @property
    def refund(self) -> int:
        return max(0, self.paid - self.used)


class Expense(NamedTuple):
    """What an order settled for (rule 33)."""

    item: str
    number: int
    supplier: str
    micros: int


class WindowRecount:
    """One window or adjustment while it is open: usage by (meter, version, price, per)."""

    def __init__(self) -> None:
        self.readings = self.skipped = 0
        self.offsets: list[int] = []
        self.flags: set[str] = set()
        self.trust = 2
        self.usage: dict[tuple[str, int, int, int], int] = defaultdict(int)
        self.statements: list[Statement] = []
        self.expenses: list[Expense] = []
        self.corrected: list[Plain] = []

    def check(self, meter: str, charges: Iterable[Charge]) -> None:
        """Raises Refused if charges would take the window beyond its bounds (rule 21)."""
        after = dict(self.usage)
        for charge in charges:
            line = (meter, charge.version, charge.price, charge.per)
            if charge.units:
                after[line] = after.get(line, 0) + charge.units
                worth = charge._replace(units=after[line]).worth
                if abs(after[line]) > WORTH_MAX or abs(worth) > WORTH_MAX or len(after) > LINES_MAX:
                    raise Refused("too_high")

    def add(self, meter: str, charges: Iterable[Charge]) -> None:
        """Adds charges to the lines; one that adds nothing makes no line."""
        for charge in charges:
            if charge.units:
                self.usage[meter, charge.version, charge.price, charge.per] += charge.units

    def lines(self, carry: Fraction) -> tuple[list[Plain], Fraction]:
        """The lines in their order and the carry after them; the fraction of a micro passes from line to line."""
        found = []
        for (meter, version, price, per), usage in sorted(self.usage.items()):
            if usage:
                exact = Fraction(usage * price, per or 1) + carry
                amount, carry = math.floor(exact), exact - math.floor(exact)
                line = {"meter": meter, "version": version, "usage": usage, "price": price, "per": per}
                found.append(line | {"amount": amount})
        return found, carry

    def money(self, gross: int) -> Plain:
        """Expenses, uncollected, net, collected, the sessions and the dues in their order (rule 38)."""
        statements = sorted(self.statements, key=lambda one: one.session)
        dues = [
            due("expense", one.supplier, f"{one.item}/{one.number}", one.micros)
            for one in sorted(self.expenses, key=lambda one: (one.item, one.number))
        ]
        dues += [due("refund", one.payer, one.session, one.refund) for one in statements if one.refund]
        expenses = sum(one.micros for one in self.expenses)
        uncollected = sum(max(0, one.used - one.paid) for one in statements)
        return {
            "expenses": expenses,
            "uncollected": uncollected,
            "net": gross - expenses - uncollected,
            "collected": sum(one.paid - one.refund for one in statements),
            "sessions": [one._asdict() | {"refund": one.refund} for one in statements],
            "dues": dues + self.corrected,
        }


def due(kind: str, account: str, ref: str, micros: int) -> Plain:
    """Money that a window owes to one account beside its net."""
    return {"kind": kind, "account": account, "ref": ref, "micros": micros}
