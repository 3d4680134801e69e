"""What is done next about a post, for every turn that a chain can take."""

import pytest
from msgspec import structs

from schemas.errors import InvalidInput
from settlement.head import PostHeader, disputed_head
from settlement.history import Disputed, Posted, fold
from settlement.posting import (
    GWEI,
    Action,
    Attempt,
    ChainView,
    Fees,
    Mark,
    Mined,
    Policy,
    Posting,
    PostingState,
    Rest,
    Send,
    Sign,
    Wait,
    next_action,
    too_dear,
)

GENESIS = b"g" * 32
HEADER = PostHeader(
    sequence=1, previous_head=GENESIS, windows_root=b"w" * 32, payouts_root=b"p" * 32, manifest_hash=b"m" * 32,
    epoch_start_s=1, epoch_end_s=2, total=3, deposits=4,
)  # fmt: skip
HEAD = HEADER.head()
FEES = Fees(80, 8)
FIRST = Attempt(7, "0x1", b"raw1", FEES, sent_block=10)
POLICY = Policy(fee_cap=1_000, bump_blocks=5)
VIEW = ChainView(
    head=GENESIS, live={}, dead=frozenset(), nonce=7, block=11, final_block=3, receipts={},
    known=frozenset({"0x1"}), fees=FEES,
)  # fmt: skip
POSTED = {"head": HEAD, "live": {HEAD: 12}, "nonce": 8}


def posting(state: PostingState, *attempts: Attempt, mined_block: int | None = None) -> Posting:
    return Posting(HEADER, 1, state, attempts, mined_block)


def kind(action: Action) -> object:
    return (Mark, action.state) if isinstance(action, Mark) else type(action)


@pytest.mark.parametrize(
    ("now", "change", "expected"),
    [
        (posting("prepared"), {}, Sign),
        (posting("prepared"), {"head": b"x" * 32}, (Mark, "superseded")),
        (posting("prepared"), POSTED, (Mark, "mined")),
        (posting("prepared"), {"fees": Fees(1_001, 1), "base_fee": 999}, Sign),
        (posting("prepared"), {"fees": Fees(1_001, 1), "base_fee": 1_000}, Wait),
        (posting("signed", structs.replace(FIRST, sent_block=None)), {"known": frozenset()}, Send),
        (posting("signed", structs.replace(FIRST, sent_block=None)), {}, Send),
        (posting("signed", FIRST), {"receipts": {"0x1": Mined(12, True)}, **POSTED}, (Mark, "mined")),
        (posting("sent", FIRST), {}, Wait),
        (posting("sent", FIRST), {"known": frozenset()}, Send),
        (posting("sent", FIRST), {"known": frozenset(), "head": b"x" * 32}, (Mark, "superseded")),
        (posting("sent", FIRST), {"block": 15}, Sign),
        (posting("sent", FIRST), {"base_fee": 81}, Sign),
        (posting("sent", FIRST), {"base_fee": 81, "known": frozenset()}, Sign),
        (posting("sent", FIRST), {"base_fee": 80, "known": frozenset()}, Send),
        (posting("sent", FIRST), {"block": 15, "fees": Fees(1_001, 1)}, Sign),
        (posting("sent", FIRST), {"block": 15, "base_fee": 999, "fees": Fees(1_999, 2)}, Wait),
        (posting("sent", structs.replace(FIRST, fees=Fees(900, 8))), {"block": 15}, Wait),
        (posting("sent", FIRST), {"nonce": 8, "known": frozenset()}, (Mark, "halted")),
        (posting("sent", FIRST), {"nonce": 8, "receipts": {"0x1": Mined(12, False)}}, (Mark, "reverted")),
        (posting("sent", FIRST), {"receipts": {"0x1": Mined(12, True)}, **POSTED}, (Mark, "mined")),
        (posting("reverted", FIRST), {"nonce": 8}, Sign),
        (posting("reverted", FIRST), {"nonce": 8, "head": b"x" * 32}, (Mark, "superseded")),
        (posting("reverted", FIRST), {}, (Mark, "sent")),
        (posting("mined", FIRST, mined_block=12), POSTED, Rest),
        (posting("mined", FIRST, mined_block=12), {**POSTED, "final_block": 12}, (Mark, "final")),
        (posting("mined", FIRST, mined_block=12), {}, (Mark, "sent")),
        (posting("mined", mined_block=12), {}, (Mark, "prepared")),
        (posting("mined", FIRST, mined_block=12), {"dead": frozenset({HEAD})}, (Mark, "disputed")),
        (posting("final", FIRST, mined_block=12), {"dead": frozenset({HEAD})}, (Mark, "disputed")),
        (posting("final", FIRST, mined_block=12), {**POSTED, "final_block": 12}, Rest),
        (posting("superseded", FIRST), {"head": b"x" * 32}, Rest),
        (posting("superseded", FIRST), {}, (Mark, "sent")),
        (posting("superseded"), {}, Rest),
        (posting("superseded", FIRST), POSTED, (Mark, "mined")),
        (posting("disputed", FIRST), {}, Rest),
        (posting("disputed", FIRST), {"dead": frozenset({HEAD})}, Rest),
        (posting("disputed", FIRST), POSTED, (Mark, "mined")),
        (posting("halted", FIRST), {"nonce": 8}, Rest),
        (posting("halted", FIRST), {"nonce": 8, "receipts": {"0x1": Mined(12, False)}}, (Mark, "sent")),
        (posting("sent", FIRST), {"nonce": 8}, Wait),
        (posting("sent", FIRST), {"nonce": 8, "known": frozenset(), "spent": frozenset({7})}, (Mark, "reverted")),
        (posting("sent", FIRST), {"nonce": 8, "receipts": {"0x1": Mined(12, True)}}, Wait),
        (posting("sent", FIRST), {**POSTED, "known": frozenset()}, (Mark, "mined")),
        (posting("sent", FIRST), {"head": b"x" * 32}, Wait),
        (posting("sent", FIRST), {"head": b"x" * 32, "nonce": 6}, (Mark, "superseded")),
        (posting("sent", FIRST), {"nonce": 6}, Sign),
        (posting("sent", FIRST), {"nonce": 6, "block": 9}, Wait),
    ],
)
def test_next_action(now: Posting, change: dict[str, object], expected: object) -> None:
    assert kind(next_action(now, structs.replace(VIEW, **change), POLICY)) == expected


