"""Proves, or refutes, every post from the log alone: recomputed epochs against the chain and the published files.

It finds the first window that differs, roots that differ, money that does not add up, epochs that were left out. It
can't detect a meter that signs false readings, or a machine that stops reporting or returns under another name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Literal, TypeVar

from msgspec import Struct, structs, to_builtins

from schemas.errors import InvalidInput
from schemas.keccak import keccak
from schemas.log import Log
from schemas.manifest import SkippedRange
from schemas.units import TokenUnits
from schemas.window import Due, Window
from settlement.audit.payments import MoneyIn, Payments, Transfer
from settlement.audit.post_manifest import (
    Before,
    expected_manifest,
    first_other,
    last_epochs,
    other_records,
    plain_json,
)
from settlement.audit.recount import Recount, head_after_dispute, head_after_post, leads_to, root_of, window_leaf_of
from settlement.audit.sources import (
    ArchiveEnds,
    Epoch,
    EpochStream,
    Published,
    PublishedWindow,
    Refutes,
    SourceMissing,
    Sources,
    in_order,
)
from settlement.audit.verdict import Finding, PostVerdict, judged, verdict_of
from settlement.head import PostHeader
from settlement.history import Disputed, Posted
from settlement.succession import LedgerStart

T = TypeVar("T")


class MachineSums(Struct, frozen=True):
    """The nets of one machine under one agreement (its digest), micros: nets = paid + held + carry. Without dues."""

    machine: str
    agreement: str
    nets_micros: int
    paid_micros: int
    held_micros: int
    carry_micros: int


class LedgerMoney(Struct, frozen=True):
    """The ledger in token units: owed to accounts in all (posted or not), funded, claimed, and what is not funded of
    what is earned and of deposits: what customers are owed at the last cut that no window holds.
    """

    earned: TokenUnits
    posted: TokenUnits
    deposits: TokenUnits
    funded: TokenUnits
    claimed: TokenUnits
    shortfall: TokenUnits
    decimals: int


class AuditReport(Struct, frozen=True, kw_only=True):
    """The result of an audit under the ledger's head `head`, which an auditor may attest if `ok`.

    Amounts in micros: nets + expenses + refunds = paid + unsettled to payees without an account + held back + carries;
    the nets alone (with what they paid) also in each of `machines`. `deposits_micros` is what customers are owed at the
    last cut recomputed that no window holds. `leaves_total` and `total_on_chain` (token units) are the sum of all
    leaves of the last post by the log, and the total that was posted with them. `before_micros` is what of all paid is
    owed by ledgers before this one. `gap` names the source that could not be read: posts that need it were not judged.
    `skipped` are the ranges that operators had skipped. `payments` counts those of customers, `unrecorded` is what they
    paid that no record tells of, `made_good` names those that the chain doesn't have and that somebody paid in its
    place. `money` is None if no ledger was read.
    """

    ok: bool
    findings: tuple[Finding, ...]
    head: str
    posts: int
    disputed: int
    epochs: int
    windows: int
    nets_micros: int
    expenses_micros: int
    refunds_micros: int
    paid_micros: int
    before_micros: int
    outside_micros: int
    held_micros: int
    carry_micros: int
    deposits_micros: int
    leaves_total: TokenUnits
    total_on_chain: TokenUnits
    unposted_epochs: int
    unposted_micros: int
    machines: tuple[MachineSums, ...] = ()
    verdicts: tuple[PostVerdict, ...] = ()
    gap: str = ""
    skipped: tuple[SkippedRange, ...] = ()
    payments: int = 0
    unrecorded: tuple[Transfer, ...] = ()
    made_good: tuple[str, ...] = ()
    money: LedgerMoney | None = None


class Auditor:
    """One audit. `genesis` is the ledger's first head, `decimals` the token's, `ledger` the account of the ledger."""

    def __init__(
        self, log: Log, genesis: bytes, decimals: int, ledger: str = "", start: LedgerStart | None = None
    ) -> None:
        """`start` is where a ledger begins that follows another."""
        self._log = log
        self._genesis = genesis
        self._decimals = decimals
        self._recount = Recount(ledger if start is None else start.predecessor)
        self._ledger, self._start = ledger, start
        self._verdicts: list[PostVerdict] = []
        self._judged: list[bytes] = []
        self._payments = Payments(log.log_id, self._unit)
        self._reached_s: dict[int, int] = {}
        self._streams: dict[int, EpochStream] = {}
        self._gap = ""
        self._epoch_end_s: int | None = None
        self._findings: list[Finding] = []
        self._skipped: list[SkippedRange] = []
        self._refutes: Refutes = Sources.refutes
        self._windows = 0
        self._epochs = 0
        self._next_offsets = dict.fromkeys(range(log.partitions), 0)
        self._deposits = dict.fromkeys(range(log.partitions), 0)

    def run(
        self,
        events: Iterable[Posted | Disputed],
        published: Callable[[int], Published],
        sources: Sources,
        *,
        posted_only: bool = False,
        money_in: MoneyIn | None = None,
    ) -> AuditReport:
        """Audits all live posts, up to the first that lacks a source; the report holds the findings.
        Payments are held against `money_in`, what the ledger got; without it they are counted only.
        With `posted_only` epochs that aren't posted yet are not read, and a later run may audit them if it `goes_on`:
        then it continues the epochs of the first run's `sources`, which isn't asked for them again.
        """
        self._refutes = sources.refutes
        self._payments.look(money_in)
        head, live, dead = self._fold(events)
        streams = self._streams
        if not streams:
            streams |= {part: EpochStream(sources.recompute(part)) for part in range(self._log.partitions)}
            if self._start is not None:
                self._begin(self._start, streams)
        for posted in live[len(self._judged) :]:
            if not self._gap:
                self._judge(posted, published, streams)
        paid, last_total = self._recount.total(), live[-1].header.total if live else 0
        self._check_sums(len(live))
        posted_epochs = self._epochs
        if not posted_only and not self._gap:
            self._gap = self._unposted(streams)
        sums = self._recount.sums
        return AuditReport(
            ok=not self._findings,
            findings=tuple(self._findings),
            head=head.hex(),
            posts=len(live),
            disputed=dead,
            epochs=self._epochs,
            windows=self._windows,
            nets_micros=sum(s.nets for s in sums.values()),
            expenses_micros=self._recount.dues["expense"],
            refunds_micros=self._recount.dues["refund"],
            paid_micros=self._recount.total() + self._recount.before,
            before_micros=self._recount.before,
            outside_micros=sum(self._recount.outside.values()),
            held_micros=sum(s.held for s in sums.values()),
            carry_micros=sum(s.carry for s in sums.values()),
            deposits_micros=sum(self._deposits.values()),
            leaves_total=paid * self._unit,
            total_on_chain=last_total,
            unposted_epochs=self._epochs - posted_epochs,
            unposted_micros=self._recount.total() - paid,
            machines=tuple(MachineSums(*key, s.nets, s.paid, s.held, s.carry) for key, s in sorted(sums.items())),
            verdicts=judged(self._verdicts, len(live)),
            gap=self._gap,
            skipped=tuple(self._skipped),
            payments=self._payments.count,
            unrecorded=self._payments.unrecorded(min(self._reached_s.values(), default=0)),
            made_good=self._payments.made_good,
        )

    def _begin(self, start: LedgerStart, streams: Mapping[int, EpochStream]) -> None:
        """Takes all that the ledgers before have settled. From there on this one owes."""
        ends = {partition: next_epoch - 1 for partition, next_epoch in start.partition_epochs.items()}
        taken = {partition: stream.take(ends.get(partition)) for partition, stream in streams.items()}
        short = [partition for partition, stream in streams.items() if not stream.reaches(ends.get(partition))]
        if self._stops(1, streams, short):
            return
        for epoch in in_order(taken):
            self._take(epoch)
            for accepted in epoch.payments:
                self._payments.note(epoch.manifest.partition, accepted)
        self._next_offsets |= {partition: items[-1].manifest.next_offset for partition, items in taken.items() if items}
        self._recount.move(self._ledger)
        self._epoch_end_s = start.next_epoch * self._log.epoch_ms // 1_000
        found = ({p: at for p, at in self._next_offsets.items() if at}, {p: m for p, m in self._deposits.items() if m})
        stated = (
            {p: at for p, at in start.partition_offsets.items() if at},
            {p: int(m) for p, m in start.partition_deposits.items() if int(m)},
        )
        carries = [to_builtins(carry) for carry in start.carries]
        if short or (*found, self._recount.carries()) != (*stated, carries):
            text = "the ledger does not begin where the log says that the one before had ended"
            self._find("start", 0, text, start.digest(b"").hex())

    def goes_on(self, events: Iterable[Posted | Disputed]) -> bool:
        """Whether all audited posts are right and these events only add posts after them."""
        _, live, _ = self._fold(events)
        heads = [posted.head for posted in live]
        return not self._findings and not self._gap and heads[: len(self._judged)] == self._judged

    @property
    def _unit(self) -> int:
        return int(10**self._decimals // 10**6)

    def _find(self, kind: str, sequence: int, text: str, found: object = "", expected: object = "") -> None:
        self._findings.append(
            Finding(kind=kind, sequence=sequence, text=text, found=str(found), expected=str(expected))
        )

    def _find_file(self, kind: str, sequence: int, text: str, found: object = "", expected: object = "") -> None:
        self._find(kind, sequence, text, found, expected)
        self._findings[-1] = structs.replace(self._findings[-1], about="files")

    def _fold(self, events: Iterable[Posted | Disputed]) -> tuple[bytes, list[Posted], int]:
        head, dead = self._genesis, 0
        live: list[Posted] = []
        for event in events:
            if isinstance(event, Posted):
                h = event.header
                roots = (h.windows_root, h.payouts_root, h.manifest_hash)
                words = (h.sequence, *roots, h.epoch_start_s, h.epoch_end_s, h.total, h.deposits)
                head = head_after_post(head, words)
                live.append(event)
            else:
                head = head_after_dispute(head, event.sequence)
                dead += len(live) - (event.sequence - 1)
                live = live[: event.sequence - 1]
            if head != event.head:
                self._find(
                    "head", len(live), "the ledger's events do not fold to its head", event.head.hex(), head.hex()
                )
        return head, live, dead

    def _judge(
        self, posted: Posted, published: Callable[[int], Published], streams: Mapping[int, EpochStream]
    ) -> None:  # fmt: skip
        try:
            self._post(posted, published(posted.header.sequence), streams)
        except SourceMissing as gap:
            self._note_gap(posted.header.sequence, gap)
        self._judged.append(posted.head)

    def _unposted(self, streams: Mapping[int, EpochStream]) -> str:
        """Takes the epochs that no post has settled yet; returns why not all, empty for all."""
        ordered = in_order({partition: stream.take_all() for partition, stream in streams.items()})
        for epoch in ordered:
            self._take(epoch)
        try:
            self._check_payments(0, ordered, None)
        except SourceMissing as gap:
            return str(gap)
        gaps = [stream.gap for stream in streams.values()]
        return next((str(gap) for gap in gaps if gap is not None and not isinstance(gap, ArchiveEnds)), "")

    def _note_gap(self, sequence: int, gap: SourceMissing) -> None:
        self._gap = str(gap)
        self._verdicts.append(PostVerdict(sequence, "withheld" if gap.withheld else "unknown", self._gap))

    def _post(self, posted: Posted, files: Published, streams: Mapping[int, EpochStream]) -> None:
        header, found_before = posted.header, len(self._findings)
        manifest = self._manifest_of(header, files)
        ends = last_epochs(manifest, header, self._log)
        taken = {partition: stream.take(ends.get(partition)) for partition, stream in streams.items()}
        short = [partition for partition, stream in streams.items() if not stream.reaches(ends.get(partition))]
        if self._stops(header.sequence, streams, short):
            return
        before = Before(
            self._recount.total(), self._recount.unsettled(), dict(self._recount.dues), dict(self._next_offsets),
            dict(self._deposits),
        )  # fmt: skip
        ordered = in_order(taken)
        for epoch in ordered:
            self._take(epoch)
        leaves_out = self._check_skipped(header, taken)
        self._check_epochs(header, taken)
        leaves = self._recount.payout_leaves(self._decimals)
        payouts_root = root_of(leaves.values())
        windows = [window for epoch in ordered for window in epoch.windows]
        self._check_windows(header, files, windows, is_owed_right=payouts_root == header.payouts_root)
        self._check_payouts(header, files, leaves, payouts_root)
        self._check_manifest(header, manifest, expected_manifest(self._log, header, taken, before, self._recount))
        for partition, items in taken.items():
            if items:
                self._next_offsets[partition] = items[-1].manifest.next_offset
        lacking = self._findings[found_before].text if manifest is None else other_records(manifest, taken)
        if leaves_out:
            lacking = ""  # no records could make that right
        early = self._check_payments(header.sequence, ordered, posted.block)
        if len(early) == sum(finding.about == "post" for finding in self._findings[found_before:]) > 0:
            lacking = lacking or early[0].text
        if short:
            lacking = f"the log of partition {short[0]} does not reach the end of epoch {ends[short[0]]}"
        self._verdicts.append(verdict_of(header.sequence, self._findings[found_before:], lacking))

    def _manifest_of(self, header: PostHeader, files: Published) -> bytes | None:
        """The published manifest, if it is the one under the manifest hash."""
        lost = "manifest.json is missing or unreadable"
        manifest = self._read("manifest", header.sequence, lost, files.manifest)
        if manifest is None or keccak(manifest) == header.manifest_hash:
            return manifest
        self._find_file("manifest", header.sequence, "manifest.json is not the one under the manifest hash")
        return None

    def _read(self, kind: str, sequence: int, lost: str, read: Callable[[], T]) -> T | None:
        """What is in a published file; None, with a finding, where it can't be read and the reader isn't at fault."""
        try:
            return read()
        except SourceMissing:
            raise
        except InvalidInput as error:
            self._find_file(kind, sequence, f"{lost}: {error}")
            return None

    def _stops(self, sequence: int, streams: Mapping[int, EpochStream], short: Sequence[int]) -> bool:
        """Whether a source that a post needs is missing, so that neither it nor a later one can be judged."""
        gap = next((gap for partition in short if (gap := streams[partition].gap) is not None), None)
        if gap is None and any(streams[partition].is_empty for partition in short):
            # An empty log is more likely the wrong one, or none.
            gap = SourceMissing(
                "the log has not ended a single epoch: check that it is this ledger's log", withheld=False
            )
        if gap is not None:
            self._note_gap(sequence, gap)
        return gap is not None

    def _check_epochs(self, header: PostHeader, taken: Mapping[int, Sequence[Epoch]]) -> None:
        """Checks that a post begins where the previous one ended, the first with the log, and that its partitions end
        together.
        """
        epochs = [epoch.manifest for items in taken.values() for epoch in items]
        start_s = self._epoch_end_s
        if start_s is None and epochs:
            start_s = min(epoch.start_ms for epoch in epochs) // 1_000
        self._epoch_end_s = header.epoch_end_s
        if header.epoch_start_s != (header.epoch_start_s if start_s is None else start_s):
            text = "the post does not begin where the one before ended, or the log began"
            self._find("epochs", header.sequence, text, header.epoch_start_s, start_s)
        ends_s = {items[-1].manifest.end_ms // 1_000 for items in taken.values() if items}
        if ends_s - {header.epoch_end_s}:
            text = "the post does not end with the epochs that it settles"
            self._find("epochs", header.sequence, text, header.epoch_end_s, max(ends_s))

    def _check_skipped(self, header: PostHeader, taken: Mapping[int, Sequence[Epoch]]) -> bool:
        """Whether a post leaves out what can be read: an operator's signature doesn't make that right."""
        found = False
        for items in taken.values():
            for each in (each for epoch in items for each in epoch.manifest.skipped_ranges):
                if because := self._refutes(each):
                    self._find("skipped", header.sequence, f"{each.text}, and {because}")
                    found = True
        return found

    def _check_payments(self, sequence: int, epochs: Sequence[Epoch], block: int | None) -> list[Finding]:
        """Holds the payments of a post, which lies in a block, against the chain; returns what may yet become final."""
        faults = [
            fault
            for epoch in epochs
            for accepted in epoch.payments
            if (fault := self._payments.fault_of(sequence, epoch.manifest.partition, accepted, block)) is not None
        ]
        self._findings += [fault.finding for fault in faults]
        return [fault.finding for fault in faults if fault.is_early]

    def _take(self, epoch: Epoch) -> None:
        manifest = epoch.manifest
        self._skipped += manifest.skipped_ranges
        self._epochs += 1
        self._windows += len(epoch.windows)
        self._deposits[manifest.partition] = int(manifest.deposits_micros)
        self._reached_s[manifest.partition] = manifest.end_ms // 1_000
        for window in epoch.windows:
            self._recount.take(window)

    def _check_windows(
        self, header: PostHeader, files: Published, windows: Sequence[Window], *, is_owed_right: bool
    ) -> None:
        root = root_of(map(window_leaf_of, windows))
        lost = "windows.parquet is missing or unreadable"
        published = self._read("windows", header.sequence, lost, lambda: files.windows(len(windows)))
        different = None if published is None else first_difference(header.sequence, published, windows)
        if root != header.windows_root and different is None:
            text = "the windows root is not that of the log, and no published window differs"
            self._find("windows_root", header.sequence, text, header.windows_root.hex(), root.hex())
        elif different is not None:
            # A window's leaf holds its net alone: what its dues come to is under the payouts root.
            is_posted = root == header.windows_root and (different.kind != "due" or is_owed_right)
            about: Literal["post", "files"] = "files" if is_posted else "post"
            self._findings.append(structs.replace(different, about=about))
            if root != header.windows_root:
                text = "the windows root is not that of the log"
                self._find("windows_root", header.sequence, text, header.windows_root.hex(), root.hex())

    def _check_payouts(self, header: PostHeader, files: Published, leaves: Mapping[str, bytes], root: bytes) -> None:
        if root != header.payouts_root:
            text = "the payouts root is not that of the log"
            self._find("payouts_root", header.sequence, text, header.payouts_root.hex(), root.hex())
        if header.total != self._recount.total() * self._unit:
            text = "the total is not the sum of all that is owed"
            self._find("total", header.sequence, text, header.total, self._recount.total() * self._unit)
        deposits = sum(self._deposits.values()) * self._unit
        if header.deposits != deposits:
            text = "the deposits are not what customers are owed for sessions that no window holds"
            self._find("deposits", header.sequence, text, header.deposits, deposits)
        lost = "payouts.json is missing or unreadable, and no account can claim"
        published = self._read("payouts", header.sequence, lost, lambda: files.payouts(len(leaves)))
        if published is None:
            return
        for account in sorted(leaves.keys() | published.keys()):
            units, proof = published.get(account, (0, ()))
            due = self._recount.owed.get(account, 0) * self._unit
            if units != due:
                self._find_file("payout", header.sequence, f"{account} is published with another amount", units, due)
                return
            is_led = account not in leaves or leads_to(header.payouts_root, leaves[account], proof)
            if not is_led and root == header.payouts_root:
                text = f"the published proof of {account} does not lead to the root"
                self._find_file("proof", header.sequence, text)
                return

    def _check_manifest(self, header: PostHeader, found: bytes | None, expected: Mapping[str, object]) -> None:
        own = plain_json(expected)
        if keccak(own) == header.manifest_hash:
            return
        text = "the manifest is not what the log says"
        if (other := first_other(found, expected)) is not None:
            name, stated, right = other
            self._find("manifest", header.sequence, f"{text}: {name}", stated, right)
            return
        self._find("manifest", header.sequence, text, header.manifest_hash.hex(), keccak(own).hex())

    def _check_sums(self, sequence: int) -> None:
        for (machine, agreement), sums in sorted(self._recount.sums.items()):
            if not sums.add_up():
                text = f"the nets of {machine} under the agreement {agreement[:16]} are not paid + held + carry"
                self._find("sums", sequence, text, sums.paid + sums.held + sums.carry, sums.nets)
        given = sum(sums.nets for sums in self._recount.sums.values()) + sum(self._recount.dues.values())
        rest = sum(sums.held + sums.carry for sums in self._recount.sums.values())
        spread = self._recount.total() + self._recount.before + sum(self._recount.outside.values()) + rest
        if given != spread:
            text = "the nets and dues of all machines are not the sum of all payouts, held amounts and carries"
            self._find("sums", sequence, text, spread, given)


def first_difference(sequence: int, found: Sequence[PublishedWindow], expected: Sequence[Window]) -> Finding | None:
    """The first published window that differs from the log's; both are in the order of (epoch, partition, sealing)."""
    for index, (published, own) in enumerate(zip_longest(found, expected)):
        if own is not None and (published is None or _is_missing(own, published, found, expected)):
            return _window_finding(sequence, own, "is in the log and was left out", "", _shown(own))
        if published is not None and (own is None or _is_missing(published, own, expected, found)):
            return _window_finding(sequence, published, "is published and not in the log", _shown(published), "")
        if own is not None and published is not None and _fields(published) != _fields(own):
            text = f"differs from the log (window {index + 1} of the post)"
            return _window_finding(sequence, own, text, _shown(published), _shown(own))
        if own is not None and published is not None and tuple(published.dues) != own.dues:
            return _due_finding(sequence, own, published.dues)
    return None


