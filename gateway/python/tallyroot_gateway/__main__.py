"""`python -m tallyroot_gateway ocpp|modbus|mqtt|http --config FILE`: a gateway for devices of a field protocol.

It runs until SIGTERM or SIGINT, and then ends in order: what was taken is on disk. Exit 1 with one line for what the
file or the world has wrong, 2 for wrong usage.
"""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tallyroot_gateway.connection import kafka_properties
from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import read_config

PROTOCOLS = {
    "ocpp": "charge points: a central system for OCPP 1.6J and 2.0.1",
    "modbus": "inverters and meters: SunSpec or a register map, over TCP or RTU",
    "mqtt": "sensors and PLCs: JSON or Sparkplug B from an MQTT broker",
    "http": "anything else: readings by POST, as JSON, NDJSON or CloudEvents",
}


def main(
    arguments: Sequence[str] | None = None,
    log: Mapping[str, Any] | None = None,
    kafka: Mapping[str, str] | None = None,
) -> int:
    """Runs one gateway; `log` fills what its file leaves out of [log]. Returns the exit code.

    `kafka` are properties to connect by, those of the environment by default.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        protocol = _protocol(options.protocol)
        config = read_config(Path(options.config), protocol.CONFIG, log)
        if options.discover:
            return asyncio.run(_until_stopped(protocol.discover(config)))
        return asyncio.run(
            _until_stopped(protocol.run(config, kafka_properties(os.environ) if kafka is None else kafka))
        )
    except InvalidInput as error:
        print(error, file=sys.stderr)
        return 1


async def _until_stopped(work: Any) -> int:
    """Runs `work` until it ends or a signal cancels it."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    return 0


def _protocol(name: str) -> Any:
    """A protocol's package: CONFIG, `run` and `discover`. Raises InvalidInput where its libraries are missing."""
    try:
        return importlib.import_module(f"tallyroot_gateway.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tallyroot_gateway"):
            raise
        raise InvalidInput(f"{error.name} is not installed: pip install 'tallyroot-gateway[{name}]'") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tallyroot_gateway", description=(__doc__ or "").split("\n\n")[0])
    protocols = parser.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL")
    for name, what in PROTOCOLS.items():
        added = protocols.add_parser(name, help=what, description=what)
        added.add_argument("--config", required=True, metavar="FILE", help="the gateway's TOML file")
        added.add_argument(
            "--discover", action="store_true", help="print what the devices offer, and a registration to start from"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
