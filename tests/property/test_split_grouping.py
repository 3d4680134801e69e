"""How epochs are grouped into posts changes no cumulative amount, and no money is lost or made on the way."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.registration import Agreement
from schemas.window import Window
from settlement.accrual import earning_of
from settlement.audit.recount import Recount, root_of
from settlement.post import AssembledPost, PartitionEpoch, PostStanding, Run, assemble
from tests.support.settlement_data import ALICE, BOB, FIRST_EPOCH, OTHER_HALVES, SOLAR, THIRDS, manifest_of, window

COOP = Agreement({"coop": 1_250, ALICE: 2_500, "0x" + ALICE[2:].upper(): 1_250, BOB: 5_000}, pays_trust=1)
DECIMALS = 8

nets = st.one_of(st.integers(-200, 200), st.integers(-(2**70), 2**70))
made = st.tuples(st.integers(0, 3), nets, st.sampled_from([THIRDS, OTHER_HALVES, COOP]), st.integers(0, 2))
days = st.lists(st.tuples(st.lists(made, max_size=4), st.lists(made, max_size=4)), min_size=1, max_size=6)


def windows_of(partition: int, epoch: int, items: Sequence[tuple[int, int, Agreement, int]]) -> list[Window]:
    return [
        window(f"m{partition}{machine}", epoch, net, place=place, agreement=agreement, trust=trust)
        for place, (machine, net, agreement, trust) in enumerate(items)
    ]


Days = list[tuple[list[Window], list[Window]]]


def post_all(history: Days, cuts: Sequence[int]) -> list[AssembledPost]:
    """Posts runs that end before the days in `cuts`, and at the end; runs that owe nothing join the next one."""
    standing, posts, first = PostStanding.initial(), [], 0
    for cut in [*cuts, len(history)]:
        epochs: dict[int, list[PartitionEpoch]] = {0: [], 1: []}
        for day in range(first, cut):
            for partition in (0, 1):
                windows = history[day][partition]
                manifest = manifest_of(partition, FIRST_EPOCH + day, windows)
                epochs[partition].append(PartitionEpoch(manifest, [earning_of(w) for w in windows]))
        run = Run(FIRST_EPOCH + first, FIRST_EPOCH + cut - 1, epochs)
        post = assemble(standing, run, DECIMALS)
        if post is not None:
            posts.append(post)
            standing, first = post.after, cut
    return posts


@settings(max_examples=40, deadline=None)
@given(days, st.sets(st.integers(1, 5)))
def test_grouping_epochs_into_posts_changes_no_cumulative_amount(
    drawn: list[tuple[list[tuple[int, int, Agreement, int]], ...]], cuts: set[int]
) -> None:
    history: Days = [
        (windows_of(0, FIRST_EPOCH + day, a), windows_of(1, FIRST_EPOCH + day, b)) for day, (a, b) in enumerate(drawn)
    ]
    history.append(([window("last", FIRST_EPOCH, 1_000)], []))  # the last day owes, so that all days are posted
    history = [(shifted(a, day), shifted(b, day)) for day, (a, b) in enumerate(history)]
    everything = [w for a, b in history for w in (*a, *b)]
    once = post_all(history, [])[-1]
    often = post_all(history, sorted(cut for cut in cuts if cut < len(history)))
    counted = sum(len(post.windows) for post in often)
    assert counted == len(everything) == len(once.windows)
    last = often[-1].after.balances
    assert last.payouts() == once.after.balances.payouts()
    assert last.carry == once.after.balances.carry
    assert last.unsettled == once.after.balances.unsettled
    assert often[-1].payouts_tree.root == once.payouts_tree.root

    # The auditor's own arithmetic comes to the same roots and sums.
    recount = Recount()
    for w in everything:
        recount.take(w)
    assert root_of(recount.payout_leaves(DECIMALS).values()) == once.payouts_tree.root
    assert all(sums.add_up() for sums in recount.sums.values())
    held = sum(sums.held for sums in recount.sums.values())
    carry = sum(sums.carry for sums in recount.sums.values())
    paid = sum(recount.owed.values()) + sum(recount.outside.values())
    assert sum(w.net_micros for w in everything) == paid + held + carry
    assert set(last.payouts()) <= {SOLAR, ALICE, BOB}


def shifted(windows: list[Window], day: int) -> list[Window]:
    """The same windows on another day."""
    return [
        window(w.machine, FIRST_EPOCH + day, w.net_micros, place=place, agreement=w.agreement, trust=w.trust)
        for place, w in enumerate(windows)
    ]
