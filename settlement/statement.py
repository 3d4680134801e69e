"""Statements: why an account got its amount, window by window, so that every line can be checked by hand.

carry_before + net = payable + carry_after        amount = the account's part of payable
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from schemas.units import is_simulated
from settlement.accrual import Balances, Earning


class StatementRow(Struct, frozen=True):
    """One window's part in one account's payouts: times in epoch ms, amounts in micros, points in basis points.

    `agreement` and `window_digest` are hex.
    """

    sequence: int
    machine: str
    start_ms: int
    end_ms: int
    mends_ms: int
    net_micros: int
    carry_before_micros: int
    payable_micros: int
    carry_after_micros: int
    agreement: str
    points: int
    amount_micros: int
    window_digest: str
    simulated: bool


class Statement(Struct, frozen=True):
    """All rows of one account; their amounts add up to `cumulative_micros`."""

    account: str
    cumulative_micros: int
    rows: tuple[StatementRow, ...]


def statement(account: str, posts: Iterable[tuple[int, Sequence[Earning]]]) -> Statement:
    """The statement of an account (lower case) from the windows of all posts, in the order of accrual."""
    balances = Balances()
    rows = []
    for sequence, earnings in posts:
        for earning in earnings:
            step = balances.accrue(earning)
            points = dict(earning.terms.points).get(account)
            if points is None:
                continue
            amount = step.parts.get(account, 0)
            if not amount and step.carry_before == step.carry_after:
                continue  # it changed neither the payout nor the carry
            rows.append(
                StatementRow(
                    sequence, earning.machine, earning.start_ms, earning.end_ms, earning.mends_ms, earning.net_micros,
                    step.carry_before, step.payable, step.carry_after, earning.terms.digest, points, amount,
                    earning.digest.hex(), is_simulated(earning.machine),
                )
            )  # fmt: skip
    return Statement(account, balances.cumulative.get(account, 0), tuple(rows))
