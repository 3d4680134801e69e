"""The Modbus gateway's polls, over a line that a test holds and over real sockets, TLS and a serial line.

Kafka is away: what was taken is what the spool has.
"""

import asyncio
import contextlib
import io
import json
import os
import pty
import random
import ssl
import struct
import threading
import tomllib
import tty
from pathlib import Path
from typing import Any

import pytest
import trustme
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions, RegisterOptions, TlsOptions
from tallyroot_gateway.modbus.discover import _discover_device, _print_form, _print_gateway_lines
from tallyroot_gateway.modbus.inverter import SimulatedInverter, Step
from tallyroot_gateway.modbus.line import Line, NoAnswer
from tallyroot_gateway.modbus.models import model_of
from tallyroot_gateway.modbus.poller import Poller, PollMetrics
from tallyroot_gateway.modbus.schedule import Turn
from tallyroot_gateway.modbus.sunspec import find_chain
from tallyroot_gateway.reading import Reading
from tests.support.modbus_devices import (
    Registers,
    Server,
    block,
    common,
    config_of,
    device_words,
    put,
    sunspec_device,
)

NOON = 1_767_268_800_000
ENERGY = 2 + 68 + 24
"""Where model 103's counter is, behind the mark and model 1."""


def inverter_words(energy: int, scale: int = 0, state: int = 4, watts: int = 100) -> list[int]:
    inverter = block(103, {"WH": energy, "WH_SF": scale, "St": state, "W": watts, "W_SF": 0})
    return device_words(common(), inverter)


class Bench:
    """An intake whose Kafka is away, and a poller of one line."""

    def __init__(self, folder: Path, line: Any) -> None:
        self.intake = Intake(config_of(folder, LineOptions(tcp="simulated:502")))
        self.poller = Poller(line, self.intake, PollMetrics(self.intake.metrics))
        self.rejects = folder / "rejects.jsonl"

    async def poll(self, device: DeviceOptions, now_ms: int = NOON) -> dict[str, int]:
        """One poll's values by meter."""
        return {one.meter: value_of(one) for one in await self.poller.poll_once(device, now_ms)}

    def count(self, reason: str) -> float:
        return self.intake.metrics.rejected.labels(reason)._value.get()

    async def __aenter__(self) -> "Bench":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        for gateway in self.intake._gateways.values():
            gateway.close(0)


def value_of(one: Reading) -> int:
    return one.register if isinstance(one.register, int) else one.level if isinstance(one.level, int) else -1


async def _chain_at(base: int) -> None:
    chain = await find_chain(Registers(inverter_words(5), base), 1)  # type: ignore[arg-type]
    assert [one.model for one in chain.blocks] == [1, 103]
    assert chain.identity.serial_number == "SN-1"
    assert chain.is_whole


def test_a_chain_is_found_at_each_of_three_addresses() -> None:
    for base in (40_000, 0, 50_000):
        asyncio.run(_chain_at(base))


@pytest.mark.parametrize("end", [(0,), (0xFFFF,), (), (0, 0), (120, 60_000)])
def test_a_chain_that_breaks_off_is_used_as_far_as_it_goes(end: tuple[int, ...]) -> None:
    async def run() -> None:
        words = device_words(common(), block(103, {"WH": 7, "WH_SF": 0}), end=end)
        chain = await find_chain(Registers(words), 1)  # type: ignore[arg-type]
        assert [one.model for one in chain.blocks] == [1, 103]
        assert chain.is_whole == (end == (0xFFFF,))

    asyncio.run(run())


def test_a_chain_has_bounds() -> None:
    async def run() -> None:
        endless = Registers([0x5375, 0x6E53, *[9, 0] * 20_000])
        assert len((await find_chain(endless, 1)).blocks) == 64  # type: ignore[arg-type]
        assert len(endless.asked) < 200
        nothing = Registers([0] * 10)
        with pytest.raises(NoAnswer, match="not as SunSpec does"):
            await find_chain(nothing, 1)  # type: ignore[arg-type]

    asyncio.run(run())


