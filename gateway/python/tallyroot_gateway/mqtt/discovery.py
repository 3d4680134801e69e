"""`--discover`: listens for a while; prints what is there, and a file and a registration to start from.

What it prints of others is made harmless for a terminal, and bounded: topics, values of each, nodes, metrics.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import aiomqtt
import msgspec
from google.protobuf.message import DecodeError

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import UNITS, decode_json
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.mqtt.config import MqttConfig
from tallyroot_gateway.mqtt.connection import Connection, leave
from tallyroot_gateway.mqtt.mapping import SHIPPED, checked, decoded, shipped, values_of
from tallyroot_gateway.mqtt.patterns import filled
from tallyroot_gateway.mqtt.sparkplug import BIRTHS, NAMESPACE, rebirth, topic_of
from tallyroot_gateway.mqtt.sparkplug_b_pb2 import Payload
from tallyroot_gateway.mqtt.sparkplug_values import NAMES, declared, number_in

TOPICS_MAX, VALUES_MAX, METRICS_MAX, PAYLOAD_MAX = 1_000, 12, 200, 1 << 16
BURST_MAX = 256


class Offer(NamedTuple):
    """A meter that a shipped mapping finds: the device's name in [devices], and the meter's value in Wh or so."""

    mapping: str
    device: str
    meter: str
    unit: str


class Metric(NamedTuple):
    """A number that a Sparkplug node has."""

    group: str
    node: str
    device: str | None
    name: str
    datatype: str
    unit: str | None
    value: str


async def discover(config: MqttConfig) -> None:
    """Listens as long as the file says, then prints. Raises InvalidInput where there is no broker."""
    try:
        print(described(await _seen(config), config))
    except aiomqtt.MqttError as error:
        raise InvalidInput(f"the broker {config.mqtt.host}: {error}") from None


async def _seen(config: MqttConfig) -> dict[str, bytes]:
    """The last message of each topic; Sparkplug nodes whose birth isn't seen are asked for it, once."""
    seen: dict[str, bytes] = {}
    asked: set[str] = set()
    connection = Connection(config.mqtt, wall_ms, is_guest=True)
    await connection.open()
    try:
        refused = await connection.ask_for(["#"], qos=0)
        if refused:
            raise InvalidInput("the broker lets this client not subscribe to #: look with another user")
        async with asyncio.timeout(config.mqtt.discover_s):
            while True:
                for message in await connection.burst(BURST_MAX):
                    if message.topic in seen or len(seen) < TOPICS_MAX:
                        seen[message.topic] = message.payload[:PAYLOAD_MAX]
                    topic = topic_of(message.topic)
                    if topic is None or f"{topic.group}/{topic.node}" in asked:
                        continue
                    asked.add(f"{topic.group}/{topic.node}")
                    if topic.kind not in BIRTHS and len(asked) <= TOPICS_MAX:
                        await connection.publish(f"{NAMESPACE}/{topic.group}/NCMD/{topic.node}", rebirth(wall_ms()))
    except TimeoutError:
        return seen
    finally:
        await leave(connection)


def described(seen: Mapping[str, bytes], config: MqttConfig) -> str:
    """What is printed: topics with their values, then a file and a registration, as TOML with comments."""
    offers = sorted({offer for topic, payload in seen.items() for offer in _offers(topic, payload)})
    metrics = [metric for topic, payload in sorted(seen.items()) for metric in _metrics(topic, payload)][:METRICS_MAX]
    lines = [f"# {len(seen)} topics within {config.mqtt.discover_s} s; their numbers:"]
    lines += [f"#   {_plain(topic)}{said}" for topic, payload in sorted(seen.items()) for said in _said(topic, payload)]
    if len(seen) >= TOPICS_MAX:
        lines.append(f"# there are more than {TOPICS_MAX:,} topics")
    for metric in metrics:
        where = "/".join(filter(None, (metric.group, metric.node, metric.device)))
        lines.append(f"#   Sparkplug {where} {metric.name} = {metric.value} {metric.unit or ''} ({metric.datatype})")
    lines += [
        "",
        "# A file to start from: give each device its machine, and take away what you don't want.",
        *_file(config),
    ]
    if offers:
        names = sorted({offer.mapping for offer in offers})
        lines[-1] = f"mappings = [{', '.join(map(_quoted, names))}]"
        for device in dict.fromkeys(offer.device for offer in offers):
            lines += ["", f"[devices.{_quoted(device)}]", f"machine = {_quoted(_id(device))}", 'route = "site-1"']
    lines += _nodes(metrics)
    lines += ["", "# A registration to start from, for `tallyroot register`: put in zone, payees, tariff and capacity."]
    lines += [f"# {line}" for line in _registration(offers, metrics)]
    return "\n".join(lines)


def _said(topic: str, payload: bytes) -> Iterator[str]:
    """The numbers in a message, as ` path = value`."""
    if topic.startswith(f"{NAMESPACE}/"):
        return
    try:
        document = decode_json(payload)
    except InvalidInput:
        yield f"  {len(payload)} bytes, no JSON"
        return
    found = [(path, value) for path, value in _numbers(document, "")]
    yield from (f" {_plain(path)} = {value}" for path, value in found[:VALUES_MAX])
    if len(found) > VALUES_MAX:
        yield f" ... {len(found) - VALUES_MAX} more"
    if not found:
        yield "  no number"


