"""Assembles one post: a run of epochs of every partition becomes a manifest, two trees and the balances after it.

total = sum of all cumulative payouts (token units) = what the ledger will ever have owed
sum of nets + sum of dues = paid + unsettled + change of carries
deposits = sum over partitions of what customers are owed at the last cut that no sealed window holds
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from schemas.canonical import chain_digest
from schemas.errors import InvalidInput, InvariantBroken
from schemas.keccak import keccak
from schemas.manifest import EpochManifest
from schemas.post import EpochRef, PartitionRange, PostManifest, PostTotals, carries_digest
from schemas.units import SECOND_MS
from schemas.window import DUE_KINDS
from settlement.accrual import NOBODY, Balances, Earning
from settlement.head import PostHeader
from settlement.leaf import machine_hash, payout_leaf, window_leaf
from settlement.merkle import MerkleTree


class PartitionEpoch(Struct, frozen=True):
    """One epoch of one partition: the stream's manifest and its sealed windows in sealing order."""

    manifest: EpochManifest
    earnings: Sequence[Earning]


class PostStanding(Struct, frozen=True):
    """The state after a post: balances, and by partition the next epoch, the next offset and the deposits (micros)."""

    sequence: int
    balances: Balances
    next_epoch: int | None
    partition_epochs: Mapping[int, int]
    partition_offsets: Mapping[int, int]
    partition_deposits: Mapping[int, int]

    @classmethod
    def initial(cls, ledger: str = NOBODY) -> "PostStanding":
        """The state before the first post to a ledger."""
        return cls(0, Balances(ledger=ledger), None, {}, {}, {})

    @property
    def deposits(self) -> int:
        """What customers are owed at the last cuts that no sealed window holds, micros."""
        return sum(self.partition_deposits.values())


class Run(Struct, frozen=True):
    """A run of epochs [first, last] chosen for one post: by partition the epochs it settles, in order."""

    first_epoch: int
    last_epoch: int
    epochs: Mapping[int, Sequence[PartitionEpoch]]


class AssembledPost(Struct, frozen=True):
    """A post ready to be signed. `windows` holds (partition, earning) in the order of accrual."""

    manifest: PostManifest
    windows: Sequence[tuple[int, Earning]]
    windows_tree: MerkleTree
    payouts_tree: MerkleTree
    before: PostStanding
    after: PostStanding

    def header(self, previous_head: bytes, decimals: int) -> PostHeader:
        """The arguments of the ledger's `post`."""
        return PostHeader(
            sequence=self.after.sequence,
            previous_head=previous_head,
            windows_root=self.windows_tree.root,
            payouts_root=self.payouts_tree.root,
            manifest_hash=keccak(self.manifest.canonical()),
            epoch_start_s=self.manifest.start_ms // SECOND_MS,
            epoch_end_s=self.manifest.end_ms // SECOND_MS,
            total=token_units(int(self.manifest.totals.cumulative), decimals),
            deposits=token_units(int(self.manifest.totals.deposits), decimals),
        )


def token_units(micros: int, decimals: int) -> int:
    """Micros as units of a token of 6 or more decimals: exact, never rounded. Raises InvalidInput for fewer."""
    if decimals < 6:
        raise InvalidInput(f"a token of {decimals} decimals can't hold micros: use one of 6 to 18 decimals")
    return int(micros * 10 ** (decimals - 6))


def in_order(run: Run) -> list[tuple[int, PartitionEpoch]]:
    """The run's epochs as (partition, epoch), in the order of accrual: by epoch, then partition."""
    pairs = [(partition, item) for partition, items in run.epochs.items() for item in items]
    return sorted(pairs, key=lambda pair: (pair[1].manifest.epoch, pair[0]))


def assemble(before: PostStanding, run: Run, decimals: int) -> AssembledPost | None:
    """The post of a run; None if it owes nothing more than before, since such epochs are not posted alone.

    Raises InvariantBroken if ranges don't continue those of the previous post, InvalidInput if an epoch is not a whole
    number of seconds.
    """
    ordered = in_order(run)
    balances = before.balances.copy()
    payable = 0
    windows: list[tuple[int, Earning]] = []
    for partition, item in ordered:
        for earning in item.earnings:
            payable += balances.accrue(earning).payable
            windows.append((partition, earning))
    payouts = balances.payouts()
    if payouts == before.balances.payouts():
        return None
    ranges = tuple(_range(before, partition, items) for partition, items in sorted(run.epochs.items()))
    after = PostStanding(
        before.sequence + 1,
        balances,
        run.last_epoch + 1,
        {**before.partition_epochs, **{r.partition: r.epochs[-1].epoch + 1 for r in ranges if r.epochs}},
        {**before.partition_offsets, **{r.partition: r.next_offset for r in ranges}},
        {**before.partition_deposits, **{r.partition: int(r.deposits) for r in ranges}},
    )
    manifest = _manifest(run, ordered, ranges, _totals(windows, before, after, payable), before, balances)
    tree = windows_tree([earning for _, earning in windows])
    return AssembledPost(manifest, windows, tree, payouts_tree(payouts, decimals), before, after)


