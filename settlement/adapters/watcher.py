"""One look of a watcher: audits all live posts, and attests or disputes with the keys that it has."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from schemas.errors import InvalidInput
from schemas.log import Log
from settlement.adapters.chain import Chain
from settlement.adapters.ledger import Ledger
from settlement.adapters.paying import hash_of
from settlement.adapters.signer import Keys
from settlement.adapters.store import Store
from settlement.audit import Auditor, AuditReport
from settlement.audit_epochs import EvidenceMissing, Published, Recompute
from settlement.history import Disputed, Posted
from settlement.verdict import PostVerdict
from settlement.watch import Step, WatchView, decide

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


def look(data_dir: Path, chain: Chain, log: Log, keys: Keys, recompute: Recompute, *, only_wrong: bool = False) -> Look:
    """Audits, decides and does. Raises InvalidInput where the node or this folder gives no view at all."""
    ledger = Ledger.open(data_dir, chain)
    events = ledger.events()
    auditor = Auditor(log, ledger.genesis, ledger.deployment.decimals)
    store = Store(data_dir)
    report = auditor.run(events, lambda sequence: _published(store, sequence), recompute, posted_only=True)
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


def _do(ledger: Ledger, keys: Keys, head: bytes, step: Step) -> Done:
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


def _published(store: Store, sequence: int) -> Published:
    """A post's files. A folder that is there and lacks a file says something; none at all, or a bad disk, doesn't."""
    posts = store.folder / "posts"
    for path in (posts, *(posts / str(sequence) / name for name in POST_FILES)):
        try:
            path.stat() if path == posts else path.open("rb").close()
        except FileNotFoundError:
            if path == posts:
                raise EvidenceMissing(
                    f"no files of any post are here: bring {posts} from where they are published", withheld=False
                ) from None
        except OSError as error:
            raise EvidenceMissing(f"can't read {path}: {error.strerror}", withheld=False) from None
    return store.published(sequence)
