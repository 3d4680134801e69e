"""One look of a watcher: audits all live posts, and attests or disputes with the keys that it has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement.audit.audit import Auditor, AuditReport
from settlement.audit.sources import Sources
from settlement.audit.verdict import PostVerdict
from settlement.audit.watch import WatchStep, WatchView, decide
from settlement.chain.contract import moment
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.paying import hash_of
from settlement.chain.sight import LedgerSight, sight_of
from settlement.chain.signer import Keys
from settlement.chain.timelock import announced_steps
from settlement.chain.transfers import LedgerTransfers
from settlement.history import Disputed, Posted, fold
from settlement.storage.posts import Store
from settlement.storage.published_post import POST_FILES, published_in

MOVED = "the ledger has moved on while its posts were audited"


class Done(Struct, frozen=True):
    """One event: an action or a report. `transaction` is that of an attestation or a dispute."""

    event: str
    sequence: int
    text: str = ""
    until_s: int | None = None
    transaction: str | None = None


class Look(Struct, frozen=True, kw_only=True):
    """The result of one look, under `head`; `delay_s` is the ledger's delay, `sight` the ledger after it.

    With `again` another look is due at once; with `is_calm` no operator is needed.
    """

    head: str
    posts: int
    sight: LedgerSight
    delay_s: int
    verdicts: tuple[PostVerdict, ...]
    done: tuple[Done, ...]
    again: bool
    is_calm: bool


class WatcherMemory:
    """What one process has recomputed and found right in its earlier looks: the next look continues from there.

    It is only in memory, so a watcher still trusts nothing that it has not recomputed itself. It is dropped as soon as
    anything is wrong, a post is gone, or its published files have changed: then the next look starts from the
    beginning.
    """

    def __init__(self) -> None:
        self._auditor: Auditor | None = None
        self._files: dict[int, tuple[Any, ...]] = {}

    def forget(self) -> None:
        """Makes the next look start from the beginning."""
        self._auditor = None
        self._files.clear()

    def auditor(self, ledger: Ledger, log: Log, events: Sequence[Posted | Disputed], store: Store) -> Auditor:
        """The auditor that has judged the first of these events, or a new one. It is removed until `keep`."""
        found, self._auditor = self._auditor, None
        same = all(_files(store, sequence) == seen for sequence, seen in self._files.items())
        if found is None or not same or not found.goes_on(events):
            found = auditor_of(ledger, log)
        return found

    def keep(self, auditor: Auditor, report: AuditReport, store: Store) -> None:
        """Keeps an auditor that has found all of it right."""
        self.forget()
        if report.ok and not report.gap:
            self._auditor = auditor
            self._files = {sequence: _files(store, sequence) for sequence in range(1, report.posts + 1)}


def auditor_of(ledger: Ledger, log: Log) -> Auditor:
    """A new auditor of a ledger's posts."""
    d = ledger.deployment
    return Auditor(log, ledger.genesis, d.decimals, d.ledger, d.start)


def look(
    data_dir: Path, chain: Chain, log: Log, keys: Keys, sources: Sources, *, only_wrong: bool = False,
    memory: WatcherMemory | None = None,
) -> Look:  # fmt: skip
    """Audits, decides and acts. Raises InvalidInput if the node or this folder can't be read at all.

    With a `memory` the iterators of `sources` must stay readable from look to look.
    """
    ledger, store, memory = Ledger.open(data_dir, chain), Store(data_dir), memory or WatcherMemory()
    events = ledger.events()
    auditor = memory.auditor(ledger, log, events, store)
    report = auditor.run(
        events,
        sources.published or published_in(PlainFiles(data_dir)),
        sources,
        posted_only=True,
        money_in=LedgerTransfers(ledger),
    )
    memory.keep(auditor, report, store)
    if ledger.head().hex() != report.head and not _distrust(report):
        moved = Done("moved", 0, MOVED)
        return _looked(ledger, report, [moved])
    live, now_s = fold(ledger.genesis, events).live, chain.time_s(at="pending")
    view = WatchView(
        verdicts=report.verdicts,
        attested=ledger.attested(),
        delay_ends_s={posted.header.sequence: posted.delay_end_s for posted in live},
        delay_s=ledger.delay_s(),
        now_s=now_s,
        revoked=ledger.revoked(),
        distrust=_distrust(report) or _false_delay(ledger, live, now_s) or ledger.fault_before(),
        can_attest=keys.has("auditor"),
        can_dispute=keys.has("guardian"),
        only_wrong=only_wrong,
    )
    done = []
    for step in decide(view):
        done.append(_do(ledger, keys, bytes.fromhex(report.head), step))
        if done[-1].event == "disputed":
            break
    return _looked(ledger, report, done)