def _numbers(document: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(document, list):
        for number, value in enumerate(document[:VALUES_MAX]):
            yield from _numbers(value, f"{path}[{number}]")
    elif not isinstance(document, bool | str | None):
        yield path or "the text", document


def _offers(topic: str, payload: bytes) -> Iterator[Offer]:
    """What the shipped mappings find in a message."""
    for name in SHIPPED:
        for options in shipped(name):
            mapping = checked(options, None)
            named = mapping.pattern.match(topic)
            if named is None:
                continue
            try:
                values = values_of(mapping, decoded(options.format, payload))
            except InvalidInput:
                continue
            device = filled(options.device, named)
            units = {meter.meter: meter.to for meter in options.meters}
            yield from (Offer(name, device, value.meter, units[value.meter]) for value in values)


def _metrics(topic: str, payload: bytes) -> Iterator[Metric]:
    """The numbers that a birth declares."""
    parts = topic_of(topic)
    if parts is None or parts.kind not in BIRTHS:
        return
    try:
        birth = Payload.FromString(payload)
    except (DecodeError, UnicodeDecodeError):
        return
    for metric in birth.metrics:
        try:
            value = str(float(number_in(metric, metric.datatype)))
        except InvalidInput:
            continue
        if metric.name == "bdSeq" or metric.name.startswith("Node Control/"):
            continue
        unit = declared(metric).unit
        told = None if unit is None else _plain(unit)
        name, datatype = _plain(metric.name), NAMES.get(metric.datatype, "?")
        yield Metric(_plain(parts.group), _plain(parts.node), parts.device, name, datatype, told, value)


def _file(config: MqttConfig) -> list[str]:
    mqtt = config.mqtt
    lines = ["[log]", f"bootstrap_servers = {_quoted(config.log.bootstrap_servers)}"]
    lines += [f"log_id = {_quoted(config.log.log_id)}", "", "[mqtt]", f"client_id = {_quoted(mqtt.client_id)}"]
    lines += [f"host = {_quoted(mqtt.host)}", *([] if mqtt.port is None else [f"port = {mqtt.port}"])]
    zone = mqtt.zone or "Europe/Berlin"
    return [*lines, f"zone = {_quoted(zone)}  # the clock of devices whose times name none", "mappings = []"]


def _nodes(metrics: list[Metric]) -> Iterator[str]:
    """The nodes as tables of a file; a metric whose unit isn't known is written as a comment."""
    for group, node in dict.fromkeys((metric.group, metric.node) for metric in metrics):
        yield from (
            "",
            "[[sparkplug.nodes]]",
            f"group = {_quoted(group)}",
            f"node = {_quoted(node)}",
            'route = "site-1"',
        )
        for metric in metrics:
            if (metric.group, metric.node) != (group, node):
                continue
            yield from ("", "[[sparkplug.nodes.metrics]]", f"name = {_quoted(metric.name)}")
            if metric.device is not None:
                yield f"device = {_quoted(metric.device)}"
            yield f"machine = {_quoted(_id(metric.device or metric.node))}"
            yield f"meter = {_quoted(_id(metric.name))}"
            yield f"unit = {_quoted(metric.unit if metric.unit in UNITS else 'count')}"
            yield f"to = {_quoted(_whole_unit(metric.unit))}"
            yield f"kind = {_quoted(_kind(metric.unit))}  # register: an ever growing total; level: what is there now"


def _registration(offers: list[Offer], metrics: list[Metric]) -> Iterator[str]:
    """One machine for each device; a person puts in what no device knows."""
    meters: dict[str, dict[str, tuple[str, str]]] = {}
    for offer in offers:
        meters.setdefault(_id(offer.device), {})[offer.meter] = ("register", offer.unit)
    for metric in metrics:
        owner = meters.setdefault(_id(metric.device or metric.node), {})
        owner[_id(metric.name)] = (_kind(metric.unit), _whole_unit(metric.unit))
    yield 'site = "site-1"'
    for machine, found in meters.items():
        yield from ("", "[[machines]]", f"id = {_quoted(machine)}", 'kind = "sensor"')
        for meter, (kind, unit) in found.items():
            yield from (f"[machines.meters.{_quoted(meter)}]", f"counts = {_quoted(kind)}", f"unit = {_quoted(unit)}")
            yield (
                'capacity = "4 kW"  # the most that it can be'
                if unit == "Wh"
                else "# capacity: the most that it can be"
            )


def _whole_unit(unit: str | None) -> str:
    """The unit of a meter for a device's: Wh for kWh, else its own."""
    if unit is None or unit not in UNITS:
        return "count"
    return "Wh" if UNITS[unit][0] == "energy" else unit


def _kind(unit: str | None) -> str:
    """What a meter of a unit probably is."""
    return "register" if _whole_unit(unit) == "Wh" else "level"


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:*-]", "-", name)[:64] or "machine"


def _plain(text: str) -> str:
    """A text without what moves a terminal's cursor, at most so long."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])


def _quoted(text: str) -> str:
    """A basic string of TOML, which is one of JSON."""
    return msgspec.json.encode(_plain(text)).decode()
