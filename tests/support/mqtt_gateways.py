"""An MQTT gateway in this process, over a spool of its own and a Kafka that is away: what it took is read there."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.mqtt.config import MqttConfig
from tallyroot_gateway.mqtt.mapping import Mappings
from tallyroot_gateway.mqtt.service import Service
from tallyroot_gateway.mqtt.sparkplug import Sparkplug, topic_of
from tallyroot_gateway.mqtt.taking import Message, Rejecting, Taking
from tallyroot_gateway.spool import Place, Spool

NOBODY = "127.0.0.1:1"
"""Where no Kafka answers."""

NOW_MS = 1_795_000_000_000
"""2026-11-18T11:06:40Z."""


def config_of(folder: Path, port: int = 1, **tables: Any) -> MqttConfig:
    """A file's tables; `mqtt` adds to the broker's."""
    mqtt = {"client_id": "gateway-1", "port": port, **tables.pop("mqtt", {})}
    log = {"bootstrap_servers": NOBODY, "log_id": "log-1", "spool": str(folder / "spool")}
    pages = {"rejects": str(folder / "rejects.jsonl")}
    return msgspec.convert({"log": log, "serve": pages, "mqtt": mqtt, **tables}, MqttConfig)


def new_intake(config: MqttConfig, now_ms: Callable[[], int] = wall_ms) -> Intake:
    return Intake(config, None, now_ms)


async def close(intake: Intake) -> None:
    """Ends it without waiting for Kafka."""
    for gateway in intake._gateways.values():
        gateway.close(0)
    await intake.close()


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Bench:
    """A gateway without a broker: messages are handed to it one by one."""

    def __init__(self, folder: Path, **tables: Any) -> None:
        self.folder, self._tables = folder, tables
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        config = config_of(self.folder, **self._tables)
        self.intake = new_intake(config, self.clock)
        rejecting = Rejecting(self.intake)
        self.taking = Taking(self.intake, Mappings(config), rejecting)
        self.sparkplug = Sparkplug(self.intake, config.sparkplug, rejecting)

    def close(self) -> None:
        for gateway in self.intake._gateways.values():
            gateway.close(0)

    def restart(self) -> None:
        """Ends and begins again, as a process does."""
        self.close()
        self.open()

    def hand(
        self,
        topic: str,
        said: Any,
        *,
        retained: bool = False,
        repeated: bool = False,
        qos: int = 1,
        prompt: bool = True,
    ) -> bool:
        """Hands it a message; whether readings were taken."""
        payload = said if isinstance(said, bytes) else (said if isinstance(said, str) else json.dumps(said)).encode()
        is_prompt = prompt and not retained and not repeated
        message = Message(topic, payload, qos, 1, retained, repeated, self.clock.now_ms, is_prompt)
        parts = topic_of(topic)
        before = counted(self.intake, "readings")
        if parts is None:
            self.taking.take(message)
        else:
            self.sparkplug.take(parts, message)
        return counted(self.intake, "readings") > before

    def rows(self, route: str = "site-1") -> list[dict[str, Any]]:
        """Ends it, and returns what it took."""
        self.close()
        return taken(self.folder, route)

    def refusals(self) -> list[dict[str, Any]]:
        """What was set aside."""
        path = self.folder / "rejects.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def bench(folder: Path, **tables: Any) -> Iterator[Bench]:
    made = Bench(folder, **tables)
    try:
        yield made
    finally:
        made.close()


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
