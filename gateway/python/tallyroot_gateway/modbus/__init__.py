"""Inverters, meters and batteries over Modbus: SunSpec's models or a plain register map, over TCP, TLS or RTU."""

import logging
from collections.abc import Mapping

from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.modbus.config import ModbusConfig, check_devices
from tallyroot_gateway.modbus.discover import discover_lines
from tallyroot_gateway.modbus.schedule import poll_lines

CONFIG = ModbusConfig

LIBRARY_LOG = "pymodbus.logging"
"""Pymodbus logs each failed try; we say it once, and count the rest."""


async def run(config: ModbusConfig, kafka: Mapping[str, str] | None) -> None:
    """Polls all devices until it is cancelled. Raises InvalidInput for what the file has wrong."""
    check_devices(config)
    logging.getLogger(LIBRARY_LOG).setLevel(logging.CRITICAL)
    async with Intake(config, kafka) as intake:
        await poll_lines(config.lines, intake)


async def discover(config: ModbusConfig) -> None:
    """Prints what the devices offer, and a form for `tallyroot register` to start from."""
    logging.getLogger(LIBRARY_LOG).setLevel(logging.CRITICAL)
    await discover_lines(config.lines)
