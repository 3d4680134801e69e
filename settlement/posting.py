"""What to do next about one post, given the journal and the chain: pure, so that every turn of events can be tested.

prepared -> signed -> sent -> mined -> final        the way it goes
sent -> reverted -> signed                          a new nonce
prepared, sent, reverted -> superseded              another head: it can never be mined any more
mined, final -> disputed                            never posted again
any -> halted                                       somebody else uses our key: a person must look
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from settlement.head import PostHeader

PostingState = Literal["prepared", "signed", "sent", "mined", "reverted", "superseded", "disputed", "final", "halted"]
OVER: frozenset[PostingState] = frozenset({"superseded", "disputed", "halted"})


class Fees(Struct, frozen=True):
    """EIP-1559 fees in wei per gas."""

    max_fee: int
    priority_fee: int

    def bumped(self, current: "Fees") -> "Fees":
        """At least 12.5 % above these in both fields, so that every node takes the replacement, or what is current."""
        return Fees(max(_bump(self.max_fee), current.max_fee), max(_bump(self.priority_fee), current.priority_fee))


def _bump(fee: int) -> int:
    return fee + max(1, -(-fee // 8))


class Attempt(Struct, frozen=True):
    """One signed transaction: its bytes are in the journal before they are sent. `sent_block` None: never sent."""

    nonce: int
    hash: str
    raw: bytes
    fees: Fees
    sent_block: int | None = None


class Posting(Struct, frozen=True):
    """One post as the journal knows it; `generation` grows where a disputed sequence is made anew."""

    header: PostHeader
    generation: int
    state: PostingState
    attempts: tuple[Attempt, ...] = ()
    mined_block: int | None = None
    note: str = ""


class Receipt(Struct, frozen=True):
    """Where a transaction was mined, and whether it did what it should."""

    block: int
    succeeded: bool


class ChainView(Struct, frozen=True):
    """What the chain says of one posting. `nonce` is the poster's next one at the latest block, read before the rest.

    `live` and `dead` are heads of posts; `known` are hashes that the node has, mined or waiting. `base_fee` is in wei
    per gas: under it no node takes or mines a transaction.
    """

    head: bytes
    live: frozenset[bytes]
    dead: frozenset[bytes]
    nonce: int
    block: int
    final_block: int
    receipts: Mapping[str, Receipt]
    known: frozenset[str]
    fees: Fees
    base_fee: int = 0


class Policy(Struct, frozen=True):
    """`fee_cap` in wei per gas; after `bump_blocks` without being mined an attempt gets higher fees."""

    fee_cap: int
    bump_blocks: int = 5


class Sign(Struct, frozen=True):
    """Sign the post with this nonce and these fees, and write it down."""

    nonce: int
    fees: Fees


class Send(Struct, frozen=True):
    """Send these bytes (again)."""

    attempt: Attempt


class Mark(Struct, frozen=True):
    """Write a new state down and ask again."""

    state: PostingState
    block: int | None = None
    note: str = ""


class Wait(Struct, frozen=True):
    """Nothing to do until the chain moves; `alarm` says that a person should know."""

    reason: str
    alarm: bool = False


class Rest(Struct, frozen=True):
    """Nothing to do."""


Action = Sign | Send | Mark | Wait | Rest


def next_action(posting: Posting, view: ChainView, policy: Policy) -> Action:
    """The next thing to do about a posting."""
    match posting.state:
        case "superseded" | "disputed" | "halted":
            return Rest()
        case "prepared":
            return _unsent(posting, view, policy)
        case "signed" | "sent":
            return _sent(posting, view, policy)
        case "reverted":
            return _unsent(posting, view, policy)
        case "mined" | "final":
            return _mined(posting, view)


def _unsent(posting: Posting, view: ChainView, policy: Policy) -> Action:
    if posting.header.head() in view.live:
        return Mark("mined", view.block)
    if view.head != posting.header.previous_head:
        return Mark("superseded", note="the ledger's head has moved on")
    if view.fees.max_fee > policy.fee_cap:
        return Wait(_too_dear(view.fees, policy), alarm=True)
    return Sign(view.nonce, view.fees)


def _sent(posting: Posting, view: ChainView, policy: Policy) -> Action:
    receipts = [view.receipts[a.hash] for a in posting.attempts if a.hash in view.receipts]
    mined = next((receipt for receipt in receipts if receipt.succeeded), None)
    if mined is not None:
        return Mark("mined", mined.block)
    last = posting.attempts[-1]
    if any(a.hash in view.receipts for a in posting.attempts if a.nonce == last.nonce):
        return Mark("reverted", note="the ledger refused it")
    if view.nonce > last.nonce:
        return Mark("halted", note=f"a foreign transaction has used the poster's nonce {last.nonce}")
    if last.hash not in view.known and view.head != posting.header.previous_head:
        # Its bytes may still be somewhere, but a head never comes back: mined late, it reverts.
        return Mark("superseded", note="the ledger's head has moved on")
    too_cheap = last.fees.max_fee < view.base_fee
    if not too_cheap and (posting.state == "signed" or last.sent_block is None or last.hash not in view.known):
        return Send(last)
    if not too_cheap and last.sent_block is not None and view.block - last.sent_block < policy.bump_blocks:
        return Wait(f"transaction {last.hash} is not mined yet")
    fees = last.fees.bumped(view.fees)
    if fees.max_fee > policy.fee_cap:
        return Wait(_too_dear(fees, policy), alarm=True)
    return Sign(last.nonce, fees)


def _mined(posting: Posting, view: ChainView) -> Action:
    head = posting.header.head()
    if head in view.dead:
        return Mark("disputed")
    if head not in view.live:  # a reorganisation took it
        if not posting.attempts:
            return Mark("prepared")
        return Mark("sent")
    if posting.state == "mined" and posting.mined_block is not None and posting.mined_block <= view.final_block:
        return Mark("final", posting.mined_block)
    return Rest()


def _too_dear(fees: Fees, policy: Policy) -> str:
    return f"gas costs {fees.max_fee} wei, the cap is {policy.fee_cap}: wait, or raise the cap"
