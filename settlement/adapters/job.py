"""The settle job: posts what can be posted, one post at a time, and can be killed anywhere.

One post goes through numbered steps; a crash after any of them repeats from there and never posts twice:
(1) its folder in settlement/posts is written; (2) the journal has it as prepared; (3) the journal has its signed bytes;
(4) they are sent; (5) the journal has them as sent; (6) the journal has it as mined.
Safety is the contract's: a sequence and a head can be posted once.
"""

import fcntl
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, structs

from schemas.errors import InvalidInput
from schemas.log import Log
from settlement.accrual import Balances
from settlement.adapters.chain import Sent
from settlement.adapters.contract import Call
from settlement.adapters.epochs import EpochReader
from settlement.adapters.journal import Journal
from settlement.adapters.ledger import Deployment
from settlement.adapters.signer import Signer
from settlement.adapters.store import Store
from settlement.head import PostHeader
from settlement.history import History, Posted
from settlement.post import PartitionEpoch, Run, Standing, assemble
from settlement.posting import (
    OVER,
    Attempt,
    ChainView,
    Fees,
    Mark,
    Policy,
    Posting,
    Receipt,
    Rest,
    Send,
    Sign,
    Wait,
    next_action,
)

WAIT_S = 180.0
HALT_LOOKS = 3
"""So often in a row a nonce must look stolen before the settlement halts for it."""

Crash = Callable[[int], None]
"""Called after each numbered step with its number: where tests end the process."""


