"""One meter at a time: which rows are new, and what they add (rules 7 to 17), edge by edge."""

from typing import Any

import pytest

from schemas.reading import Reading
from schemas.registration import Component, Element, Meter, Restrictions, Tariff
from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS
from streams.core.kernel.columns import NONE
from streams.core.meters import Boot, MeterState, Standing, set_opening
from streams.core.plausible_usage import correction_limit, time_needed_ms
from streams.core.rating import PER_SESSION, UNPRICED, Price, Prices
from tests.support.one_meter import judge_identity, judge_start, judge_usage

NOW_MS = 1_700_000_000_000
CAPACITY = 10_000
"""Wh an hour."""


def row(boot: int = 1, seq: int = 0, at_ms: int = 0, **value: Any) -> Reading:
    return Reading("m", "energy", boot, seq, NOW_MS + at_ms, **(value or {"level": 0}))


def verdicts(meter: MeterState, *numbers: tuple[int, int], least: int = NONE) -> list[Any]:
    return [judge_identity(meter, row(boot, seq), least)[0] for boot, seq in numbers]


def add(meter: MeterState, reading: Reading, now_ms: int = 0, **registered: Any) -> Any:
    """What a row comes to: its usage, with its flags if it has some, or its reason. `now_ms` counts from NOW_MS."""
    verdict, _ = judge_identity(meter, reading, NONE)
    assert verdict is None
    found, flags = judge_usage(
        meter, reading, Meter("energy", "Wh", reading.kind, CAPACITY, **registered), NOW_MS + now_ms
    )
    return (found, *flags) if flags else found


def standing(seq: int, value: int, at_ms: int = 0) -> Standing:
    return Standing(1, seq, value, NOW_MS + at_ms, NOW_MS)


# Identity


def test_the_first_reading_of_a_boot_leaves_one_hole_and_skips_nothing() -> None:
    meter = MeterState()
    assert judge_identity(meter, row(seq=5), NONE) == (None, 0)
    assert meter.current is not None
    assert meter.current.holes == [(0, 4)]
    assert judge_identity(meter, row(seq=9), NONE) == (None, 3)
    assert meter.current.holes == [(0, 4), (6, 8)]


def test_a_number_leaves_its_hole_which_may_split() -> None:
    meter = MeterState()
    assert verdicts(meter, (1, 9), (1, 4), (1, 4), (1, 0), (1, 8)) == [None, None, "duplicate", None, None]
    assert meter.current is not None
    assert meter.current.holes == [(1, 3), (5, 7)]


def test_over_sixteen_holes_the_lowest_goes() -> None:
    meter = MeterState()
    verdicts(meter, *((1, seq) for seq in range(1, 34, 2)))
    assert meter.current is not None
    assert len(meter.current.holes) == 16
    assert meter.current.floor == 1
    assert verdicts(meter, (1, 0), (1, 2)) == ["below_floor", None]


def test_a_split_at_sixteen_holes_may_take_the_lower_half_away() -> None:
    meter = MeterState()
    verdicts(meter, (1, 3), *((1, seq) for seq in range(5, 36, 2)))
    assert meter.current is not None
    assert meter.current.holes[0] == (4, 4)  # (0, 2) has gone already.
    meter = MeterState(Boot(1, 40, latest_ms=NOW_MS, holes=[(0, 2), *((seq, seq) for seq in range(4, 34, 2))]))
    assert verdicts(meter, (1, 1), (1, 0), (1, 2)) == [None, "below_floor", None]


@pytest.mark.parametrize(("step", "verdict"), [(2**20, None), (2**20 + 1, "seq_jump")])
def test_a_step_is_at_most_2_to_the_20(step: int, verdict: str | None) -> None:
    meter = MeterState()
    assert verdicts(meter, (1, 7), (1, 7 + step), (1, 8)) == [None, verdict, None]


def test_the_two_highest_boots_count() -> None:
    meter = MeterState()
    assert verdicts(meter, (5, 0), (3, 0), (4, 0), (3, 1), (5, 1), (4, 1)) == [
        None,
        None,
        None,
        "stale_boot",
        None,
        None,
    ]
    assert verdicts(meter, (5 + 2**20 + 1, 0), (5 + 2**20, 0), (5, 2), (4, 2)) == [
        "boot_jump",
        None,
        None,
        "stale_boot",
    ]


def test_under_a_registered_boot_all_is_stale() -> None:
    meter = MeterState(Boot(5))
    assert verdicts(meter, (4, 0), (7, 0), (5, 3), (6, 0), (5, 4), least=5) == [
        "stale_boot",
        None,
        None,
        None,
        "stale_boot",
    ]


