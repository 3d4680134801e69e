"""What machines buy and customers pay before, in dirty logs: no micro of a customer is lost, no order is paid twice.

accepted payments = deposits, less what corrections refund in them, + what statements of sealed windows say was paid
"""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.log import Log, Ruleset
from schemas.order import Order
from schemas.payment import PAID, PaymentReceived
from schemas.units import DAY_MS, HOUR_MS
from schemas.window import Due, Window
from streams.core.records import JSON, Record, decode_control, record_type
from streams.core.replay import advance_through
from streams.core.sealing import open_windows
from streams.core.state import State
from tests.support.dirty_logs import dirty_log

LOG = Log(log_id="dirty", partitions=1, epoch_ms=7 * DAY_MS, rulesets=(Ruleset(horizon_ms=6 * HOUR_MS),))
SEEDS = st.integers(0, 10**6)
DIRT = st.sampled_from((0.0, 0.1, 0.5, 1.0))


class Story:
    """A log taken record by record, and a long silence after it: what was paid, what was placed, what has sealed."""

    def __init__(self, seed: int, dirt: float) -> None:
        records = dirty_log(seed, dirt, 150, is_long=seed % 2 == 0)
        latest_ms = max(record.timestamp for record in records)
        silence = [("ce_type", b"heartbeat")]
        records.append(Record(records[-1].offset + 1, latest_ms + 20 * DAY_MS, None, b"", silence))
        self.state = State.new(LOG, 0)
        self.paid = 0
        self.windows: list[Window] = []
        self.orders: list[Order] = []
        for record in records:
            self.take(record)
            self.check_deposits()

    def take(self, record: Record) -> None:
        """One record."""
        parts = advance_through(self.state, [record])
        self.windows += [window for part in parts for window in part.windows]
        self.orders += [order for part in parts for order in part.orders]
        if record_type(record) == PAID and sum(part.counts.accepted for part in parts):
            decoded = decode_control(record.value, JSON, PaymentReceived)
            assert not isinstance(decoded, str)
            self.paid += decoded[0].amount

    def check_deposits(self) -> None:
        """The identity above."""
        corrected = sum(due.micros for window in open_windows(self.state) for due in refunds_of_corrections(window))
        stated = sum(statement.paid_micros for window in self.windows for statement in window.sessions)
        assert self.paid == self.state.deposits_micros() - corrected + stated


def refunds_of_corrections(window: Window) -> list[Due]:
    """The dues of a window that no statement explains: they come last."""
    refunds = [due for due in window.dues if due.kind == "refund"]
    return refunds[sum(statement.refund_micros > 0 for statement in window.sessions) :]


@settings(max_examples=16)
@given(SEEDS, DIRT)
def test_what_customers_paid_is_held_used_or_refunded(seed: int, dirt: float) -> None:
    story = Story(seed, dirt)
    assert story.state.deposits_micros() == 0, "a session is open after its term"
    for window in story.windows:
        names = [statement.session for statement in window.sessions]
        assert names == sorted(names)
        for statement in window.sessions:
            assert statement.refund_micros == max(0, statement.paid_micros - statement.used_micros)
            assert statement.used_micros >= 0
        owed = [(one.payer, one.session, one.refund_micros) for one in window.sessions if one.refund_micros]
        refunds = [due for due in window.dues if due.kind == "refund"]
        assert [(due.account, due.ref, due.micros) for due in refunds[: len(owed)]] == owed
        assert window.collected_micros == sum(one.paid_micros - one.refund_micros for one in window.sessions)
        assert window.uncollected_micros == sum(max(0, one.used_micros - one.paid_micros) for one in window.sessions)
        assert window.net_micros == window.gross_micros - window.expenses_micros - window.uncollected_micros


@settings(max_examples=16)
@given(SEEDS, DIRT)
def test_an_order_is_paid_once_and_within_its_terms(seed: int, dirt: float) -> None:
    story = Story(seed, dirt)
    numbers: Counter[tuple[str, str]] = Counter()
    terms = {}
    for order in story.orders:
        numbers[order.machine, order.item] += 1
        assert order.number == numbers[order.machine, order.item]
        terms[order.machine, f"{order.item}/{order.number}"] = order
    paid = [(window, due) for window in story.windows for due in window.dues if due.kind == "expense"]
    assert len({(window.machine, due.ref) for window, due in paid}) == len(paid)
    for window, due in paid:
        order = terms[window.machine, due.ref]
        assert due.account == order.supplier
        assert 0 < due.micros <= order.quantity * order.unit_price
        assert window.end_ms > order.placed_at
    for window in story.windows:
        assert window.expenses_micros == sum(due.micros for due in window.dues if due.kind == "expense")


def test_the_logs_buy_and_pay() -> None:
    """Else the tests above would say nothing."""
    stories = [Story(seed, 0.1) for seed in range(20)]
    windows = [window for story in stories for window in story.windows]
    assert sum(story.paid > 0 for story in stories) > 12
    assert sum(due.kind == "expense" for window in windows for due in window.dues) > 5
    assert sum(0 < one.used_micros < one.paid_micros for window in windows for one in window.sessions) > 5
    assert any(window.uncollected_micros for window in windows)
    assert any(refunds_of_corrections(window) for window in windows)
