"""A central system for OCPP 1.6J and 2.0.1: what chargers say becomes readings."""

from collections.abc import Mapping

from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.ocpp.central_system import CentralSystem
from tallyroot_gateway.ocpp.commands import CommandConsumer, Commands
from tallyroot_gateway.ocpp.config import OcppConfig
from tallyroot_gateway.ocpp.discovery import discover

__all__ = ["CONFIG", "CentralSystem", "discover", "run"]

CONFIG = OcppConfig


async def run(config: OcppConfig, kafka: Mapping[str, str] | None = None) -> None:
    """Serves the chargers of a file until it is cancelled. Raises InvalidInput where it can't begin."""
    async with Intake(config, kafka) as intake:
        central = CentralSystem(config, intake)
        url = await central.start()
        consumer: CommandConsumer | None = None
        try:
            if config.commands is not None:
                where = {"bootstrap.servers": config.log.bootstrap_servers, "group.id": config.commands.group}
                consumer = CommandConsumer(Commands(central), {**(kafka or {}), **where}, config.commands.topic)
            print(f"{len(central.chargers)} chargers may connect to {url}<id>", flush=True)
            await central.broken
        finally:
            if consumer is not None:
                await consumer.close()
            await central.close()
