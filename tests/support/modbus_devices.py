"""Modbus devices for tests: registers that a test sets, served by pymodbus' own server, or without any."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tallyroot_gateway.field.config import LogOptions, ServeOptions
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions, ModbusConfig
from tallyroot_gateway.modbus.inverter import words_of
from tallyroot_gateway.modbus.line import NoAnswer
from tallyroot_gateway.modbus.models import model_of

NOBODY = "127.0.0.1:1"
"""Where nothing answers."""

NOTHING = {"int16": [0x8000], "sunssf": [0x8000], "acc32": [0, 0], "acc64": [0] * 4, "int32": [0x8000, 0],
           "float32": [0x7FC0, 0]}  # fmt: skip


def block(model: int, values: Mapping[str, int], groups: Sequence[Mapping[str, int]] = ()) -> list[int]:
    """A model's registers with these bits in its points; all others say that they are not implemented."""
    known = model_of(model)
    assert known is not None
    words = [0xFFFF] * (known.size + len(groups) * known.group_size)
    for point in known.points.values():
        words[point.offset : point.offset + point.size] = NOTHING.get(point.type, [0xFFFF] * point.size)
    places = dict(known.offsets)
    sizes = {name: point.size for name, point in known.points.items()}
    for name, bits in values.items():
        put(words, places[name], bits, sizes.get(name, 1))
    for index, group in enumerate(groups):
        for name, bits in group.items():
            point = known.group_points[name]
            put(words, point.offset + index * known.group_size, bits, point.size)
    words[:2] = [model, len(words) - 2]
    return words


def put(words: list[int], at: int, bits: int, size: int) -> None:
    """Writes an integer into `size` registers; below 0 in two's complement."""
    bits &= (1 << 16 * size) - 1
    words[at : at + size] = [bits >> 16 * (size - 1 - index) & 0xFFFF for index in range(size)]


def common(serial: str = "SN-1") -> list[int]:
    """Model 1."""
    parts = [words_of(text, size) for text, size in (("Maker", 16), ("Box", 16), ("", 8), ("1.0", 8), (serial, 16))]
    return [1, 66, *(word for part in parts for word in part), 1, 0x8000]


def device_words(*blocks: list[int], end: Sequence[int] = (0xFFFF, 0)) -> list[int]:
    """A whole device, from its mark to the end of its chain."""
    return [0x5375, 0x6E53, *(word for one in blocks for word in one), *end]


class Registers:
    """Registers from an address on, which fail as a test wants: the line of a unit test, the device of a server."""

    def __init__(self, words: Sequence[int], base: int = 40_000) -> None:
        self.words, self.base = list(words), base
        self.exception: ExcCodes | None = None
        self.delay_s = 0.0
        self.asked: list[tuple[int, int]] = []
        self.before: Callable[[int, int], Awaitable[None] | None] | None = None
        """What a test does just before an answer, by (address, count)."""
        self.options = LineOptions(tcp="simulated:502")

    async def read(self, _unit: int, address: int, count: int, _function: int = 3) -> list[int]:
        """As `Line.read`."""
        problem = await self.prepare(address, count)
        at = address - self.base
        if problem is None and not 0 <= at <= len(self.words) - count:
            problem = ExcCodes.ILLEGAL_ADDRESS
        if problem is not None:
            raise NoAnswer(f"exception_{int(problem)}", f"exception {int(problem)}")
        return self.words[at : at + count]

    async def prepare(self, address: int, count: int) -> ExcCodes | None:
        self.asked.append((address, count))
        if self.before is not None:
            done = self.before(address, count)
            if done is not None:
                await done
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return self.exception

    def device(self, unit_id: int = 1) -> SimDevice:
        async def action(
            _function: int, _start: int, address: int, count: int, registers: list[int], _written: object
        ) -> ExcCodes | None:
            problem = await self.prepare(address, count)
            registers[:] = self.words
            return problem

        return SimDevice(
            unit_id, [SimData(self.base, values=list(self.words), datatype=DataType.REGISTERS)], action=action
        )


class Server:
    """Pymodbus' server for some devices, over TCP, TLS or a serial port; an async context manager."""

    def __init__(
        self,
        devices: Mapping[int, Registers],
        *,
        port: int = 0,
        serial: str | None = None,
        tls: Any = None,
        framer: FramerType = FramerType.SOCKET,
    ) -> None:
        self.devices, self.port, self.serial, self.tls, self.framer = devices, port, serial, tls, framer
        self._server: Any = None

    async def __aenter__(self) -> "Server":
        devices = [registers.device(unit_id) for unit_id, registers in self.devices.items()]
        if self.serial is not None:
            self._server = ModbusSerialServer(
                devices, framer=FramerType.RTU, port=self.serial, ignore_missing_devices=True
            )
        elif self.tls is not None:
            self._server = ModbusTlsServer(devices, sslctx=self.tls, address=("127.0.0.1", self.port))
        else:
            self._server = ModbusTcpServer(
                devices, framer=self.framer, address=("127.0.0.1", self.port), ignore_missing_devices=True
            )
        await self._server.serve_forever(background=True)
        if self.serial is None:
            self.port = self._server.transport.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.shutdown()


def config_of(folder: Path, line: LineOptions) -> ModbusConfig:
    """A gateway whose Kafka is away: what it takes stays in the spool."""
    log = LogOptions(bootstrap_servers=NOBODY, log_id="l", spool=str(folder / "spool"))
    return ModbusConfig(log=log, serve=ServeOptions(rejects=str(folder / "rejects.jsonl")), lines=[line])


def sunspec_device(**points: str) -> DeviceOptions:
    """Unit 1, polled once a minute."""
    return DeviceOptions(unit_id=1, machine="roof-1", points=dict(points))
