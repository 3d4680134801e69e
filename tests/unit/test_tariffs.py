"""A tariff's offsets are the zone's own, second by second, whatever the machine's database says."""

from datetime import UTC, datetime

import pytest

from deploy.importers.source_log import SourceMachine
from deploy.importers.tariffs import flat, offsets_of, time_of_use, zone_of
from schemas.errors import InvalidInput
from schemas.registration import Agreement, Meter

PACIFIC = "America/Los_Angeles"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000


def test_daylight_saving_is_written_out() -> None:
    assert offsets_of(PACIFIC, range(2019, 2020)) == (
        (0, -8 * 3_600),
        (at("2019-03-10T10:00:00Z"), -7 * 3_600),
        (at("2019-11-03T09:00:00Z"), -8 * 3_600),
    )


@pytest.mark.parametrize("name", [PACIFIC, "Europe/London", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"])
def test_the_offsets_hold_at_every_hour(name: str) -> None:
    zone, offsets = zone_of(name), offsets_of(name, range(2018, 2021))
    assert offsets[0][0] == 0
    for moment in range(at("2018-01-01T00:30:00Z"), at("2021-01-01T00:00:00Z"), 3_600_000):
        local = datetime.fromtimestamp(moment // 1000, UTC).astimezone(zone).utcoffset()
        assert local is not None
        assert [offset for start, offset in offsets if start <= moment][-1] == local.total_seconds()


def test_a_zone_is_one_of_the_package() -> None:
    for name in ("Mars/Olympus", "", "../../etc/localtime", "PACIFIC"):
        with pytest.raises(InvalidInput, match="no time zone"):
            zone_of(name)


def test_what_is_written_is_whole() -> None:
    meters = (Meter("energy", "Wh", "register", 1),)
    for tariff in (time_of_use(("energy",), PACIFIC, 2, 1, 1_000), flat({"energy": (1, 1)}, "Europe/Paris")):
        machine = SourceMachine("m", "ev_charger", meters, tariff)
        assert machine.registration(Agreement({"0xa": 10_000}), "", 0).is_valid()
        with pytest.raises(InvalidInput, match="basis points"):
            machine.registration(Agreement({"0xa": 9_999}), "", 0)
