"""The MQTT gateway against mosquitto: what a broker keeps, repeats and retains, and when it is told to forget."""

import asyncio
import json
import subprocess
import threading
import tomllib
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
import trustme

from tallyroot_gateway import Gateway
from tallyroot_gateway.__main__ import main
from tallyroot_gateway.errors import InvalidInput, SpoolFull
from tallyroot_gateway.field.config import read_config
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.mqtt import discover
from tallyroot_gateway.mqtt.config import MqttConfig
from tallyroot_gateway.mqtt.connection import Connection
from tallyroot_gateway.mqtt.mapping import Mappings
from tallyroot_gateway.mqtt.sparkplug_b_pb2 import Payload
from tests.support.gateway_logs import arrived, new_log, window_facts
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


def is_connected(intake: Intake) -> bool:
    return bool(intake.metrics.registry.get_sample_value("tallyroot_gateway_connected"))


def test_a_broker_keeps_what_is_published_while_the_gateway_is_away(tmp_path: Path) -> None:
    async def run(broker: Mosquitto) -> None:
        config = config_of(tmp_path, broker.port, mapping=[MAPPING])
        async with publisher(broker) as client:
            async with serving(config) as intake:
                await until(lambda: is_connected(intake))
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


def test_a_broker_may_keep_messages_of_qos_0_too(tmp_path: Path) -> None:
    async def run(broker: Mosquitto) -> None:
        config = config_of(tmp_path, broker.port, mapping=[MAPPING])
        async with publisher(broker) as client:
            async with serving(config) as intake:
                await until(lambda: is_connected(intake))
            for number in range(20):
                await client.publish("site/m-1/reading", reading(number), qos=0)
            async with serving(config) as intake:
                await until(lambda: counted(intake, "readings") == 20)

    with mosquitto(tmp_path / "broker", "allow_anonymous true", "upgrade_outgoing_qos true") as broker:
        asyncio.run(run(broker))
    assert numbers(tmp_path) == list(range(20))


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
            await until(lambda: is_connected(intake))
            for number in range(50):
                await client.publish("site/m-1/reading", reading(number), qos=1)
            await until(lambda: counted(intake, "readings") == 50)

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    assert not full_at
    assert numbers(tmp_path) == list(range(50))


