"""Tokens that arrived at a ledger, as its node shows them: what an audit holds payments against."""

from collections.abc import Iterable, Sequence

from schemas.keccak import keccak
from settlement.audit.payments import Transfer
from settlement.chain.contract import artefact
from settlement.chain.event_logs import PlainLog
from settlement.chain.ledger import Ledger
from settlement.leaf import account_bytes

TRANSFER = keccak(b"Transfer(address,address,uint256)")
AUTHORIZATION_USED = keccak(b"AuthorizationUsed(address,bytes32)")


class LedgerTransfers:
    """The transfers of a ledger's token to the ledger, since it was deployed. Each block is read once, as its events
    are; a receipt is asked for once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._chain, deployment = ledger.chain, ledger.deployment
        self._token, self._first_block = deployment.token, deployment.block
        self._to = _word(deployment.ledger)

    def final_block(self) -> int:
        """The last block that can't be undone."""
        return self._chain.final_block()

    def block_time_s(self, number: int) -> int:
        """A block's time, Unix seconds."""
        return self._chain.block_time_s(number)

    def transfers(self) -> Sequence[Transfer]:
        """All up to the latest block, in the chain's order."""
        return self._of(self._chain.logs(self._token, self._first_block, (TRANSFER, None, self._to)))

    def of_transaction(self, transaction: str) -> Sequence[Transfer]:
        """Those in the receipt of a transaction; none where the node has none."""
        return self._of(self._chain.logs_of(transaction))

    def is_authorised(self, transfer: Transfer) -> bool:
        """Whether an authorisation of its payer was used in its transaction."""
        payer = _word(transfer.payer)
        return any(
            log.address == self._token and log.topics[:2] == (AUTHORIZATION_USED, payer)
            for log in self._chain.logs_of(transfer.transaction)
        )

    def under_nonce(self, nonce: bytes) -> Sequence[Transfer]:
        """All that was paid by an authorisation with this nonce, of any payer."""
        uses = self._chain.logs(self._token, self._first_block, (AUTHORIZATION_USED, None, nonce))
        own = [own_transfer(self._chain.logs_of(use.transaction), self._token, use.index) for use in uses]
        return self._of(log for log in own if log is not None)

    def _of(self, logs: Iterable[PlainLog]) -> list[Transfer]:
        token, found = artefact("DemoDollar"), []
        for log in logs:
            if log.address != self._token or len(log.topics) != 3 or log.topics[0] != TRANSFER:
                continue
            event = token.event(log.topics, log.data)
            if event is not None and log.topics[2] == self._to:
                values = event[1]
                found.append(
                    Transfer(values["from"].lower(), values["value"], log.block, log.transaction, log.index)
                )  # fmt: skip
        return found


def own_transfer(logs: Iterable[PlainLog], token: str, used_at: int) -> PlainLog | None:
    """The transfer of an authorisation used at a log index, among its transaction's logs: the token's next one."""
    later = [log for log in logs if log.address == token and log.topics[:1] == (TRANSFER,) and log.index > used_at]
    return min(later, key=lambda log: log.index, default=None)


def _word(account: str) -> bytes:
    """An account as a topic."""
    return account_bytes(account).rjust(32, b"\0")
