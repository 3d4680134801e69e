"""Drives postings, one at a time: reads the chain, takes the action of `next_action`, journals before it acts.

The steps (3) to (6) of a settlement are here; see job.py.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from schemas.errors import InvalidInput
from settlement.chain.contract import Call
from settlement.chain.ledger import Deployment
from settlement.chain.node import Sent
from settlement.chain.signer import Signer
from settlement.head import PostHeader
from settlement.history import History
from settlement.posting import (
    OVER,
    Attempt,
    ChainView,
    Fees,
    Mark,
    Mined,
    Policy,
    Posting,
    Rest,
    Send,
    Sign,
    Wait,
    next_action,
)
from settlement.storage.journal import Journal

WAIT_S = 180.0
HALT_BLOCKS = 3
"""For how many blocks a nonce must look stolen before the settlement halts: a node may lag, a block be undone."""
REFUSALS_AT_MOST = 5
"""How many times in one run a post may be refused when it is mined although a simulated call succeeds: each costs gas.
"""

Crash = Callable[[int], None]
"""Called with the number of each numbered step after it: where crash tests end the process."""


class Clock(Protocol):
    """The part of the module `time` that the job uses."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Waits."""


class ChainPort(Protocol):
    """The part of `Chain` that the job uses."""

    fee_cap: int
    poll_s: float

    def ask(self, call: Call, sender: str | None = None) -> Any: ...
    def signed(self, signer: Signer, call: Call, nonce: int, fees: Fees) -> tuple[bytes, str]: ...
    def send_raw(self, raw: bytes) -> Sent: ...
    def nonce(self, account: str) -> int: ...
    def receipt(self, transaction: str) -> Mined | None: ...
    def knows(self, transaction: str) -> bool: ...
    def block_number(self) -> int: ...
    def final_block(self) -> int: ...
    def fees(self) -> Fees: ...
    def base_fee(self) -> int: ...


class LedgerPort(Protocol):
    """The part of `Ledger` that the job uses."""

    deployment: Deployment

    @property
    def chain(self) -> ChainPort: ...
    def history(self) -> History: ...
    def post(self, header: PostHeader) -> Call: ...


class NotYet(InvalidInput):
    """The chain has to move first: gas costs too much, or a transaction is not mined. The next run continues
    from here.
    """


