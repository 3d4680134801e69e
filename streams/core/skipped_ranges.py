"""Ranges of offsets that an operator had skipped, because nobody can read the record batches there.

A partition's result stays a pure function of its log and of these signed decisions: each is named in the manifest of
the epoch that holds it, and so is under its digest. The operator signs it like a control record (core.signature), with
the partition as the key, RECORD_TYPE, JSON, and `signed_bytes` as the value.

A signature permits nothing that the bytes don't: what can be read is never skipped, and the batches themselves stay
under the log root, so that every auditor tries to read them again.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec import Struct

from schemas.canonical import canonical_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import SkippedRange
from streams.core.signature import operator_of, sign_control

RECORD_TYPE = "range.excepted"
_CONTENT_TYPE = "application/json"


class SkippedBatch(Struct, frozen=True):
    """A record batch that nobody could read, as the broker sent it: it says that it holds these offsets."""

    first_offset: int
    next_offset: int
    raw: bytes


SkippedBatches = dict[int, SkippedBatch]
"""By first offset: a batch that was fetched twice is one."""


def sign_skipped_range(
    operator_key: bytes, log: Log, partition: int, first_offset: int, next_offset: int, reason: str
) -> SkippedRange:
    """An operator's signed decision to skip [first_offset, next_offset) of a partition.

    Raises InvalidInput for an empty range, a partition that the log doesn't have, an empty reason, or a key that is not
    an operator's.
    """
    value = signed_bytes(partition, first_offset, next_offset, reason)
    signature = sign_control(operator_key, log.log_id, str(partition), RECORD_TYPE, _CONTENT_TYPE, value)
    signed = SkippedRange(
        partition=partition,
        first_offset=first_offset,
        next_offset=next_offset,
        reason=reason,
        signature=signature.hex(),
    )
    return checked(log, [signed])[0]


def signed_bytes(partition: int, first_offset: int, next_offset: int, reason: str) -> bytes:
    """The value that the operator signs: canonical JSON of all fields of the skipped range."""
    return canonical_json(
        {"partition": partition, "first_offset": first_offset, "next_offset": next_offset, "reason": reason}
    )


def signer_of(log: Log, skipped: SkippedRange) -> str | None:
    """The EVM account (in lower case) that signed a skipped range, None if the signature is invalid."""
    value = signed_bytes(skipped.partition, skipped.first_offset, skipped.next_offset, skipped.reason)
    signature = bytes.fromhex(skipped.signature)
    return operator_of(signature, log.log_id, str(skipped.partition), RECORD_TYPE, _CONTENT_TYPE, value)


def checked(log: Log, skipped_ranges: Iterable[SkippedRange]) -> tuple[SkippedRange, ...]:
    """The ranges by partition and offset. Raises InvalidInput if one is invalid or wasn't signed by an operator.

    Any operator of any of the log's rulesets may sign: the epoch of an offset is unknown before the log is read.
    """
    operators = {operator for ruleset in log.rulesets for operator in ruleset.operators}
    ordered = sorted(skipped_ranges, key=lambda each: (each.partition, each.first_offset))
    for each in ordered:
        if each.partition >= log.partitions:
            raise InvalidInput(
                f"{named(each)} names a partition that the log doesn't have: it has {log.partitions}, counted from 0"
            )
        if each.first_offset >= each.next_offset or not each.reason.strip():
            raise InvalidInput(f"{named(each)} needs a first offset below the next one, and a reason")
        signer = signer_of(log, each)
        if signer not in operators:
            who = "no valid key" if signer is None else signer
            raise InvalidInput(f"{named(each)} was signed by {who}, not by an operator of this log: have one sign it")
    for one, other in pairwise(ordered):
        if one.partition == other.partition and other.first_offset < one.next_offset:
            raise InvalidInput(f"{named(other)} overlaps another: remove one of the two")
    return tuple(ordered)


def without_evidence(skipped: SkippedRange, batches: Iterable[SkippedBatch]) -> int | None:
    """The first offset of a range that no batch of the partition covers; None if they cover all of it."""
    at = skipped.first_offset
    for batch in sorted(batches, key=lambda each: each.first_offset):
        if batch.first_offset <= at:
            at = max(at, batch.next_offset)
    return at if at < skipped.next_offset else None


def within(
    skipped_ranges: Sequence[SkippedRange], partition: int, first_offset: int, next_offset: int
) -> tuple[SkippedRange, ...]:
    """The skipped ranges of a partition that begin in [first_offset, next_offset), in their order."""
    return tuple(
        each
        for each in skipped_ranges
        if each.partition == partition and first_offset <= each.first_offset < next_offset
    )


def named(skipped: SkippedRange) -> str:
    """What a skipped range is called in a message."""
    return (
        f"the skipped range of the offsets {skipped.first_offset} to {skipped.next_offset}"
        f" of partition {skipped.partition}"
    )
