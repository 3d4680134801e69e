"""Whether an agreement in the log supports an offering of a machine's shares: its points, its lock, the term.

A contract can't see the log, so this check is the tool's (see settlement/contracts/src/IShareOffering.sol). One sealed
window suffices: it holds the agreement that it is split by, and while that is locked no registration that lowers a
payee's part, ends the lock earlier or requires more trust is accepted (`agreement_locked`).
"""

from datetime import UTC, datetime

from msgspec import UNSET, Struct

from schemas.errors import InvalidInput
from schemas.registration import Agreement
from schemas.units import SECOND_MS
from settlement.accrual import terms_of


class ShareTerms(Struct, frozen=True):
    """The terms of an offering: basis points for the shares' contract until `term_end_s` (Unix seconds).

    `locked_until_s` is the end of the agreement's lock, `agreement` the digest of its payees.
    """

    points: int
    term_end_s: int
    locked_until_s: int
    agreement: bytes


def points_of(agreement: Agreement, account: str) -> int:
    """The basis points of an account (lower case) in any of its spellings; 0 if it is not a payee."""
    return dict(terms_of(agreement).points).get(account, 0)


def share_terms(machine: str, agreement: Agreement, shares: str, term_end_s: int) -> ShareTerms:
    """The terms of an offering whose term ends then. Raises InvalidInput if the agreement does not support it."""
    points = points_of(agreement, shares)
    if not points:
        raise InvalidInput(f"the agreement of {machine} does not pay {shares}: register the shares as a payee first")
    if agreement.locked_until is UNSET:
        raise InvalidInput(
            f"the agreement of {machine} is not locked: register it with `locked_until` at the term's end or later"
        )
    locked_until_s = agreement.locked_until // SECOND_MS
    if locked_until_s < term_end_s:
        raise InvalidInput(
            f"the agreement of {machine} is locked until {_text(locked_until_s)}, the term ends {_text(term_end_s)}:"
            " lock it for longer, or choose an earlier end"
        )
    return ShareTerms(points, term_end_s, locked_until_s, agreement.digest())


def require_kept(machine: str, agreement: Agreement, shares: str, promised: ShareTerms) -> None:
    """Checks, for a buyer, that the log supports an offering's terms. Raises InvalidInput if it does not."""
    found = share_terms(machine, agreement, shares, promised.term_end_s)
    if found.points < promised.points or found.locked_until_s < promised.locked_until_s:
        raise InvalidInput(
            f"the offering promises {promised.points} basis points, locked until {_text(promised.locked_until_s)};"
            f" the log says {found.points}, until {_text(found.locked_until_s)}: don't buy"
        )


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