def test_a_poll_is_the_registers_with_the_scale_of_the_same_answer(tmp_path: Path) -> None:
    async def run() -> None:
        line = Registers(inverter_words(1_234, scale=1))
        device = sunspec_device(energy="103.WH", power="103.W")
        async with Bench(tmp_path, line) as bench:
            assert await bench.poll(device) == {"energy": 12_340, "power": 100}
            line.asked.clear()
            put(line.words, ENERGY, 123_456, 2)
            put(line.words, ENERGY + 2, -1, 1)
            assert await bench.poll(device) == {"energy": 12_345, "power": 100}
            assert len(line.asked) == 1  # all of a poll is one answer
            assert bench.intake.note("roof-1", "counted:roof-1/energy") == "yes"

    asyncio.run(run())


def test_a_scale_that_is_read_apart_is_the_one_before_and_after_the_value(tmp_path: Path) -> None:
    async def run() -> None:
        line = Registers(inverter_words(1_000, scale=0))
        device = DeviceOptions(unit_id=1, machine="roof-1", points={"energy": "103.WH"}, registers_max=4)
        scale_at = line.base + ENERGY + 2
        changes = iter([1, 1])

        def change(address: int, count: int) -> None:
            """The device changes the scale once, just after it was read."""
            if (address, count) == (line.base + ENERGY, 2) and (scale := next(changes, None)) is not None:
                put(line.words, ENERGY, 100, 2)
                put(line.words, ENERGY + 2, scale, 1)

        line.before = change
        async with Bench(tmp_path, line) as bench:
            assert await bench.poll(device) == {"energy": 1_000}
            assert [address for address, _ in line.asked].count(scale_at) >= 4
            never = iter(range(100))

            def always(address: int, count: int) -> None:
                if (address, count) == (scale_at, 1):
                    put(line.words, ENERGY + 2, next(never) % 2, 1)

            line.before = always
            assert await bench.poll(device) == {}
            assert bench.count("torn") == 1

    asyncio.run(run())


def test_what_is_not_implemented_is_left_out_counted_and_written_down_once(tmp_path: Path) -> None:
    async def run() -> None:
        words = device_words(common(), block(103, {"WH": 0, "WH_SF": 0, "W": 0x8000, "W_SF": 0, "VA": 5, "VA_SF": 11}))
        device = sunspec_device(energy="103.WH", power="103.W", va="103.VA", hz="103.Hz", none="802.SoC", no="103.Nope")
        async with Bench(tmp_path, Registers(words)) as bench:
            for _ in range(3):
                assert await bench.poll(device) == {}
            counts = {name: bench.count(name) for name in ("not_accumulated", "not_implemented", "bad_scale")}
            assert counts == {"not_accumulated": 3, "not_implemented": 6, "bad_scale": 3}
            assert (bench.count("no_model"), bench.count("no_point")) == (3, 3)
            reasons = [json.loads(line)["reason"] for line in bench.rejects.read_text().splitlines()]
            assert len(reasons) == 6

    asyncio.run(run())


def test_a_level_below_zero_and_a_register_beyond_the_log_are_left_out(tmp_path: Path) -> None:
    async def run() -> None:
        der = block(701, {"TotWhInj": 2**60, "TotWhAbs": 5, "TotWh_SF": 0, "W": -5, "W_SF": 0, "InvSt": 3})
        device = sunspec_device(energy="701.TotWhInj", back="701.TotWhAbs", power="701.W")
        async with Bench(tmp_path, Registers(device_words(common(), der))) as bench:
            assert await bench.poll(device) == {"back": 5}
            assert bench.count("out_of_range") == 2

    asyncio.run(run())


