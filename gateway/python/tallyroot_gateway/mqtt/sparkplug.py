"""Sparkplug B: what edge nodes say, each message once, and when a node must be asked to begin again.

A node is born (NBIRTH, then a DBIRTH for each of its devices): a birth names its metrics, their datatypes and the
numbers, *aliases*, by which data then means them. Each message has a number `seq`, 0 to 255 and over again; `bdSeq`
counts the node's connections and ties its death (the broker sends NDEATH for it) to its birth.

    birth, seq 0   data, seq 1   data, seq 2   ...   data, seq 255   data, seq 0   ...

1. A message's key is made of node, device, kind, seq, time and bytes; of bdSeq too where it has no time. A known one
   changes nothing.
2. A seq that doesn't follow means that something was missed, perhaps a birth: metrics that have a name are still
   taken, aliases are not, and the node is asked for a rebirth, at most so often.
3. The same holds where messages may have been missed unseen: after a connection, unless the broker has kept the
   session and the message has QoS 1.
4. State and readings are one delivery: a restart goes on where the last acknowledged message ended.

What a birth repeats is no new reading: a register or a level counts again only with another time or value, and a
quantity in a birth counts never.
"""

import hashlib
from typing import NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.clocks import Moment
from tallyroot_gateway.field.intake import Intake, key_of
from tallyroot_gateway.field.units import UNITS, convert, whole_part, whole_quantity
from tallyroot_gateway.mqtt.config import SparkplugMetric, SparkplugNode, SparkplugOptions
from tallyroot_gateway.mqtt.mapping import Refusal
from tallyroot_gateway.mqtt.sparkplug_b_pb2 import Payload
from tallyroot_gateway.mqtt.sparkplug_values import Declared, datatype_in, declared, number_in
from tallyroot_gateway.mqtt.taking import Message, Rejecting, new_reading
from tallyroot_gateway.reading import NewReading

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
REBIRTH_FIRST_MS, REBIRTH_MOST_MS = 10_000, 600_000
"""A node is asked again after 10 s, then after twice as long each time, up to 10 min."""

BIRTHS, DATA = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA")
KINDS = (*BIRTHS, *DATA, "NDEATH", "DDEATH")


class Topic(NamedTuple):
    """`spBv1.0/group/kind/node[/device]`."""

    group: str
    kind: str
    node: str
    device: str | None


def topic_of(text: str) -> Topic | None:
    """The parts of a topic; None where it isn't one that a node publishes on."""
    parts = text.split("/")
    if len(parts) not in (4, 5) or parts[0] != NAMESPACE or parts[2] not in KINDS:
        return None
    device = parts[4] if len(parts) == 5 else None
    if (device is not None) != parts[2].startswith("D"):
        return None
    return Topic(parts[1], parts[2], parts[3], device)


class Counting(Struct, array_like=True):
    """Where a node's numbers are. `is_whole` where nothing was missed since its birth."""

    bd_seq: int | None = None
    seq: int | None = None
    is_whole: bool = False


class Known(Struct, array_like=True):
    """What a birth said of a metric of ours, `at` in the file's list."""

    at: int
    alias: int | None
    datatype: int
    unit: str | None


class _Node:
    """One edge node: its options, and its state as the last delivery left it."""

    def __init__(self, options: SparkplugNode, intake: Intake) -> None:
        self.options = options
        self.note = f"sparkplug/{key_of(options.group, options.node)}"
        self.counting, self.known = Counting(), list[Known]()
        self.recall(intake)
        self.is_sure = False
        """Whether no message can have been missed since the last one that was counted."""
        self.by_name = {(metric.device, metric.name): at for at, metric in enumerate(options.metrics)}
        self.asked_ms, self.pause_ms = 0, REBIRTH_FIRST_MS
        self.wants_rebirth = False

    def recall(self, intake: Intake) -> None:
        """Goes back to the state that the last delivery left: what the disk refused has changed nothing."""
        counting = intake.note(self.options.route, self.note)
        births = intake.note(self.options.route, f"{self.note}/births")
        self.counting = Counting() if counting is None else msgspec.json.decode(counting, type=Counting)
        self.known = [] if births is None else msgspec.json.decode(births, type=list[Known])

    def known_of(self, at: int) -> Known | None:
        """What the last birth said of a metric."""
        metric = self.options.metrics
        return next((known for known in self.known if known.at == at and known.at < len(metric)), None)

    def by_alias(self, device: str | None, alias: int) -> int | None:
        """The metric of an alias, which a device's births gave."""
        metrics = self.options.metrics
        for known in self.known:
            if known.alias == alias and known.at < len(metrics) and metrics[known.at].device == device:
                return known.at
        return None


