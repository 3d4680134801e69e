"""Prepaid sessions: payments, use, and the statement at the end (rules 35 to 37)."""

import math
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

from schemas.units import DAY_MS
from streams.reference.entries import Plain, Refused
from streams.reference.windows import WORTH_MAX, Statement

TERM_MAX_MS = 7 * DAY_MS
OPEN_MAX = 256


@dataclass
class Session:
    """An open session. `use` is in micros; `ended_at` is stream time at the first row that ended it."""

    payer: str
    paid: int
    valid_until: int
    use: Fraction = Fraction(0)
    ended_at: int | None = None

    def closes_at(self, window_ms: int) -> int:
        """The start of the window that it closes into, the first to seal of two (rule 37)."""
        moment = self.valid_until - 1 if self.ended_at is None else min(self.ended_at, self.valid_until - 1)
        return moment // window_ms * window_ms

    def check(self, worth: Fraction) -> None:
        """Raises Refused if its use would go beyond its bound (rule 21)."""
        if abs(self.use + worth) > WORTH_MAX:
            raise Refused("too_high")

    def statement(self, name: str) -> Statement:
        """What it comes to (rule 37)."""
        return Statement(name, self.payer, self.paid, max(0, math.ceil(self.use)))


class Sessions:
    """The open sessions of a partition, by machine and name, and the payments of each machine."""

    def __init__(self) -> None:
        self.open: dict[str, dict[str, Session]] = defaultdict(dict)
        self.payments: dict[str, list[Plain]] = defaultdict(list)

    def named(self, row: Plain) -> Session | None:
        """The open session that a row or correction names."""
        return self.open.get(row["machine"], {}).get(row.get("session", ""))

    def pay(self, payment: Plain, now: int) -> Statement | None:
        """Accepts a payment; returns the statement of one that is returned (rule 35). Raises Refused."""
        past = self.payments[payment["machine"]]
        if past and past[-1] == payment:
            raise Refused("duplicate")
        if payment["version"] != len(past) + 1:
            raise Refused("stale_version")
        if past and _place(payment) <= _place(past[-1]):
            raise Refused("payment_reused")
        past.append(payment)
        open_here, name = self.open[payment["machine"]], payment["session"]
        payer, amount, until = payment["payer"], payment["amount"], payment["valid_until"]
        session = open_here.get(name)
        if session is None:
            if now < until <= now + TERM_MAX_MS and len(open_here) < OPEN_MAX:
                open_here[name] = Session(payer, amount, until)
                return None
        elif (session.payer, session.valid_until) == (payer, until) and session.paid + amount <= WORTH_MAX:
            session.paid += amount
            return None
        return Statement(name, payer, amount, 0)

    def closing(self, machine: str, start: int, window_ms: int) -> list[Statement]:
        """Closes the sessions of a machine that close into a window; returns their statements."""
        open_here = self.open.get(machine, {})
        names = [name for name, one in open_here.items() if one.closes_at(window_ms) == start]
        return [open_here.pop(name).statement(name) for name in sorted(names)]


def _place(payment: Plain) -> tuple[int, int]:
    """Where a payment stands on the chain."""
    return payment["block"], payment["log_index"]