def test_a_zero_of_a_sleeping_inverter_is_a_placeholder_and_a_new_one_s_is_not(tmp_path: Path) -> None:
    """dbus-fronius #18: the lifetime counter is 0 while the inverter starts, and was booked as production."""

    async def run(folder: Path) -> None:
        one = struct.unpack(">I", struct.pack(">f", 1_000.0))[0]
        line = Registers(device_words(common(), block(113, {"WH": 0, "St": 3})))
        at = 2 + 68 + 32
        device = sunspec_device(energy="113.WH")
        async with Bench(folder, line) as bench:
            assert await bench.poll(device) == {"energy": 0}
            put(line.words, at, one, 2)
            line.words[2 + 68 + 48] = 4
            assert await bench.poll(device) == {"energy": 1_000}
        async with Bench(folder, line) as bench:  # it is remembered over a restart
            put(line.words, at, 0, 2)
            line.words[2 + 68 + 48] = 3
            assert await bench.poll(device) == {}
            assert bench.count("asleep") == 1
            line.words[2 + 68 + 48] = 4  # it feeds in and shows 0: it began again, and the log judges it
            assert await bench.poll(device) == {"energy": 0}

    asyncio.run(run(tmp_path))


def test_meters_batteries_and_ports(tmp_path: Path) -> None:
    async def run() -> None:
        float_bits = struct.unpack(">I", struct.pack(">f", 1234.75))[0]
        line = Registers(
            device_words(
                common(),
                block(203, {"TotWhExp": 2**32 - 1, "TotWhImp": 10, "TotWh_SF": -1}),
                block(203, {"TotWhExp": 3, "TotWhImp": 4, "TotWh_SF": 0}),
                block(213, {"TotWhExp": float_bits}),
                block(802, {"SoC": 505, "SoC_SF": -1}),
                block(713, {"SoC": 42, "Pct_SF": 0, "WHAvail": 9, "WH_SF": 2}),
                block(714, {"DCWhInj": 7, "DCWH_SF": 1}, [{"DCWhInj": 1}, {"DCWhInj": 2}]),
                block(701, {"TotWhInj": 0, "TotWh_SF": 0, "InvSt": 1}),
            )
        )
        device = sunspec_device(
            export="203.TotWhExp", imported="203.TotWhImp", second="203#2.TotWhImp", floating="213.TotWhExp",
            battery="802.SoC", charge="713.SoC", available="713.WHAvail", dc="714.DCWhInj", port="714.Prt.2.DCWhInj",
            new="701.TotWhInj",
        )  # fmt: skip
        async with Bench(tmp_path, line) as bench:
            assert await bench.poll(device) == {
                "export": 429_496_729, "imported": 1, "second": 4, "floating": 1_234, "battery": 505, "charge": 420,
                "available": 900, "dc": 70, "port": 20, "new": 0,
            }  # fmt: skip

    asyncio.run(run())


def test_a_chain_that_moved_is_walked_again_and_another_device_gives_nothing(tmp_path: Path) -> None:
    """pysunspec2 #89: the length of model 714 changes with sunlight, and all behind it moves."""

    async def run() -> None:
        line = Registers(inverter_words(100))
        device = sunspec_device(energy="103.WH")
        async with Bench(tmp_path, line) as bench:
            assert await bench.poll(device) == {"energy": 100}
            before = block(714, {}, [{}])
            line.words = device_words(common(), before, block(103, {"WH": 101, "WH_SF": 0, "St": 4}))
            assert await bench.poll(device) == {"energy": 101}
            other = DeviceOptions(unit_id=1, machine="roof-1", points={"energy": "103.WH"}, serial_number="SN-2")
            bench.poller._chains.clear()
            with pytest.raises(NoAnswer, match="has the serial number 'SN-1', not 'SN-2'"):
                await bench.poll(other)
            assert await bench.poll(device) == {"energy": 101}

    asyncio.run(run())


