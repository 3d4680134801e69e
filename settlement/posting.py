"""The next step of one post, given the journal and the chain: pure, so that every turn of events can be tested.

prepared -> signed -> sent -> mined -> final        the normal course
sent -> reverted -> signed                          a new nonce
prepared, sent, reverted -> superseded              the head has changed: the ledger refuses this post on it
mined, final -> disputed                            never posted again
disputed -> mined                                   a reorganisation undid the dispute alone
signed, sent -> halted                              another process uses our key: an operator must investigate
mined, final, reverted, superseded -> sent          a reorganisation undid the block that the state was based on
halted -> sent                                      the node shows late that our own transaction used the nonce
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from settlement.head import PostHeader

PostingState = Literal["prepared", "signed", "sent", "mined", "reverted", "superseded", "disputed", "final", "halted"]
OVER: frozenset[PostingState] = frozenset({"superseded", "disputed", "halted"})


GWEI = 10**9


class Fees(Struct, frozen=True):
    """EIP-1559 fees in wei per gas."""

    max_fee: int
    priority_fee: int

    def within(self, cap: int, least: int) -> "Fees | None":
        """These fees, lowered to the cap; None if the cap does not allow `least` (both in wei per gas)."""
        return Fees(min(self.max_fee, cap), self.priority_fee) if max(least, self.priority_fee) <= cap else None

    def bumped(self, current: "Fees") -> "Fees":
        """The higher of `current` and 12.5 % above these, in both fields: every node accepts that as a replacement."""
        return Fees(max(_bump(self.max_fee), current.max_fee), max(_bump(self.priority_fee), current.priority_fee))

    def replaced(self, current: "Fees", cap: int) -> "Fees | None":
        """The fees of a transaction that takes the place of one with these; None if the cap does not allow them."""
        return self.bumped(current).within(cap, self.bumped(NO_FEES).max_fee)


NO_FEES = Fees(0, 0)


def _bump(fee: int) -> int:
    return fee + max(1, -(-fee // 8))


class Attempt(Struct, frozen=True):
    """One signed transaction: its bytes are in the journal before they are sent. `sent_block` is None if never sent."""

    nonce: int
    hash: str
    raw: bytes
    fees: Fees
    sent_block: int | None = None


class Posting(Struct, frozen=True):
    """One post in the journal; `generation` grows when a disputed sequence is posted again."""

    header: PostHeader
    generation: int
    state: PostingState
    attempts: tuple[Attempt, ...] = ()
    mined_block: int | None = None
    note: str = ""


class Mined(Struct, frozen=True):
    """The block that holds a transaction, and whether it succeeded."""

    block: int
    succeeded: bool


class ChainView(Struct, frozen=True):
    """The chain's view of one posting. `nonce` is the poster's next one at the latest block, read before the rest.

    `live` maps the heads of live posts to their blocks, `dead` are those of disputed ones; `known` are transaction
    hashes that the node has, mined or pending. `spent` are nonces used by our transactions of other postings.
    `base_fee` is in wei per gas: below it no node accepts or mines a transaction.
    """

    head: bytes
    live: Mapping[bytes, int]
    dead: frozenset[bytes]
    nonce: int
    block: int
    final_block: int
    receipts: Mapping[str, Mined]
    known: frozenset[str]
    fees: Fees
    base_fee: int = 0
    spent: frozenset[int] = frozenset()


class Policy(Struct, frozen=True):
    """`fee_cap` is in wei per gas; an attempt that is not mined after `bump_blocks` is replaced with higher fees."""

    fee_cap: int
    bump_blocks: int = 5


class Sign(Struct, frozen=True):
    """Sign the post with this nonce and these fees, and journal it."""

    nonce: int
    fees: Fees


class Send(Struct, frozen=True):
    """Send these bytes (again)."""

    attempt: Attempt


class Mark(Struct, frozen=True):
    """Journal a new state, then decide again."""

    state: PostingState
    block: int | None = None
    note: str = ""


class Wait(Struct, frozen=True):
    """Nothing to do until the chain moves; with `alarm`, an operator should know.

    With `elsewhere` an earlier posting may have to move first: a reorganisation may have undone it.
    """

    reason: str
    alarm: bool = False
    elsewhere: bool = False


class Rest(Struct, frozen=True):
    """Nothing to do."""


Action = Sign | Send | Mark | Wait | Rest


def next_action(posting: Posting, view: ChainView, policy: Policy) -> Action:
    """The next action for a posting."""
    head = posting.header.head()
    match posting.state:
        case "disputed":  # final, unless a reorganisation undid the dispute and not the post
            return Mark("mined", view.live[head]) if head in view.live else Rest()
        case "mined" | "final":
            return _mined(posting, view)
        case _ if head in view.live:  # it is this very post, also if another process sent it
            return Mark("mined", view.live[head])
        case _ if head in view.dead:
            return Mark("disputed")
        case "superseded":
            # A reorganisation can restore a head, and with it the old bytes: they are sent before any new ones.
            back = posting.attempts and view.head == posting.header.previous_head
            return Mark("sent") if back else Rest()
        case "halted":
            return Mark("sent") if _explained(posting, view) else Rest()
        case "prepared":
            return _unsent(posting, view, policy)
        case "reverted":
            given_back = view.nonce <= _top(posting)  # a reorganisation undid the refused transaction
            return Mark("sent") if given_back else _unsent(posting, view, policy)
        case "signed" | "sent":
            return _sent(posting, view, policy)


def _unsent(posting: Posting, view: ChainView, policy: Policy) -> Action:
    if view.head != posting.header.previous_head:
        return Mark("superseded", note="the ledger's head has moved on")
    return _sign(posting, view, policy)


def _sent(posting: Posting, view: ChainView, policy: Policy) -> Action:
    last = posting.attempts[-1]
    waiting = [a.nonce for a in posting.attempts if a.hash in view.known and a.hash not in view.receipts]
    if any(a.hash in view.receipts and view.receipts[a.hash].succeeded for a in posting.attempts):
        return Wait("it is mined, but the node does not show its event yet")
    if view.nonce > _top(posting):
        if _explained(posting, view):
            return Mark("reverted", note="the ledger refused it")
        if waiting:
            return Wait(f"nonce {last.nonce} is used, but the node has no receipt for it yet")
        return Mark("halted", note=f"a foreign transaction has used the poster's nonce {last.nonce}")
    if view.head != posting.header.previous_head:
        if posting.header.sequence > len(view.live) + 1:  # a reorganisation undid earlier posts: they come first
            return Rest()
        if view.nonce in waiting:  # any other pending nonce waits for one that only a new post fills
            return Wait("the ledger's head has moved on, and its transaction is still with the node", elsewhere=True)
        return Mark("superseded", note="the ledger's head has moved on")
    due = next((a for a in reversed(posting.attempts) if a.nonce == view.nonce), None)
    if due is None:  # a reorganisation has opened a gap under our nonces: the post itself fills it
        lags = any(a.sent_block is not None and a.sent_block > view.block for a in posting.attempts)
        return Wait("the node lags behind") if lags else _sign(posting, view, policy)
    if due.fees.max_fee >= view.base_fee:
        if posting.state == "signed" or due.sent_block is None or due.hash not in view.known:
            return Send(due)
        if view.block - due.sent_block < policy.bump_blocks:
            return Wait(f"transaction {due.hash} is not mined yet")
    return _sign(posting, view, policy)


def _sign(posting: Posting, view: ChainView, policy: Policy) -> Action:
    """Signs for the next nonce: above the fees of all earlier attempts with it, and never above the cap."""
    wanted, least = view.fees, view.base_fee + view.fees.priority_fee
    for attempt in posting.attempts:
        if attempt.nonce == view.nonce:
            wanted, least = attempt.fees.bumped(wanted), max(least, attempt.fees.bumped(NO_FEES).max_fee)
    fees = wanted.within(policy.fee_cap, least)
    if fees is None:
        return Wait(too_dear(view.base_fee, least, policy.fee_cap), alarm=True)
    return Sign(view.nonce, fees)


def _explained(posting: Posting, view: ChainView) -> bool:
    """Whether a transaction of ours, of this posting or another, is known to have used the last nonce."""
    if not posting.attempts:
        return False
    nonce = posting.attempts[-1].nonce
    return nonce in view.spent or any(a.nonce == nonce and a.hash in view.receipts for a in posting.attempts)


def _top(posting: Posting) -> int:
    return max(attempt.nonce for attempt in posting.attempts)


def _mined(posting: Posting, view: ChainView) -> Action:
    head = posting.header.head()
    if head in view.dead:
        return Mark("disputed")
    if head not in view.live:  # a reorganisation undid it
        return Mark("sent") if posting.attempts else Mark("prepared")
    if posting.state == "mined" and view.live[head] <= view.final_block:
        return Mark("final", view.live[head])
    return Rest()


def too_dear(base_fee: int, least: int, cap: int) -> str:
    """The message that `least` is above the cap; all in wei per gas."""
    return (
        f"gas costs too much: the base fee is {gwei(base_fee)} gwei now, a transaction must offer {gwei(least)}, and"
        f" the cap is {gwei(cap)}; wait, or raise TALLYROOT_FEE_CAP_GWEI"
    )


def gwei(wei: int) -> str:
    """Wei as gwei, exact."""
    return f"{wei // GWEI}.{wei % GWEI:09d}".rstrip("0").rstrip(".")
