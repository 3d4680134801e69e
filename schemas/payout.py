"""What accounts are owed: the rows of a post, of the claims against it, and of what could not be settled."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar

import pyarrow as pa
from msgspec import Struct

from schemas.arrow import MICROS

UnsettledReason = Literal["no_account", "trust"]
"""Why money is not paid out: its payee is not an EVM account, or the agreement doesn't pay for the window's trust."""

PostState = Literal["pending", "attested", "active", "disputed", "revoked"]
"""pending: no auditor yet; attested: the delay runs; active: can be claimed; disputed: dead; revoked: taken back."""


class Payout(Struct, frozen=True):
    """One account in one post: all it was ever owed (micros), and what this post added."""

    sequence: int
    account: str
    cumulative_micros: int
    amount_micros: int


class Settlement(Struct, frozen=True, kw_only=True):
    """One post: epochs [first_epoch, last_epoch], its roots as hex, its transaction and the block that holds it.

    `total_micros` is all that was ever owed, `deposits_micros` what the ledger had to hold beside it.
    """

    sequence: int
    first_epoch: int
    last_epoch: int
    windows_root: str
    payouts_root: str
    head: str
    transaction: str
    state: str
    total_micros: int
    deposits_micros: int
    posted_block: int


class Claim(Struct, frozen=True):
    """One payment by the ledger: `amount` is in token units."""

    account: str
    sequence: int
    amount: int
    transaction: str
    block: int


class ChainSeen(Struct, frozen=True):
    """settlement/seen.json: up to which block, and its time in Unix seconds, the analysts' tables show the chain."""

    block: int
    time_s: int


class Funding(Struct, frozen=True, kw_only=True):
    """settlement/funding.json, for readers without access to the chain: the ledger's money in token units.

    It must hold what is earned and not claimed, and customers' deposits: shortfall = max(0, earned + deposits -
    funded). `earned` is all ever earned, posted or not, `funded` what the ledger holds and what was claimed.

    As of `at_ms` (epoch ms), the last settlement. `runway_days`: how long free funds last at the pace of the last
    posts; None if nothing was ever posted. `posts` are those not disputed, the last one mined at `last_post_s` (Unix
    seconds).
    """

    earned: str
    funded: str
    claimed: str
    deposits: str
    shortfall: str
    decimals: int
    at_ms: int
    posts: int
    last_post_s: int | None = None
    runway_days: int | None = None


class Unsettled(Struct, frozen=True, order=True):
    """Money that is not in the payouts, by reason, machine and payee (\"\" if the whole window is left out)."""

    reason: UnsettledReason
    machine: str
    payee: str
    micros: str


class Carry(Struct, frozen=True, order=True):
    """What a machine must earn under an agreement (digest as hex) before it pays again: micros below zero."""

    machine: str
    agreement: str
    micros: str


PAYOUTS = pa.schema(
    [("sequence", pa.int64()), ("account", pa.string()), ("cumulative_micros", MICROS), ("amount_micros", MICROS)]
)
SETTLEMENTS = pa.schema(
    [
        ("sequence", pa.int64()),
        ("first_epoch", pa.int64()),
        ("last_epoch", pa.int64()),
        ("windows_root", pa.string()),
        ("payouts_root", pa.string()),
        ("head", pa.string()),
        ("transaction", pa.string()),
        ("state", pa.string()),
        ("total_micros", MICROS),
        ("deposits_micros", MICROS),
        ("posted_block", pa.int64()),
    ]
)
CLAIMS = pa.schema(
    [
        ("account", pa.string()),
        ("sequence", pa.int64()),
        ("amount", MICROS),
        ("transaction", pa.string()),
        ("block", pa.int64()),
    ]
)

Row = TypeVar("Row", Payout, Settlement, Claim)


def rows_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table of PAYOUTS, SETTLEMENTS or CLAIMS, in the order given."""
    columns = [_column([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.table(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    exact = [Decimal(value) for value in values] if pa.types.is_decimal(kind) else values
    return pa.array(exact, kind)


class ProofFile(Struct, frozen=True, kw_only=True):
    """All that `claim` needs besides a node: hashes as 0x-hex, the amount as a decimal string."""

    chain_id: int
    ledger: str
    sequence: int
    account: str
    cumulative: str
    payouts_root: str
    proof: tuple[str, ...]