def _due_finding(sequence: int, own: Window, published: Sequence[Due]) -> Finding:
    """The first due of a window that differs; the window is otherwise the log's."""
    pairs = enumerate(zip_longest(published, own.dues))
    place, found, expected = next((at, a, b) for at, (a, b) in pairs if a != b)
    finding = _window_finding(sequence, own, f"owes another due (the {place + 1}. of it)", _due(found), _due(expected))
    return structs.replace(finding, kind="due")


def _due(due: Due | None) -> str:
    return "" if due is None else f"{due.kind} {due.ref} of {_amount(due.micros)} to {due.account}"


def _is_missing(
    window: PublishedWindow | Window,
    other: PublishedWindow | Window,
    others: Sequence[PublishedWindow | Window],
    own: Sequence[PublishedWindow | Window],
) -> bool:
    """Whether `others` lack this window, while the one at its index is on both sides."""
    if _identity(window) == _identity(other):
        return False
    return _identity(window) not in set(map(_identity, others)) and _identity(other) in set(map(_identity, own))


def _identity(window: PublishedWindow | Window) -> tuple[str, int, int]:
    return window.machine, window.start_ms, window.adjusts_ms or 0


def _fields(window: PublishedWindow | Window) -> tuple[str, int, int, int, int, bytes]:
    return (
        window.machine, window.start_ms, window.end_ms, window.adjusts_ms or 0, window.net_micros, window.digest
    )  # fmt: skip


