"""What the functions of settlement/worker.py return. Amounts are token units unless their name says micros."""

from msgspec import Struct

from schemas.payout import Settlement


class Funded(Struct, frozen=True):
    """What was sent to the ledger and what it holds now; without a transaction nothing was missing."""

    amount: int
    balance: int
    transaction: str | None


class PostRow(Struct, frozen=True):
    """One post and where it stands; `active_from_s` is Unix seconds, attested or not."""

    settlement: Settlement
    active_from_s: int
    total: int


class SettlementsReport(Struct, frozen=True):
    """All posts, and the ledger: `shortfall` is earned, posted or not, but not funded."""

    posts: tuple[PostRow, ...]
    total: int
    claimed: int
    balance: int
    unposted: int
    shortfall: int
    decimals: int


class PayoutRow(Struct, frozen=True):
    """One account: ever owed and posted, claimed, claimable now (under post `sequence`), and waiting to be active."""

    account: str
    cumulative: int
    claimed: int
    claimable: int
    waiting: int
    sequence: int


class Attested(Struct, frozen=True):
    """The last post attested, and the head that was checked."""

    sequence: int
    head: str
    transaction: str


class Claimed(Struct, frozen=True):
    """What was paid, under which post, and what the account holds now."""

    account: str
    sequence: int
    amount: int
    balance: int
    transaction: str


class ProofFile(Struct, frozen=True, kw_only=True):
    """All that `claim` needs, for anybody who has a node: hashes as 0x-hex, the amount as a decimal string."""

    chain_id: int
    ledger: str
    sequence: int
    account: str
    cumulative: str
    payouts_root: str
    proof: tuple[str, ...]


class Verified(Struct, frozen=True):
    """Whether the ledger has this root and the proof leads to it; whether it pays now, and how much."""

    valid: bool
    active: bool
    claimable: int
    claimed: int
    reason: str
