"""The Modbus gateway as a process: killed while the meter counts, started by its command, asked what there is."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest

from deploy.machines.form import read_form, registration_of
from streams.core.sealing import open_windows
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.modbus.inverter import SimulatedInverter
from tallyroot_gateway.reading import Reading
from tallyroot_gateway.spool import Spool
from tests.process.modbus_gateway_child import config_of, poll_on
from tests.support.gateway_logs import arrived, new_log, window_facts
from tests.support.http_gateway import free_port
from tests.support.modbus_devices import Registers, Server, block, common, device_words

CHILD = Path(__file__).with_name("modbus_gateway_child.py")
MODULUS = 1 << 32


@pytest.mark.crash
def test_a_gateway_killed_again_and_again_bills_what_the_meter_counted(kafka: str, tmp_path: Path) -> None:
    """The counter rolls over at 2^32 on the way; usage in the log is the counter's last less its first."""
    meter = {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 10**9, "burst": 10**6}
    tariff = {"elements": [{"components": [{"meter": "energy", "price": 1, "per": 1}]}], "offsets": [[0, 0]]}
    log = new_log(kafka, "gateway-modbus-kills", meters=[meter | {"modulus": MODULUS}], tariff=tariff)

    async def run() -> tuple[int, int]:
        chance = random.Random(1)
        counted = MODULUS - 1_000
        first = None

        async def count(inverter: SimulatedInverter) -> None:
            nonlocal counted
            while True:
                counted += chance.randrange(4)
                inverter.show(counted, 500)
                await asyncio.sleep(0.001)

        async with SimulatedInverter() as inverter:
            inverter.show(counted, 500)
            meter_task = asyncio.create_task(count(inverter))
            for round in range(5):
                child = await asyncio.create_subprocess_exec(
                    sys.executable, str(CHILD), kafka, log.log_id, str(tmp_path), str(inverter.port),
                    stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
                assert child.stdout is not None
                for _ in range(40 + 37 * round):
                    shown = int(await child.stdout.readline())
                    first = shown if first is None else first
                child.kill()
                await child.wait()
            meter_task.cancel()
            await poll_on(config_of(kafka, log.log_id, tmp_path, inverter.port), polls=2)
        assert first is not None
        return first, counted

    first, last = asyncio.run(run())
    assert last > MODULUS + 100  # it has rolled over
    state, done, _ = arrived(kafka, log)
    assert done.rejects == []
    assert window_facts(state)[1] == last - first
    assert sum(window.skipped for window in open_windows(state)) == 0


def gateway_file(folder: Path, port: int, devices: str, top: str = "") -> Path:
    file = folder / "gateway.toml"
    file.write_text(
        f'[log]\nbootstrap_servers = "127.0.0.1:1"\nlog_id = "l"\n[serve]\nmetrics_port = 0\n'
        f'[[lines]]\ntcp = "127.0.0.1:{port}"\n{top}\n{devices}'
    )
    return file


async def started(file: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tallyroot_gateway", "modbus", "--config", str(file), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip


def test_the_command_polls_on_the_clock_s_grid_and_ends_in_order(tmp_path: Path) -> None:
    async def run() -> None:
        async with SimulatedInverter() as inverter:
            inverter.show(1_000, 5)
            device = '[[lines.devices]]\nunit_id = 1\nmachine = "roof-1"\npoll_s = 1\npoints = { energy = "103.WH" }\n'
            device += '[[lines]]\ntcp = "127.0.0.1:1"\n' + device.replace("roof-1", "asleep-1")
            gateway = await started(gateway_file(tmp_path, inverter.port, device))
            assert gateway.stderr is not None
            said = (await gateway.stderr.readline()).decode()
            pages = said.split()[-1].removesuffix("/metrics")
            for _ in range(200):
                await asyncio.sleep(0.1)
                page = (await asyncio.to_thread(urllib.request.urlopen, f"{pages}/metrics")).read().decode()
                if 'polls_total{machine="roof-1",result="answered"} 3.0' in page:
                    break
            assert "tallyroot_gateway_readings_total 3.0" in page
            assert 'polls_total{machine="asleep-1",result="no_connection"}' in page
            gateway.send_signal(signal.SIGTERM)
            _, errors = await gateway.communicate()
            assert gateway.returncode == 0, errors

    asyncio.run(run())
    rows = rows_in(tmp_path / "spool" / "roof-1", "roof-1")
    assert {row.register for row in rows} == {1_000}
    assert len(rows) >= 3
    assert sum(row.observed_at % 1_000 == 0 for row in rows) >= 1


def rows_in(folder: Path, route: str, log_id: str = "l") -> list[Reading]:
    spool = Spool(folder, log_id, route, now_ms=wall_ms())
    rows, _ = spool.read(spool.acked, 10_000, 1 << 24)
    spool.close()
    return [msgspec.json.decode(row, type=Reading) for row in rows]


def test_what_is_discovered_is_a_form_that_can_be_registered(tmp_path: Path) -> None:
    devices = {
        1: Registers(
            device_words(
                common("SN-7"), block(120, {"WRtg": 500, "WRtg_SF": 1}), block(103, {"WH": 5, "WH_SF": 2, "St": 4}),
                block(802, {"SoC": 555, "SoC_SF": -1}), [65_000, 2, 7, 8],
            )
        ),
        2: Registers(device_words(common(), block(203, {"TotWhExp": 99, "TotWhImp": 1, "TotWh_SF": -1}))),
        3: Registers([1, 2, 3], base=7),
    }  # fmt: skip

    async def run() -> str:
        async with Server(devices) as server:
            gateway = await started(gateway_file(tmp_path, server.port, "", "scan = [1, 2, 3]"), "--discover")
            assert gateway.stdout is not None
            output, errors = await gateway.communicate()
            assert gateway.returncode == 0, errors
            return output.decode()

    said = asyncio.run(run())
    for line in (
        "#     103.WH = 500 Wh (register)",
        '#   serial_number = "SN-7"',
        "#   model 65000 at 40214, 2 registers: not among the published ones",
        '#   points = { energy = "103.WH", charge = "802.SoC" }',
        '#   points = { export = "203.TotWhExp", import = "203.TotWhImp" }',
        "#     802.SoC = 55.5 Percent (level)",
        'moves = ["moves in steps of 100 Wh", "rolls over at 429496729600 Wh"]',
        'moves = ["rolls over at 429496730 Wh"]',
        "answers, but not as SunSpec does",
    ):
        assert line in said, said
    file = tmp_path / "machines.toml"
    file.write_text(said)
    forms = read_form(file)
    assert [form.id for form in forms] == ["device-1", "device-2"]
    roof, meter = (
        registration_of(form, currency="EUR", zone=None, version=1, salt="00" * 16, years=range(2026, 2027))
        for form in forms
    )
    assert meter.tariff.elements[0].components[0].meter == "export"
    assert {meter.meter: (meter.kind, meter.capacity_per_hour) for meter in roof.meters} == {
        "energy": ("register", 5_000), "charge": ("level", 1_000),
    }  # fmt: skip
    assert roof.meters[0].modulus == 100 << 32


def test_a_file_without_devices_says_how_to_find_some(tmp_path: Path) -> None:
    async def run() -> tuple[int | None, str]:
        gateway = await started(gateway_file(tmp_path, 1, ""))
        _, errors = await gateway.communicate()
        return gateway.returncode, errors.decode()

    code, said = asyncio.run(run())
    assert (code, len(said.splitlines())) == (1, 1)
    assert "--discover with scan prints some" in said


def test_the_how_to_s_walk_runs_as_it_is_written(tmp_path: Path) -> None:
    """All but what installs and what needs a log; the gateway, which runs until it is stopped, for a few seconds."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "devices-modbus.md").read_text()
    blocks = [block for block in re.findall(r"(?ms)^```sh\n(.*?)^```", page) if "gateway.toml" in block]
    script = "\n".join(["set -e", "trap 'kill $(jobs -p)' EXIT", *blocks])
    run = "python -m tallyroot_gateway modbus --config gateway.toml\n"
    assert run in script
    script = script.replace(run, f"timeout -s KILL 4 {run.rstrip()} || test $? = 137\n")
    script = script.replace("--port 5020 &", "--port 5020 & sleep 2").replace("5020", str(free_port()))
    environment = dict(os.environ) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    while subprocess.run(["flock", "-n", tmp_path / "spool/device-1/lock", "true"], check=False).returncode:
        time.sleep(0.05)  # whoever was killed is not gone at once
    assert [form.id for form in read_form(tmp_path / "machines.toml")] == ["device-1"]
    (reading, *_) = rows_in(tmp_path / "spool" / "device-1", "device-1", "log-1")
    assert isinstance(reading.register, int)
    assert reading.register >= 1_000_000
