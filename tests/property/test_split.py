"""The identity of settlement/split.py, on random amounts and points."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InvariantBroken
from settlement.split import split


@st.composite
def shares(draw: st.DrawFn) -> dict[str, int]:
    count = draw(st.integers(1, 12))
    cuts = sorted(draw(st.sets(st.integers(1, 9_999), max_size=count - 1)))
    edges = [0, *cuts, 10_000]
    names = draw(st.permutations([f"payee{i}" for i in range(len(edges) - 1)]))
    return {name: b - a for name, a, b in zip(names, edges, edges[1:], strict=False)}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**96), shares())
def test_sum_of_parts_is_the_amount_and_no_part_is_off_by_one(amount: int, points: dict[str, int]) -> None:
    parts = split(amount, points)
    assert sum(parts.values()) == amount
    assert list(parts) == sorted(points)
    exact = {payee: Fraction(amount * share, 10_000) for payee, share in points.items()}
    assert all(abs(parts[payee] - exact[payee]) < 1 for payee in points)
    up = [payee for payee in points if parts[payee] > exact[payee]]
    down = [payee for payee in points if parts[payee] < exact[payee]]
    for lucky in up:  # nobody with a larger remainder, or an equal one and a lower name, went without
        for other in down:
            assert (-(exact[lucky] % 1), lucky) < (-(exact[other] % 1), other)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**60), shares())
def test_the_order_of_payees_has_no_say(amount: int, points: dict[str, int]) -> None:
    turned = dict(reversed(points.items()))
    assert split(amount, turned) == split(amount, points)


def test_ties_go_to_the_lowest() -> None:
    assert split(1, {"b": 5_000, "a": 5_000}) == {"a": 1, "b": 0}
    assert split(2, {"c": 3_333, "b": 3_333, "a": 3_334}) == {"a": 1, "b": 1, "c": 0}


def test_what_cannot_be_split() -> None:
    for amount, points in ((-1, {"a": 10_000}), (1, {"a": 9_999}), (1, {"a": 10_001, "b": -1})):
        with pytest.raises(InvariantBroken):
            split(amount, points)