def test_a_map_s_registers_are_read_each_for_itself(tmp_path: Path) -> None:
    async def run() -> None:
        line = Registers([0, 0, 0x0001, 0x86A0, 0xC2F6, 0x42F6, 0xE979], base=100)
        device = DeviceOptions(
            unit_id=7,
            machine="meter-7",
            registers={
                "energy": RegisterOptions(address=102, type="u32", scale="0.01", unit="kWh", meter_unit="Wh"),
                "exact": RegisterOptions(address=105, type="f32", unit="kWh", meter_unit="mWh"),
                "level": RegisterOptions(address=101, type="u16", unit="count", counts="level"),
                "gone": RegisterOptions(address=999, type="u16", unit="count"),
            },
        )
        async with Bench(tmp_path, line) as bench:
            # The float nearest to 123.456 is 123.45600128173828125, and is no longer rounded here.
            assert await bench.poll(device) == {"energy": 1_000_000, "exact": 123_456_001, "level": 0}
            assert bench.count("exception_2") == 1

    asyncio.run(run())


def test_no_registers_whatever_break_a_poll_or_a_discovery(tmp_path: Path) -> None:
    async def run() -> None:
        chance = random.Random(7)
        models = (101, 103, 113, 120, 203, 213, 701, 702, 705, 713, 714, 802, 803, 9, 65_000, 0)
        odd = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0xFFF6, 0x0A0D, 0x7FC0, 0x7F80)
        names = ("103.WH", "113.WH", "203#2.TotWhImp", "213.TotWhExp", "701.TotWhInj", "701.W", "714.Prt.2.DCWhInj",
                 "802.SoC", "713.WHAvail", "803.NStr")  # fmt: skip
        device = sunspec_device(**{f"m{number}": name for number, name in enumerate(names)})
        polled = 0
        async with Bench(tmp_path, Registers([])) as bench:
            for _ in range(150):
                words = [0x5375, 0x6E53]
                for _ in range(chance.randrange(6)):
                    model = chance.choice(models)
                    known = model_of(model)
                    size = chance.choice([50, 105, 153, 0, 1, 1_000, known.size - 2 if known is not None else 2])
                    words += [model, size, *(chance.choice((*odd, chance.getrandbits(16))) for _ in range(size))]
                line = Registers(words, base=chance.choice((0, 40_000, 50_000)))
                poller = Poller(line, bench.intake, bench.poller._metrics)  # type: ignore[arg-type]
                with contextlib.suppress(NoAnswer):
                    polled += len(await poller.poll_once(device, NOON))
                printed = io.StringIO()
                with contextlib.suppress(NoAnswer):
                    proposed = await _discover_device(line, 1, None, printed)  # type: ignore[arg-type]
                    _print_gateway_lines(1, "m-1", proposed, printed)
                    _print_form([("m-1", proposed)] if proposed else [], printed)
                tomllib.loads(printed.getvalue())
        assert polled > 20

    asyncio.run(run())


def test_a_killed_and_a_slow_device(tmp_path: Path) -> None:
    async def run() -> None:
        device = sunspec_device(energy="103.WH")
        async with SimulatedInverter([Step(NOON, 100, 50), Step(NOON + 60_000, 110, 0)]) as inverter:
            line = Line(LineOptions(tcp=f"127.0.0.1:{inverter.port}", timeout_s=0.5))
            line._pauses = iter([0.0] * 100)
            async with Bench(tmp_path, line) as bench:
                assert inverter.advance(NOON)
                assert await bench.poll(device) == {"energy": 100}
                await inverter.stop()
                for _ in range(2):
                    with pytest.raises(NoAnswer):
                        await bench.poll(device)
                    line._pauses, line._not_before = iter([0.0] * 100), 0.0
                await inverter.start()
                assert not inverter.advance(NOON + 60_000)
                assert await bench.poll(device) == {"energy": 110}
                line.close()

    asyncio.run(run())


