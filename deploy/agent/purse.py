"""What the ledger owes the machine's account: claims, and refunds that a post pays."""

from deploy.money.closed_sessions import ClosedSessions
from deploy.money.treasury import Treasury
from settlement import service
from settlement.chain.signer import Signer


class Purse:
    """The posts and the views of a data folder, for one account."""

    def __init__(self, treasury: Treasury, account: str, gas: Signer, least_units: int) -> None:
        """`gas` pays for claims of `least_units` (token units) or more."""
        self._treasury = treasury
        self._sessions = ClosedSessions(treasury)
        self._account = account
        self._gas = gas
        self._least = max(1, least_units)

    def claim(self) -> int:
        """Claims all that is worth the gas; returns token units, 0 for nothing. Raises InvalidInput."""
        folder, chain = self._treasury.data_dir, self._treasury.chain
        self._treasury.fetch_posts()
        rows = service.payouts(folder, chain, self._account)
        if not rows or rows[0].claimable < self._least:
            return 0
        return service.claim(folder, chain, self._treasury.keys, self._account, gas=self._gas).amount

    def refund(self, machine: str, session: str) -> int | None:
        """What came back of a session (micros) under a post that pays; None while it didn't. Raises InvalidInput."""
        found = self._sessions.sealed(machine, session, self._account)
        is_back = bool(found) and all(sealed.is_active for sealed in found)
        return sum(sealed.refund_micros for sealed in found) if is_back else None