def test_nothing_is_acknowledged_before_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker of a few lines, which notes when an acknowledgement comes; the disk notes when it has synced."""
    happened: list[str] = []
    begun, may_end = threading.Event(), threading.Event()
    synced = Gateway.sync

    def sync(gateway: Gateway) -> None:
        begun.set()
        assert may_end.wait(30)
        synced(gateway)
        happened.append("synced")

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(1):
            size = (await reader.readexactly(1))[0]
            body = await reader.readexactly(size if size < 128 else size - 128 + 128 * (await reader.readexactly(1))[0])
            if head[0] == 0x10:
                writer.write(b"\x20\x03\x01\x00\x00")  # the session is there
            elif head[0] == 0x82:
                writer.write(b"\x90\x04" + body[:2] + b"\x00\x01")
                for number in range(1, 6):
                    topic = b"site/m-1/reading"
                    body = len(topic).to_bytes(2, "big") + topic + bytes([0, number, 0]) + reading(number)
                    writer.write(b"\x32" + bytes([len(body)]) + body)
            elif head[0] == 0x40:
                happened.append(f"acknowledged {body[1]}")
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with serving(config_of(tmp_path, port, mapping=[MAPPING])) as intake:
                await until(lambda: counted(intake, "readings") > 0 and begun.is_set())
                happened.append("taken")
                may_end.set()
                await until(lambda: "acknowledged 5" in happened)

    monkeypatch.setattr(Gateway, "sync", sync)
    asyncio.run(run())
    acknowledged = [what for what in happened if what.startswith("acknowledged")]
    assert acknowledged == [f"acknowledged {number}" for number in range(1, 6)]
    assert happened[:3] == ["taken", "synced", "acknowledged 1"]
    assert numbers(tmp_path) == [1, 2, 3, 4, 5]


def test_a_broker_that_never_answers_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyroot_gateway.mqtt.connection.CONNECT_SECONDS", 0.05)
    monkeypatch.setattr("tallyroot_gateway.mqtt.service.pauses", lambda: iter([0.0] * 1_000))
    begun: list[int] = []
    ended: list[int] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(1)
        while await reader.read(1_000):
            pass
        ended.append(1)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with serving(config_of(tmp_path, port, mapping=[MAPPING])) as intake:
                await until(lambda: len(ended) >= 5)
                assert "timed out" in (intake.problem or "")

    asyncio.run(run())
    assert len(ended) >= len(begun) - 1


def test_a_retained_reading_is_no_new_one_after_a_restart(tmp_path: Path) -> None:
    mapping = {**MAPPING, "id": None, "time": "at"}
    now = wall_ms()

    async def run(broker: Mosquitto) -> None:
        async with publisher(broker) as client:
            for client_id, at in (("one", now - 5_000), ("two", now - 5_000), ("three", now)):  # a new session each
                said = json.dumps({"total": at / 10**9, "at": at})
                await client.publish("site/m-1/reading", said, qos=1, retain=True)
                config = config_of(tmp_path, broker.port, mapping=[mapping], mqtt={"client_id": client_id})
                async with serving(config) as intake:
                    await until(lambda i=intake: is_connected(i))  # type: ignore[misc]
                    await client.publish("site/m-1/reading", b"", qos=1)  # not retained, and no reading
                    await client.publish("site/end/reading", json.dumps({"total": 1, "at": wall_ms()}), qos=1)
                    await until(lambda i=intake: counted(i, "readings") >= 1)  # type: ignore[misc]
                    await until(lambda i=intake: end_of(i))  # type: ignore[misc]
                    assert refused(intake, "retained") == (client_id == "two")

    def end_of(intake: Intake) -> bool:
        """Whether the message of the machine `end` has come: all before it has too."""
        last = intake._gateways.get("site-1")
        return last is not None and last._spool.last_register("end", "energy") is not None

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    rows = [row["observed_at"] for row in taken(tmp_path, "site-1") if row["machine"] == "m-1"]
    assert rows == [now - 5_000, now]


def test_passwords_and_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server, client = authority.issue_cert("127.0.0.1", "localhost"), authority.issue_cert("gateway.site")
    server.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("battery staple\n")
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "meter", "correct horse"], check=True)
    pem = f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.pem\n"
    scheme = f"cafile {tmp_path}/ca.pem\n{pem}require_certificate true\n"
    tls = {"tls": True, "ca_file": str(tmp_path / "ca.pem"), "cert_file": str(tmp_path / "client.pem")}
    login = {"username": "meter", "password_file": str(tmp_path / "password")}

    async def problem(broker: Mosquitto, **options: Any) -> str | None:
        """What is said of a connection with these options; None where it stands."""
        config = config_of(tmp_path, broker.port, mapping=[MAPPING], mqtt=options)
        async with serving(config) as intake:
            await until(lambda: is_connected(intake) or intake.problem is not None)
            return intake.problem

    async def run(broker: Mosquitto) -> None:
        assert await problem(broker, **tls, **login) is None
        for wrong in ({**tls, **login, "password_file": str(tmp_path / "wrong")}, {**tls}):
            assert "ot authorized" in (await problem(broker, **wrong) or "")
        assert "broker" in (await problem(broker, **login) or "")
        assert "certificate" in (await problem(broker, **login, tls=True) or "").lower()
        with pytest.raises(InvalidInput, match="can't read the password"):
            Connection(config_of(tmp_path, mqtt={"password_file": "nowhere"}).mqtt, wall_ms)
        with pytest.raises(InvalidInput, match="say tls = true too"):
            Connection(config_of(tmp_path, mqtt={"ca_file": "ca.pem"}).mqtt, wall_ms)

    lines = (f"password_file {tmp_path}/users", "allow_anonymous false")
    with mosquitto(tmp_path / "broker", *lines, scheme=scheme) as broker:
        asyncio.run(run(broker))


NODES = [
    {
        "group": "plant", "node": "line-3", "route": "site-1",
        "metrics": [{"name": "Energy", "machine": "line-3", "meter": "energy", "unit": "Wh"}],
    }
]  # fmt: skip


def spoken(seq: int, *metrics: Payload.Metric) -> bytes:
    return Payload(timestamp=wall_ms(), seq=seq, metrics=metrics).SerializeToString()


def test_a_primary_host_is_waited_for_and_asks_for_births(tmp_path: Path) -> None:
    config_tables = {"sparkplug": {"host_id": "tallyroot", "nodes": NODES}}
    birth = spoken(0, Payload.Metric(name="Energy", alias=1, datatype=8, long_value=10))

    async def run(broker: Mosquitto) -> None:
        config = config_of(tmp_path, broker.port, **config_tables)
        heard: list[tuple[str, Any]] = []

        async def listen(client: aiomqtt.Client) -> None:
            async for message in client.messages:
                said = message.payload if "NCMD" in message.topic.value else json.loads(message.payload)
                heard.append((message.topic.value.split("/")[-2], said))

        async with publisher(broker) as client:
            await client.subscribe("spBv1.0/STATE/tallyroot", qos=1)
            await client.subscribe("spBv1.0/plant/NCMD/#", qos=1)
            listening = asyncio.create_task(listen(client))
            async with serving(config) as intake:
                await until(lambda: [kind for kind, _ in heard] == ["STATE", "NCMD"])
                assert heard[0][1]["online"] is True
                assert Payload.FromString(heard[1][1]).metrics[0].name == "Node Control/Rebirth"
                await client.publish("spBv1.0/plant/NBIRTH/line-3", birth)
                for seq in range(1, 300):
                    data = spoken(seq % 256, Payload.Metric(alias=1, long_value=10 + seq))
                    await client.publish("spBv1.0/plant/NDATA/line-3", data)
                await until(lambda: counted(intake, "readings") == 300)
                await client.publish("spBv1.0/plant/NDATA/line-3", spoken(99, Payload.Metric(alias=1, long_value=999)))
                await until(lambda: refused(intake, "alias_after_gap") == 1)
                # A will of a connection before that comes late: the host says again that it is there.
                await client.publish("spBv1.0/STATE/tallyroot", json.dumps({"online": False, "timestamp": 1}), 1, True)
                await until(lambda: [said["online"] for kind, said in heard if kind == "STATE"] == [True, False, True])
            await until(lambda: heard[-1][1] == {"online": False, "timestamp": heard[0][1]["timestamp"]})
            listening.cancel()

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    assert numbers(tmp_path) == [*range(10, 310)]


def test_discovery_prints_a_file_and_a_registration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def run(broker: Mosquitto) -> None:
        config = config_of(tmp_path, broker.port, mqtt={"discover_s": 1, "zone": "UTC"})
        async with publisher(broker) as client:
            said = {"Time": "2026-11-18T12:06:40", "ENERGY": {"Total": 3.5, "Power": 12}, "evil": "\x1b[2J"}
            await client.publish("tele/plug-3/SENSOR", json.dumps(said), retain=True)
            await client.publish("odd/\u202e/topic", b"\xff\x00", retain=True)
            birth = spoken(0, Payload.Metric(name="Energy", alias=1, datatype=8, long_value=10))
            await client.publish("spBv1.0/plant/NBIRTH/line-3", birth, retain=True)
            await discover(config)

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    printed = capsys.readouterr().out
    assert printed.isprintable() or all(sign.isprintable() or sign == "\n" for sign in printed)
    assert "#   tele/plug-3/SENSOR ENERGY.Total = 3.5" in printed
    assert "#   Sparkplug plant/line-3 Energy = 10.0  (UInt64)" in printed
    path = tmp_path / "found.toml"
    path.write_text(printed)
    config = read_config(path, MqttConfig)
    assert config.mqtt.mappings == ["tasmota"]
    assert config.devices["plug-3"].machine == "plug-3"
    assert config.sparkplug.nodes[0].metrics[0].name == "Energy"
    Mappings(config)
    form = "\n".join(line.removeprefix("# ") for line in printed.split("# A registration")[1].splitlines()[1:])
    machines = tomllib.loads(form)["machines"]
    assert [machine["id"] for machine in machines] == ["plug-3", "line-3"]
    assert machines[0]["meters"] == {"energy": {"counts": "register", "unit": "Wh", "capacity": "4 kW"}}


def test_a_flood_without_acknowledgement_is_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyroot_gateway.mqtt.connection.QUEUE_MAX", 50)
    written = Intake.write
    may_go = threading.Event()

    def write(intake: Intake, *given: Any, **more: Any) -> Any:
        may_go.wait(30)
        return written(intake, *given, **more)

    async def run(broker: Mosquitto) -> None:
        async with publisher(broker) as client, serving(config_of(tmp_path, broker.port, mapping=[MAPPING])) as intake:
            await until(lambda: is_connected(intake))
            may_go.set()
            for number in range(1_000):
                await client.publish("site/m-1/reading", reading(number), qos=0)
            await client.publish("site/m-1/reading", reading(1_000), qos=1)
            await until(lambda: numbers_of(intake) == 1_000)
            assert counted(intake, "readings") + refused(intake, "overrun") == 1_001

    def numbers_of(intake: Intake) -> int | None:
        last = intake._gateways.get("site-1")
        return None if last is None else last._spool.last_register("m-1", "energy")

    monkeypatch.setattr(Intake, "write", write)
    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))


def test_readings_reach_kafka(kafka: str, tmp_path: Path) -> None:
    log = new_log(kafka, "gateway-mqtt")
    meters = [{"meter": "trips", "kind": "quantity", "value": "total", "unit": "count", "to": "count"}]
    mapping = {**MAPPING, "machine": None, "route": None, "meters": meters}

    async def run(broker: Mosquitto) -> None:
        config = config_of(tmp_path, broker.port, mapping=[mapping], devices={"t": {"machine": "taxi-1"}})
        where = {"bootstrap_servers": kafka, "log_id": log.log_id, "topic": log.topic}
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, **where))
        async with publisher(broker) as client, serving(config) as intake:
            await until(lambda: is_connected(intake))
            for number in range(100):
                await client.publish("site/t/reading", json.dumps({"n": number, "total": 1}), qos=1)
            await until(lambda: counted(intake, "readings") == 100)
            await intake.flush()

    with mosquitto(tmp_path / "broker") as broker:
        asyncio.run(run(broker))
    state, done, _ = arrived(kafka, log)
    assert done.rejects == []
    assert window_facts(state)[0] == 100


FILE = '[log]\nbootstrap_servers = "127.0.0.1:1"\nlog_id = "log-1"\n[mqtt]\nclient_id = "gateway-1"\nport = 1\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "nothing to listen to"),
        ('mappings = ["tasmota"]', "say zone"),
        ('mappings = ["sonoff"]', "there is no 'sonoff'"),
        ('password = "secret"', "unknown field `password`"),
        ("receive_maximum = 0", "receive_maximum"),
        ('mappings = ["zigbee2mqtt"]\ntls = true\nca_file = "nowhere.pem"', "can't use the files of TLS"),
        ('[[mapping]]\ntopic = "a/#"\nmeters = [{meter = "energy", value = "x", unit = "Wh"}]', "topic 'a/#'"),
        ('[devices."a"]\nmachine = "not an id"', "machine"),
    ],
)
def test_a_file_that_cannot_be_meant_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, said: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE + more + "\n")
    assert main(["mqtt", "--config", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