def test_a_day_and_its_night_are_what_the_counter_counted(tmp_path: Path) -> None:
    """A recorded day, played by the clock of the record: the inverter is off at night, and shows 0 when it wakes up."""

    async def run() -> None:
        day_ms, step_ms, hour_ms = 24 * 3_600_000, 300_000, 3_600_000
        dusk, dawn = NOON + 8 * hour_ms, NOON + 18 * hour_ms
        steps, energy = list[Step](), 1_000_000
        for at in range(NOON, NOON + day_ms + 1, step_ms):
            watts = 0 if dusk <= at < dawn + hour_ms else 4_000
            energy += watts * step_ms // hour_ms
            steps.append(Step(at, 0 if dawn <= at < dawn + hour_ms else energy, watts))
        now_ms, asked_at_night, taken = NOON, 0, list[Reading]()
        async with SimulatedInverter(steps) as inverter:
            port = inverter.port
            line = Line(LineOptions(tcp=f"127.0.0.1:{port}"), seconds=lambda: now_ms / 1000)
            device = DeviceOptions(unit_id=1, machine="roof-1", poll_s=300, points={"energy": "103.WH"})
            turn = Turn(device, NOON)
            async with Bench(tmp_path, line) as bench:
                for now_ms in range(NOON, NOON + day_ms + 1, step_ms):
                    inverter.advance(now_ms)
                    if now_ms == dusk:
                        await inverter.stop()
                    elif now_ms == dawn:
                        await inverter.start()
                    if turn.until(now_ms) > 0:
                        continue
                    try:
                        taken += await bench.poller.poll_once(device, turn.stamp(now_ms))
                        turn.answered(now_ms)
                    except NoAnswer:
                        asked_at_night += 1
                        turn.silent(now_ms)
                line.close()
                assert bench.count("not_accumulated") > 5
        registers = [value_of(one) for one in taken]
        assert registers == sorted(registers)
        assert registers[-1] - registers[0] == energy - steps[0].energy_wh
        assert all(one.observed_at % step_ms == 0 for one in taken)
        assert 55 <= asked_at_night <= 120

    asyncio.run(run())


def test_an_answer_that_comes_late_is_never_taken_for_the_next(tmp_path: Path) -> None:
    """pymodbus #538 and #2636: after a timeout the old answer was read as the new one's."""

    async def run() -> None:
        slow = Registers(list(range(1_000)), base=0)
        async with Server({1: slow}) as server:
            line = Line(LineOptions(tcp=f"127.0.0.1:{server.port}", timeout_s=0.5))
            assert await line.read(1, 10, 2) == [10, 11]
            slow.delay_s = 0.9
            with pytest.raises(NoAnswer, match="gave no answer in time"):
                await line.read(1, 20, 2)
            slow.delay_s = 0.0
            for at in (30, 40, 50):
                assert await line.read(1, at, 2) == [at, at + 1]
                await asyncio.sleep(0.1)
            slow.exception = ExcCodes.DEVICE_BUSY
            with pytest.raises(NoAnswer) as caught:
                await line.read(1, 10, 2)
            assert caught.value.reason == "exception_6"
            line.close()

    asyncio.run(run())


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_one_device_that_is_off_takes_no_other_with_it(tmp_path: Path, framing: Any) -> None:
    async def run() -> None:
        framer = FramerType.RTU if framing == "rtu" else FramerType.SOCKET
        devices = {1: Registers(inverter_words(100)), 3: Registers(inverter_words(300))}
        async with Server(devices, framer=framer) as server:
            line = Line(LineOptions(tcp=f"127.0.0.1:{server.port}", framing=framing, timeout_s=0.4))
            async with Bench(tmp_path, line) as bench:
                units = [DeviceOptions(unit_id=n, machine=f"roof-{n}", points={"energy": "103.WH"}) for n in (1, 2, 3)]
                for _ in range(2):
                    assert await bench.poll(units[0]) == {"energy": 100}
                    with pytest.raises(NoAnswer):
                        await bench.poll(units[1])
                    assert await bench.poll(units[2]) == {"energy": 300}
            line.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer, reason",
    [
        (b"\x00\x01\x00\x00\x00\x07\x02\x03\x04\x00\x01\x00\x02", "timeout"),  # another unit's
        (b"\x00\x63\x00\x00\x00\x07\x01\x03\x04\x00\x01\x00\x02", "timeout"),  # another request's
        (b"\x00\x01\x00\x00\x00\x05\x01\x03\x02\x00\x01", "wrong_answer"),  # one register, of two
        (b"\x00\x01\x00\x00\x00\x03\x01\x83\x02", "exception_2"),
        (b"\x00\x01\x00\x00\x00\x03\x01\x99\x02", "any"),
        (b"GET / HTTP/1.1\r\n\r\n", "any"),
        (b"\xff" * 5_000, "any"),
        (b"", "timeout"),
    ],
)
def test_what_is_no_answer_to_the_question_is_none(answer: bytes, reason: str) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await reader.read(100)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        line = Line(LineOptions(tcp=f"127.0.0.1:{port}", timeout_s=0.4))
        with pytest.raises(NoAnswer) as caught:
            await line.read(1, 0, 2)
        assert reason in ("any", caught.value.reason)
        line.close()
        server.close()

    asyncio.run(run())


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    async def run() -> None:
        authority = trustme.CA()
        served, ours = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        ours.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "ours.pem"))
        async with Server({1: Registers(range(100), base=0)}, tls=context) as server:
            address = f"127.0.0.1:{server.port}"
            known = TlsOptions(ca_file=str(tmp_path / "ca.pem"), certificate_file=str(tmp_path / "ours.pem"))
            line = Line(LineOptions(tcp=address, tls=known, timeout_s=2))
            assert await line.read(1, 5, 2) == [5, 6]
            line.close()
            for wrong in (TlsOptions(certificate_file=str(tmp_path / "ours.pem")), TlsOptions(ca_file=known.ca_file)):
                line = Line(LineOptions(tcp=address, tls=wrong, timeout_s=1))
                with pytest.raises(NoAnswer):
                    await line.read(1, 5, 2)
                line.close()
        with pytest.raises(InvalidInput, match="the certificates of a line can't be used"):
            Line(LineOptions(tcp=address, tls=TlsOptions(ca_file=__file__)))

    asyncio.run(run())