def _shown(window: PublishedWindow | Window) -> str:
    adjusts = f", adjusts {_moment(window.adjusts_ms)}" if window.adjusts_ms else ""
    net = _amount(window.net_micros)
    return f"{window.machine} at {_moment(window.start_ms)}{adjusts}: net {net}, digest {window.digest.hex()}"


def _amount(micros: int) -> str:
    sign, (whole, part) = "-" if micros < 0 else "", divmod(abs(micros), 1_000_000)
    return f"{sign}{whole:,}.{part:06d}"


def _moment(moment_ms: int) -> str:
    """Epoch ms in words; as it is where a post names a moment that no calendar has."""
    try:
        clock = "%H:%M" if moment_ms % 60_000 == 0 else "%H:%M:%S"
        return datetime.fromtimestamp(moment_ms / 1_000, UTC).strftime(f"%Y-%m-%d {clock} UTC")
    except (ValueError, OverflowError, OSError):
        return f"{moment_ms} ms"


def _window_finding(sequence: int, at: PublishedWindow | Window, text: str, found: str, expected: str) -> Finding:
    return Finding(
        kind="window", sequence=sequence, text=f"the window of {at.machine} at {_moment(at.start_ms)} {text}",
        machine=at.machine, window_start_ms=at.start_ms, found=found, expected=expected,
    )  # fmt: skip
