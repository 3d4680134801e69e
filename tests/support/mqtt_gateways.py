"""An MQTT gateway in this process, over a spool of its own and a Kafka that is away: what it took is read there."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.mqtt.config import MqttConfig
from tallyroot_gateway.mqtt.service import Service
from tallyroot_gateway.spool import Place, Spool

NOBODY = "127.0.0.1:1"
"""Where no Kafka answers."""


def config_of(folder: Path, port: int = 1, **tables: Any) -> MqttConfig:
    """A file's tables; `mqtt` adds to the broker's."""
    mqtt = {"client_id": "gateway-1", "port": port, **tables.pop("mqtt", {})}
    log = {"bootstrap_servers": NOBODY, "log_id": "log-1", "spool": str(folder / "spool")}
    serve = {"rejects": str(folder / "rejects.jsonl")}
    return msgspec.convert({"log": log, "serve": serve, "mqtt": mqtt, **tables}, MqttConfig)


def new_intake(config: MqttConfig, now_ms: Callable[[], int] = wall_ms) -> Intake:
    return Intake(config, None, now_ms)


async def close(intake: Intake) -> None:
    """Ends it without waiting for Kafka."""
    for gateway in intake._gateways.values():
        gateway.close(0)
    await intake.close()


@asynccontextmanager
async def serving(config: MqttConfig, now_ms: Callable[[], int] = wall_ms) -> AsyncIterator[Intake]:
    """A gateway that runs, and ends in order."""
    intake = new_intake(config, now_ms)
    task = asyncio.create_task(Service(config, intake).run())
    try:
        yield intake
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await close(intake)


async def until(is_so: Callable[[], bool], what: str = "") -> None:
    """Returns once something is so; a minute is more than any of it takes."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, what or "it never came to that"
        await asyncio.sleep(0.01)


def counted(intake: Intake, name: str, labels: Mapping[str, str] | None = None) -> int:
    """A counter of the gateway's."""
    return int(intake.metrics.registry.get_sample_value(f"tallyroot_gateway_{name}_total", dict(labels or {})) or 0)


def refused(intake: Intake, reason: str) -> int:
    return counted(intake, "rejected", {"reason": reason})


def taken(folder: Path, route: str) -> list[dict[str, Any]]:
    """What the spool of a route holds, once its gateway has ended."""
    spool = Spool(folder / "spool" / route, "log-1", route, now_ms=wall_ms())
    try:
        rows, _ = spool.read(Place(0, 0), 10**7, 1 << 30)
        return [msgspec.json.decode(row) for row in rows]
    finally:
        spool.close()
