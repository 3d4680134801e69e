"""A simulated SunSpec inverter: models 1 and 103 over Modbus TCP, with values that its caller sets.

It is for trying a gateway without a roof, for tests, and for playing a recorded day: `advance` shows what the record
says of a moment.

`python -m tallyroot_gateway.modbus.inverter --port 5020` serves one that feeds in until it is stopped.
"""

import argparse
import asyncio
from collections.abc import Sequence
from itertools import chain
from types import TracebackType
from typing import NamedTuple, Self

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

BASE = 40_000
UNIT_ID = 1
WATTS_MAX = 32_767
_SLEEPING, _FEEDING = 2, 4
_NONE = 0x8000
"""What a point that isn't there shows: of a signed one the value, of a scale its absence."""


class Step(NamedTuple):
    """What the inverter shows from a moment (epoch ms) on."""

    at_ms: int
    energy_wh: int
    power_w: int


class SimulatedInverter:
    """Serves one inverter; use it as an async context manager. Its counter rolls over at 2^32 × 10^`energy_scale`."""

    def __init__(
        self, steps: Sequence[Step] = (), *, serial_number: str = "SIM-1", energy_scale: int = 0, port: int = 0
    ) -> None:
        """`steps` ascend in time; without any it shows 0 until `show` is called. Port 0 is any free one."""
        self._steps = list(steps)
        self._next = 0
        self._serial_number, self._scale, self._wanted_port = serial_number, energy_scale, port
        self._words = self._block(0, 0)
        self._server: ModbusTcpServer | None = None

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        transport = None if self._server is None else self._server.transport
        if transport is None:
            return 0
        return int(transport.sockets[0].getsockname()[1])  # type: ignore[attr-defined]

    def show(self, energy_wh: int, power_w: int) -> None:
        """What it shows from now on. With a power of 0 it sleeps, and keeps its counter."""
        self._words = self._block(energy_wh, power_w)

    def advance(self, now_ms: int) -> bool:
        """Shows the last step that is not after `now_ms`; whether there are later ones."""
        while self._next < len(self._steps) and self._steps[self._next].at_ms <= now_ms:
            step = self._steps[self._next]
            self.show(step.energy_wh, step.power_w)
            self._next += 1
        return self._next < len(self._steps)

    async def start(self) -> None:
        """Listens."""
        data = SimData(BASE, values=list(self._words), datatype=DataType.REGISTERS)
        device = SimDevice(UNIT_ID, [data], action=self._answer)
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self._wanted_port))
        await self._server.serve_forever(background=True)
        self._wanted_port = self.port

    async def stop(self) -> None:
        """Goes away, as at night; `start` brings it back at the same port."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _answer(
        self, _function: int, _start: int, _address: int, _count: int, registers: list[int], written: object
    ) -> ExcCodes | None:
        """Before each answer: the registers are what is shown now; nothing can be written."""
        if written is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        registers[:] = self._words
        return None

    def _block(self, energy_wh: int, power_w: int) -> list[int]:
        """Every register: the mark, model 1, model 103, the end."""
        names = (("tallyroot", 16), ("simulated inverter", 16), ("", 8), ("1", 8), (self._serial_number, 16))
        common = [1, 66, *chain.from_iterable(words_of(text, size) for text, size in names), UNIT_ID, _NONE]
        inverter = [103, 50, *[_NONE] * 50]
        power_scale = 0
        while power_w > WATTS_MAX:
            power_w, power_scale = power_w // 10, power_scale + 1
        inverter[14:16] = [power_w, power_scale]
        counted = energy_wh // 10**self._scale if self._scale >= 0 else energy_wh * 10**-self._scale
        counter = counted % (1 << 32)
        inverter[24:27] = [counter >> 16, counter & 0xFFFF, self._scale & 0xFFFF]
        inverter[38] = _FEEDING if power_w > 0 else _SLEEPING
        return [0x5375, 0x6E53, *common, *inverter, 0xFFFF, 0]


def words_of(text: str, size: int) -> list[int]:
    """A text as `size` registers, filled up with zeros."""
    data = text.encode("ascii")[: 2 * size].ljust(2 * size, b"\0")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, 2 * size, 2)]


async def feed_in(port: int, watts: int, energy_wh: int) -> None:
    """Serves an inverter that feeds in `watts`, from a counter's reading on, until it is cancelled."""
    async with SimulatedInverter(port=port) as inverter:
        print(f"a simulated inverter feeds {watts} W in: unit {UNIT_ID} at 127.0.0.1:{inverter.port}", flush=True)
        watt_seconds = 3600 * energy_wh
        while True:
            inverter.show(watt_seconds // 3600, watts)
            await asyncio.sleep(1)
            watt_seconds += watts


def main() -> None:
    """Serves an inverter until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tallyroot_gateway.modbus.inverter", description=__doc__)
    parser.add_argument("--port", type=int, default=5020, help="where it listens on 127.0.0.1")
    parser.add_argument("--watts", type=int, default=5000, help="what it feeds in")
    parser.add_argument("--energy", type=int, default=1_000_000, help="what its counter shows at first, in Wh")
    options = parser.parse_args()
    try:
        asyncio.run(feed_in(options.port, options.watts, options.energy))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
