"""The dialect of `--json`: what a field becomes, and that the published schemas are those of the types."""

from datetime import datetime
from decimal import Decimal

import pytest
from msgspec import Struct

from deploy.cli.answers import ANSWERS, FOLDER, schema_bytes, schema_file
from deploy.cli.dialect import plain, schema
from schemas.errors import InvariantBroken
from schemas.log import Log
from schemas.units import TokenUnits
from tests.support.commands import commands
from tests.support.json_schema import faults


class Sample(Struct, frozen=True, kw_only=True):
    net_micros: int = -1_500_000
    gain: TokenUnits = 1_234_567
    cost_wei: int = 5
    start_ms: int = 1_567_357_200_250
    until_s: int | None = None
    paused_until_s: int = 0
    delay_s: int = 60
    windows_root: str = "ab" * 32
    digest: bytes = b"\x01"
    seen: datetime = datetime(2019, 9, 1, 17)  # noqa: DTZ001 - as DuckDB returns it
    part: Decimal = Decimal("1.50")
    log: Log = Log(log_id="a")
    decimals: int = 6


def test_every_field_is_written_as_its_name_and_type_say() -> None:
    found = plain(Sample())
    assert found.pop("log")["window_ms"] == 900_000, "a record of the log stays as it stands there"
    assert found == {
        "net": "-1.500000", "gain": "1.234567", "cost_ether": "0.000000000000000005",
        "start": "2019-09-01T17:00:00.250Z", "until": None, "paused_until": None, "delay_s": 60,
        "windows_root": "0x" + "ab" * 32, "digest": "0x01", "seen": "2019-09-01T17:00:00Z", "part": "1.50",
        "decimals": 6,
    }  # fmt: skip
    assert faults(plain(Sample()), schema(Sample)) == []
    assert faults(found | {"net": 1.5}, schema(Sample)) == ["$: no log", "$.net: 1.5 is not a string"]


def test_token_units_need_their_decimals() -> None:
    class Bare(Struct):
        gain: TokenUnits

    assert plain(Bare(5), 2) == {"gain": "0.05"}
    with pytest.raises(InvariantBroken, match="decimals of gain"):
        plain(Bare(5))


@pytest.mark.parametrize("command", ANSWERS)
def test_schema_files_follow_from_the_types(command: str) -> None:
    assert schema_file(command).read_bytes() == schema_bytes(command)


def test_every_command_has_a_schema() -> None:
    assert set(commands()) == set(ANSWERS)
    assert {path.name for path in FOLDER.iterdir()} == {schema_file(command).name for command in ANSWERS}
