"""One look of a watcher: audits all live posts, and attests or disputes with the keys that it has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from schemas.errors import InvalidInput
from schemas.log import Log
from settlement.audit.audit import Auditor, AuditReport
from settlement.audit.sources import Published, Recompute, SourceMissing
from settlement.audit.verdict import PostVerdict
from settlement.audit.watch import WatchStep, WatchView, decide
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.paying import hash_of
from settlement.chain.signer import Keys
from settlement.history import Disputed, Posted
from settlement.storage.posts import Store

POST_FILES = ("manifest.json", "windows.parquet", "payouts.json")


class Done(Struct, frozen=True):
    """One event: what was done or said. `transaction` is that of an attestation or a dispute."""

    event: str
    sequence: int
    text: str = ""
    until_s: int | None = None
    transaction: str | None = None


class Look(Struct, frozen=True, kw_only=True):
    """What one look came to, under `head`; `delay_s` is the ledger's delay.

    Another look is due at once where `again`; no person is needed where `is_calm`.
    """

    head: str
    posts: int
    attested: int
    delay_s: int
    verdicts: tuple[PostVerdict, ...]
    done: tuple[Done, ...]
    again: bool
    is_calm: bool


class WatcherMemory:
    """What one process has recomputed, and found right, in its earlier looks: a look goes on from there.

    It is nowhere but in memory, so a watcher still believes nothing that it has not recomputed itself. It is dropped as
    soon as anything is not right, posts are gone, or their published files are others: the next look begins anew.
    """

    def __init__(self) -> None:
        self._auditor: Auditor | None = None
        self._files: dict[int, tuple[Any, ...]] = {}

    def forget(self) -> None:
        """The next look begins anew."""
        self._auditor = None
        self._files.clear()

    def auditor(self, ledger: Ledger, log: Log, events: Sequence[Posted | Disputed], store: Store) -> Auditor:
        """The one that has judged the first of these events, or a new one: taken out, until it is kept again."""
        found, self._auditor = self._auditor, None
        same = all(_files(store, sequence) == seen for sequence, seen in self._files.items())
        if found is None or not same or not found.goes_on(events):
            found = Auditor(log, ledger.genesis, ledger.deployment.decimals)
        return found

    def keep(self, auditor: Auditor, report: AuditReport, store: Store) -> None:
        """Keeps an auditor that has found all of it right."""
        self.forget()
        if report.ok and not report.gap:
            self._auditor = auditor
            self._files = {sequence: _files(store, sequence) for sequence in range(1, report.posts + 1)}


def look(
    data_dir: Path, chain: Chain, log: Log, keys: Keys, recompute: Recompute, *, only_wrong: bool = False,
    memory: WatcherMemory | None = None,
) -> Look:  # fmt: skip
    """Audits, decides and does. Raises InvalidInput where the node or this folder gives no view at all.

    With a `memory` the epochs of `recompute` must be readable on, from look to look.
    """
    ledger, store, memory = Ledger.open(data_dir, chain), Store(data_dir), memory or WatcherMemory()
    events = ledger.events()
    auditor = memory.auditor(ledger, log, events, store)
    report = auditor.run(events, lambda sequence: _published(store, sequence), recompute, posted_only=True)
    memory.keep(auditor, report, store)
    if ledger.head().hex() != report.head and not _distrust(report):
        moved = Done("moved", 0, "the ledger has moved on while its posts were looked at")
        return _looked(ledger, report, [moved])
    view = WatchView(
        verdicts=report.verdicts,
        attested=ledger.attested(),
        delay_ends_s=_delay_ends(events),
        delay_s=ledger.delay_s(),
        now_s=chain.time_s(at="pending"),
        revoked=ledger.revoked(),
        distrust=_distrust(report),
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
    return Look(
        head=report.head, posts=report.posts, attested=ledger.attested(), delay_s=ledger.delay_s(),
        verdicts=report.verdicts, done=tuple(done), again=bool(events & {"disputed", "moved"}),
        is_calm=not events & {"disputed", "alarm", "wait"},
    )  # fmt: skip


def _do(ledger: Ledger, keys: Keys, head: bytes, step: WatchStep) -> Done:
    try:
        if step.kind == "attest":
            receipt = ledger.chain.transact(keys.of("auditor"), ledger.attest(step.sequence, head))
            return Done("attested", step.sequence, transaction=hash_of(receipt))
        if step.kind == "dispute":
            # A dispute names no head: what was judged must still be what stands there.
            if ledger.head() != head:
                return Done("moved", 0, "the ledger has moved on while its posts were looked at")
            receipt = ledger.chain.transact(keys.of("guardian"), ledger.dispute(step.sequence))
            transaction = hash_of(receipt)
            return Done("disputed", step.sequence, step.text, transaction=transaction)
    except InvalidInput as error:
        text = f"{step.text}; " if step.text else ""
        return Done("alarm", step.sequence, f"{text}can't {step.kind} it: {error}")
    return Done(step.kind, step.sequence, step.text, step.until_s)


def _distrust(report: AuditReport) -> str:
    """Why nothing can be concluded from a report: the node contradicts itself, or the audit does."""
    found = [finding.text for finding in report.findings if finding.kind in ("head", "sums")]
    return f"{found[0]}: ask another node" if found else ""


def _delay_ends(events: Sequence[Posted | Disputed]) -> dict[int, int]:
    """By sequence of the live posts: what was posted last under it counts."""
    return {event.header.sequence: event.delay_end_s for event in events if isinstance(event, Posted)}


def _files(store: Store, sequence: int) -> tuple[Any, ...]:
    """What tells a post's files from others in their places."""
    found: list[tuple[int, ...]] = []
    for name in POST_FILES:
        try:
            stat = (store.folder / "posts" / str(sequence) / name).stat()
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        except OSError:
            found.append(())
    return tuple(found)


def _published(store: Store, sequence: int) -> Published:
    """A post's files. A folder that is there and lacks a file says something; none at all, or a bad disk, doesn't."""
    posts = store.folder / "posts"
    for path in (posts, *(posts / str(sequence) / name for name in POST_FILES)):
        try:
            path.stat() if path == posts else path.open("rb").close()
        except FileNotFoundError:
            if path == posts:
                raise SourceMissing(
                    f"no files of any post are here: bring {posts} from where they are published", withheld=False
                ) from None
        except OSError as error:
            raise SourceMissing(f"can't read {path}: {error.strerror}", withheld=False) from None
    return store.published(sequence)
