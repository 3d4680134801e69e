"""The result of a partition's epoch: only what the log decides, so that everyone who reads the log gets the
same bytes.
"""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct, to_builtins

from schemas.canonical import document_digest
from schemas.errors import InvariantBroken
from schemas.units import Count


class Counts(Struct, frozen=True):
    """accepted + duplicate + rejected = entries, always."""

    entries: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.entries + other.entries,
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.rejected + other.rejected,
        )


class SkippedRange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's signed decision to skip the offsets [first_offset, next_offset) of a partition.

    For batches that nobody can read. `signature` is the operator's, 130 hex digits (core.skipped_ranges).
    """

    partition: Count
    first_offset: Count
    next_offset: Count
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{130}$")]

    @property
    def text(self) -> str:
        """The decision in words."""
        return (
            f"the offsets {self.first_offset} to {self.next_offset} of partition {self.partition} were skipped"
            f' ("{self.reason}")'
        )


class EpochManifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One epoch of one partition: offsets [first_offset, next_offset), digests as hex, amounts as decimal strings.

    `stream_time_ms` is stream time at the cut, the timestamp of the record at `next_offset`: with it the epoch can be
    recomputed from its own records alone. `deposits_micros` is what customers are owed at the cut that no sealed window
    holds: payments for open sessions, and refunds in open windows. `skipped_ranges` may be left out.
    """

    log_id: str
    currency: str
    partition: int
    epoch: int
    start_ms: int
    end_ms: int
    first_offset: int
    next_offset: int
    stream_time_ms: int
    counts: Counts
    rejects_by_reason: dict[str, int]
    windows: int
    adjustments: int
    orders: int
    gross_micros: str
    expenses_micros: str
    uncollected_micros: str
    net_micros: str
    deposits_micros: str
    windows_digest: str
    orders_digest: str
    rejects_digest: str
    log_root: str
    ruleset_digest: str
    state_digest: str
    skipped_ranges: tuple[SkippedRange, ...] = ()

    def digest(self) -> bytes:
        """32 bytes over the whole manifest."""
        return document_digest("epoch manifest 2", to_builtins(self))


class EpochFiles(Struct, frozen=True, kw_only=True):
    """A manifest's file: the files listed are under no root, since another Arrow version writes other Parquet bytes."""

    manifest: EpochManifest
    manifest_digest: str
    files: dict[str, str]
    """File name, relative to the data folder, to the SHA-256 of its bytes as hex."""

    @property
    def is_whole(self) -> bool:
        """Whether the manifest has the digest that is stated; also false where strangers wrote what can have none."""
        try:
            return self.manifest.digest().hex() == self.manifest_digest
        except InvariantBroken:
            return False


def epoch_folder(start_ms: int) -> str:
    """The folder of an epoch: its start in UTC, e.g. 20190901T000000Z."""
    return datetime.fromtimestamp(start_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
