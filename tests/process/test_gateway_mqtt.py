"""The MQTT gateway against mosquitto: what a broker keeps, repeats and retains, and when it is told to forget."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tallyroot_gateway.errors import SpoolFull
from tallyroot_gateway.field.intake import Intake
from tests.support.mosquitto import Mosquitto, mosquitto, needs_mosquitto
from tests.support.mqtt_gateways import config_of, counted, refused, serving, taken, until

pytestmark = needs_mosquitto

METERS = [{"meter": "energy", "value": "total", "unit": "kWh"}]
MAPPING = {"topic": "site/{device}/reading", "machine": "{device}", "route": "site-1", "meters": METERS, "id": "n"}


def publisher(broker: Mosquitto, **options: Any) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5, **options)


def reading(number: int) -> bytes:
    return json.dumps({"n": number, "total": number / 1000}).encode()


def numbers(folder: Path) -> list[int]:
    return [row["register"] for row in taken(folder, "site-1")]


def test_a_broker_keeps_what_is_published_while_the_gateway_is_away(tmp_path: Path) -> None:
    async def run(broker: Mosquitto) -> None:
        config = config_of(tmp_path, broker.port, mapping=[MAPPING])
        async with publisher(broker) as client:
            async with serving(config) as intake:
                await until(lambda: bool(intake.metrics.registry.get_sample_value("tallyroot_gateway_connected")))
                for number in range(10):
                    await client.publish("site/m-1/reading", reading(number), qos=1)
                await until(lambda: counted(intake, "readings") == 10)
            for number in range(10, 300):
                await client.publish("site/m-1/reading", reading(number), qos=1)
            async with serving(config) as intake:
                await until(lambda: counted(intake, "readings") == 290)
                assert counted(intake, "repeated") == 0

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    assert numbers(tmp_path) == list(range(300))


def test_what_the_disk_refused_comes_again_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Intake.write
    full_at = [7, 7, 20, 33]

    def write(intake: Intake, route: str, readings: Any, **more: Any) -> Any:
        if full_at and readings and readings[0].register >= full_at[0]:
            full_at.pop(0)
            raise SpoolFull("the spool is full")
        return written(intake, route, readings, **more)

    monkeypatch.setattr(Intake, "write", write)
    monkeypatch.setattr("tallyroot_gateway.mqtt.service.pauses", lambda: iter([0.0] * 100))

    async def run(broker: Mosquitto) -> None:
        async with publisher(broker) as client, serving(config_of(tmp_path, broker.port, mapping=[MAPPING])) as intake:
            await until(lambda: bool(intake.metrics.registry.get_sample_value("tallyroot_gateway_connected")))
            for number in range(50):
                await client.publish("site/m-1/reading", reading(number), qos=1)
            await until(lambda: counted(intake, "readings") == 50)

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    assert not full_at
    assert numbers(tmp_path) == list(range(50))
