"""Broker and gateway killed at any moment, while devices publish: nothing is lost, nothing counts twice, order is kept.

A device publishes with QoS 1 and goes on once the broker has acknowledged. mosquitto acknowledges before it saves: what
it had not saved is lost with a kill of its process, whatever the gateway does. So a device here does what devices with
a memory do: after a lost connection it publishes its last 40 messages once more. Their ids tell them apart.
"""

import asyncio
import json
import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import aiomqtt
import msgspec

from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.mqtt.sparkplug_b_pb2 import Payload
from tests.support.mosquitto import Mosquitto, mosquitto, needs_mosquitto
from tests.support.mqtt_gateways import NOBODY, until

pytestmark = needs_mosquitto

MESSAGES, MACHINES, AGAIN = 450, 3, 40

FILE = """
[log]
bootstrap_servers = "{nobody}"
log_id = "log-1"

[mqtt]
client_id = "gateway-1"
port = {port}

[[mapping]]
topic = "site/{{device}}/reading"
machine = "{{device}}"
route = "site-1"
id = "n"
[[mapping.meters]]
meter = "energy"
value = "total"
unit = "Wh"
[[mapping.meters]]
meter = "trips"
kind = "quantity"
value = "trips"
unit = "count"
to = "count"

[[mapping]]
topic = "plain/{{device}}"
format = "text"
machine = "{{device}}"
route = "site-1"
[[mapping.meters]]
meter = "plain"
unit = "Wh"

[[sparkplug.nodes]]
group = "plant"
node = "line-3"
route = "site-1"
[[sparkplug.nodes.metrics]]
name = "Energy"
machine = "line-3"
meter = "alias"
unit = "Wh"
"""


def on_disk(folder: Path) -> list[dict[str, object]]:
    """The readings in a spool's files, also while its gateway runs."""
    rows = []
    for path in sorted(folder.glob("*.readings")):
        for line in path.read_bytes().split(b"\n")[1:-1]:
            if not line[9:].startswith(b'{"delivery"'):
                rows.append(msgspec.json.decode(line[9:]))
    return rows


def registers(folder: Path, meter: str) -> set[object]:
    return {row["register"] for row in on_disk(folder) if row["meter"] == meter}


BEGUN_MS = wall_ms()
BIRTH = Payload(
    timestamp=BEGUN_MS, seq=0,
    metrics=[
        Payload.Metric(name="bdSeq", datatype=8, long_value=0),
        Payload.Metric(name="Energy", alias=1, datatype=8, is_null=True),
    ],
).SerializeToString()  # fmt: skip


def data(number: int) -> bytes:
    """What a Sparkplug node publishes, by its alias: the same bytes when it publishes once more."""
    metric = Payload.Metric(alias=1, long_value=number)
    return Payload(timestamp=BEGUN_MS + number, seq=(number + 1) % 256, metrics=[metric]).SerializeToString()


class Device:
    """Publishes its messages in order, each until the broker has acknowledged it."""

    def __init__(self, broker: Mosquitto) -> None:
        self.broker, self.acked = broker, 0

    async def run(self) -> None:
        while self.acked < MESSAGES:
            try:
                async with aiomqtt.Client(
                    "127.0.0.1", self.broker.port, protocol=aiomqtt.ProtocolVersion.V5, timeout=5
                ) as client:
                    if not self.acked:
                        await client.publish("spBv1.0/plant/NBIRTH/line-3", BIRTH, qos=1)
                    for number in range(max(0, self.acked - AGAIN), MESSAGES):
                        machine = f"m-{number % MACHINES}"
                        said = json.dumps({"n": f"id-{number}", "total": number, "trips": 1})
                        await client.publish(f"site/{machine}/reading", said, qos=1)
                        await client.publish(f"plain/{machine}", str(number), qos=1)
                        await client.publish("spBv1.0/plant/NDATA/line-3", data(number), qos=1)
                        self.acked = max(self.acked, number + 1)
            except aiomqtt.MqttError:
                await asyncio.sleep(0)  # the broker is away


class Gateway:
    def __init__(self, config: Path) -> None:
        self._config = config
        self.log = config.with_name("gateway.log")
        self._output = self.log.open("ab")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tallyroot_gateway", "mqtt", "--config", str(self._config)],
            stdout=self._output, stderr=self._output,
        )  # fmt: skip

    def stop(self, *, kill: bool) -> None:
        self._process.kill() if kill else self._process.terminate()
        self._process.wait()

    def close(self) -> None:
        self.stop(kill=True)
        self._output.close()


async def played(broker: Mosquitto, gateway: Gateway, spool: Path, seed: int) -> None:
    """Kills now this, now that, at random points of what the device has published, until all is on disk."""
    chance = random.Random(seed)
    await until(lambda: "connected to" in gateway.log.read_text())
    device = Device(broker)
    publishing = asyncio.create_task(device.run())
    for at in sorted(chance.sample(range(20, MESSAGES - 20), 6)):
        await until(lambda at=at: device.acked >= at or publishing.done())  # type: ignore[misc]
        victims = chance.choice([[gateway], [broker], [broker, gateway]])
        for victim in victims:
            await asyncio.to_thread(victim.stop, kill=chance.random() < 0.8)
        for victim in victims:
            await asyncio.to_thread(victim.start)
    await publishing
    for meter in ("energy", "plain", "alias"):
        await until(lambda m=meter: registers(spool, m) == {*range(MESSAGES)}, meter)  # type: ignore[misc]


def test_nothing_is_lost_or_counted_twice_whatever_is_killed(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    spool = tmp_path / "spool" / "site-1"
    with mosquitto(tmp_path / "broker") as broker:
        config.write_text(FILE.format(nobody=NOBODY, port=broker.port))
        gateway = Gateway(config)
        try:
            asyncio.run(played(broker, gateway, spool, seed=17))
        finally:
            gateway.close()
    rows = on_disk(spool)
    assert [row["register"] for row in rows if row["meter"] == "alias"] == [*range(MESSAGES)]
    for machine in range(MACHINES):
        own = [row for row in rows if row["machine"] == f"m-{machine}"]
        for meter in ("energy", "plain"):
            assert [row["register"] for row in own if row["meter"] == meter] == [*range(machine, MESSAGES, MACHINES)]
        assert sum(row["quantity"] == 1 for row in own if row["meter"] == "trips") == MESSAGES // MACHINES
        for _, group in groupby(sorted(own, key=lambda row: str(row["meter"])), key=lambda row: row["meter"]):
            seqs = [row["seq"] for row in group]
            assert seqs == [*range(seqs[0], seqs[0] + len(seqs))]  # type: ignore[arg-type, operator, call-overload]
