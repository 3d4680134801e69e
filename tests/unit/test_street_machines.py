"""The demo's street without its chain: who has not paid gets nothing, and what is shown then is of that session."""

import msgspec
import pytest
from msgspec import UNSET

from deploy.demo.street_check import agree
from deploy.demo.street_machines import (
    CHARGE_W,
    CHARGERS,
    DRONE,
    FARES_END_WH,
    ROBOT,
    SENSOR,
    TAXIS,
    Paid,
    StreetTaxi,
    account_of,
    inhabitants,
)
from schemas.errors import InvariantBroken
from schemas.reading import Reading
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, is_simulated

START_MS = 18_140 * DAY_MS + 17 * HOUR_MS
STEP_MS = 5 * MINUTE_MS


def moments(life: Paid, first: int, count: int) -> list[Reading]:
    found = []
    for moment in range(first, first + count):
        at_ms = START_MS + moment * STEP_MS
        found += life.readings(at_ms, at_ms)
    return found


def sold(name: str) -> Paid:
    life = inhabitants("s")[name].life
    assert isinstance(life, Paid)
    return life


def test_everybody_is_marked_as_simulated_and_registered_as_the_rules_want() -> None:
    street = inhabitants("s")
    assert len(street) == 9 and all(map(is_simulated, street))
    for each in street.values():
        assert each.machine.registration(each.agreement, "", START_MS).is_valid()
    for taxi in TAXIS:
        assert street[taxi].agreement.payees[account_of(taxi)] == 5_000
    (policy,) = street[ROBOT].machine.orders
    assert policy.supplier == account_of("supplier") and street[ROBOT].machine.keys


@pytest.mark.parametrize("name", [CHARGERS[0], SENSOR, DRONE])
def test_nothing_is_billed_that_was_not_paid_before(name: str) -> None:
    life = sold(name)
    assert all(reading.kind == "level" for reading in moments(life, 0, 12))
    shown = [life.begin("s-1", START_MS + 12 * STEP_MS), *moments(life, 13, 12), life.end(START_MS + 25 * STEP_MS)]
    billed = [reading for reading in shown if reading.kind != "level"]
    assert {reading.session for reading in billed} == {"s-1"}
    assert [reading.session_start for reading in billed] == [True, *[False] * (len(billed) - 1)]
    assert [reading.session_end for reading in billed] == [*[False] * (len(billed) - 1), True]
    assert all(reading.session is UNSET for reading in shown if reading.kind == "level")
    assert all(reading.kind == "level" for reading in moments(life, 26, 12)), "it is over"


def test_a_charger_gives_what_a_taxi_takes() -> None:
    charger, taxi = sold(CHARGERS[1]), inhabitants("s")[TAXIS[0]].life
    assert isinstance(taxi, StreetTaxi)
    moments(charger, 0, 1)
    taxi.readings(START_MS, START_MS)
    before_wh, taxi.charge_w = taxi.battery_wh, CHARGE_W
    charger.begin("s-1", START_MS)
    moments(charger, 1, 12)
    for moment in range(1, 13):
        taxi.readings(START_MS + moment * STEP_MS, START_MS + moment * STEP_MS)
    assert charger.gauges["energy"].total == taxi.battery_wh - before_wh == CHARGE_W


def test_a_drone_flies_once_for_a_session() -> None:
    drone = sold(DRONE)
    moments(drone, 0, 1)
    drone.begin("s-1", START_MS)
    shown = moments(drone, 1, 30)
    assert sum(reading.value for reading in shown if reading.meter == "parcels") == 1
    assert 5_000 < sum(reading.value for reading in shown if reading.meter == "distance") < 25_000


def test_an_empty_taxi_takes_nobody_and_charges_nowhere_by_itself() -> None:
    taxi = inhabitants("s")[TAXIS[0]].life
    assert isinstance(taxi, StreetTaxi)
    taxi.gauges["battery"].total = FARES_END_WH - 1
    shown = [
        reading
        for moment in range(288)
        for reading in taxi.readings(START_MS + moment * STEP_MS, START_MS + moment * STEP_MS)
    ]
    assert {reading.meter for reading in shown} == {"battery"} and taxi.battery_wh == FARES_END_WH - 1


def test_the_street_is_the_same_from_one_seed() -> None:
    one, again, other = (
        msgspec.json.encode([each.life.readings(START_MS, START_MS) for each in inhabitants(seed).values()])
        for seed in ("a", "a", "b")
    )
    assert one == again != other


def test_an_order_that_nobody_foresaw_ends_the_demo() -> None:
    with pytest.raises(InvariantBroken, match="the topic of orders: not as the street foresaw"):
        agree("the topic of orders", [("sim-robot", "bearing", 1)], [])
