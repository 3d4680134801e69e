"""The settle job: posts what can be posted, one post at a time, and can be killed anywhere.

One post goes through numbered steps; a crash after any of them repeats from there and never posts twice:
(1) its folder in settlement/posts is written; (2) the journal has it as prepared; (3) the journal has its signed bytes;
(4) they are sent; (5) the journal has them as sent; (6) the journal has it as mined.
The contract ensures safety: a sequence and a head can be posted once.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from files.lock import FileLock
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement.accrual import Balances
from settlement.chain.driver import Clock, Crash, Driver, LedgerPort, may_return
from settlement.chain.signer import Signer
from settlement.history import History, Posted, same_post
from settlement.post import PartitionEpoch, PostStanding, Run, assemble
from settlement.posting import OVER, Policy
from settlement.storage.journal import Journal
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader


class Settled(Struct, frozen=True):
    """The result of one run of the job: the posts mined, also those begun by earlier runs, and why it stopped.

    `owes_nobody_until`: the last of the ended epochs that owe nobody more and go into a later post; None if none do.
    """

    posts: tuple[int, ...]
    waiting_for: str
    owes_nobody_until: int | None = None


class SettleOptions(Struct, frozen=True, kw_only=True):
    """At most `max_epochs` epochs with payouts go into one post, and at most `max_posts` posts are made.

    `without` names partitions that are dead: their range stays empty, and their windows enter a later post.
    """

    max_epochs: int | None = None
    max_posts: int | None = None
    without: Collection[int] = frozenset()
    bump_blocks: int = 5
    restate: bool = False
    """Continues after a dispute: posts the epochs of the dead posts again, unless the post would be the same."""


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
        if ledger.deployment.successor is not None:
            raise InvalidInput(
                f"this ledger has ended, {ledger.deployment.successor} has followed it: settle the folder that this one"
                " is in; what was posted here is claimed here"
            )
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

        Raises InvalidInput if an operator has to act: missing funds, a wrong key, foreign posts, a missing file.
        """
        made = 0
        with _only_one(self._store.folder), Journal(self._store.folder / "journal.sqlite") as journal:
            policy = Policy(self._chain.fee_cap, options.bump_blocks)
            driver = Driver(self._ledger, self._poster, journal, policy, self._after, self._clock)
            while True:
                driver.drive_all()
                if options.max_posts is not None and made >= options.max_posts:
                    return Settled(tuple(sorted(driver.mined)), "")
                history = self._ledger.history()
                standing = self._standing(history, journal)
                if history.disputed is not None and not options.restate:
                    raise InvalidInput(
                        f"post {history.disputed} was disputed: find out why, correct it (a correction, a"
                        " registration), "
                        "then run settle with --restate"
                    )
                if self._returned(journal, history):
                    continue
                begun = self._begun(history.head, standing)
                run, reason = (begun, "") if begun else choose_run(self._epochs, standing, self._log, options)
                if run is None:
                    return Settled(tuple(sorted(driver.mined)), reason)
                if not self._prepare(journal, history, standing, run, options):
                    return Settled(tuple(sorted(driver.mined)), reason, run.last_epoch)
                made += 1

    def _returned(self, journal: Journal, history: History) -> bool:
        """Whether the next post was signed before: a reorganisation has undone it since the last look."""
        return any(
            posting.attempts
            and posting.header.sequence == history.next_sequence
            and (posting.state not in OVER or may_return(posting, history))
            for posting in journal.postings()
        )

    def _standing(self, history: History, journal: Journal) -> PostStanding:
        """The state that the next post starts from. Raises InvalidInput if a live post is not ours."""
        for posted in history.live:
            self._require_ours(posted)
        if any(posting.state == "halted" for posting in journal.postings()):
            raise InvalidInput(
                "settlement is halted: a foreign transaction has used the poster's key; change the key, then remove "
                f"{self._store.folder / 'journal.sqlite'}"
            )
        return self._store.standing(len(history.live), self._ledger.deployment.initial)

    def _require_ours(self, posted: Posted) -> None:
        kept = self._store.header(posted.header.sequence)
        if (kept is None or kept.header.header() != posted.header) and self._store.bring_back(posted.header):
            return  # restated, and then a reorganisation undid the dispute
        if kept is None:
            raise InvalidInput(
                f"post {posted.header.sequence} on the ledger is not in {self._store.folder}: "
                "`tallyroot restore-posts` rebuilds it; if it is not yours, the poster's key is stolen: dispute it"
            )
        if kept.header.header() != posted.header:
            raise InvalidInput(
                f"post {posted.header.sequence} on the ledger differs from the one in {self._store.folder}: "
                "if it is not yours, the poster's key is stolen: dispute it"
            )

    def _begun(self, head: bytes, standing: PostStanding) -> Run | None:
        """The run of a post that the store has and the ledger lacks, if the epochs still make it, byte for byte.

        A lost journal may have signed it: the very same post is ours whichever transaction is mined.
        """
        sequence = standing.sequence + 1
        kept = self._store.header(sequence)
        if kept is None or kept.header.previous_head != head.hex():
            return None
        try:
            manifest = self._store.manifest(sequence)
        except InvalidInput:  # it is damaged, and rebuilt
            return None
        left_out = frozenset(part.partition for part in manifest.partitions if not part.epochs)
        options = SettleOptions(without=left_out)
        run, _ = choose_run(self._epochs, standing, self._log, options, last=manifest.last_epoch)
        decimals = self._ledger.deployment.decimals
        post = None if run is None else assemble(standing, run, decimals)
        return run if post is not None and post.header(head, decimals) == kept.header.header() else None

    def _prepare(
        self, journal: Journal, history: History, standing: PostStanding, run: Run, options: SettleOptions
    ) -> bool:
        """Stores and journals the run's post; returns False if it owes nothing more."""
        post = assemble(standing, run, self._ledger.deployment.decimals)
        if post is None:
            return False
        sequence = standing.sequence + 1
        header = post.header(history.head, self._ledger.deployment.decimals)
        older = [posting for posting in journal.postings() if posting.header.sequence == sequence]
        if history.was_disputed(header):
            raise InvalidInput(same_again(sequence))
        if not options.restate and any(p.state == "disputed" and same_post(p.header, header) for p in older):
            raise InvalidInput(
                f"post {sequence} was disputed, and a reorganisation has undone the dispute: correct the post, or if"
                " the dispute was wrong run settle with --restate"
            )
        self._chain.ask(self._ledger.post(header), self._poster.address)  # raises what the ledger would refuse
        generation = older[-1].generation + 1 if older else 1
        kept = self._store.header(sequence)
        if kept is None or kept.header.header() != header:  # otherwise the folder holds this very post
            self._store.save(post, header, generation, self._ledger.deployment.decimals)  # (1)
        self._after(1)
        before = next((posting for posting in older if posting.header == header and posting.attempts), None)
        if before is None:
            journal.prepare(header, generation)  # (2)
        else:  # a reorganisation undid it, and its dispute: its own bytes are sent before any new ones
            journal.mark(before, "sent", None, "")
        self._after(2)
        return True


def same_again(sequence: int) -> str:
    """The message why a disputed post is not posted."""
    return (
        f"post {sequence} was disputed and would be the same again: a disputed post is never posted twice; correct it"
        " first (a correction, a registration), or if the dispute was wrong wait for another epoch"
    )


def choose_run(
    epochs: EpochReader, standing: PostStanding, log: Log, options: SettleOptions, last: int | None = None
) -> tuple[Run | None, str]:
    """The epochs of the next post, none after `last`; or None, with what is waited for.

    The run starts where the last post ended, and is contiguous and as long as possible; with `max_epochs` it ends with
    the last of that number of epochs with payouts.
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
            # A partition that was left out before adds all its epochs since then.
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
    lock = FileLock.acquire(folder / "settle.lock")
    if lock is None:
        raise InvalidInput(f"another settle runs on {folder}: wait for it to end")
    try:
        yield
    finally:
        lock.release()