class Driver:
    """Drives the postings of one poster as far as they go. `after` is for crash tests, `clock` for simulations."""

    def __init__(
        self, ledger: LedgerPort, poster: Signer, journal: Journal, policy: Policy, after: Crash, clock: Clock = time
    ) -> None:
        self._ledger = ledger
        self._chain = ledger.chain
        self._poster = poster
        self._journal = journal
        self._policy = policy
        self._after = after
        self._clock = clock
        self.mined: set[int] = set()
        """The sequences that were mined in this run."""

    def drive_all(self) -> None:
        """Drives every posting that is not over as far as it goes, in the order of sequences.

        Raises NotYet if the chain has to move first, InvalidInput if an operator has to act.
        """
        deadline = self._clock.monotonic() + WAIT_S
        while not all(self._drive(posting, deadline) for posting in self._unsettled()):
            """A reorganisation undid an earlier one as well: starts again from the first one."""

    def _unsettled(self) -> Iterator[Posting]:
        history = self._ledger.history()
        live = {posted.head for posted in history.live}
        for posting in self._journal.postings():
            if posting.state not in OVER:
                if posting.state != "final" or posting.header.head() not in live:
                    yield posting
            elif posting.state == "halted" or may_return(posting, history):
                yield posting

    def _drive(self, posting: Posting, deadline: float) -> bool:
        """Drives one posting as far as it goes; returns False if an earlier one must be driven again first."""
        refusals, doubted_at = 0, None
        taken: set[str] = set()
        while True:
            view = self._view(posting)
            action = next_action(posting, view, self._policy)
            if not (isinstance(action, Mark) and action.state == "halted"):
                doubted_at = None
            elif doubted_at is None:
                doubted_at = view.block
            match action:
                case Rest():
                    return True
                case Mark("halted", note=note) if doubted_at is not None and view.block < doubted_at + HALT_BLOCKS:
                    self._pause(posting, f"{note}, as it seems: that is sure in {HALT_BLOCKS} blocks", deadline)
                case Mark("reverted"):
                    refusals += 1
                    posting = self._refused(posting, refusals)
                case Mark(state, block, note):
                    posting = self._journal.mark(posting, state, block, note)
                    if state == "mined":
                        self.mined.add(posting.header.sequence)
                        self._after(6)
                    elif state == "halted":
                        raise InvalidInput(f"settlement halts: {note}; find out who has the key before anything else")
                case Sign(nonce, fees):
                    signed = self._signed(posting, nonce, fees)
                    if signed is not None:
                        posting = self._journal.sign(posting, signed)  # (3)
                        self._after(3)
                case Send(attempt):
                    if attempt.hash in taken:
                        reason = f"the node has taken the transaction {attempt.hash}, and doesn't know it"
                        self._pause(posting, reason, deadline)
                    taken.add(attempt.hash)
                    posting, answer = self._send(posting, attempt, view.block)
                    more = attempt.fees.replaced(view.fees, self._policy.fee_cap) if answer == "underpriced" else None
                    if more is not None:  # what waits with its nonce is not in the journal: a lost one, say
                        signed = self._signed(posting, attempt.nonce, more)
                        posting = posting if signed is None else self._journal.sign(posting, signed)
                    elif answer != "sent":  # the next view shows what has used the nonce, or what gas costs
                        self._pause(posting, f"the node says of its transaction: {answer}", deadline)
                case Wait(reason, alarm, elsewhere):
                    self._pause(posting, reason, 0.0 if alarm else deadline)
                    if elsewhere:
                        return False

    def _pause(self, posting: Posting, reason: str, deadline: float) -> None:
        """Sleeps; raises NotYet once the deadline is over."""
        if self._clock.monotonic() > deadline:
            raise NotYet(f"post {posting.header.sequence}: {reason}; run settle again later")
        self._clock.sleep(self._chain.poll_s)

    def _refused(self, posting: Posting, refusals: int) -> Posting:
        """Journals why the ledger has refused a post. Raises InvalidInput if it refuses again and again without a
        reason.
        """
        note = f"transaction {posting.attempts[-1].hash} was refused when it was mined"
        try:
            self._chain.ask(self._ledger.post(posting.header), self._poster.address)
        except InvalidInput as error:
            return self._journal.mark(posting, "reverted", None, f"{note}: {error}")
        if refusals >= REFUSALS_AT_MOST:
            raise InvalidInput(
                f"post {posting.header.sequence}: {note}, as {refusals - 1} before it, although a simulated call"
                " succeeds:"
                " find out why before you run settle again"
            )
        return self._journal.mark(posting, "reverted", None, f"{note}; a simulated call succeeds now")

    def _signed(self, posting: Posting, nonce: int, fees: Fees) -> Attempt | None:
        """A signed transaction, not journaled yet; None if the ledger has moved on meanwhile."""
        try:
            raw, transaction = self._chain.signed(self._poster, self._ledger.post(posting.header), nonce, fees)
        except InvalidInput as error:
            if self._ledger.history().head != posting.header.previous_head:
                return None
            if posting.state == "reverted":
                raise InvalidInput(f"post {posting.header.sequence} was refused when it was mined: {error}") from None
            raise
        return Attempt(nonce, transaction, raw, fees)

    def _send(self, posting: Posting, attempt: Attempt, block: int) -> tuple[Posting, Sent]:
        """Sends journaled bytes if a simulated call of the post succeeds; returns the posting and the node's answer."""
        try:
            self._chain.ask(self._ledger.post(posting.header), self._poster.address)
        except InvalidInput:
            if self._ledger.history().head != posting.header.previous_head:
                return posting, "sent"  # the next view shows what has moved it
            raise
        answer = self._chain.send_raw(attempt.raw)  # (4)
        self._after(4)
        if answer == "sent":
            posting = self._journal.sent(posting, attempt, block)  # (5)
            self._after(5)
        return posting, answer

    def _view(self, posting: Posting) -> ChainView:
        nonce = self._chain.nonce(self._poster.address)  # first: a nonce seen as used has a receipt from then on
        history = self._ledger.history()
        hashes = [attempt.hash for attempt in posting.attempts]
        receipts = {h: receipt for h in hashes if (receipt := self._chain.receipt(h)) is not None}
        return ChainView(
            head=history.head,
            live={posted.head: posted.block for posted in history.live},
            dead=frozenset(posted.head for posted in history.dead),
            nonce=nonce,
            block=self._chain.block_number(),
            final_block=self._chain.final_block(),
            receipts=receipts,
            known=frozenset(h for h in hashes if h in receipts or self._chain.knows(h)),
            fees=self._chain.fees(),
            base_fee=self._chain.base_fee(),
            spent=self._spent(posting, nonce),
        )

    def _spent(self, posting: Posting, nonce: int) -> frozenset[int]:
        """The last nonce of a posting, if it is used and a transaction of another posting of ours has used it."""
        last = posting.attempts[-1].nonce if posting.attempts else nonce
        if last >= nonce:
            return frozenset()
        others = [a for other in self._journal.postings() for a in other.attempts if a.nonce == last]
        return frozenset({last} if any(self._chain.receipt(a.hash) is not None for a in others) else ())


def may_return(posting: Posting, history: History) -> bool:
    """Whether a superseded or disputed posting fits the ledger again, after a reorganisation."""
    is_live = any(posted.head == posting.header.head() for posted in history.live)
    if posting.state == "disputed":
        return is_live
    wanted = is_live or posting.header.previous_head == history.head
    return posting.state == "superseded" and bool(posting.attempts) and wanted
