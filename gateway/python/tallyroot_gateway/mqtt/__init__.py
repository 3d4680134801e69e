"""A gateway for what sensors and PLCs publish to an MQTT broker, as JSON, plain text or Sparkplug B."""

from collections.abc import Mapping

from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.mqtt.config import MqttConfig
from tallyroot_gateway.mqtt.discovery import discover
from tallyroot_gateway.mqtt.service import Service

__all__ = ["CONFIG", "discover", "run"]

CONFIG = MqttConfig


async def run(config: MqttConfig, kafka: Mapping[str, str] | None = None) -> None:
    """Runs until it is cancelled. Raises InvalidInput for a file that can't be meant."""
    async with Intake(config, kafka) as intake:
        await Service(config, intake).run()
