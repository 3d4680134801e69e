"""Prepaid sessions that have closed, by published windows, and the posts that settle those."""

import duckdb

from deploy.explain.query import open_views
from deploy.money.treasury import Treasury
from schemas.errors import InvalidInput
from schemas.payout import ProofFile
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.overview import last_active
from settlement.history import History
from settlement.storage.posts import Store
from till.outcome import Sealed

QUERY = """
    SELECT epoch_ms(statements."start"), digest, "partition", statements.epoch, statements.payer, paid_micros,
           used_micros, refund_micros
    FROM statements JOIN windows USING (machine, "start", "partition")
    WHERE statements.final AND windows.adjusts IS NULL AND machine = $1 AND session = $2
    ORDER BY ALL
"""


class ClosedSessions:
    """Reads the views and the posts of a data folder, and the ledger."""

    def __init__(self, treasury: Treasury) -> None:
        self._treasury = treasury

    def sealed(self, machine: str, session: str, payer: str) -> list[Sealed]:
        """What final windows say of a session of a payer; empty where none has sealed it. Raises InvalidInput."""
        treasury = self._treasury
        treasury.data.fetch_epochs()
        try:
            with open_views(treasury.data) as views:
                rows = views.execute(QUERY, [machine, session]).fetchall()
        except (duckdb.Error, OSError) as error:
            raise InvalidInput(f"the views of {treasury.data_dir} can't be read: {error}") from None
        rows = [row for row in rows if row[4] == payer]
        if not rows:
            return []
        treasury.fetch_posts()
        ledger = Ledger.open(treasury.data_dir, treasury.chain)
        history = ledger.history()
        active = last_active(ledger, history)
        found = []
        for start_ms, digest, partition, epoch, _, paid, used, refund in rows:
            post = self._post_of(history, partition, epoch)
            found.append(
                Sealed(
                    window_start_ms=start_ms, window_digest=digest, partition=partition, epoch=epoch, paid_micros=paid,
                    used_micros=used, refund_micros=refund, post=post, is_active=post is not None and post <= active,
                )
            )  # fmt: skip
        return found

    def payout(self, account: str) -> ProofFile | None:
        """An account's payout under the last post that pays; None where none does. Raises InvalidInput."""
        treasury = self._treasury
        rows = service.payouts(treasury.data_dir, treasury.chain, account)
        if not rows or not rows[0].sequence:
            return None
        return service.proof(treasury.data_dir, treasury.chain, account, rows[0].sequence)

    def _post_of(self, history: History, partition: int, epoch: int) -> int | None:
        """The live post that settles an epoch of a partition. A later one may settle what an earlier one left out."""
        store = Store(self._treasury.data_dir)
        for sequence in range(len(history.live), 0, -1):
            manifest = store.manifest(sequence)
            if manifest.last_epoch < epoch:
                return None
            of_it = (found for found in manifest.partitions if found.partition == partition)
            if any(ref.epoch == epoch for found in of_it for ref in found.epochs):
                return sequence
        return None
