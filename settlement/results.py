"""The results of the functions of settlement/service.py. Amounts are token units unless their name says micros."""

from msgspec import Struct

from schemas.manifest import SkippedRange
from schemas.payout import Settlement, UnsettledReason
from schemas.units import TokenUnits
from schemas.window import DueKind


class Funded(Struct, frozen=True):
    """The amount sent to the ledger and its balance now; `transaction` is None if nothing was missing."""

    amount: TokenUnits
    balance: TokenUnits
    transaction: str | None


class PostRow(Struct, frozen=True):
    """One post and its state; `active_from_s` is the end of its delay in Unix seconds, attested or not."""

    settlement: Settlement
    active_from_s: int
    total: TokenUnits


class UnsettledSum(Struct, frozen=True, order=True):
    """What nobody can be paid, over all machines: of a payee as its agreements spell it, "" where trust is too low."""

    reason: UnsettledReason
    payee: str
    micros: int


class SettlementsReport(Struct, frozen=True, kw_only=True):
    """All posts, and the ledger: `shortfall` is what it lacks for all earned, posted or not, and for deposits.

    `deposits` is what customers paid for sessions still open at the last cut; `expenses_micros` and `refunds_micros`
    are all dues ever, and `unsettled` what nobody can be paid, of all epochs, posted or not. `paused_until_s` and
    `posting_paused_until_s` are Unix seconds, 0 if claims or posts are not paused. `skipped` are the ranges of offsets
    that live posts leave out. `collected_micros` is what customers who paid before left with the machines, in the
    windows that these posts settle; None where nobody has summed it up.
    """

    posts: tuple[PostRow, ...]
    total: TokenUnits
    claimed: TokenUnits
    balance: TokenUnits
    unposted: TokenUnits
    deposits: TokenUnits
    expenses_micros: int
    refunds_micros: int
    shortfall: TokenUnits
    decimals: int
    runway: "Runway"
    paused_until_s: int
    posting_paused_until_s: int
    quorum: int
    unsettled: tuple[UnsettledSum, ...]
    skipped: tuple["SkippedInPost", ...] = ()
    collected_micros: int | None = None


class SkippedInPost(Struct, frozen=True):
    """A range of offsets that an operator had skipped, and the post that settles its epoch."""

    sequence: int
    range: SkippedRange


class Runway(Struct, frozen=True):
    """How long the funds last: `free` is owed to nobody and is no deposit.

    `per_day` is the recent growth of the total per day; `days` is None if nothing was ever added.
    """

    free: TokenUnits
    per_day: TokenUnits
    days: int | None


class PlannedPost(Struct, frozen=True, kw_only=True):
    """A post that a settlement would make now; `shortfall` is what the ledger lacks for it and the posts before it.

    `expenses` and `refunds` are the dues in `added`; `deposits` must be covered beside the total.
    """

    sequence: int
    first_epoch: int
    last_epoch: int
    windows: int
    windows_root: str
    payouts_root: str
    manifest_hash: str
    added: TokenUnits
    expenses: TokenUnits
    refunds: TokenUnits
    total: TokenUnits
    deposits: TokenUnits
    shortfall: TokenUnits


class PlannedDue(Struct, frozen=True):
    """A due that a planned post would pay: a supplier's invoice (`ref` is item/number) or a customer's refund (`ref` is
    the session).
    """

    sequence: int
    machine: str
    kind: DueKind
    ref: str
    account: str
    amount: TokenUnits


class PayeeChange(Struct, frozen=True):
    """One account: the cumulative amount before and after the planned posts, and its amount in the last post on the
    chain.
    """

    account: str
    before: TokenUnits
    after: TokenUnits
    last_amount: TokenUnits


class DryRun(Struct, frozen=True, kw_only=True):
    """What a settlement would do now.

    `unfinished`: sequences in the journal whose transaction is not mined, which come first. `refusal`: why the ledger
    or a missing key would stop it, or empty. `gas` is that of one post, `cost_wei` the cost of all at the current fees,
    `most_wei` at the highest fees allowed. `changes`: accounts whose amount grows, the largest growth first; `gone`:
    accounts of the last post that get nothing from these; `dues`: those that the posts pay. `unsettled`: what nobody
    can be paid, with these posts.
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
    shortfall: TokenUnits
    changes: tuple[PayeeChange, ...]
    gone: tuple[PayeeChange, ...]
    dues: tuple[PlannedDue, ...]
    unsettled: tuple[UnsettledSum, ...]
    decimals: int


class RoleCall(Struct, frozen=True):
    """A call of guardian or admin: contract, calldata, sender; `transaction` is None if it was only simulated.

    `ready_s` is from when on an announced step may be taken, Unix seconds; None where it needn't wait.
    """

    to: str
    data: str
    sender: str
    transaction: str | None
    ready_s: int | None = None


class RoleHolder(Struct, frozen=True):
    """An account that has a role of the ledger; `contract` is true for a timelock or multisig, false for a
    plain key.
    """

    role: str
    account: str
    contract: bool


class PayoutRow(Struct, frozen=True):
    """One account: cumulative amount posted, claimed, claimable now (under post `sequence`), and not yet active.

    `expenses` and `refunds` are what of the cumulative amount was paid as a supplier's invoices and as refunds.
    """

    account: str
    cumulative: TokenUnits
    expenses: TokenUnits
    refunds: TokenUnits
    claimed: TokenUnits
    claimable: TokenUnits
    waiting: TokenUnits
    sequence: int


class Payouts(Struct, frozen=True):
    """The accounts of a ledger, or one of them, and the decimals of its token."""

    decimals: int
    payouts: list[PayoutRow]


class Attested(Struct, frozen=True):
    """The last post attested, and the head that was checked."""

    sequence: int
    head: str
    transaction: str


class Claimed(Struct, frozen=True):
    """A claim: the amount paid, the post, and the account's balance afterwards."""

    account: str
    sequence: int
    amount: TokenUnits
    balance: TokenUnits
    transaction: str


class Paid(Struct, frozen=True):
    """An amount paid, or returned, to one account."""

    account: str
    amount: TokenUnits


class ClaimedMany(Struct, frozen=True):
    """Claims of many accounts under one post, `amount` in all.

    `returned`: the token refused to pay them (a blacklist, say), so they can claim later. `already`: nothing was due.
    """

    sequence: int
    amount: TokenUnits
    paid: tuple[Paid, ...]
    returned: tuple[Paid, ...]
    already: tuple[str, ...]
    transactions: tuple[str, ...]


class Verified(Struct, frozen=True):
    """The check of a proof: `valid` if the ledger has the root and the proof leads to it, `active` if it pays now."""

    valid: bool
    active: bool
    claimable: TokenUnits
    claimed: TokenUnits
    reason: str
