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

from msgspec import Struct, structs

from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from settlement.accrual import Balances
from settlement.adapters.epochs import EpochReader
from settlement.adapters.journal import Journal
from settlement.adapters.ledger import Ledger
from settlement.adapters.signer import Signer
from settlement.adapters.store import Store
from settlement.history import History, Posted
from settlement.post import PartitionEpoch, Run, Standing, assemble
from settlement.posting import (
    OVER,
    Attempt,
    ChainView,
    Mark,
    Policy,
    Posting,
    Rest,
    Send,
    Sign,
    Wait,
    next_action,
)

WAIT_S = 180.0

Crash = Callable[[int], None]
"""Called after each numbered step with its number: where tests end the process."""


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
    """Settles one data folder with one poster's key. `after` is for crash tests."""

    def __init__(
        self, data_dir: Path, log: Log, ledger: Ledger, poster: Signer, after: Crash = lambda step: None
    ) -> None:
        if (log.log_id, log.currency) != (ledger.deployment.log_id, ledger.deployment.currency):
            raise InvalidInput(f"the ledger settles the log {ledger.deployment.log_id}, this folder has {log.log_id}")
        self._data_dir = data_dir
        self._log = log
        self._ledger = ledger
        self._chain = ledger.chain
        self._poster = poster
        self._after = after
        self._store = Store(data_dir)
        self._epochs = EpochReader(data_dir, log)

    def settle(self, options: SettleOptions) -> Settled:
        """Settles until nothing more can be posted.

        Raises InvalidInput where a person must act: unfunded, wrong key, foreign posts, a missing file.
        """
        made: list[int] = []
        with _only_one(self._store.folder), Journal(self._store.folder / "journal.sqlite") as journal:
            self._settle_open(journal, options)
            while options.max_posts is None or len(made) < options.max_posts:
                history = self._ledger.history()
                standing = self._standing(history, journal)
                if history.disputed is not None and not options.restate:
                    raise InvalidInput(
                        f"post {history.disputed} was disputed: find out why, mend it (a correction, a registration), "
                        "then run settle with --restate"
                    )
                run, reason = choose_run(self._epochs, standing, self._log, options)
                if run is None or not self._prepare(journal, standing, run):
                    return Settled(tuple(made), reason)
                self._settle_open(journal, options)
                made.append(standing.sequence + 1)
        return Settled(tuple(made), "")

    def _standing(self, history: History, journal: Journal) -> Standing:
        """Where the next post starts. Raises InvalidInput where a live post is not ours."""
        for posted in history.live:
            self._require_ours(posted)
        if self._ledger.head() != history.head:
            raise InvariantBroken("the ledger's head is not the fold of its events")
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

    def _prepare(self, journal: Journal, standing: Standing, run: Run) -> bool:
        """Writes the run's post down; False where it owes nothing."""
        post = assemble(standing, run, self._ledger.deployment.decimals)
        if post is None:
            return False
        sequence = standing.sequence + 1
        header = post.header(self._ledger.head(), self._ledger.deployment.decimals)
        older = [posting for posting in journal.postings() if posting.header.sequence == sequence]
        if any(posting.state not in OVER and posting.attempts for posting in older):
            raise InvariantBroken(f"post {sequence} was signed already and is not over")
        same = structs.replace(header, previous_head=b"")
        for posting in older:
            if posting.state == "disputed" and structs.replace(posting.header, previous_head=b"") == same:
                raise InvalidInput(
                    f"post {sequence} was disputed and would be the same again: a disputed post is never posted twice; "
                    "mend it first (a correction, a registration)"
                )
        self._chain.ask(self._ledger.post(header), self._poster.address)  # what it would refuse is said now
        generation = older[-1].generation + 1 if older else 1
        self._store.save(post, header, generation, self._ledger.deployment.decimals)  # (1)
        self._after(1)
        journal.prepare(header, generation)  # (2)
        self._after(2)
        return True

    def _settle_open(self, journal: Journal, options: SettleOptions) -> None:
        """Takes every posting that is not over as far as it goes, in the order of sequences."""
        policy = Policy(self._chain.fee_cap, options.bump_blocks)
        live = {posted.head for posted in self._ledger.history().live}
        for posting in journal.open():
            if posting.state != "final" or posting.header.head() not in live:
                self._drive(journal, posting, policy)

    def _drive(self, journal: Journal, posting: Posting, policy: Policy) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            view = self._view(posting)
            match next_action(posting, view, policy):
                case Rest():
                    return
                case Mark(state, block, note):
                    posting = journal.mark(posting, state, block, note)
                    if state == "mined":
                        self._after(6)
                    elif state == "halted":
                        raise InvalidInput(f"settlement halts: {note}; find out who has the key before anything else")
                case Sign(nonce, fees):
                    raw, transaction = self._chain.signed(self._poster, self._ledger.post(posting.header), nonce, fees)
                    posting = journal.sign(posting, Attempt(nonce, transaction, raw, fees))  # (3)
                    self._after(3)
                case Send(attempt):
                    answer = self._chain.send_raw(attempt.raw)  # (4)
                    self._after(4)
                    if answer == "sent":
                        posting = journal.sent(posting, attempt, view.block)  # (5)
                        self._after(5)
                    else:
                        time.sleep(self._chain.poll_s)  # the next view shows what has used the nonce
                case Wait(reason, alarm):
                    if alarm or time.monotonic() > deadline:
                        raise InvalidInput(f"post {posting.header.sequence}: {reason}; run settle again later")
                    time.sleep(self._chain.poll_s)

    def _view(self, posting: Posting) -> ChainView:
        nonce = self._chain.nonce(self._poster.address)  # first: a nonce seen as used has a receipt from then on
        history = self._ledger.history()
        hashes = [attempt.hash for attempt in posting.attempts]
        receipts = {h: receipt for h in hashes if (receipt := self._chain.receipt(h)) is not None}
        return ChainView(
            head=history.head,
            live=frozenset(posted.head for posted in history.live),
            dead=frozenset(posted.head for posted in history.dead),
            nonce=nonce,
            block=self._chain.block_number(),
            final_block=self._chain.final_block(),
            receipts=receipts,
            known=frozenset(h for h in hashes if h in receipts or self._chain.knows(h)),
            fees=self._chain.fees(),
            base_fee=self._chain.base_fee(),
        )


def choose_run(epochs: EpochReader, standing: Standing, log: Log, options: SettleOptions) -> tuple[Run | None, str]:
    """The epochs of the next post, or None with what is waited for.

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
    while options.max_epochs is None or owing < options.max_epochs:
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
