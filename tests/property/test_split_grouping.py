"""How epochs are grouped into posts changes no cumulative amount, and no money is lost or made on the way."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.registration import Agreement
from schemas.window import DUE_KINDS, Due, Window
from settlement.accrual import NOBODY, earning_of
from settlement.audit.recount import Recount, root_of
from settlement.post import AssembledPost, PartitionEpoch, PostStanding, Run, assemble
from tests.support.settlement_data import ALICE, BOB, FIRST_EPOCH, OTHER_HALVES, SOLAR, THIRDS, manifest_of, window

COOP = Agreement({"coop": 1_250, ALICE: 2_500, "0x" + ALICE[2:].upper(): 1_250, BOB: 5_000}, pays_trust=1)
DECIMALS = 8

LEDGER = "0x" + "1e" * 20
CUSTOMER = "0x" + "d4" * 20

nets = st.one_of(st.integers(-200, 200), st.integers(-(2**62), 2**62))
due = st.builds(
    Due, st.sampled_from(DUE_KINDS), st.sampled_from([ALICE, CUSTOMER, LEDGER, NOBODY]), st.just("x/1"),
    st.integers(1, 2**53),
)  # fmt: skip
made = st.tuples(
    st.integers(0, 3), nets, st.sampled_from([THIRDS, OTHER_HALVES, COOP]), st.integers(0, 2),
    st.lists(due, max_size=2),
)  # fmt: skip
days = st.lists(st.tuples(st.lists(made, max_size=4), st.lists(made, max_size=4)), min_size=1, max_size=6)


Drawn = tuple[int, int, Agreement, int, list[Due]]


def windows_of(partition: int, epoch: int, items: Sequence[Drawn]) -> list[Window]:
    return [
        window(f"m{partition}{machine}", epoch, net, place=place, agreement=agreement, trust=trust, dues=dues)
        for place, (machine, net, agreement, trust, dues) in enumerate(items)
    ]


Days = list[tuple[list[Window], list[Window]]]


def post_all(history: Days, cuts: Sequence[int]) -> list[AssembledPost]:
    """Posts runs that end before the days in `cuts`, and at the end; runs that owe nothing join the next one."""
    standing, posts, first = PostStanding.initial(LEDGER), [], 0
    for cut in [*cuts, len(history)]:
        epochs: dict[int, list[PartitionEpoch]] = {0: [], 1: []}
        for day in range(first, cut):
            for partition in (0, 1):
                windows = history[day][partition]
                manifest = manifest_of(partition, FIRST_EPOCH + day, windows, deposits=day + 7 * partition)
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
    drawn: list[tuple[list[Drawn], ...]], cuts: set[int]
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
    assert last.dues == once.after.balances.dues
    assert often[-1].after.deposits == once.after.deposits == 2 * (len(history) - 1) + 7
    assert often[-1].payouts_tree.root == once.payouts_tree.root

    # The auditor's own arithmetic comes to the same roots and sums.
    recount = Recount(LEDGER)
    for w in everything:
        recount.take(w)
    assert root_of(recount.payout_leaves(DECIMALS).values()) == once.payouts_tree.root
    assert all(sums.add_up() for sums in recount.sums.values())
    held = sum(sums.held for sums in recount.sums.values())
    carry = sum(sums.carry for sums in recount.sums.values())
    paid = sum(recount.owed.values()) + sum(recount.outside.values())
    dues = sum(due.micros for w in everything for due in w.dues)
    assert sum(w.net_micros for w in everything) + dues == paid + held + carry
    assert {("no_account", *key): micros for key, micros in recount.outside.items() if micros} == {
        key: micros for key, micros in last.unsettled.items() if key[0] == "no_account"
    }
    assert set(last.payouts()) <= {SOLAR, ALICE, BOB, CUSTOMER}


def shifted(windows: list[Window], day: int) -> list[Window]:
    """The same windows on another day."""
    return [
        window(
            w.machine, FIRST_EPOCH + day, w.net_micros, place=place, agreement=w.agreement, trust=w.trust, dues=w.dues
        )
        for place, w in enumerate(windows)
    ]
