"""Machines as people write them: amounts with units, tariffs in words, whole files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from deploy.machines.form import example, examples, read_form, registration_of
from deploy.machines.meter_words import Moves, moves_of, words_of_moves
from deploy.machines.order_words import orders_of, words_of_orders
from deploy.machines.quantities import amount_words, per_hour, whole_units
from deploy.machines.tariff_words import element_of, words_of
from schemas.errors import InvalidInput
from schemas.reading import MeterKind
from schemas.registration import Component, Element, Meter, OrderPolicy, Registration, Restrictions

YEARS = range(2025, 2030)
UNITS = {"energy": "Wh", "parcels": "parcels"}


@pytest.mark.parametrize(
    "text, unit, expected",
    [("22 kW", "Wh", 22_000), ("0.5MW", "Wh", 500_000),
     ("6 parcels/h", "parcels", 6), ("1 parcel per min", "parcels", 60),
     ("100 km/h", "m", 100_000),
     ("1 h/h", "s", 3_600), ("24 parcels per day", "parcels", 1), ("7 per hour", "trips", 7)],
)  # fmt: skip
def test_a_rate_in_units_per_hour(text: str, unit: str, expected: int) -> None:
    assert per_hour(text, unit) == expected


@pytest.mark.parametrize(
    "text", ["22", "kW", "22 kV", "-1 kW", "1.0001 W", "22 kWh", "22 kW/h", "1e3 kW", "9999999999999999 kW"]
)
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        per_hour(text, "Wh")


def test_an_amount_in_whole_units() -> None:
    assert [whole_units(text, "Wh") for text in ("0", "12.5 kWh", "3 MWh")] == [0, 12_500, 3_000_000]
    assert whole_units("65,536 Wh", "Wh") == whole_units("65.536 kWh", "Wh") == 65_536
    for wrong in ("3 km", "65,53 Wh", ",5 Wh"):
        with pytest.raises(InvalidInput, match="is not an amount of Wh"):
            whole_units(wrong, "Wh")


@given(st.integers(0, 2**53), st.sampled_from(["Wh", "m", "s", "parcels", "m3"]))
def test_an_amount_in_words_is_read_back(amount: int, unit: str) -> None:
    assert whole_units(amount_words(amount, unit), unit) == amount


@pytest.mark.parametrize(
    "lines, kind, expected",
    [
        (["moves in steps of 1 kWh"], "register", Moves(burst=1_000)),
        (["rolls over at 65,536 Wh", "at most 30 starts an hour"], "register",
         Moves(modulus=65_536, starts_per_hour=30)),
        (["up to 2.5 kWh at once"], "quantity", Moves(burst=2_500)),
        (["at most 1 start per hour"], "quantity", Moves(starts_per_hour=1)),
        ([], "level", Moves()),
    ],
)  # fmt: skip
def test_how_a_meter_moves(lines: list[str], kind: MeterKind, expected: Moves) -> None:
    assert moves_of(lines, kind, "Wh") == expected


@pytest.mark.parametrize(
    "lines, kind, message",
    [
        (["jumps"], "register", "'jumps' is not understood"),
        (["moves in steps of 1 km"], "register", "'1 km' is not an amount of Wh"),
        (["moves in steps of 0 Wh"], "register", "write 1 to 2\\^53 Wh"),
        (["moves in steps of 1 kWh", "up to 2 kWh at once"], "register", "burst is said twice"),
        (["moves in steps of 1 kWh"], "quantity", "only a register moves in steps"),
        (["rolls over at 1 Wh"], "register", "write 2 to 2\\^53 Wh"),
        (["rolls over at 65,536 Wh"], "quantity", "only a register rolls over, this is a quantity"),
        (["up to 1 kWh at once"], "level", "a level is never billed"),
        (["at most 0 starts an hour"], "register", "write 1 to 2\\^53 starts"),
    ],
)  # fmt: skip
def test_how_a_meter_moves_is_refused_in_one_line(lines: list[str], kind: MeterKind, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        moves_of(lines, kind, "Wh")


COUNTS = st.integers(1, 2**53)


@given(COUNTS, st.one_of(st.none(), st.integers(2, 2**53)), COUNTS, st.sampled_from(["Wh", "m", "parcels"]))
def test_how_a_meter_moves_is_read_back(burst: int, modulus: int | None, starts: int, unit: str) -> None:
    moves = Moves(burst, UNSET if modulus is None else modulus, starts)
    meter = Meter("x", unit, "register", 1, burst=burst, modulus=moves.modulus, starts_per_hour=starts)
    assert moves_of(list(words_of_moves(meter)), "register", unit) == moves


ORDER = "reorder 100 bearings at 20 left from 0x3333333333333333333333333333333333333333 at EUR 1.20 each"
BUDGET = "budget EUR 500 in 30 days"


def test_an_order_in_words() -> None:
    policy = OrderPolicy("bearings", "bearings", 20, 100, 1_200_000, "0x" + "3" * 40, 500_000_000)
    assert orders_of([f"{ORDER}, {BUDGET}"], "EUR", {"bearings": "bearings", "fuel": "ml"}) == (policy,)
    spools = "stock: reorder 1,000 spools at 2.5 km left from 0x3333333333333333333333333333333333333333"
    (other,) = orders_of([f"{spools} at 12 EUR each with a budget 1,500.5 EUR in 30 days"], "EUR", {"stock": "m"})
    assert other == OrderPolicy("spools", "stock", 2_500, 1_000, 12_000_000, "0x" + "3" * 40, 1_500_500_000)


@pytest.mark.parametrize(
    "line, message",
    [
        (ORDER, "is not an order"),
        (f"{ORDER}, {BUDGET}".replace("EUR 1", "USD 1"), "is in USD, the log counts EUR"),
        (f"{ORDER}, {BUDGET}".replace("1.20", "1.2000001"), "at most six decimals"),
        (f"{ORDER}, {BUDGET}".replace("100 b", "0 b"), "order 1 to 2\\^53 pieces"),
        (f"{ORDER}, {BUDGET}".replace("at 20", "at 20 kWh"), "is not an amount of bearings"),
        (f"parts: {ORDER}, {BUDGET}", "parts is not a level meter"),
        (f"{ORDER}, {BUDGET}".replace("bearings", "oil"), "which level meter shows what is left"),
    ],
)
def test_an_order_is_refused_in_one_line(line: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        orders_of([line], "EUR", {"bearings": "bearings", "fuel": "ml"})


def test_of_an_item_there_is_one_order() -> None:
    with pytest.raises(InvalidInput, match="two lines order bearings"):
        orders_of([f"{ORDER}, {BUDGET}"] * 2, "EUR", {"bearings": "bearings"})


@given(st.integers(0, 2**53), st.integers(1, 2**20), st.integers(0, 2**33), st.integers(0, 2**53))
def test_orders_in_words_are_read_back(reorder_at: int, quantity: int, price: int, budget: int) -> None:
    policy = OrderPolicy("oil", "tank", reorder_at, quantity, price, "0x" + "a" * 40, budget)
    tank = Meter("tank", "m", "level", 1)
    assert orders_of(words_of_orders([policy], "EUR", [tank]), "EUR", {"tank": "m"}) == (policy,)


@pytest.mark.parametrize(
    "line, component, restrictions",
    [
        ("EUR 0.42 per kWh on weekdays 16:00-21:00", Component("energy", 420_000, per=1_000),
         Restrictions(start_time="16:00", end_time="21:00",
                      day_of_week=("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"))),
        ("0.30 EUR per kWh", Component("energy", 300_000, per=1_000), Restrictions()),
        ("EUR -0.05 per kWh", Component("energy", -50_000, per=1_000), Restrictions()),
        ("\N{MINUS SIGN}0.05 EUR per parcel", Component("parcels", -50_000, per=1), Restrictions()),
        ("EUR 42 per MWh", Component("energy", 42, per=1), Restrictions()),
        ("EUR 41.5 per MWh", Component("energy", 83, per=2), Restrictions()),
        ("energy: EUR 1 per session", Component("energy", 1_000_000, per_session=True), Restrictions()),
        ("EUR 4 a parcel on Fri-Mon from 2026-01-01 until 2027-01-01", Component("parcels", 4_000_000, per=1),
         Restrictions(start_date="2026-01-01", end_date="2027-01-01",
                      day_of_week=("MONDAY", "FRIDAY", "SATURDAY", "SUNDAY"))),
        ("EUR 4 per parcel on Mondays and Wed, 22:00 to 06:00", Component("parcels", 4_000_000, per=1),
         Restrictions(start_time="22:00", end_time="06:00", day_of_week=("MONDAY", "WEDNESDAY"))),
    ],
)  # fmt: skip
def test_a_line_of_a_tariff(line: str, component: Component, restrictions: Restrictions) -> None:
    assert element_of(line, "EUR", UNITS) == Element((component,), restrictions)


@pytest.mark.parametrize(
    "line, message",
    [
        ("free", "is not a price"),
        ("USD 1 per kWh", "the log counts EUR"),
        ("EUR 1 per session", "energy and parcels could be meant"),
        ("EUR 1 per km", "no meter of the machine counts that"),
        ("parcels: EUR 1 per kWh", "the meter parcels counts parcels"),
        ("water: EUR 1 per kWh", "no meter water"),
        ("EUR 0.0000000000007 per parcel", "can't be split exactly"),
        ("EUR 1 per 7 parcels", "can't be split exactly"),
        ("EUR 1 per kWh at night", "'at night' is not understood"),
        ("EUR 1 per kWh on Noday", "'Noday' is not a day"),
        ("EUR 1 per kWh from 2026-02-30", "is not a day of the calendar"),
    ],
)
def test_a_line_that_is_refused_says_why(line: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        element_of(line, "EUR", UNITS)


@given(
    st.builds(
        lambda price, per, session: (
            Component("energy", price, per_session=True) if session else Component("energy", price, per=per)
        ),
        st.integers(-(2**40), 2**40), st.sampled_from([1, 10, 1_000, 3_600]), st.booleans(),
    ),
    st.sampled_from([Restrictions(), Restrictions(start_time="22:00", end_time="06:00"),
                     Restrictions(day_of_week=("SATURDAY", "SUNDAY"), start_date="2026-01-01")]),
)  # fmt: skip
def test_words_of_a_tariff_are_read_back(component: Component, restrictions: Restrictions) -> None:
    element = Element((component,), restrictions)
    (line,) = words_of([element], "EUR", UNITS)
    read = element_of(line, "EUR", UNITS)
    (part,) = read.components
    assert read.restrictions == restrictions
    assert part.per_session == component.per_session
    if part.per_session or component.per_session:
        assert part.price == component.price
    else:
        assert part.price * component.per == component.price * part.per  # type: ignore[operator]


def registrations(path: Path) -> list[Registration]:
    return [
        registration_of(form, currency="EUR", zone=None, version=1, salt="00" * 16, years=YEARS)
        for form in read_form(path)
    ]


@pytest.mark.parametrize("kind", list(examples()))
def test_every_example_is_a_registration(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "form.toml"
    path.write_text(example(kind))
    found = registrations(path)
    assert found
    assert all(registration.is_valid() and registration.kind == kind for registration in found)


def test_yaml_says_the_same_as_toml(tmp_path: Path) -> None:
    toml, yaml = tmp_path / "form.toml", tmp_path / "form.yaml"
    toml.write_text(example("drone"))
    yaml.write_text(
        "zone: Europe/Berlin\ntariff: ['EUR 5.50 per parcel 20:00-06:00', EUR 4.00 per parcel]\n"
        "payees: [{account: '0x1111111111111111111111111111111111111111', name: owner, share: 100 %}]\n"
        "machines:\n- id: drone-3\n  kind: drone\n"
        "  meters:\n    parcels: {counts: quantity, unit: parcels, capacity: 6 parcels/h,"
        " moves: [up to 4 parcels at once]}\n"
    )
    assert registrations(yaml) == registrations(toml)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('share = "85 %"', 'share = "80 %"', "add up to 95 %, not to 100 %"),
        ('share = "85 %"', 'share = "much"', "'much' is not a share"),
        ("0x1111111111111111111111111111111111111111", "0x123", "is not an account"),
        ("0x1111111111111111111111111111111111111111", "0x2222222222222222222222222222222222222222", "stands twice"),
        ("0x1111111111111111111111111111111111111111", "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96046", "wrong checksum"),
        ('"Europe/Berlin" ', '"Europe/Nowhere" ', "no time zone"),
        ('unit = "Wh"', 'unit = "W h"', r"machines\[0\]"),
        ('capacity = "22 kW" ', 'capacity = "fast" ', "charger-1: meter energy: 'fast' is not a rate"),
        ('id = "charger-2"', 'id = "charger-1"', "twice"),
        ('kind = "ev_charger"', 'kin = "ev_charger"', "unknown field `kin`"),
        ('"at most 30 starts an hour"', '"fast"', "charger-1: meter energy: 'fast' is not understood"),
        ('moves = ["at', 'opening = "65,536 Wh"\nmoves = ["rolls over at 65,536 Wh", "at', "can't open at 65,536 Wh"),
        ("[[machines]]", "[[machine]]", "form.toml"),
    ],
)
def test_a_wrong_form_is_one_line_that_names_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "form.toml"
    text = example("ev_charger")
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InvalidInput, match=message) as error:
        registrations(path)
    assert "\n" not in str(error.value)
