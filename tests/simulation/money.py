"""Settles what a run published, in posts of any length, and counts the money again: slowly, in fractions."""

import random
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction

from schemas.log import Log
from schemas.manifest import EpochManifest
from schemas.window import Window
from settlement.accrual import earning_of
from settlement.audit.audit import Auditor
from settlement.audit.sources import Epoch, Sources
from settlement.history import Posted
from settlement.leaf import payout_leaf
from settlement.merkle import proves
from settlement.post import AssembledPost, PartitionEpoch, PostStanding, Run, assemble, token_units
from tests.simulation.checks import Published
from tests.support.published_post import MadePost

GENESIS = b"g" * 32
DECIMALS = 8
Epochs = dict[int, list[Published]]


class NaiveMoney:
    """Who is owed what: every due in full, and every window's whole payable part split at once, by largest remainder.

    sum of nets + sum of dues = owed + behind + withheld
    """

    def __init__(self) -> None:
        self.owed: dict[str, int] = defaultdict(int)
        self.behind: dict[tuple[str, str], int] = defaultdict(int)
        self.nets = self.dues = self.withheld = 0
        self.deposits: dict[int, int] = {}

    def cut(self, manifest: EpochManifest) -> None:
        """What customers are owed at the end of an epoch of a partition."""
        self.deposits[manifest.partition] = int(manifest.deposits_micros)

    def take(self, window: Window) -> None:
        """Adds one window; what lies below zero waits for the machine's next earnings."""
        for due in window.dues:
            self.owed[due.account] += due.micros
            self.dues += due.micros
        self.nets += window.net_micros
        if window.trust < window.agreement.pays_trust and window.net_micros > 0:
            self.withheld += window.net_micros
            return
        key = (window.machine, repr(sorted(window.agreement.payees.items())))
        standing = self.behind[key] + window.net_micros
        self.behind[key] = min(0, standing)
        names = sorted((payee.lower(), points) for payee, points in window.agreement.payees.items())
        exact = {name: Fraction(max(0, standing) * points, 10_000) for name, points in names}
        parts = {name: int(part) for name, part in exact.items()}
        by_rest = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
        for name in by_rest[: max(0, standing) - sum(parts.values())]:
            parts[name] += 1
        for name, part in parts.items():
            self.owed[name] += part

    def check(self, made: AssembledPost) -> None:
        """Every micro of every window is owed to somebody, or is behind; the leaves add up to the total."""
        assert self.nets + self.dues == sum(self.owed.values()) + sum(self.behind.values()) + self.withheld
        accounts = {
            name: amount for name, amount in self.owed.items() if name.startswith("0x") and int(name, 16) and amount
        }
        balances = made.after.balances
        assert balances.payouts() == accounts
        unsettled = sum(self.owed.values()) - sum(accounts.values()) + self.withheld
        assert sum(balances.unsettled.values()) == unsettled
        assert sum(balances.carry.values()) == sum(self.behind.values())
        header = made.header(GENESIS, DECIMALS)
        assert header.total == sum(accounts.values()) * 100, "the leaves are not the total"
        assert header.deposits == sum(self.deposits.values()) * 100, "customers are owed something else"
        for account, micros in accounts.items():
            leaf = payout_leaf(account, micros * 100)
            assert proves(made.payouts_tree.root, leaf, made.payouts_tree.proof(leaf))


def check_settled(log: Log, epochs: Epochs, draw: random.Random) -> int:
    """Posts all epochs that every partition has; gives how many posts that took."""
    standing, head = PostStanding.initial(), GENESIS
    counted, events, files = NaiveMoney(), [], {}
    for made in posts(standing, epochs, draw):
        for one in epochs_of(epochs, made):
            counted.cut(one.manifest)
            for window in one.windows:
                counted.take(window)
        counted.check(made)
        header = made.header(head, DECIMALS)
        head = header.head()
        events.append(Posted(header, head, 0, "0x", len(events)))
        payouts = {
            account: (units, made.payouts_tree.proof(payout_leaf(account, units)))
            for account, units in (
                (account, token_units(micros, DECIMALS))
                for account, micros in made.after.balances.payouts().items()
            )
        }  # fmt: skip
        earnings = [earning for _, earning in made.windows]
        files[header.sequence] = MadePost(made.manifest.canonical(), earnings, payouts)
    auditor = Auditor(log, GENESIS, DECIMALS)
    report = auditor.run(
        events,
        lambda sequence: files[sequence],
        Sources(lambda partition: [Epoch(*one[:2]) for one in epochs[partition]]),
    )
    assert report.ok, report.findings
    spread = report.paid_micros + report.outside_micros + report.held_micros + report.carry_micros
    assert report.nets_micros + report.expenses_micros + report.refunds_micros == spread
    return len(events)


def posts(standing: PostStanding, epochs: Epochs, draw: random.Random) -> Iterator[AssembledPost]:
    """Runs of one or more epochs; what owes nothing joins the next run."""
    first = min(one.manifest.epoch for ones in epochs.values() for one in ones)
    last = min(ones[-1].manifest.epoch for ones in epochs.values())
    begin = first
    for epoch in range(first, last + 1):
        if epoch < last and draw.random() < 0.5:
            continue
        chosen = {
            partition: [
                PartitionEpoch(one.manifest, [earning_of(window) for window in one.windows])
                for one in ones
                if begin <= one.manifest.epoch <= epoch
            ]
            for partition, ones in epochs.items()
        }
        made = assemble(standing, Run(begin, epoch, chosen), DECIMALS)
        if made is not None:
            yield made
            standing, begin = made.after, epoch + 1


def epochs_of(epochs: Epochs, made: AssembledPost) -> list[Published]:
    """What a post settles, by epoch and partition."""
    length_ms = next(one.manifest.end_ms - one.manifest.start_ms for ones in epochs.values() for one in ones)
    within = range(made.manifest.start_ms // length_ms, made.manifest.end_ms // length_ms)
    return [
        one
        for epoch in within
        for partition in sorted(epochs)
        for one in epochs[partition]
        if one.manifest.epoch == epoch
    ]