class Sparkplug:
    """All nodes of a file."""

    def __init__(self, intake: Intake, options: SparkplugOptions, rejecting: Rejecting) -> None:
        """Raises InvalidInput for a file that can't be meant."""
        self._intake, self._rejecting = intake, rejecting
        self._nodes: dict[tuple[str, str], _Node] = {}
        for node in options.nodes:
            _check(node)
            if (node.group, node.node) in self._nodes:
                raise InvalidInput(f"sparkplug: {node.group}/{node.node} is there twice")
            self._nodes[node.group, node.node] = _Node(node, intake)

    @property
    def subscriptions(self) -> list[str]:
        """What a broker is asked for: what the nodes of the file publish, and their devices."""
        return [f"{NAMESPACE}/{group}/+/{node}/#" for group, node in self._nodes]

    def connected(self, *, session_present: bool) -> None:
        """A connection was made: without the session that the broker had, messages have been missed."""
        for node in self._nodes.values():
            node.recall(self._intake)
            node.is_sure = False
            node.counting.is_whole = node.counting.is_whole and session_present
            node.wants_rebirth = not node.counting.is_whole

    def rebirths(self, now_ms: int) -> list[str]:
        """The topics on which nodes must be asked for a rebirth now."""
        topics = []
        for (group, name), node in self._nodes.items():
            if not node.wants_rebirth or (node.asked_ms and now_ms < node.asked_ms + node.pause_ms):
                continue
            node.pause_ms = min(2 * node.pause_ms, REBIRTH_MOST_MS) if node.asked_ms else REBIRTH_FIRST_MS
            node.asked_ms = now_ms
            topics.append(f"{NAMESPACE}/{group}/NCMD/{name}")
        return topics

    def take(self, topic: Topic, message: Message) -> set[str]:
        """Writes what a message says; returns the routes that must be synced before it is acknowledged.

        Raises SpoolFull or InvalidInput where the disk doesn't take it: it must not be acknowledged.
        """
        node = self._nodes.get((topic.group, topic.node))
        if node is None:
            self._refuse(message, Refusal(message.topic, "unmapped", "no node of the file", is_usual=True))
            return set()
        if message.is_retained:  # no node retains: a bridge does, and an old birth's aliases mean other metrics now
            self._refuse(
                message, Refusal(message.topic, "retained", "retained, which Sparkplug forbids", is_usual=True)
            )
            return set()
        try:
            payload = Payload.FromString(message.payload)
        except (DecodeError, UnicodeDecodeError):
            self._refuse(message, Refusal(message.topic, "undecodable", "not a Sparkplug B payload"))
            return set()
        key = _key(topic, message, payload, node)
        if self._intake.is_known(node.options.route, key):
            self._intake.metrics.repeated.inc()
            return {node.options.route}
        if not self._count(topic, message, payload, node):
            return set()
        births = self._births(topic, payload, node)
        readings, notes = self._readings(topic, message, payload, node)
        notes[node.note] = msgspec.json.encode(node.counting).decode()
        if births:
            notes[f"{node.note}/births"] = msgspec.json.encode(node.known).decode()
        self._intake.write(node.options.route, readings, key=key, notes=notes)
        return {node.options.route}

    def _count(self, topic: Topic, message: Message, payload: Payload, node: _Node) -> bool:
        """Counts a message; False for one that is of no moment, the death of a connection before."""
        counting = node.counting
        if topic.kind in ("NBIRTH", "NDEATH"):
            bd_seq = next((m.long_value or m.int_value for m in payload.metrics if m.name == "bdSeq"), None)
            if topic.kind == "NDEATH":
                if bd_seq is not None and counting.bd_seq is not None and bd_seq != counting.bd_seq:
                    return False
                counting.is_whole = False
                return True
            node.counting = Counting(bd_seq, payload.seq & 0xFF, is_whole=True)
            node.wants_rebirth, node.asked_ms, node.is_sure = False, 0, True
            return True
        seq = payload.seq & 0xFF
        may_miss = not node.is_sure and message.qos == 0
        follows = payload.HasField("seq") and counting.seq is not None and seq == (counting.seq + 1) & 0xFF
        if counting.is_whole and (may_miss or not follows):
            detail = f"seq {payload.seq} after {counting.seq}: something was missed, a rebirth is asked for"
            self._refuse(message, Refusal(f"{topic.group}/{topic.node}", "gap", detail, is_usual=True))
            counting.is_whole = False
        node.wants_rebirth = not counting.is_whole
        node.is_sure, counting.seq = True, seq
        return True

    def _births(self, topic: Topic, payload: Payload, node: _Node) -> bool:
        """Keeps what a birth or a death says of the metrics of the file; whether there was anything."""
        if topic.kind not in (*BIRTHS, "DDEATH"):
            return False
        metrics = node.options.metrics
        if topic.kind == "NBIRTH":
            node.known = []
        else:
            node.known = [k for k in node.known if k.at < len(metrics) and metrics[k.at].device != topic.device]
        for metric in payload.metrics if topic.kind in BIRTHS else ():
            at = node.by_name.get((topic.device, metric.name))
            if at is not None:
                said = declared(metric)
                alias = metric.alias if metric.HasField("alias") else None
                node.known.append(Known(at, alias, said.datatype, said.unit))
        return True

    def _readings(
        self, topic: Topic, message: Message, payload: Payload, node: _Node
    ) -> tuple[list[NewReading], dict[str, str | None]]:
        """The readings of a message, and what to note of births' metrics."""
        readings: list[NewReading] = []
        notes: dict[str, str | None] = {}
        for metric in payload.metrics if topic.kind in (*BIRTHS, *DATA) else ():
            source = f"{topic.group}/{topic.node}/{topic.device or ''} {metric.name or metric.alias}"[:256]
            try:
                at = self._meant(topic, metric, node, source, message)
                if at is None or metric.is_null:
                    continue
                options = node.options.metrics[at]
                if options.kind == "quantity" and topic.kind in BIRTHS:
                    continue
                reading = self._reading(topic, message, payload, metric, options, node.known_of(at))
            except InvalidInput as error:
                self._refuse(message, Refusal(source, "not_a_reading", str(error)))
                continue
            if options.kind != "quantity":
                note = f"{node.note}/{key_of(options.device or '', options.name)}"
                said = f"{reading.observed_at} {reading.register} {reading.level}"
                before = notes.get(note) or self._intake.note(node.options.route, note)
                notes[note] = said
                if topic.kind in BIRTHS and said == before:
                    continue
            readings.append(reading)
        return readings, notes

    def _meant(self, topic: Topic, metric: Payload.Metric, node: _Node, source: str, message: Message) -> int | None:
        """Which metric of the file is meant; None where none is, or an alias can't be believed."""
        if metric.name:
            return node.by_name.get((topic.device, metric.name))
        at = node.by_alias(topic.device, metric.alias) if metric.HasField("alias") else None
        if at is None or node.counting.is_whole:
            return at
        self._refuse(message, Refusal(source, "alias_after_gap", "an alias, and its birth may have been missed"))
        return None

    def _reading(
        self,
        topic: Topic,
        message: Message,
        payload: Payload,
        metric: Payload.Metric,
        options: SparkplugMetric,
        known: Known | None,
    ) -> NewReading:
        said = None if known is None else Declared(known.datatype, known.unit)
        value = number_in(metric, datatype_in(metric, said))
        unit = _unit(options, declared(metric).unit or (None if said is None else said.unit))
        value = convert(value, unit, options.to, options.scale)
        whole = whole_quantity(value) if options.kind == "quantity" else whole_part(value)
        at = metric.timestamp or payload.timestamp
        if not at and options.kind == "quantity":
            raise InvalidInput("a quantity without a timestamp: nothing tells it from another")
        moment = Moment(message.arrived_ms, reconstructed=False)
        if at:
            moment = self._intake.clocks.moment(at, message.arrived_ms)
            if message.is_prompt and not metric.is_historical and topic.kind in DATA:
                self._intake.clocks.compare(f"{topic.group}/{topic.node}", at, message.arrived_ms)
        return new_reading(options.machine, options.meter, options.kind, whole, moment)

    def _refuse(self, message: Message, refusal: Refusal) -> None:
        self._rejecting.refuse(refusal, message.payload)