class Clock(Protocol):
    """What the job needs of the module `time`."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    def sleep(self, seconds: float, /) -> None:
        """Waits."""


class ChainPort(Protocol):
    """What the job asks of a node: see `Chain`."""

    fee_cap: int
    poll_s: float

    def ask(self, call: Call, sender: str | None = None) -> Any: ...
    def signed(self, signer: Signer, call: Call, nonce: int, fees: Fees) -> tuple[bytes, str]: ...
    def send_raw(self, raw: bytes) -> Sent: ...
    def nonce(self, account: str) -> int: ...
    def receipt(self, transaction: str) -> Receipt | None: ...
    def knows(self, transaction: str) -> bool: ...
    def block_number(self) -> int: ...
    def final_block(self) -> int: ...
    def fees(self) -> Fees: ...
    def base_fee(self) -> int: ...


class LedgerPort(Protocol):
    """What the job asks of a ledger: see `Ledger`."""

    deployment: Deployment

    @property
    def chain(self) -> ChainPort: ...
    def history(self) -> History: ...
    def post(self, header: PostHeader) -> Call: ...


class Settled(Struct, frozen=True):
    """What one run of the job came to: the posts it made, and why it stopped."""

    posts: tuple[int, ...]
    waiting_for: str


class SettleOptions(Struct, frozen=True, kw_only=True):
    """At most `max_epochs` epochs in which something is owed go into one post, at most `max_posts` posts are made.

    `without` names partitions that are dead: their range stays empty, and their windows enter a later post.
    """

    max_epochs: int | None = None
    max_posts: int | None = None
    without: Collection[int] = frozenset()
    bump_blocks: int = 5
    restate: bool = False
    """Goes on after a dispute: the epochs of the dead posts are posted anew if they are not the same again."""


class SettleJob:
    """Settles one data folder with one poster's key. `after` is for crash tests, `clock` for simulations."""

    def __init__(
        self,
        data_dir: Path,
        log: Log,
        ledger: LedgerPort,
        poster: Signer,
        after: Crash = lambda step: None,
        clock: Clock = time,
    ) -> None:
        if (log.log_id, log.currency) != (ledger.deployment.log_id, ledger.deployment.currency):
            raise InvalidInput(f"the ledger settles the log {ledger.deployment.log_id}, this folder has {log.log_id}")
        self._data_dir = data_dir
        self._log = log
        self._ledger = ledger
        self._chain = ledger.chain
        self._poster = poster
        self._after = after
        self._clock = clock
        self._store = Store(data_dir)
        self._epochs = EpochReader(data_dir, log)

    def settle(self, options: SettleOptions) -> Settled:
        """Settles until nothing more can be posted.

        Raises InvalidInput where a person must act: unfunded, wrong key, foreign posts, a missing file.
        """
        made: list[int] = []
        with _only_one(self._store.folder), Journal(self._store.folder / "journal.sqlite") as journal:
            while True:
                self._settle_open(journal, options)
                if options.max_posts is not None and len(made) >= options.max_posts:
                    return Settled(tuple(made), "")
                history = self._ledger.history()
                standing = self._standing(history, journal)
                if history.disputed is not None and not options.restate:
                    raise InvalidInput(
                        f"post {history.disputed} was disputed: find out why, mend it (a correction, a registration), "
                        "then run settle with --restate"
                    )
                if self._returned(journal, history):
                    continue
                begun = self._begun(history.head, standing)
                run, reason = (begun, "") if begun else choose_run(self._epochs, standing, self._log, options)
                if run is None or not self._prepare(journal, history.head, standing, run):
                    return Settled(tuple(made), reason)
                made.append(standing.sequence + 1)

    def _returned(self, journal: Journal, history: History) -> bool:
        """Whether the next post was signed before: a reorganisation has taken it since it was last looked at."""
        return any(
            posting.attempts
            and posting.header.sequence == history.next_sequence
            and (posting.state not in OVER or _may_return(posting, history))
            for posting in journal.postings()
        )

    def _standing(self, history: History, journal: Journal) -> Standing:
        """Where the next post starts. Raises InvalidInput where a live post is not ours."""
        for posted in history.live:
            self._require_ours(posted)
        if any(posting.state == "halted" for posting in journal.postings()):
            raise InvalidInput(
                "settlement is halted: a foreign transaction has used the poster's key; change the key, then remove "
                f"{self._store.folder / 'journal.sqlite'}"
            )
        return self._store.standing(len(history.live))

    def _require_ours(self, posted: Posted) -> None:
        kept = self._store.header(posted.header.sequence)
        if kept is None:
            raise InvalidInput(
                f"post {posted.header.sequence} on the ledger is not in {self._store.folder}: "
                "restore the folder from a copy; if nobody of yours made it, the poster's key is stolen: dispute it"
            )
        if kept.header.header() != posted.header:
            raise InvalidInput(
                f"post {posted.header.sequence} on the ledger differs from the one in {self._store.folder}: "
                "if nobody of yours made it, the poster's key is stolen: dispute it"
            )

    def _begun(self, head: bytes, standing: Standing) -> Run | None:
        """The run of a post that the store has and the ledger not yet, if the epochs still give it to the byte.

        A lost journal may have signed it: the very same post is ours whichever transaction is mined, another one not.
        """
        sequence = standing.sequence + 1
        kept = self._store.header(sequence)
        if kept is None or kept.header.previous_head != head.hex():
            return None
        try:
            manifest = self._store.manifest(sequence)
        except InvalidInput:  # it is damaged, and made anew
            return None
        left_out = frozenset(part.partition for part in manifest.partitions if not part.epochs)
        options = SettleOptions(without=left_out)
        run, _ = choose_run(self._epochs, standing, self._log, options, last=manifest.last_epoch)
        decimals = self._ledger.deployment.decimals
        post = None if run is None else assemble(standing, run, decimals)
        return run if post is not None and post.header(head, decimals) == kept.header.header() else None

    def _prepare(self, journal: Journal, head: bytes, standing: Standing, run: Run) -> bool:
        """Writes the run's post down; False where it owes nothing."""
        post = assemble(standing, run, self._ledger.deployment.decimals)
        if post is None:
            return False
        sequence = standing.sequence + 1
        header = post.header(head, self._ledger.deployment.decimals)
        older = [posting for posting in journal.postings() if posting.header.sequence == sequence]
        same = structs.replace(header, previous_head=b"")
        for posting in older:
            if posting.state == "disputed" and structs.replace(posting.header, previous_head=b"") == same:
                raise InvalidInput(
                    f"post {sequence} was disputed and would be the same again: a disputed post is never posted twice; "
                    "mend it first (a correction, a registration)"
                )
        self._chain.ask(self._ledger.post(header), self._poster.address)  # what it would refuse is said now
        generation = older[-1].generation + 1 if older else 1
        kept = self._store.header(sequence)
        if kept is None or kept.header.header() != header:  # else the folder is this very post's
            self._store.save(post, header, generation, self._ledger.deployment.decimals)  # (1)
        self._after(1)
        journal.prepare(header, generation)  # (2)
        self._after(2)
        return True

    def _settle_open(self, journal: Journal, options: SettleOptions) -> None:
        """Takes every posting that is not over as far as it goes, in the order of sequences."""
        policy = Policy(self._chain.fee_cap, options.bump_blocks)
        deadline = self._clock.monotonic() + WAIT_S
        while not all(self._drive(journal, posting, policy, deadline) for posting in self._unsettled(journal)):
            """A reorganisation took an earlier one as well: from the first one on again."""

    def _unsettled(self, journal: Journal) -> Iterator[Posting]:
        history = self._ledger.history()
        live = {posted.head for posted in history.live}
        for posting in journal.postings():
            if posting.state not in OVER:
                if posting.state != "final" or posting.header.head() not in live:
                    yield posting
            elif posting.state == "halted" or _may_return(posting, history):
                yield posting

    def _drive(self, journal: Journal, posting: Posting, policy: Policy, deadline: float) -> bool:
        """Takes one posting as far as it goes; False where an earlier one must be looked at again first."""
        doubts = 0
        while True:
            view = self._view(journal, posting)
            action = next_action(posting, view, policy)
            doubts = doubts + 1 if isinstance(action, Mark) and action.state == "halted" else 0
            match action:
                case Rest():
                    return True
                case Mark("halted") if doubts < HALT_LOOKS:
                    self._clock.sleep(self._chain.poll_s)  # a reorganisation in the midst of a look shows the same
                case Mark(state, block, note):
                    posting = journal.mark(posting, state, block, note)
                    if state == "mined":
                        self._after(6)
                    elif state == "halted":
                        raise InvalidInput(f"settlement halts: {note}; find out who has the key before anything else")
                case Sign(nonce, fees):
                    signed = self._signed(posting, nonce, fees)
                    if signed is not None:
                        posting = journal.sign(posting, signed)  # (3)
                        self._after(3)
                case Send(attempt):
                    posting = self._send(journal, posting, attempt, view.block)
                case Wait(reason, alarm, elsewhere):
                    if alarm or self._clock.monotonic() > deadline:
                        raise InvalidInput(f"post {posting.header.sequence}: {reason}; run settle again later")
                    self._clock.sleep(self._chain.poll_s)
                    if elsewhere:
                        return False

    def _signed(self, posting: Posting, nonce: int, fees: Fees) -> Attempt | None:
        """A signed transaction, not written down yet; None where the ledger has moved on meanwhile."""
        try:
            raw, transaction = self._chain.signed(self._poster, self._ledger.post(posting.header), nonce, fees)
        except InvalidInput:
            if self._ledger.history().head != posting.header.previous_head:
                return None
            raise
        return Attempt(nonce, transaction, raw, fees)

    def _send(self, journal: Journal, posting: Posting, attempt: Attempt, block: int) -> Posting:
        """Sends bytes that the journal has, if the ledger would take the post now."""
        try:
            self._chain.ask(self._ledger.post(posting.header), self._poster.address)
        except InvalidInput:
            if self._ledger.history().head != posting.header.previous_head:
                return posting  # the next look shows what has moved it
            raise
        answer = self._chain.send_raw(attempt.raw)  # (4)
        self._after(4)
        if answer == "sent":
            posting = journal.sent(posting, attempt, block)  # (5)
            self._after(5)
        else:
            self._clock.sleep(self._chain.poll_s)  # the next look shows what has used the nonce
        return posting

    def _view(self, journal: Journal, posting: Posting) -> ChainView:
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
            spent=self._spent(journal, posting, nonce),
        )

    def _spent(self, journal: Journal, posting: Posting, nonce: int) -> frozenset[int]:
        """The last nonce of a posting, where it is used and a transaction of another posting of ours has used it."""
        last = posting.attempts[-1].nonce if posting.attempts else nonce
        if last >= nonce:
            return frozenset()
        others = [a for other in journal.postings() for a in other.attempts if a.nonce == last]
        return frozenset({last} if any(self._chain.receipt(a.hash) is not None for a in others) else ())


