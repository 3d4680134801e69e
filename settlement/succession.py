"""What a ledger that follows another one begins from, so that nothing is paid by both and nothing is lost between them.

Cumulative payouts of the new ledger count from the move: what was owed before is claimed from the old one. What nobody
is owed yet goes over: carries, amounts without an account, and where each partition's log was read to.
"""

from collections.abc import Mapping

from msgspec import Struct, to_builtins

from schemas.canonical import document_digest
from schemas.payout import Carry, Unsettled
from settlement.accrual import Balances
from settlement.post import PostStanding


class LedgerStart(Struct, frozen=True, kw_only=True):
    """The last post of the ledger before (`predecessor`, its account): its `sequence`, the ledger's `head` then (hex),
    and the state after it. Amounts are micros as decimal strings, epochs and offsets by partition.
    """

    predecessor: str
    sequence: int
    head: str
    next_epoch: int
    partition_epochs: Mapping[int, int]
    partition_offsets: Mapping[int, int]
    partition_deposits: Mapping[int, str]
    carries: tuple[Carry, ...]
    unsettled: tuple[Unsettled, ...]

    @classmethod
    def after(cls, standing: PostStanding, predecessor: str, head: bytes) -> "LedgerStart":
        """The start of whoever follows a ledger whose last post left `standing`."""
        parts = sorted(standing.balances.unsettled.items())
        return cls(
            predecessor=predecessor, sequence=standing.sequence, head=head.hex(), next_epoch=standing.next_epoch or 0,
            partition_epochs=dict(standing.partition_epochs), partition_offsets=dict(standing.partition_offsets),
            partition_deposits={part: str(micros) for part, micros in standing.partition_deposits.items()},
            carries=standing.balances.carries(),
            unsettled=tuple(Unsettled(*key, str(micros)) for key, micros in parts if micros),
        )  # fmt: skip

    def digest(self, log: bytes) -> bytes:
        """32 bytes over the start and the log's `birth_digest`: the ledger is bound to both for life."""
        return document_digest("ledger start 1", {"log": log.hex(), "start": to_builtins(self, str_keys=True)})

    def standing(self, ledger: str) -> PostStanding:
        """The state before the first post to the new ledger (its account)."""
        balances = Balances(
            {},
            {(carry.machine, carry.agreement): int(carry.micros) for carry in self.carries},
            {(part.reason, part.machine, part.payee): int(part.micros) for part in self.unsettled},
            ledger=ledger,
        )
        deposits = {part: int(micros) for part, micros in self.partition_deposits.items()}
        return PostStanding(0, balances, self.next_epoch, self.partition_epochs, self.partition_offsets, deposits)
