"""The core and the slow text, written apart, make the same of logs that nobody has seen."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.reference.vectors import recounted, replay
from tests.property.differential import run_and_check
from tests.support.mutated_vectors import mutated


@settings(max_examples=40)
@given(st.integers(0, 10**9))
def test_the_slow_text_equals_the_core(seed: int) -> None:
    document = mutated(seed)
    assert recounted(document) == replay(document)


def test_the_logs_differ_from_the_vectors_and_from_each_other() -> None:
    """Else the test above would say nothing."""
    rejects = [recounted(mutated(seed))["rejects"] for seed in range(20)]
    assert len({reason for found in rejects for _, _, reason in found}) > 20


def test_the_slow_text_equals_the_core_on_dirty_logs_of_all_record_types() -> None:
    """`python -m tests.property.differential` runs more of them."""
    happened: Counter[str] = Counter()
    for seed in range(36):
        happened.update(run_and_check(seed))
    bought = {"order settled", "order cancelled", "order lapsed", "due expense", "over_price", "order_received"}
    paid = {"due refund", "sessions used", "uncollected", "payment_reused", "refunds by corrections"}
    flags = {f"flag {name}" for name in ("behind", "clock", "equivocation", "rebaselined", "reconstructed", "reset")}
    assert bought | paid | flags | {"seq_reused", "no_fee", "agreement_locked", "adjustments"} <= happened.keys()
