"""What a message of a mapped topic says: pure, from topic and bytes to findings of machines' meters.

One message may speak of several machines (a strip of four sockets): each is a finding of its own, taken on its own.
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from fractions import Fraction
from importlib import resources
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.clocks import is_set
from tallyroot_gateway.field.units import convert, decode_json, number_of
from tallyroot_gateway.mqtt.config import DEVICES_MAX, Device, Kind, MeterMapping, MqttConfig, TopicMapping
from tallyroot_gateway.mqtt.patterns import Path, Pattern, check_template, filled, path_of, pattern_of, value_at
from tallyroot_gateway.mqtt.times import DeviceTime, device_time, zone_of
from tallyroot_gateway.reading import is_id

SHIPPED = ("tasmota", "shelly-gen1", "shelly-gen2", "shelly-gen2-status", "zigbee2mqtt")
"""The mappings that come with the package, a TOML file each."""

ID_MAX = 256


class Value(NamedTuple):
    """One meter's value, in its unit; a register and a level may have a fraction that stays in the next one."""

    meter: str
    kind: Kind
    value: Fraction
    restarts: bool


class Finding(NamedTuple):
    """What a message says of one machine. `source` names topic and mapping, `device` whose clock `time` is of."""

    source: str
    device: str
    machine: str
    route: str
    values: tuple[Value, ...]
    time: DeviceTime | None
    id: str | None


class Refusal(NamedTuple):
    """Why something in a message can't be used. What `is_usual` is kept once for each source."""

    source: str
    reason: str
    detail: str
    is_usual: bool = False


class _Meter(NamedTuple):
    options: MeterMapping
    path: Path | None


class _Mapping(NamedTuple):
    name: str
    pattern: Pattern
    options: TopicMapping
    meters: tuple[_Meter, ...]
    time: Path | None
    id: Path | None
    zone: tzinfo | None


class _Shipped(Struct, forbid_unknown_fields=True):
    mapping: list[TopicMapping]


class Mappings:
    """All mappings of a file, checked."""

    def __init__(self, config: MqttConfig) -> None:
        """Raises InvalidInput for what can't be meant."""
        zone = config.mqtt.zone
        chosen = [*config.mapping]
        for name in config.mqtt.mappings:
            chosen += shipped(name)
            if name == "tasmota" and zone is None:
                raise InvalidInput('tasmota: its times name no zone: say zone = "Europe/Berlin" or so in [mqtt]')
        self._mappings = [checked(options, zone) for options in chosen]
        self._devices: Mapping[str, Device] = config.devices
        for name, device in config.devices.items():
            if device.route is not None or is_id(device.machine):
                continue
            raise InvalidInput(f"devices: {name}: {device.machine!r} is no machine's id")
        self._made: set[str] = set()

    @property
    def subscriptions(self) -> list[str]:
        """What a broker is asked for, each once."""
        return [*dict.fromkeys(mapping.pattern.subscription for mapping in self._mappings)]

    @property
    def routes(self) -> set[str]:
        """Every route that a finding may have."""
        named = {device.route or device.machine for device in self._devices.values()}
        return named | {mapping.options.route for mapping in self._mappings if mapping.options.route is not None}

    def read(self, topic: str, payload: bytes, arrived_ms: int) -> tuple[list[Finding], list[Refusal]]:
        """The findings of a message, and what could not be used of it."""
        findings: list[Finding] = []
        refusals: list[Refusal] = []
        matched = [
            (mapping, named) for mapping in self._mappings if (named := mapping.pattern.match(topic)) is not None
        ]
        if not matched:
            refusals.append(Refusal(topic, "unmapped", "no mapping has this topic", is_usual=True))
        documents: dict[str, Any] = {}
        for mapping, named in matched:
            source = f"{topic} {mapping.name}"
            try:
                if mapping.options.format not in documents:
                    documents[mapping.options.format] = decoded(mapping.options.format, payload)
                finding = self._finding(source, mapping, named, documents[mapping.options.format], arrived_ms)
            except _Refused as refused:
                refusals.append(Refusal(source, refused.reason, refused.detail, refused.is_usual))
            except InvalidInput as error:
                refusals.append(Refusal(source, "not_a_reading", str(error)))
            else:
                findings += [finding] if finding is not None else []
        return findings, refusals

    def _finding(
        self, source: str, mapping: _Mapping, named: dict[str, str], document: Any, arrived_ms: int
    ) -> Finding | None:
        """What one mapping finds; None where the message has none of its values, as many have."""
        values = values_of(mapping, document)
        if not values:
            return None
        device, machine, route = self._owner(mapping, named)
        time = _time(mapping, document, arrived_ms)
        own_id = _own_id(mapping, document)
        if any(value.kind == "quantity" for value in values) and own_id is None and (time is None or not time.is_sure):
            raise _Refused("no_identity", "a quantity without an id or a time that names one moment counts nothing")
        return Finding(source, device, machine, route, values, time, own_id)

    def _owner(self, mapping: _Mapping, named: dict[str, str]) -> tuple[str, str, str]:
        """Device, machine and route of a topic's levels."""
        if mapping.options.machine is not None:
            machine = filled(mapping.options.machine, named)
            if not is_id(machine):
                raise _Refused("unknown_device", f"{machine[:64]!r} is no machine's id", is_usual=True)
            if machine not in self._made and len(self._made) >= DEVICES_MAX:
                raise _Refused("unknown_device", f"more than {DEVICES_MAX:,} machines", is_usual=True)
            self._made.add(machine)
            return machine, machine, mapping.options.route or machine
        name = filled(mapping.options.device, named)
        device = self._devices.get(name)
        if device is None:
            raise _Refused("unknown_device", f"{name[:128]!r} is not in [devices]", is_usual=True)
        return name, device.machine, device.route or device.machine


