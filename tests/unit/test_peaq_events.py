"""Settled windows as events of peaqOS: values in minor units whose sums are exact."""

import random

import msgspec
import pytest

from deploy.money.peaq_events import MINOR_DIGITS, PeaqEvent, events_of
from settlement.accrual import Earning, earning_of
from tests.support.settlement_data import FIRST_EPOCH, window

TRANSACTIONS = ("0x" + "aa" * 32, "0x" + "bb" * 32)


def drawn(seed: int) -> list[tuple[str, list[Earning]]]:
    """Two posts with windows of three machines, some of which cost more than they earned."""
    draw = random.Random(seed)
    return [
        (transaction, [
            earning_of(window(draw.choice("abc"), FIRST_EPOCH + post, draw.randrange(-(10**6), 10**7), place=place))
            for place in range(40)
        ])
        for post, transaction in enumerate(TRANSACTIONS)
    ]  # fmt: skip


@pytest.mark.parametrize(("currency", "minor"), [("USD", 10**4), ("JPY", 10**6), ("KWD", 10**3), ("CLF", 10**2)])
def test_the_values_of_a_machine_add_up_to_its_nets_whatever_the_cut(currency: str, minor: int) -> None:
    for seed in range(20):
        settled = drawn(seed)
        events = list(events_of(settled, currency))
        for machine in "abc":
            nets = [one.net_micros for _, windows in settled for one in windows if one.machine == machine]
            values = [event.value for event in events if event.machine_id == machine]
            for count in range(len(nets) + 1):
                assert sum(values[:count]) == sum(nets[:count]) // minor
            assert all(abs(value * minor - net) < minor for value, net in zip(values, nets, strict=True))


def test_a_later_post_changes_no_line_before_it() -> None:
    settled = drawn(1)
    assert list(events_of(settled, "USD"))[:40] == list(events_of(settled[:1], "USD"))


def test_an_event_has_the_fields_of_the_registry() -> None:
    earned = earning_of(window("cab-7", FIRST_EPOCH, 12_345_678, trust=2))
    (event,) = events_of([(TRANSACTIONS[0], [earned])], "EUR")
    assert msgspec.json.decode(msgspec.json.encode(event)) == {
        "machineId": "cab-7", "eventType": 0, "value": 1_234, "currency": "EUR", "timestamp": earned.end_ms // 1_000,
        "dataHash": "0x" + earned.digest.hex(), "trustLevel": 2, "sourceTxHash": TRANSACTIONS[0],
    }  # fmt: skip
    assert isinstance(event, PeaqEvent)
    assert "USD" not in MINOR_DIGITS
