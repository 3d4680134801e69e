"""Machines as people write them: amounts with units, tariffs in words, whole files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.machines.form import example, examples, read_form, registration_of
from deploy.machines.quantities import per_hour, whole_units
from deploy.machines.tariff_words import element_of, words_of
from schemas.errors import InvalidInput
from schemas.registration import Component, Element, Registration, Restrictions

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
    with pytest.raises(InvalidInput, match="is not an amount of Wh"):
        whole_units("3 km", "Wh")


@pytest.mark.parametrize(
    "line, component, restrictions",
    [
        ("EUR 0.42 per kWh on weekdays 16:00-21:00", Component("energy", 420_000, per=1_000),
         Restrictions(start_time="16:00", end_time="21:00",
                      day_of_week=("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"))),
        ("0.30 EUR per kWh", Component("energy", 300_000, per=1_000), Restrictions()),
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
        st.integers(0, 2**40), st.sampled_from([1, 10, 1_000, 3_600]), st.booleans(),
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
        "  meters:\n    parcels: {counts: quantity, unit: parcels, capacity: 6 parcels/h}\n"
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
        ('capacity = "22 kW" ', 'capacity = "fast" ', "charger-1: 'fast' is not a rate"),
        ('id = "charger-2"', 'id = "charger-1"', "twice"),
        ('kind = "ev_charger"', 'kin = "ev_charger"', "unknown field `kin`"),
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
