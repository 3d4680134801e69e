"""A Modbus gateway that polls an inverter as fast as it answers, until it is killed.

It prints each register once it is on disk.
"""

import asyncio
import sys
from pathlib import Path

from tallyroot_gateway.field.config import LogOptions, ServeOptions
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions, ModbusConfig
from tallyroot_gateway.modbus.line import Line
from tallyroot_gateway.modbus.poller import Poller, PollMetrics

DEVICE = DeviceOptions(unit_id=1, machine="taxi-1", points={"energy": "103.WH"})


def config_of(servers: str, log_id: str, folder: Path, port: int) -> ModbusConfig:
    log = LogOptions(
        bootstrap_servers=servers, log_id=log_id, topic=log_id, spool=str(folder / "spool"), batch_rows=20, batch_ms=5
    )
    serve = ServeOptions(rejects=str(folder / "rejects.jsonl"))
    return ModbusConfig(log=log, serve=serve, lines=[LineOptions(tcp=f"127.0.0.1:{port}", devices=[DEVICE])])


async def poll_on(config: ModbusConfig, polls: int | None = None) -> None:
    line = Line(config.lines[0])
    async with Intake(config) as intake:
        poller = Poller(line, intake, PollMetrics(intake.metrics))
        while polls is None or polls > 0:
            for reading in await poller.poll_once(DEVICE, intake.now_ms()):
                print(reading.register, flush=True)
            await asyncio.sleep(0.002)
            polls = None if polls is None else polls - 1
        await intake.flush()
    line.close()


if __name__ == "__main__":
    asyncio.run(poll_on(config_of(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
