"""What a watcher decides, for all that it may see: it never acts on what it doesn't know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from settlement.audit.verdict import PostVerdict, VerdictKind
from settlement.audit.watch import WatchStep, WatchView, decide

KINDS: tuple[VerdictKind, ...] = ("right", "wrong", "unpublished", "withheld", "unknown")
DELAY_S, WAIT_S = 172_800, 64_800


def view(
    kinds: list[VerdictKind], *, attested: int = 0, now_s: int = 0, can_attest: bool = True, can_dispute: bool = True
) -> WatchView:
    """Posts made every 1,000 s from 0 on."""
    return WatchView(
        verdicts=[PostVerdict(number, kind, kind) for number, kind in enumerate(kinds, 1)],
        attested=attested,
        delay_ends_s={number: DELAY_S + 1_000 * (number - 1) for number in range(1, len(kinds) + 1)},
        delay_s=DELAY_S,
        now_s=now_s,
        can_attest=can_attest,
        can_dispute=can_dispute,
    )


def said(seen: WatchView) -> list[tuple[str, int]]:
    return [(step.kind, step.sequence) for step in decide(seen)]


@given(
    st.lists(st.sampled_from(KINDS), max_size=6), st.integers(0, 6), st.integers(0, 2 * DELAY_S), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_what_is_never_done(
    kinds: list[VerdictKind], attested: int, now_s: int, can_attest: bool, can_dispute: bool
) -> None:
    seen = view(kinds, attested=min(attested, len(kinds)), now_s=now_s, can_attest=can_attest, can_dispute=can_dispute)
    steps = decide(seen)
    for step in steps:
        kind = kinds[step.sequence - 1]
        if step.kind == "attest":
            assert can_attest
            assert set(kinds[seen.attested : step.sequence]) == {"right"}
        if step.kind == "dispute":
            assert can_dispute
            assert kind in ("wrong", "unpublished", "withheld")
            assert not seen.is_mature(step.sequence)
            assert kind == "wrong" or now_s >= WAIT_S + 1_000 * (step.sequence - 1)
            assert step == steps[-1]
    first = next((place for place, kind in enumerate(kinds) if kind in ("withheld", "unknown")), len(kinds))
    wrong = [place + 1 for place, kind in enumerate(kinds[:first]) if kind == "wrong" and not seen.is_mature(place + 1)]
    if wrong and can_dispute:
        assert [step.sequence for step in steps if step.kind == "dispute"][:1] <= wrong[:1]


@pytest.mark.parametrize("kind", ["unpublished", "withheld"])
def test_the_wait_ends_before_half_of_the_delay(kind: VerdictKind) -> None:
    assert said(view([kind], now_s=WAIT_S - 1)) == [("wait", 1)]
    assert said(view([kind], now_s=WAIT_S)) == [("dispute", 1)]
    assert WAIT_S < DELAY_S // 2
    cautious = structs.replace(view([kind], now_s=WAIT_S), only_wrong=True)
    assert said(cautious) == [("alarm", 1)]


def test_examples() -> None:
    assert said(view([])) == []
    assert said(view(["right", "right"], attested=2)) == []
    assert said(view(["right", "unknown", "right"])) == [("alarm", 2), ("attest", 1)]
    assert said(view(["wrong", "right"])) == [("dispute", 1)]
    assert said(view(["unpublished", "wrong"])) == [("wait", 1), ("dispute", 2)]
    assert said(view(["unpublished", "right"], attested=1, now_s=DELAY_S - 1)) == [("alarm", 1), ("attest", 2)]
    assert said(view(["wrong"], attested=1, now_s=DELAY_S)) == [("alarm", 1)]
    assert said(view(["right"], can_attest=False)) == [("idle", 1)]
    assert said(view(["right", "wrong"], can_dispute=False)) == [("alarm", 2), ("attest", 1)]


def test_a_revoked_post_is_over() -> None:
    seen = WatchView(
        verdicts=[PostVerdict(1, "wrong"), PostVerdict(2, "right")], attested=1, delay_ends_s={1: 9, 2: 19}, delay_s=9,
        now_s=9, revoked=frozenset({1}),
    )  # fmt: skip
    assert decide(seen) == [WatchStep("attest", 2)]


def test_a_view_that_contradicts_itself_says_nothing() -> None:
    seen = WatchView(
        verdicts=[PostVerdict(1, "wrong")], attested=0, delay_ends_s={1: 9}, delay_s=9, now_s=0, distrust="folds"
    )
    assert decide(seen) == [WatchStep("alarm", 0, "folds")]