class SerialLine:
    """Two serial ports that are wired to each other: what one end writes, the other reads."""

    def __init__(self) -> None:
        pairs = [pty.openpty() for _ in range(2)]
        self._masters = [master for master, _ in pairs]
        self._slaves = [slave for _, slave in pairs]
        for _, slave in pairs:
            tty.setraw(slave)
        self.ends = [os.ttyname(slave) for _, slave in pairs]
        self._threads = [
            threading.Thread(target=self._pump, args=(a, b), daemon=True)
            for a, b in (self._masters, reversed(self._masters))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _pump(read_from: int, write_to: int) -> None:
        while True:
            try:
                data = os.read(read_from, 4096)
                os.write(write_to, data)
            except OSError:
                return
            if not data:
                return

    def close(self) -> None:
        for file in (*self._slaves, *self._masters):
            os.close(file)


def test_several_devices_share_a_serial_line(tmp_path: Path) -> None:
    async def run() -> None:
        wires = SerialLine()
        devices = {1: Registers(inverter_words(100)), 2: Registers(inverter_words(200)), 3: Registers([1, 2], base=0)}
        async with Server(devices, serial=wires.ends[1]):
            line = Line(LineOptions(serial=wires.ends[0], baud=19_200, timeout_s=0.6, pause_ms=5))
            async with Bench(tmp_path, line) as bench:
                others = DeviceOptions(unit_id=2, machine="roof-2", points={"energy": "103.WH"})
                assert await bench.poll(sunspec_device(energy="103.WH")) == {"energy": 100}
                assert await bench.poll(others) == {"energy": 200}
                assert await line.read(3, 0, 2) == [1, 2]
                with pytest.raises(NoAnswer):
                    await line.read(9, 0, 2)  # nobody has this number
                devices[1].delay_s = 1.0  # its answer comes when the next device has been asked already
                with pytest.raises(NoAnswer):
                    await bench.poll(sunspec_device(energy="103.WH"))
                devices[1].delay_s = 0.0
                assert await bench.poll(others) == {"energy": 200}
                assert await bench.poll(sunspec_device(energy="103.WH")) == {"energy": 100}
            line.close()
        wires.close()

    asyncio.run(run())
