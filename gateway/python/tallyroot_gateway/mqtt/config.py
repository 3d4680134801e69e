"""The tables of an MQTT gateway's file: the broker, devices, mappings of topics, nodes of Sparkplug."""

from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta, Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import GatewayConfig, Id, Port

DEVICES_MAX = 10_000
RECEIVE_MAX = 128

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^/+#\x00]+$")]
"""One level of a topic: a group, a node, a device, a host."""

Kind = Literal["register", "quantity", "level"]


class BrokerOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mqtt]`: the broker, how to log in, and what is subscribed to.

    `client_id` names the session that the broker keeps while the gateway is away, for `session_expiry_s`; no two
    gateways may share it. `mappings` are shipped ones; `zone` is the clock of devices whose times name none.
    """

    client_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
    host: str = "127.0.0.1"
    port: Port | None = None
    username: str | None = None
    password_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    session_expiry_s: Annotated[int, Meta(ge=60, le=0xFFFF_FFFF)] = 7 * 86_400
    keepalive_s: Annotated[int, Meta(ge=5, le=3_600)] = 30
    receive_maximum: Annotated[int, Meta(ge=1, le=RECEIVE_MAX)] = 64
    message_bytes: Annotated[int, Meta(ge=1_024, le=1 << 24)] = 1 << 20
    mappings: list[str] = []
    zone: str | None = None
    discover_s: Annotated[int, Meta(ge=1, le=600)] = 20


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[devices."plug-3"]`: whose readings a device's are. `route` absent: the machine's own."""

    machine: Id
    route: Id | None = None


class MeterMapping(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[mapping.meters]]`: one value. `value` is its path in JSON; `restarts` a register that begins again at 0."""

    meter: Id
    unit: str
    value: str | None = None
    to: str = "Wh"
    kind: Kind = "register"
    scale: Annotated[int, Meta(ge=-12, le=12)] = 0
    restarts: bool = False


class TopicMapping(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[mapping]]`: what the messages of a topic pattern mean.

    `device` says by which name [devices] has it, or `machine` makes a machine's id of the topic, with `route`. `time`
    and `id` are paths; `zone` is the clock's of times without one.
    """

    topic: str
    meters: Annotated[list[MeterMapping], Meta(min_length=1, max_length=64)]
    format: Literal["json", "text"] = "json"
    device: str = "{device}"
    machine: str | None = None
    route: Id | None = None
    time: str | None = None
    id: str | None = None
    zone: str | None = None


class SparkplugMetric(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[sparkplug.nodes.metrics]]`: one metric. `unit` absent: the metric's own property engUnit."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    machine: Id
    meter: Id
    device: Name | None = None
    unit: str | None = None
    to: str = "Wh"
    kind: Kind = "register"
    scale: Annotated[int, Meta(ge=-12, le=12)] = 0


class SparkplugNode(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[sparkplug.nodes]]`: an edge node; all that it says travels on one route."""

    group: Name
    node: Name
    route: Id
    metrics: Annotated[list[SparkplugMetric], Meta(min_length=1, max_length=1_000)]


class SparkplugOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[sparkplug]`: with `host_id` the gateway is the primary host that nodes wait for."""

    host_id: Name | None = None
    nodes: Annotated[list[SparkplugNode], Meta(max_length=1_000)] = []


class MqttConfig(GatewayConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An MQTT gateway's file."""

    mqtt: BrokerOptions
    devices: Annotated[dict[str, Device], Meta(max_length=DEVICES_MAX)] = msgspec.field(default_factory=dict)
    mapping: Annotated[list[TopicMapping], Meta(max_length=256)] = msgspec.field(default_factory=list)
    sparkplug: SparkplugOptions = SparkplugOptions()

    def in_folder(self, folder: Path) -> Self:
        """Itself with the files of [mqtt] relative to a folder."""
        named = {
            name: str(folder / path)
            for name in ("password_file", "ca_file", "cert_file", "key_file")
            if (path := getattr(self.mqtt, name)) is not None
        }
        return msgspec.structs.replace(self, mqtt=msgspec.structs.replace(self.mqtt, **named))


def password_of(options: BrokerOptions) -> str | None:
    """The password in its file, without the end of its line. Raises InvalidInput where it can't be read."""
    if options.password_file is None:
        return None
    try:
        return Path(options.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise InvalidInput(f"can't read the password in {options.password_file}: {said}") from None
