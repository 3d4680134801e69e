"""A refused entry is data: a reason from a closed list, its position in the log, and the record's bytes."""

from typing import Literal, get_args

from msgspec import Struct

Reason = Literal[
    # the record
    "undecodable",
    "too_many_entries",
    "unknown_type",
    # any entry, in the order of the checks
    "malformed",
    "unknown_machine",
    "bad_signature",
    "from_the_future",
    "unknown_meter",
    "wrong_kind",
    "stale_boot",
    "boot_jump",
    "seq_jump",
    "equivocation",
    "seq_reused",
    "below_floor",
    "retired",
    "too_late",
    "too_high",
    "too_low",
    # control records
    "wrong_partition",
    "stale_version",
    "agreement_locked",
    "no_fee",
    # orders and payments
    "unknown_order",
    "order_closed",
    "over_price",
    "order_received",
    "payment_reused",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

KEPT_BYTES = 65_536
"""How much of a refused record's value is kept; the digest covers all of it."""

WHOLE_RECORD = -1
"""The row of an entry that is its whole record."""


class Reject(Struct, frozen=True):
    """One refused entry: the record's offset, the row in it (-1: the whole record) and the reason."""

    offset: int
    row: int
    reason: Reason