def test_other_content_at_high_water_is_equivocation_and_a_false_mark_is_none() -> None:
    meter = MeterState()
    judge_identity(meter, row(seq=1, level=3), NONE)
    assert judge_identity(meter, row(seq=1, level=3, session_start=False), NONE)[0] == "duplicate"
    for other in ({"level": 4}, {"quantity": 3}, {"level": 3, "reconstructed": True}, {"level": 3, "at_ms": 1}):
        assert judge_identity(meter, row(seq=1, **other), NONE)[0] == "equivocation"


def test_numbers_that_began_again_are_refused_also_in_a_hole() -> None:
    """A late row was observed before the latest of those that raised the high water; these were not."""
    meter = MeterState()
    assert judge_identity(meter, row(seq=4, at_ms=10), NONE)[0] is None
    assert judge_identity(meter, row(seq=6, at_ms=5), NONE)[0] is None
    assert judge_identity(meter, row(seq=1, at_ms=11), NONE)[0] == "seq_reused"
    assert judge_identity(meter, row(seq=1, at_ms=10), NONE)[0] is None
    assert judge_identity(meter, row(seq=1, at_ms=11), NONE)[0] == "seq_reused"
    assert judge_identity(meter, row(seq=1, level=9), NONE)[0] == "duplicate"


# Registers


def test_a_lifetime_register_is_never_billed() -> None:
    meter = MeterState()
    assert add(meter, row(seq=1, register=0)) == 0
    assert add(meter, row(seq=2, at_ms=HOUR_MS, register=48_000_000)) == "too_high"
    assert add(meter, row(seq=3, at_ms=5 * DAY_MS, register=48_000_100)) == (100, "rebaselined")


def test_a_register_that_fell_and_came_back_continues() -> None:
    meter = MeterState()
    assert add(meter, row(seq=1, register=5_000)) == 0
    assert add(meter, row(seq=2, at_ms=HOUR_MS, register=0)) == "too_low"
    assert add(meter, row(seq=3, at_ms=2 * HOUR_MS, register=9_000)) == 4_000
    assert meter.suspect is None


def test_a_reset_needs_a_new_boot() -> None:
    meter = MeterState()
    assert add(meter, row(1, 1, register=5_000)) == 0
    assert add(meter, row(2, 1, at_ms=60_000, register=100)) == (0, "reset")
    assert add(meter, row(2, 2, at_ms=HOUR_MS, register=1_100)) == 1_000
    assert add(meter, row(1, 2, at_ms=HOUR_MS, register=9_000)) == (0, "behind")  # The previous boot adds nothing.