def test_a_bump_keeps_the_nonce_and_raises_both_fees_by_an_eighth() -> None:
    action = next_action(posting("sent", FIRST), structs.replace(VIEW, block=15), POLICY)
    assert action == Sign(7, Fees(90, 9))
    assert Fees(1, 0).bumped(Fees(0, 0)) == Fees(2, 1)
    assert Fees(80, 8).bumped(Fees(500, 3)) == Fees(500, 9)


def test_what_is_offered_stays_within_the_cap_and_a_spike_is_told_in_gwei() -> None:
    dear = structs.replace(VIEW, fees=Fees(1_900, 2), base_fee=949)
    assert next_action(posting("prepared"), dear, POLICY) == Sign(7, Fees(1_000, 2))
    assert next_action(posting("prepared"), structs.replace(dear, base_fee=998), POLICY) == Sign(7, Fees(1_000, 2))
    waits = next_action(posting("prepared"), structs.replace(dear, base_fee=999), POLICY)
    assert waits == Wait(too_dear(999, 1_001, 1_000), alarm=True)
    assert too_dear(40 * GWEI, 41 * GWEI + 5 * 10**8, 40 * GWEI + 1) == (
        "gas costs too much: the base fee is 40 gwei now, a transaction must offer 41.5, and the cap is 40.000000001;"
        " wait, or raise TALLYROOT_FEE_CAP_GWEI"
    )


def test_any_attempt_of_the_nonce_may_be_the_one_that_was_mined() -> None:
    second = Attempt(7, "0x2", b"raw2", Fees(90, 9), sent_block=15)
    view = structs.replace(VIEW, **POSTED, receipts={"0x1": Mined(12, True)})
    assert next_action(posting("sent", FIRST, second), view, POLICY) == Mark("mined", 12)


def test_history_folds_posts_and_disputes() -> None:
    first = Posted(HEADER, HEAD, 100, "0x1", 5)
    killed = disputed_head(HEAD, 1)
    again = structs.replace(HEADER, previous_head=killed)
    second = Posted(again, again.head(), 200, "0x2", 7)
    history = fold(GENESIS, [first, Disputed(1, killed, 6), second])
    assert (history.live, history.dead, history.head) == ((second,), (first,), again.head())
    assert fold(GENESIS, [first, Disputed(1, killed, 6)]).disputed == 1
    assert history.disputed is None
    for wrong in ([second], [first, first], [first, Disputed(2, killed, 6)], [first, Disputed(1, HEAD, 6)]):
        with pytest.raises(InvalidInput):
            fold(GENESIS, wrong)
