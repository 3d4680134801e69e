"""What a post commits to: a document that the log and the chosen epochs determine, and nothing else."""

from typing import Annotated

from msgspec import Meta, Struct, to_builtins

from schemas.canonical import canonical_json, document_digest
from schemas.payout import Carry, Unsettled

ENDED = "ended"
"""The folder, in a data folder, of those of ledgers that others have followed: numbered from 1 on."""

Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Integer = Annotated[str, Meta(pattern=r"^(0|-?[1-9][0-9]*)$(?!\n)")]


class EpochRef(Struct, frozen=True):
    """One epoch of one partition: the digest of the stream's manifest, and what a reader needs if it lacks that
    file. `skipped_ranges` is how many ranges of offsets it names that operators had skipped.
    """

    epoch: int
    manifest_digest: Hex32
    log_root: Hex32
    ruleset_digest: Hex32
    skipped_ranges: int


class PartitionRange(Struct, frozen=True):
    """Offsets [first_offset, next_offset) of a partition and its epochs in order; without epochs the range is empty.

    `deposits` is what customers were owed, micros, at the cut of the last epoch of the partition that was ever posted.
    """

    partition: int
    first_offset: int
    next_offset: int
    deposits: Integer
    epochs: tuple[EpochRef, ...]


class PostTotals(Struct, frozen=True):
    """Micros: net = payable + held + the change of carries; payable + expenses + refunds = paid + unsettled otherwise.

    `expenses` and `refunds` are the dues of its windows. `cumulative` is the sum of all payouts up to this post,
    `deposits` the sum over its partitions: the ledger must hold both, less what was claimed.
    """

    windows: int
    net: Integer
    expenses: Integer
    refunds: Integer
    payable: Integer
    held: Integer
    paid: Integer
    cumulative: Integer
    deposits: Integer


class PostManifest(Struct, frozen=True, kw_only=True):
    """Epochs [first_epoch, last_epoch] as posted. The keccak of its canonical bytes is the post's manifestHash."""

    rules: int = 2
    log_id: str
    currency: str
    first_epoch: int
    last_epoch: int
    start_ms: int
    end_ms: int
    partitions: tuple[PartitionRange, ...]
    windows_digest: Hex32
    carries_digest: Hex32
    totals: PostTotals
    unsettled: tuple[Unsettled, ...]

    def canonical(self) -> bytes:
        """RFC 8785 bytes; amounts are decimal strings, since they may leave the safe integers."""
        return canonical_json(to_builtins(self))


def carries_digest(carries: tuple[Carry, ...]) -> str:
    """Hex digest over the carries that a post leaves behind, sorted by machine and agreement."""
    return document_digest("post carries 1", [to_builtins(carry) for carry in sorted(carries)]).hex()
