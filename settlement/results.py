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
    """All posts, and the ledger: `shortfall` is earned, posted or not, but not funded.

    `paused_until_s` is Unix seconds, 0 where claims are not paused.
    """

    posts: tuple[PostRow, ...]
    total: int
    claimed: int
    balance: int
    unposted: int
    shortfall: int
    decimals: int
    runway: "Runway"
    paused_until_s: int


class Runway(Struct, frozen=True):
    """How long the funds last: `free` is owed to nobody, `per_day` what a day added to the total of late.

    `days` is None where nothing was ever added.
    """

    free: int
    per_day: int
    days: int | None


class PlannedPost(Struct, frozen=True, kw_only=True):
    """A post as a settlement would make it now; `shortfall` is what the ledger lacks for it and those before."""

    sequence: int
    first_epoch: int
    last_epoch: int
    windows: int
    windows_root: str
    payouts_root: str
    manifest_hash: str
    added: int
    total: int
    shortfall: int


class PayeeChange(Struct, frozen=True):
    """One payee: ever owed before and after the planned posts, and what the last post on the chain gave it."""

    account: str
    before: int
    after: int
    last_amount: int


class DryRun(Struct, frozen=True, kw_only=True):
    """What a settlement would do now, and nothing of it done.

    `unfinished`: sequences in the journal whose transaction is not mined, which come first. `refusal`: why the ledger
    or a missing key would stop it, or nothing. `gas` is that of one post, `cost_wei` that of all at the fees of now,
    `most_wei` at the highest that they may rise to. `changes`: payees whose amount grows, the largest growth first;
    `gone`: paid by the last post, and by none of these.
    """

    posts: tuple[PlannedPost, ...]
    waiting_for: str
    unfinished: tuple[int, ...]
    refusal: str
    gas: int
    cost_wei: int
    most_wei: int
    poster: str
    poster_wei: int
    shortfall: int
    changes: tuple[PayeeChange, ...]
    gone: tuple[PayeeChange, ...]
    decimals: int


class RoleCall(Struct, frozen=True):
    """A call of guardian or admin: contract, calldata, who sends it; without a transaction it was only tried out."""

    to: str
    data: str
    sender: str
    transaction: str | None


class RoleHolder(Struct, frozen=True):
    """An account that has a role of the ledger; `contract` tells a timelock or multisig from a plain key."""

    role: str
    account: str
    contract: bool


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


class Paid(Struct, frozen=True):
    """An amount of one account."""

    account: str
    amount: int


class ClaimedMany(Struct, frozen=True):
    """What many accounts got under one post, `amount` in all.

    `returned`: the token refused to pay them (a blacklist, say), so they can claim later. `already`: nothing was due.
    """

    sequence: int
    amount: int
    paid: tuple[Paid, ...]
    returned: tuple[Paid, ...]
    already: tuple[str, ...]
    transactions: tuple[str, ...]


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