def _may_return(posting: Posting, history: History) -> bool:
    """Whether a superseded posting has its place on the ledger again, after a reorganisation."""
    wanted = posting.header.previous_head == history.head or any(p.head == posting.header.head() for p in history.live)
    return posting.state == "superseded" and bool(posting.attempts) and wanted


def choose_run(
    epochs: EpochReader, standing: Standing, log: Log, options: SettleOptions, last: int | None = None
) -> tuple[Run | None, str]:
    """The epochs of the next post, none after `last`; or None with what is waited for.

    It starts where the last post ended, is contiguous and as long as can be; with `max_epochs` it ends with the last
    epoch of so many in which something is owed.
    """
    firsts = epochs.first_epochs()
    alive = [partition for partition in range(log.partitions) if partition not in options.without]
    silent = [partition for partition in alive if partition not in firsts]
    if not firsts or silent:
        return None, f"the first epoch of partition {silent[0] if silent else 0}"
    first = min(firsts[partition] for partition in alive) if standing.next_epoch is None else standing.next_epoch
    chosen: dict[int, list[PartitionEpoch]] = {partition: [] for partition in range(log.partitions)}
    balances: Balances = standing.balances.copy()
    epoch, owing, waiting = first, 0, ""
    while (options.max_epochs is None or owing < options.max_epochs) and (last is None or epoch <= last):
        missing = [p for p in alive if firsts[p] <= epoch and epochs.manifest(p, epoch) is None]
        if missing:
            waiting = f"epoch {epoch} of partition {missing[0]}"
            break
        before = sum(balances.cumulative.values())
        for partition in alive:
            due = standing.partition_epochs.get(partition, firsts[partition])
            taken = chosen[partition]
            # A partition that was left out before brings all its epochs since then.
            for number in range(epoch if taken else due, epoch + 1):
                taken.append(epochs.read(partition, number))
                for earning in taken[-1].earnings if options.max_epochs is not None else ():
                    balances.accrue(earning)
        owing += sum(balances.cumulative.values()) > before
        epoch += 1
    if epoch == first:
        return None, waiting
    return Run(first, epoch - 1, chosen), waiting


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "settle.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(f"another settle runs on {folder}: wait for it to end") from None
        yield
