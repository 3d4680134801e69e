"""Splits an amount between payees: the only such code on the main path. audit/recount.py has its own, to check it.

    sum of parts = amount, always;  |part - amount x points / 10,000| < 1

Each payee first gets floor(amount x points / 10,000); the micros left over (fewer than there are payees) go, one each,
to the largest remainders; among equal remainders to the lowest payee by its bytes. The other division of money is the
rating of usage, which keeps its remainder as a carry (streams/core/open_window.py); estimates for display divide too.
"""

from collections.abc import Mapping

from schemas.errors import InvariantBroken
from schemas.registration import POINTS_WHOLE


def split(amount: int, points: Mapping[str, int]) -> dict[str, int]:
    """The parts (same unit as `amount`) by payee, in ascending order of payees' bytes.

    Raises InvariantBroken for an amount below zero and for points that don't add up to 10,000.
    """
    if amount < 0 or sum(points.values()) != POINTS_WHOLE or min(points.values()) < 0:
        raise InvariantBroken(f"{amount} can't be split by {dict(points)}")
    payees = sorted(points, key=str.encode)
    parts: dict[str, int] = {}
    remainders: list[tuple[int, int, str]] = []
    for rank, payee in enumerate(payees):
        parts[payee], remainder = divmod(amount * points[payee], POINTS_WHOLE)
        remainders.append((-remainder, rank, payee))
    residual = amount - sum(parts.values())
    for _, _, payee in sorted(remainders)[:residual]:
        parts[payee] += 1
    return parts