def rebirth(now_ms: int) -> bytes:
    """The command that asks a node for its births."""
    metric = Payload.Metric(name=REBIRTH, timestamp=now_ms, datatype=11, boolean_value=True)
    return Payload(timestamp=now_ms, metrics=[metric]).SerializeToString()


def _key(topic: Topic, message: Message, payload: Payload, node: _Node) -> str:
    parts: list[str | int] = ["sparkplug", topic.group, topic.node, topic.device or "", topic.kind, payload.seq]
    parts += [payload.timestamp, hashlib.sha256(message.payload).hexdigest()]
    if not payload.timestamp:
        parts.append(str(node.counting.bd_seq))
    return key_of(*parts)


def _unit(options: SparkplugMetric, told: str | None) -> str:
    """The unit of a metric. Raises InvalidInput where the file and the node disagree, or neither says one."""
    unit = options.unit or told
    if unit is None:
        raise InvalidInput("no unit: the metric has no property engUnit, and the file names none")
    if told is not None and told in UNITS and unit in UNITS and UNITS[told] != UNITS[unit]:
        raise InvalidInput(f"the node says {told}, the file says {unit}")
    return unit


def _check(node: SparkplugNode) -> None:
    """Raises InvalidInput for a metric twice, or a unit that can't become the meter's."""
    seen = set()
    for metric in node.metrics:
        if (metric.device, metric.name) in seen:
            raise InvalidInput(f"sparkplug: {node.group}/{node.node}: {metric.name} is there twice")
        seen.add((metric.device, metric.name))
        if metric.unit is not None:
            convert(number_in(Payload.Metric(int_value=1), 7), metric.unit, metric.to)
