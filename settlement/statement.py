"""Statements: why an account got its amount, window by window, so that every line can be checked by hand.

carry_before + net = payable + carry_after        amount = the account's part of payable
a due is paid whole, whatever the carry           cumulative = sum of amounts + sum of dues
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from schemas.units import is_simulated
from schemas.window import DueKind
from settlement.accrual import NOBODY, Balances, Earning


class StatementRow(Struct, frozen=True):
    """One window's part in one account's payouts: times in epoch ms, amounts in micros, points in basis points.

    `agreement` and `window_digest` are hex.
    """

    sequence: int
    machine: str
    start_ms: int
    end_ms: int
    adjusts_ms: int
    net_micros: int
    carry_before_micros: int
    payable_micros: int
    carry_after_micros: int
    agreement: str
    points: int
    amount_micros: int
    window_digest: str
    simulated: bool


class DueRow(Struct, frozen=True):
    """One due of a window to the account: an invoice (`ref` is item/number) or a refund (`ref` is the session).

    Times in epoch ms, the amount in micros, `window_digest` is hex.
    """

    sequence: int
    machine: str
    start_ms: int
    end_ms: int
    adjusts_ms: int
    kind: DueKind
    ref: str
    amount_micros: int
    window_digest: str
    simulated: bool


class Statement(Struct, frozen=True):
    """All rows and dues of one account; their amounts add up to `cumulative_micros`."""

    account: str
    cumulative_micros: int
    rows: tuple[StatementRow, ...]
    dues: tuple[DueRow, ...]


def statement(account: str, posts: Iterable[tuple[int, Sequence[Earning]]], ledger: str = NOBODY) -> Statement:
    """The statement of an account (lower case) from the windows of all posts to a ledger, in the order of accrual."""
    balances = Balances(ledger=ledger)
    rows: list[StatementRow] = []
    dues: list[DueRow] = []
    for sequence, earnings in posts:
        for earning in earnings:
            step = balances.accrue(earning)
            span, digest = (earning.start_ms, earning.end_ms, earning.adjusts_ms), earning.digest.hex()
            simulated = is_simulated(earning.machine)
            dues += (
                DueRow(sequence, earning.machine, *span, due.kind, due.ref, due.micros, digest, simulated)
                for due in step.dues
                if due.account == account
            )
            points = dict(earning.terms.points).get(account)
            if points is None:
                continue
            amount = step.parts.get(account, 0)
            if not amount and step.carry_before == step.carry_after:
                continue  # it changed neither the payout nor the carry
            rows.append(
                StatementRow(
                    sequence, earning.machine, *span, earning.net_micros, step.carry_before, step.payable,
                    step.carry_after, earning.terms.digest, points, amount, digest, simulated,
                )
            )  # fmt: skip
    return Statement(account, balances.cumulative.get(account, 0), tuple(rows), tuple(dues))