def windows_tree(earnings: Sequence[Earning]) -> MerkleTree:
    """The tree over windows; a machine's id is hashed once."""
    hashes = {machine: machine_hash(machine) for machine in {earning.machine for earning in earnings}}
    return MerkleTree(earning_leaf(earning, hashes[earning.machine]) for earning in earnings)


def earning_leaf(earning: Earning, machine: bytes) -> bytes:
    """The leaf of a window, given its machine's hash."""
    span = (earning.start_ms, earning.end_ms)
    return window_leaf(machine, span, earning.adjusts_ms, earning.net_micros, earning.digest)


def payouts_tree(payouts: Mapping[str, int], decimals: int) -> MerkleTree:
    """The tree over cumulative payouts (micros by account), in token units."""
    return MerkleTree(payout_leaf(account, token_units(micros, decimals)) for account, micros in payouts.items())


def _range(before: PostStanding, partition: int, items: Sequence[PartitionEpoch]) -> PartitionRange:
    offset = before.partition_offsets.get(partition, 0)
    if not items:
        return PartitionRange(partition, offset, offset, str(before.partition_deposits.get(partition, 0)), ())
    manifests = [item.manifest for item in items]
    due = before.partition_epochs.get(partition, manifests[0].epoch)
    gapless = all(a.next_offset == b.first_offset and a.epoch + 1 == b.epoch for a, b in pairwise(manifests))
    if not gapless or manifests[0].first_offset != offset or manifests[0].epoch != due:
        raise InvariantBroken(
            f"the epochs {manifests[0].epoch} to {manifests[-1].epoch} of partition {partition} do not continue "
            f"epoch {due} at offset {offset}"
        )
    refs = tuple(
        EpochRef(m.epoch, m.digest().hex(), m.log_root, m.ruleset_digest, len(m.skipped_ranges)) for m in manifests
    )
    return PartitionRange(partition, offset, manifests[-1].next_offset, manifests[-1].deposits_micros, refs)


def _totals(
    windows: Sequence[tuple[int, Earning]], standing_before: PostStanding, standing: PostStanding, payable: int
) -> PostTotals:
    before, after = standing_before.balances, standing.balances
    held = _sum_unsettled(after, "trust") - _sum_unsettled(before, "trust")
    outside = _sum_unsettled(after, "no_account") - _sum_unsettled(before, "no_account")
    paid = sum(after.cumulative.values()) - sum(before.cumulative.values())
    carries = sum(after.carry.values()) - sum(before.carry.values())
    net = sum(earning.net_micros for _, earning in windows)
    dues = {kind: sum(due.micros for _, one in windows for due in one.dues if due.kind == kind) for kind in DUE_KINDS}
    if net != payable + held + carries or payable + sum(dues.values()) != paid + outside:
        raise InvariantBroken(
            f"nets of {net} micros and dues of {sum(dues.values())} became {paid} paid, {outside} to nobody, {held} "
            f"held, {carries} carried"
        )
    return PostTotals(
        windows=len(windows), net=str(net), expenses=str(dues["expense"]), refunds=str(dues["refund"]),
        payable=str(payable), held=str(held), paid=str(paid), cumulative=str(sum(after.cumulative.values())),
        deposits=str(standing.deposits),
    )  # fmt: skip


def _sum_unsettled(balances: Balances, reason: str) -> int:
    return sum(amount for (kind, _, _), amount in balances.unsettled.items() if kind == reason)


def _manifest(
    run: Run,
    ordered: Sequence[tuple[int, PartitionEpoch]],
    ranges: tuple[PartitionRange, ...],
    totals: PostTotals,
    before: PostStanding,
    balances: Balances,
) -> PostManifest:
    manifests = [item.manifest for _, item in ordered]
    some = manifests[0]
    length_ms = some.end_ms - some.start_ms
    if length_ms % SECOND_MS:
        raise InvalidInput("the ledger counts seconds: an epoch must be a whole number of them")
    if len({(m.log_id, m.currency, m.end_ms - m.start_ms) for m in manifests}) != 1:
        raise InvalidInput("these epochs belong to different logs: one ledger settles one log")
    return PostManifest(
        log_id=some.log_id,
        currency=some.currency,
        first_epoch=run.first_epoch,
        last_epoch=run.last_epoch,
        start_ms=run.first_epoch * length_ms,
        end_ms=(run.last_epoch + 1) * length_ms,
        partitions=ranges,
        windows_digest=chain_digest("post windows 1", (bytes.fromhex(m.windows_digest) for m in manifests)).hex(),
        carries_digest=carries_digest(balances.carries()),
        totals=totals,
        unsettled=balances.unsettled_since(before.balances),
    )