def _looked(ledger: Ledger, report: AuditReport, done: Sequence[Done]) -> Look:
    events = {part.event for part in done}
    told = [Done("skipped", 0, skipped.text) for skipped in report.skipped]
    told += [Done("unrecorded", 0, paid.text) for paid in report.unrecorded]
    told += [Done("amended", 0, text) for text in report.made_good]
    announced = announced_steps(ledger)
    for step in announced:
        text = f"the admin has announced {step.text}, to be carried out from {moment(step.ready_s)} on; unless you know"
        told.append(Done("alarm", 0, f"{text} why, let a guardian cancel it: `tallyroot cancel-announced {step.id}`"))
        events.add("alarm")
    return Look(
        head=report.head, posts=report.posts, sight=sight_of(ledger, len(announced)), delay_s=ledger.delay_s(),
        verdicts=report.verdicts, done=(*told, *done), again=bool(events & {"disputed", "moved"}),
        is_calm=not events & {"disputed", "alarm", "wait"},
    )  # fmt: skip


def _do(ledger: Ledger, keys: Keys, head: bytes, step: WatchStep) -> Done:
    try:
        if step.kind == "attest":
            receipt = ledger.chain.transact(keys.of("auditor"), ledger.attest(step.sequence, head))
            return Done("attested", step.sequence, transaction=hash_of(receipt))
        if step.kind == "dispute":
            if ledger.head() != head:
                return Done("moved", 0, MOVED)
            receipt = ledger.chain.transact(keys.of("guardian"), ledger.dispute(step.sequence, head))
            transaction = hash_of(receipt)
            return Done("disputed", step.sequence, step.text, transaction=transaction)
    except InvalidInput as error:
        text = f"{step.text}; " if step.text else ""
        return Done("alarm", step.sequence, f"{text}can't {step.kind} it: {error}")
    return Done(step.kind, step.sequence, step.text, step.until_s)


def _distrust(report: AuditReport) -> str:
    """Why a report can't be trusted: the node contradicts itself, or the audit does; empty if it can."""
    found = [finding.text for finding in report.findings if finding.kind in ("head", "sums")]
    return f"{found[0]}: ask another node" if found else ""


def _false_delay(ledger: Ledger, live: Sequence[Posted], now_s: int) -> str:
    """Why the ends of the delays can't be trusted, empty if they can: the head doesn't cover them.

    A node that shows a later one lets a watcher wait, an earlier one lets it take a post for mature. They rise from
    post to post, so the blocks of those that aren't over are asked, and of one that is.
    """
    delay_s, after_s = ledger.delay_s(), None
    for posted in reversed(live):
        end_s = ledger.chain.block_time_s(posted.block) + delay_s
        if posted.delay_end_s != end_s or (after_s is not None and end_s > after_s):
            return (
                f"this node shows {moment(posted.delay_end_s)} as the end of post {posted.header.sequence}'s delay, and"
                f" by its block that is {moment(end_s)}: ask another node"
            )
        if end_s <= now_s:
            break
        after_s = end_s
    return ""


def _files(store: Store, sequence: int) -> tuple[Any, ...]:
    """The identity of a post's files: inode, size and times of each."""
    found: list[tuple[int, ...]] = []
    for name in POST_FILES:
        try:
            stat = (store.folder / "posts" / str(sequence) / name).stat()
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        except OSError:
            found.append(())
    return tuple(found)