def test_what_comes_after_a_later_one_adds_nothing() -> None:
    meter = MeterState()
    assert add(meter, row(seq=1, register=100)) == 0
    assert add(meter, row(seq=5, at_ms=HOUR_MS, register=900)) == 800
    assert add(meter, row(seq=3, at_ms=HOUR_MS // 2, register=10**12)) == (0, "behind")
    assert meter.baseline == Standing(1, 5, 900, NOW_MS + HOUR_MS, NOW_MS)
    assert meter.suspect is None


def test_a_clock_that_steps_back_costs_nothing_and_is_flagged() -> None:
    """Time counts by stream time then, an hour at most, and never twice."""
    meter = MeterState()
    assert add(meter, row(seq=1, register=0)) == 0
    assert add(meter, row(seq=2, at_ms=-HOUR_MS, register=3_000), now_ms=HOUR_MS // 2) == (3_000, "clock")
    assert meter.baseline == Standing(1, 2, 3_000, NOW_MS + HOUR_MS // 2, NOW_MS + HOUR_MS // 2)
    assert add(meter, row(seq=3, at_ms=HOUR_MS // 2, register=9_000), now_ms=HOUR_MS // 2) == "too_high"


def test_a_register_in_steps_earns_with_its_burst() -> None:
    meter = MeterState()
    assert add(meter, row(seq=1, register=5_000), burst=1_000) == 0
    for minute in range(1, 60):
        assert add(meter, row(seq=1 + minute, at_ms=minute * 60_000, register=5_000), burst=1_000) == 0
    assert add(meter, row(seq=70, at_ms=HOUR_MS, register=6_000), burst=1_000) == 1_000
    assert add(meter, row(seq=71, at_ms=HOUR_MS + 1, register=7_000), burst=1_000) == "too_high"


def test_a_register_rolls_over_at_its_modulus() -> None:
    meter = MeterState()
    assert add(meter, row(seq=1, register=65_500), modulus=65_536) == 0
    assert add(meter, row(seq=2, at_ms=HOUR_MS, register=64), modulus=65_536) == 100
    assert add(meter, row(seq=3, at_ms=2 * HOUR_MS, register=65_536), modulus=65_536) == "too_high"
    assert meter.suspect is None
    assert add(meter, row(seq=4, at_ms=9 * DAY_MS, register=60), modulus=65_536) == "too_low"  # More than half of it.


def test_two_zeros_bill_nothing_and_what_they_left_is_remembered() -> None:
    meter = MeterState()
    assert add(meter, row(seq=1, register=90_000)) == 0
    assert add(meter, row(seq=2, at_ms=60_000, register=0)) == "too_low"
    assert add(meter, row(seq=3, at_ms=120_000, register=0)) == (0, "rebaselined")
    assert meter.displaced == Standing(1, 1, 90_000, NOW_MS, NOW_MS)
    assert add(meter, row(seq=4, at_ms=HOUR_MS, register=95_000)) == (5_000, "rebaselined")
    assert meter.displaced is None


def test_an_opening_register_has_no_boot() -> None:
    meter = MeterState()
    set_opening(meter, 1_000, NOW_MS, NOW_MS)
    assert add(meter, row(9, 1, at_ms=-1, register=0)) == (0, "behind")  # Observed before it stood there.
    assert add(meter, row(9, 2, at_ms=HOUR_MS, register=999)) == "too_low"
    assert add(meter, row(9, 3, at_ms=HOUR_MS, register=1_500)) == 500


def test_slack_is_paid_back_by_time() -> None:
    meter = MeterState()
    burst = 225  # 60 s at 135 % of 10 kWh an hour
    assert time_needed_ms(burst, CAPACITY) == 60_000
    assert time_needed_ms(burst + 1, CAPACITY) == 60_267  # Rounded up.
    assert add(meter, row(seq=1, register=0)) == 0
    assert add(meter, row(seq=2, register=burst)) == burst
    assert meter.slack_ms == 0
    assert add(meter, row(seq=3, register=burst + 2)) == "too_high"
    assert add(meter, row(seq=4, register=burst + 1)) == 1  # A burst of 1 at once, paid back by time.
    assert meter.slack_ms == -267
    assert add(meter, row(seq=6, at_ms=30_267, register=burst + 1)) == 0
    assert meter.slack_ms == 30_000
    assert add(meter, row(seq=7, at_ms=DAY_MS, register=burst + 1)) == 0
    assert meter.slack_ms == 60_000


def test_elapsed_time_is_at_most_35_days() -> None:
    most = 35 * 24 * CAPACITY * 135 // 100
    meter = MeterState()
    add(meter, row(seq=1, register=0))
    assert add(meter, row(seq=2, at_ms=300 * DAY_MS, register=most + 227)) == "too_high"
    assert add(meter, row(seq=3, at_ms=300 * DAY_MS, register=most + 225)) == most + 225
    assert correction_limit(CAPACITY) == most


def test_the_least_usage_wins_and_a_tie_is_the_baseline_s() -> None:
    meter = MeterState(baseline=standing(0, 100), suspect=standing(1, 100, 1))
    assert add(meter, row(seq=2, at_ms=HOUR_MS, register=150)) == 50
    meter = MeterState(baseline=standing(0, 100), suspect=standing(1, 120, 1))
    assert add(meter, row(seq=2, at_ms=HOUR_MS, register=150)) == (30, "rebaselined")
    meter = MeterState(baseline=standing(0, 100), suspect=standing(3, 120, 1))
    assert add(meter, row(seq=2, at_ms=HOUR_MS, register=150)) == 50  # Not after the suspect.


# Quantities and levels


def test_quantities_have_a_day_first_then_by_how_much_they_widen_the_span() -> None:
    meter = MeterState()
    day = CAPACITY * 24 * 135 // 100
    assert add(meter, row(seq=0, quantity=day + 227)) == "too_high"
    assert add(meter, row(seq=1, quantity=day)) == day
    assert add(meter, row(seq=2, at_ms=-HOUR_MS, quantity=13_500)) == 13_500
    assert (meter.oldest_ms, meter.newest_ms) == (NOW_MS - HOUR_MS, NOW_MS)
    assert add(meter, row(seq=3, at_ms=0, quantity=227)) == "too_high"
    assert meter.suspect is None
    assert add(meter, row(seq=5, at_ms=10 * DAY_MS, quantity=0)) == 0
    assert meter.slack_ms == 10 * DAY_MS + 60_000  # A backlog may come in any order.
    assert add(meter, row(seq=4, level=COUNT_MAX)) == 0


# Starts


def test_the_last_four_starts_are_kept_and_a_repeated_one_changes_nothing() -> None:
    energy, meter = Meter("energy", "Wh", "register", CAPACITY), MeterState()
    assert [judge_start(meter, f"s{number}", NOW_MS + number, energy) for number in range(5)] == ["due"] * 5
    assert [session for session, _ in meter.starts.last] == ["s1", "s2", "s3", "s4"]
    assert judge_start(meter, "s4", NOW_MS + 9, energy) == "nothing"
    assert judge_start(meter, "s0", NOW_MS, energy) == "due"


def test_fees_come_out_of_a_bucket() -> None:
    """Ten at once, then one an hour as registered."""
    energy, meter = Meter("energy", "Wh", "register", CAPACITY, starts_per_hour=1), MeterState()
    found = [judge_start(meter, f"s{number}", NOW_MS, energy) for number in range(12)]
    assert found == ["due"] * 10 + ["fees"] * 2
    assert judge_start(meter, "a", NOW_MS + HOUR_MS - 1, energy) == "fees"
    assert judge_start(meter, "b", NOW_MS + HOUR_MS, energy) == "due"


# Prices


def prices(*elements: Element, offsets: tuple[tuple[int, int], ...] = ((0, 0),)) -> Prices:
    return Prices(Tariff(elements=elements, offsets=offsets))


def only(**words: Any) -> Prices:
    return prices(Element((Component("energy", 7, per=1),), Restrictions(**words)))


MIDNIGHT_MS = 1_699_920_000_000
"""A Tuesday, 2023-11-14."""


@pytest.mark.parametrize(
    ("words", "at_ms", "holds"),
    [
        ({"start_time": "22:00", "end_time": "06:00"}, 22 * HOUR_MS, True),
        ({"start_time": "22:00", "end_time": "06:00"}, 6 * HOUR_MS - 1, True),
        ({"start_time": "22:00", "end_time": "06:00"}, 6 * HOUR_MS, False),
        ({"start_time": "06:00", "end_time": "06:00"}, 3 * HOUR_MS, True),
        ({"start_time": "06:00"}, 6 * HOUR_MS - 1, False),
        ({"end_time": "06:00"}, 6 * HOUR_MS - 1, True),
        ({"start_date": "2023-11-14", "end_date": "2023-11-15"}, 0, True),
        ({"end_date": "2023-11-14"}, 0, False),
        ({"start_date": "2023-11-15"}, DAY_MS - 1, False),
        ({"day_of_week": ("TUESDAY",)}, DAY_MS - 1, True),
        ({"day_of_week": ("TUESDAY",)}, DAY_MS, False),
        ({"day_of_week": ()}, 0, True),
    ],
)
def test_restrictions(words: dict[str, Any], at_ms: int, holds: bool) -> None:
    assert only(**words).of_usage("energy", MIDNIGHT_MS + at_ms) == (Price(7, 1) if holds else UNPRICED)


def test_the_first_element_that_has_a_component_of_the_kind_prices_it() -> None:
    found = prices(
        Element((Component("energy", 1, per_session=True),)),
        Element((Component("energy", 2, per=3), Component("energy", 9, per=1))),
        Element((Component("energy", 4, per=1), Component("energy", 5, per_session=True))),
    )
    assert found.of_usage("energy", 0) == Price(2, 3)
    assert found.of_session("energy", 0) == Price(1, PER_SESSION)
    assert (found.of_usage("other", 0), found.of_session("other", 0)) == (UNPRICED, None)


def test_an_offset_moves_the_day_from_its_moment_on() -> None:
    night = Element((Component("energy", 7, per=1),), Restrictions(end_time="01:00", end_date="2023-11-14"))
    found = prices(night, offsets=((0, 0), (MIDNIGHT_MS, -3_600)))
    assert found.of_usage("energy", MIDNIGHT_MS - 1) == UNPRICED
    assert found.of_usage("energy", MIDNIGHT_MS) == UNPRICED  # 23:00 of the day before.
    assert prices(night, offsets=((0, 3_600),)).of_usage("energy", MIDNIGHT_MS - HOUR_MS) == UNPRICED
    assert prices(night, offsets=((0, -3_600),)).of_usage("energy", MIDNIGHT_MS) == UNPRICED
    assert prices(night, offsets=((0, 0),)).of_usage("energy", MIDNIGHT_MS - DAY_MS) == Price(7, 1)
