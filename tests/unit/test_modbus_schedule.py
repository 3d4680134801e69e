"""Polls lie on the clock's grid; a silent device is asked ever more seldom and at least every ten minutes."""

from pathlib import Path

import pytest

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import LogOptions, read_config
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions, ModbusConfig, RegisterOptions, check_devices
from tallyroot_gateway.modbus.schedule import SILENT_SECONDS, Turn, grid_after

NOON = 1_767_268_800_000
DEVICE = DeviceOptions(unit_id=1, machine="m", poll_s=60, points={"energy": "103.WH"})


def test_the_next_poll_is_on_the_grid() -> None:
    assert grid_after(NOON, 60) == NOON + 60_000
    assert grid_after(NOON + 59_999, 60) == NOON + 60_000
    turn = Turn(DEVICE, NOON + 12_345)
    assert turn.stamp(NOON + 12_345) == NOON + 12_345
    turn.answered(NOON + 12_400)
    assert turn.due_ms == NOON + 60_000
    assert turn.stamp(NOON + 60_400) == NOON + 60_000
    assert turn.stamp(NOON + 62_000) == NOON + 62_000


def test_a_night_is_few_requests_and_the_morning_is_noticed() -> None:
    turn, now, asked = Turn(DEVICE, NOON), NOON, 0
    news = []
    while now < NOON + 12 * 3_600_000:
        news.append(turn.silent(now))
        now, asked = turn.due_ms, asked + 1
    assert news == [True, *[False] * (asked - 1)]
    assert 12 * 6 <= asked < 170
    assert turn.until(now - 1000 * int(SILENT_SECONDS)) <= SILENT_SECONDS + 60
    turn.answered(now)
    assert turn.due_ms == now + 60_000


def test_a_clock_that_is_set_back_holds_nobody_up() -> None:
    turn = Turn(DEVICE, NOON)
    turn.answered(NOON)
    assert turn.until(NOON - 3_600_000) <= 60


def config(*lines: LineOptions) -> ModbusConfig:
    return ModbusConfig(log=LogOptions(bootstrap_servers="k:9092", log_id="l"), lines=list(lines))


def line(*devices: DeviceOptions, **options: str) -> LineOptions:
    return LineOptions(devices=list(devices), **(options or {"tcp": "10.0.0.1:502"}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong, said",
    [
        (line(DEVICE, tcp="10.0.0.1"), "tcp: write a host and a port"),
        (line(DEVICE, tcp="a:502", serial="/dev/ttyS0"), "a line has either tcp or serial"),
        (line(), "has no .*lines.devices"),
        (line(DEVICE, DeviceOptions(unit_id=1, machine="n", points={"energy": "103.WH"})), "has a unit_id twice"),
        (line(DEVICE, DeviceOptions(unit_id=2, machine="m", points={"energy": "1.WH"})), "m's meter energy stands"),
        (line(DeviceOptions(unit_id=2, machine="m")), "it has no points and no registers"),
        (line(DeviceOptions(unit_id=2, machine="m", points={"energy": "WH"})), "'WH' is no point"),
        (
            line(
                DeviceOptions(
                    unit_id=2, machine="m", registers={"e": RegisterOptions(address=65_535, type="u32", unit="Wh")}
                )
            ),
            "reaches beyond address 65535",
        ),
        (
            line(
                DeviceOptions(
                    unit_id=2, machine="m",
                    registers={"e": RegisterOptions(address=1, type="u32", unit="kWh", meter_unit="m")},
                )
            ),
            "kWh is no m: one measures energy",
        ),
    ],
)  # fmt: skip
def test_a_file_that_can_t_be_right_is_said(wrong: LineOptions, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_devices(config(wrong))


def test_a_file_is_read_with_its_certificates_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[log]\nbootstrap_servers = "k:9092"\nlog_id = "l"\n[[lines]]\ntcp = "10.0.0.1:802"\n'
        'tls = { ca_file = "ca.pem" }\n[[lines.devices]]\nunit_id = 1\nmachine = "m"\n'
        'points = { energy = "103.WH", charge = { point = "802.SoC", unit = "Percent" } }\n'
    )
    read = read_config(file, ModbusConfig)
    assert read.lines[0].tls is not None
    assert read.lines[0].tls.ca_file == str(tmp_path / "ca.pem")
    with pytest.raises(InvalidInput, match="there is no file"):
        check_devices(read)
    file.write_text(file.read_text().replace('"103.WH"', "1"))
    with pytest.raises(InvalidInput, match=r"gateway.toml: .*energy|gateway.toml: Expected"):
        read_config(file, ModbusConfig)


def test_a_scale_that_is_a_float_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    text = (
        '[log]\nbootstrap_servers = "k:9092"\nlog_id = "l"\n[[lines]]\ntcp = "10.0.0.1:502"\n[[lines.devices]]\n'
        'unit_id = 1\nmachine = "m"\n[lines.devices.registers.energy]\naddress = 1\ntype = "u32"\nunit = "kWh"\n'
    )
    file.write_text(text + 'scale = "0.01"\n')
    check_devices(read_config(file, ModbusConfig))
    file.write_text(text + "scale = 0.01\n")
    with pytest.raises(InvalidInput, match="scale"):
        read_config(file, ModbusConfig)
