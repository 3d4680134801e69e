"""What the ledger owes the machine's account: claims, and refunds that a post pays."""

import duckdb

from deploy.explain.query import open_views
from deploy.money.treasury import Treasury
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.overview import last_active
from settlement.chain.signer import Signer
from settlement.storage.posts import Store

STATEMENTS = (
    'SELECT "partition", epoch, refund_micros FROM statements WHERE final AND machine = ? AND session = ? AND payer = ?'
)


class Purse:
    """The posts and the views of a data folder, for one account."""

    def __init__(self, treasury: Treasury, account: str, gas: Signer, least_units: int) -> None:
        """`gas` pays for claims of `least_units` (token units) or more."""
        self._treasury = treasury
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
        treasury = self._treasury
        ledger = Ledger.open(treasury.data_dir, treasury.chain)
        active = last_active(ledger, ledger.history())
        if not active:
            return None
        after = Store(treasury.data_dir).standing(active, ledger.deployment.initial).partition_epochs
        treasury.data.fetch_epochs()
        try:
            with open_views(treasury.data) as views:
                rows = views.execute(STATEMENTS, [machine, session, self._account]).fetchall()
        except (duckdb.Error, OSError) as error:
            raise InvalidInput(f"the views of {treasury.data_dir} can't be read: {error}") from None
        if not rows or any(epoch >= after.get(partition, 0) for partition, epoch, _ in rows):
            return None
        return sum(int(micros) for _, _, micros in rows)
