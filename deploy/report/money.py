"""The money in a report: who was granted what by which machine, and the posts with all that their check needs."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
from pathlib import Path

from msgspec import Struct

from schemas.log import Log
from settlement.accrual import Earning
from settlement.head import HeaderFile
from settlement.leaf import machine_hash
from settlement.post import PartitionEpoch, PostStanding, earning_leaf, windows_tree
from settlement.storage.posts import AccountPayout, Store, StoredHeader
from settlement.storage.published_epochs import EpochReader

POSTS = 20
"""Posts that are embedded: the last ones, beside all that hold an embedded window."""
MANIFEST_BYTES = 16_384
"""A larger manifest of a post isn't embedded: its hash is then taken as the header says."""
ACCOUNTS = 30
"""Accounts of a post that are embedded: those with the most, beside all payees of embedded windows."""

WindowName = tuple[str, int, int]
"""Machine, start, start of the window that it adjusts (epoch ms, 0 for none)."""

UNPOSTED = 0
"""Instead of a sequence, for what no post holds yet."""

HELD, OUTSIDE = "held", "outside"
"""Instead of an account: money that the agreement doesn't pay for, and the part of a payee without an account."""


class WindowProof(Struct, frozen=True):
    """Of one settled window: its post, the siblings up to the windows root (hex), and the carry before it (micros)."""

    sequence: int
    proof: tuple[str, ...]
    carry_before: str
    points: tuple[tuple[str, int], ...]
    outside: tuple[str, ...]
    pays_trust: int


class PostPage(Struct, frozen=True):
    """A post: its header, its manifest as text (empty where it is too long), and its accounts with their proofs."""

    header: HeaderFile
    decimals: int
    windows: int
    manifest: str
    accounts: dict[str, AccountPayout]
    accounts_in_all: int


class Money(Struct, frozen=True):
    """Flows are micros by (machine, account, or HELD, or OUTSIDE), over all that is sealed for good: payees' parts, and
    suppliers' invoices. A refund is the customer's own money and no flow.

    `suppliers` are the accounts of those invoices. `unsettled` is what of OUTSIDE each payee without an account is
    owed, by its id.
    """

    flows: dict[tuple[str, str], int]
    suppliers: set[str]
    unsettled: dict[str, int]
    unposted_micros: int
    posts: tuple[PostPage, ...]
    posts_in_all: int
    proofs: dict[WindowName, WindowProof]


def read_money(data_dir: Path, log: Log, names: Sequence[WindowName], initial: PostStanding) -> Money:
    """Accrues every window in the order of the posts to a ledger, then those that no post holds yet. `initial` is the
    state before its first post.

    `names` are the windows that need a proof. Raises InvalidInput where a post's file is missing or damaged.
    """
    store = Store(data_dir)
    walk = _Walk(frozenset(names), initial)
    headers: list[tuple[StoredHeader, int]] = []
    standing_epochs: Mapping[int, int] = initial.partition_epochs
    while (kept := store.header(len(headers) + 1)) is not None:
        windows = [earning for _, earning in store.windows(kept.header.sequence) or ()]
        walk.take(kept.header.sequence, windows)
        headers.append((kept, len(windows)))
    if headers:
        standing_epochs = store.standing(len(headers), initial).partition_epochs
    posted_micros = walk.net_micros
    for epoch in _unposted(EpochReader(data_dir, log), standing_epochs):
        walk.take(UNPOSTED, epoch.earnings)
    payees = {name for proof in walk.proofs.values() for name, _ in proof.points}
    settled = {proof.sequence for proof in walk.proofs.values()}
    posts = tuple(
        _post(store, kept, windows, payees)
        for kept, windows in headers
        if kept.header.sequence in settled or kept.header.sequence > len(headers) - POSTS
    )
    return Money(
        walk.flows, walk.suppliers, walk.unsettled, walk.net_micros - posted_micros, posts, len(headers), walk.proofs
    )


class _Walk:
    """Balances while they accrue, and what is noted of them."""

    def __init__(self, names: frozenset[WindowName], initial: PostStanding) -> None:
        self._names = names
        self._balances = initial.balances.copy()
        self.flows: dict[tuple[str, str], int] = {}
        self.suppliers: set[str] = set()
        self.unsettled: dict[str, int] = {}
        self.proofs: dict[WindowName, WindowProof] = {}
        self.net_micros = 0

    def take(self, sequence: int, windows: Sequence[Earning]) -> None:
        """Accrues windows in their order; those that are named get a proof if they were posted."""
        named: list[tuple[Earning, int]] = []
        for earning in windows:
            step = self._balances.accrue(earning)
            self.net_micros += earning.net_micros
            for account, part in step.parts.items():
                self._add(earning.machine, account, part)
            for due in step.dues:
                if due.kind == "expense":
                    self._add(earning.machine, due.account, due.micros)
                    self.suppliers.add(due.account)
            for (reason, payee), part in step.unsettled.items():
                self._add(earning.machine, HELD if reason == "trust" else OUTSIDE, part)
                if payee:
                    self.unsettled[payee] = self.unsettled.get(payee, 0) + part
            if (earning.machine, earning.start_ms, earning.adjusts_ms) in self._names:
                named.append((earning, step.carry_before))
        tree = windows_tree(windows) if named and sequence != UNPOSTED else None
        for earning, carry in named:
            proof = [] if tree is None else tree.proof(earning_leaf(earning, machine_hash(earning.machine)))
            terms = earning.terms
            self.proofs[earning.machine, earning.start_ms, earning.adjusts_ms] = WindowProof(
                sequence, tuple(node.hex() for node in proof), str(carry), terms.points,
                tuple(sorted(terms.outside)), terms.pays_trust,
            )  # fmt: skip

    def _add(self, machine: str, account: str, part: int) -> None:
        self.flows[machine, account] = self.flows.get((machine, account), 0) + part


def _post(store: Store, kept: StoredHeader, windows: int, payees: AbstractSet[str]) -> PostPage:
    sequence = kept.header.sequence
    manifest = store.manifest_bytes(sequence) or b""
    accounts = store.payouts(sequence)
    most = sorted(accounts, key=lambda account: (-int(accounts[account].cumulative_micros), account))
    most = [account for at, account in enumerate(most) if at < ACCOUNTS or account in payees]
    return PostPage(
        kept.header, kept.decimals, windows, manifest.decode() if len(manifest) <= MANIFEST_BYTES else "",
        {account: accounts[account] for account in most}, len(accounts),
    )  # fmt: skip


def _unposted(reader: EpochReader, standing_epochs: Mapping[int, int]) -> Iterator[PartitionEpoch]:
    """The epochs that ended and no post holds, by epoch and partition."""
    firsts = {**reader.first_epochs(), **standing_epochs}
    found: list[tuple[int, int]] = []
    for partition, first in firsts.items():
        for epoch in count(first):
            if reader.manifest(partition, epoch) is None:
                break
            found.append((epoch, partition))
    yield from (reader.read(partition, epoch) for epoch, partition in sorted(found))