def shipped(name: str) -> list[TopicMapping]:
    """A mapping of the package. Raises InvalidInput for another name."""
    if name not in SHIPPED:
        raise InvalidInput(f"mappings: there is no {name!r}, but {', '.join(SHIPPED)}")
    text = resources.files("tallyroot_gateway.mqtt").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=_Shipped).mapping


class _Refused(Exception):
    """A message that a mapping can't use, by a reason of one word."""

    def __init__(self, reason: str, detail: str, *, is_usual: bool = False) -> None:
        self.reason, self.detail, self.is_usual = reason, detail, is_usual


def checked(options: TopicMapping, zone: str | None) -> _Mapping:
    """A mapping whose parts fit together. Raises InvalidInput."""
    pattern = pattern_of(options.topic)
    if options.machine is None:
        check_template(options.device, pattern)
    else:
        check_template(options.machine, pattern)
        if options.route is None:
            raise InvalidInput(f"mapping of {options.topic}: with machine = say the route too")
    is_text = options.format == "text"
    if is_text and (len(options.meters) != 1 or options.time is not None or options.id is not None):
        raise InvalidInput(f"mapping of {options.topic}: plain text is one value, with no time and no id")
    own_zone = options.zone if options.zone is not None else zone
    for meter in options.meters:
        if is_text != (meter.value is None):
            raise InvalidInput(f"mapping of {options.topic}: JSON needs value = for {meter.meter}; plain text has none")
        convert(Fraction(1), meter.unit, meter.to)
        if meter.kind == "quantity" and options.id is None and options.time is None:
            raise InvalidInput(
                f"mapping of {options.topic}: {meter.meter} is a quantity, and MQTT may deliver one twice: name the"
                " path of an id or a time that tells messages apart"
            )
        if meter.restarts and meter.kind != "register":
            raise InvalidInput(f"mapping of {options.topic}: only a register restarts, not {meter.meter}")
    meters = tuple(_Meter(meter, None if meter.value is None else path_of(meter.value)) for meter in options.meters)
    return _Mapping(
        # Of the mapping's own words: the same over restarts, also where the file's order changes.
        name=f"{options.machine or options.device}:{','.join(meter.meter for meter in options.meters)}",
        pattern=pattern,
        options=options,
        meters=meters,
        time=None if options.time is None else path_of(options.time),
        id=None if options.id is None else path_of(options.id),
        zone=None if own_zone is None else zone_of(own_zone),
    )


def decoded(form: str, payload: bytes) -> Any:
    if form == "json":
        return decode_json(payload)
    try:
        return payload.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInput("not a number in plain text") from None


def values_of(mapping: _Mapping, document: Any) -> tuple[Value, ...]:
    found: list[Value] = []
    for options, path in mapping.meters:
        written = document if path is None else value_at(document, path)
        if written is None:
            continue
        value = convert(number_of(written), options.unit, options.to, options.scale)
        found.append(Value(options.meter, options.kind, value, options.restarts))
    return tuple(found)


def _time(mapping: _Mapping, document: Any, arrived_ms: int) -> DeviceTime | None:
    """The device's own time; None where it has none, or its clock was never set."""
    written = None if mapping.time is None else value_at(document, mapping.time)
    if written is None:
        return None
    time = device_time(written, mapping.zone, arrived_ms)
    return time if is_set(time.ms, arrived_ms) else None


def _own_id(mapping: _Mapping, document: Any) -> str | None:
    written = None if mapping.id is None else value_at(document, mapping.id)
    if written is None:
        return None
    if isinstance(written, bool) or not isinstance(written, str | int) or not 0 < len(str(written)) <= ID_MAX:
        raise InvalidInput("an id must be a text or an integer")
    return str(written)


def names_of(values: Sequence[Value]) -> str:
    """What values say, as a text that is equal where they are."""
    return " ".join(f"{value.meter}={value.value}" for value in values)
