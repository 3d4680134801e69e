"""Sparkplug B: the definition and its module, values, births and aliases, and which messages count once."""

import random
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.mqtt import sparkplug_b_pb2
from tallyroot_gateway.mqtt.sparkplug import Topic, rebirth, topic_of
from tallyroot_gateway.mqtt.sparkplug_b_pb2 import Payload
from tallyroot_gateway.mqtt.sparkplug_values import NAMES, number_in
from tests.support.mqtt_gateways import NOW_MS, Bench, bench, refused

DEFINITION = Path(sparkplug_b_pb2.__file__).with_name("sparkplug_b.proto")


def declared_in(text: str) -> Iterator[tuple[str, str, str, str, int]]:
    """(message, label or oneof, type, name, number) of every field of a .proto file, in our own reading of it."""
    open_blocks: list[str] = []
    for line in re.sub(r"//.*", "", text).splitlines():
        if found := re.match(r"\s*(message|oneof) (\w+) \{", line):
            open_blocks.append(found.group(2))
        elif found := re.match(r"\s*(?:(optional|repeated) )?(\w+) (\w+) = (\d+);", line):
            label, kind, name, number = found.groups()
            message = open_blocks if label else open_blocks[:-1]
            yield ".".join(message), label or open_blocks[-1], kind, name, int(number)
        elif line.strip() == "}":
            open_blocks.pop()


KINDS = {
    FieldDescriptor.TYPE_UINT64: "uint64", FieldDescriptor.TYPE_UINT32: "uint32", FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes", FieldDescriptor.TYPE_BOOL: "bool", FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
}  # fmt: skip


def compiled_in(message: Descriptor, inside: str = "") -> Iterator[tuple[str, str, str, str, int]]:
    path = f"{inside}{message.name}"
    for field in message.fields:
        label = "repeated" if field.is_repeated else "optional"
        where = label if field.containing_oneof is None else field.containing_oneof.name
        kind = field.message_type.name if field.message_type is not None else KINDS[field.type]
        yield path, where, kind, field.name, field.number
    for nested in message.nested_types:
        yield from compiled_in(nested, f"{path}.")


def test_the_module_is_what_the_definition_says() -> None:
    assert sorted(declared_in(DEFINITION.read_text())) == sorted(compiled_in(Payload.DESCRIPTOR))
    assert len(list(declared_in(DEFINITION.read_text()))) == 34


def test_a_payload_is_the_published_one_on_the_wire() -> None:
    """Written by hand from the numbers of the specification: name 1, timestamp 3, datatype 4, double 13."""
    metric = b"\x0a\x01E" + b"\x18\x05" + b"\x20\x0a" + b"\x69" + struct.pack("<d", 2.5)
    wire = b"\x08\x07" + b"\x12" + bytes([len(metric)]) + metric + b"\x18\xff\x01"
    payload = Payload.FromString(wire)
    assert (payload.timestamp, payload.seq, payload.metrics[0].name, payload.metrics[0].double_value) == (
        7,
        255,
        "E",
        2.5,
    )
    assert payload.SerializeToString() == wire


M = Payload.Metric


@pytest.mark.parametrize(
    ("metric", "datatype", "value"),
    [
        (M(int_value=0xFFFFFFFF), 1, -1),  # tahu #71
        (M(int_value=0xFF), 1, -1),
        (M(int_value=0x7F), 1, 127),
        (M(int_value=0xFFFFFFA9), 2, -87),  # pysparkplug #26
        (M(int_value=0xFFA9), 2, -87),
        (M(int_value=0xFFFFFFFF), 3, -1),
        (M(long_value=0xFFFFFFFF), 3, -1),
        (M(long_value=2**64 - 1), 3, -1),
        (M(long_value=2**64 - 1), 4, -1),
        (M(long_value=2**63), 4, -(2**63)),
        (M(int_value=255), 5, 255),
        (M(int_value=65_535), 6, 65_535),
        (M(int_value=2**32 - 1), 7, 2**32 - 1),  # thingsboard #15179
        (M(long_value=2**32 - 1), 7, 2**32 - 1),  # tahu #218
        (M(long_value=2**64 - 1), 8, 2**64 - 1),
        (M(int_value=5), 8, 5),
        (M(float_value=0.1), 9, Fraction(13421773, 134217728)),
        (M(double_value=0.1), 10, Fraction(3602879701896397, 36028797018963968)),
        (M(boolean_value=True), 11, 1),
        (M(string_value=" 1234.500 "), 12, Fraction("1234.5")),
    ],
)
def test_a_value_is_exact(metric: Payload.Metric, datatype: int, value: Any) -> None:
    assert number_in(metric, datatype) == value


@pytest.mark.parametrize(
    ("metric", "datatype", "said"),
    [
        (M(int_value=256), 5, "no UInt8"),
        (M(int_value=0x1FF), 1, "no Int8"),
        (M(int_value=0xFFFF00FF), 1, "no Int8"),
        (M(long_value=2**32), 7, "no UInt32"),
        (M(double_value=float("nan")), 10, "not a number"),
        (M(float_value=float("inf")), 9, "not a number"),
        (M(string_value="12 kWh"), 12, "not a number"),
        (M(string_value="1"), 3, "Int32 in string_value"),
        (M(), 10, "Double in nothing"),
        (M(template_value=b"x"), 19, "Template is no number"),
        (M(dataset_value=b"x"), 16, "DataSet is no number"),
        (M(long_value=NOW_MS), 13, "DateTime is no number"),
        (M(bytes_value=b"x"), 22, "datatype 22"),
    ],
)
def test_what_is_no_number_is_refused(metric: Payload.Metric, datatype: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        number_in(metric, datatype)
    assert NAMES[19] == "Template"


def test_a_topic_is_read_strictly() -> None:
    assert topic_of("spBv1.0/plant/DDATA/line-3/press") == Topic("plant", "DDATA", "line-3", "press")
    assert topic_of("spBv1.0/plant/NDATA/line-3") == Topic("plant", "NDATA", "line-3", None)
    for text in ("spBv1.0/plant/NDATA/line-3/press", "spBv1.0/plant/DDATA/line-3", "spBv1.0/STATE/host",
                 "spBv1.0/plant/NCMD/line-3", "spAv1.0/plant/NDATA/line-3", "spBv1.0/a/DDATA/b/c/d"):  # fmt: skip
        assert topic_of(text) is None


# A node that speaks

METRICS = [
    {"name": "Energy/Total", "machine": "line-3", "meter": "energy", "unit": "kWh"},
    {"name": "Parts", "machine": "line-3", "meter": "parts", "kind": "quantity", "unit": "count", "to": "count"},
    {"name": "Energy", "device": "press", "machine": "press-1", "meter": "energy"},
    {
        "name": "Power",
        "device": "press",
        "machine": "press-1",
        "meter": "power",
        "kind": "level",
        "unit": "kW",
        "to": "W",
    },
]
TABLES = {"sparkplug": {"nodes": [{"group": "plant", "node": "line-3", "route": "site-1", "metrics": METRICS}]}}


class Node:
    """An edge node: its numbers go round as the specification says."""

    def __init__(self, gateway: Bench) -> None:
        self.gateway, self.seq, self.bd_seq, self.now = gateway, 0, 0, NOW_MS

    def say(self, kind: str, *metrics: Payload.Metric, device: str | None = None, **more: Any) -> bool:
        self.now += 1_000
        self.gateway.clock.now_ms = self.now
        topic = f"spBv1.0/plant/{kind}/line-3" + (f"/{device}" if device else "")
        payload = Payload(timestamp=self.now, seq=self.seq, metrics=metrics)
        if kind == "NDEATH":
            payload = Payload(metrics=metrics)
        else:
            self.seq = (self.seq + 1) % 256
        self.last = topic, payload.SerializeToString()
        return self.gateway.hand(*self.last, **more)

    def birth(self, total: float = 1.0, energy: int = 100, **more: Any) -> None:
        self.seq = 0
        bd_seq = M(name="bdSeq", datatype=8, long_value=self.bd_seq)
        parts = M(name="Parts", alias=2, datatype=7, int_value=0)
        self.say("NBIRTH", bd_seq, M(name="Energy/Total", alias=1, datatype=10, double_value=total), parts, **more)
        unit = Payload.PropertySet(keys=["engUnit"], values=[Payload.PropertyValue(type=12, string_value="Wh")])
        own = M(name="Energy", alias=3, datatype=8, long_value=energy, properties=unit)
        power = M(name="Power", alias=4, datatype=3, int_value=2)
        self.say("DBIRTH", own, power, device="press", **more)

    def death(self, bd_seq: int) -> None:
        self.say("NDEATH", M(name="bdSeq", datatype=8, long_value=bd_seq))


def energy(gateway: Bench) -> list[int]:
    return [row["register"] for row in gateway.rows() if (row["machine"], row["meter"]) == ("line-3", "energy")]


def total(kwh: float, **more: Any) -> Payload.Metric:
    return M(alias=1, double_value=kwh, **more)


def test_a_node_is_heard_by_names_and_by_aliases(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        node.say("NDATA", total(1.5), M(alias=2, int_value=3))
        node.say("DDATA", M(alias=3, long_value=250), M(alias=4, int_value=7), device="press")
        node.say("NDATA", M(name="Energy/Total", datatype=10, double_value=2.0))
        rows = gateway.rows()
        said = [
            (row["machine"], row["meter"], row.get("register", row.get("quantity", row.get("level")))) for row in rows
        ]
        assert said == [
            ("line-3", "energy", 1000), ("press-1", "energy", 100), ("press-1", "power", 2000),
            ("line-3", "energy", 1500), ("line-3", "parts", 3), ("press-1", "energy", 250), ("press-1", "power", 7000),
            ("line-3", "energy", 2000),
        ]  # fmt: skip
        assert {row["observed_at"] for row in rows} == {NOW_MS + 1000 * n for n in range(1, 6)}
        assert not gateway.refusals()


def test_the_number_wraps_and_a_message_counts_once(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        for number in range(600):
            assert node.say("NDATA", total(2 + number))
            assert not gateway.hand(*node.last)
            if number % 150 == 0:
                gateway.restart()
                gateway.sparkplug.connected(session_present=True)
                assert not gateway.hand(*node.last, repeated=True)
        assert refused(gateway.intake, "gap") == 0
        assert not gateway.sparkplug.rebirths(node.now)
        assert energy(gateway) == [1000 * number for number in range(1, 602)]


def test_after_a_gap_aliases_are_not_believed_until_the_node_is_born_again(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        node.seq += 1  # one was missed
        node.say("NDATA", total(7.0), M(name="Energy/Total", datatype=10, double_value=8.0))
        assert gateway.sparkplug.rebirths(node.now) == ["spBv1.0/plant/NCMD/line-3"]
        assert gateway.sparkplug.rebirths(node.now) == []
        node.say("NDATA", total(9.0))
        node.birth(total=10.0)
        node.say("NDATA", total(11.0))
        assert [refusal["reason"] for refusal in gateway.refusals()] == ["gap", "alias_after_gap", "alias_after_gap"]
        assert energy(gateway) == [1000, 8000, 10000, 11000]


def test_a_rebirth_is_asked_for_ever_less_often(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        gateway.sparkplug.connected(session_present=False)
        asked = [at for at in range(NOW_MS, NOW_MS + 3_600_000, 1_000) if gateway.sparkplug.rebirths(at)]
        assert [(after - before) // 1_000 for before, after in pairwise(asked)][:7] == [
            10, 20, 40, 80, 160, 320, 600,
        ]  # fmt: skip
    (metric,) = Payload.FromString(rebirth(NOW_MS)).metrics
    assert (metric.name, metric.boolean_value) == ("Node Control/Rebirth", True)


def test_a_connection_without_the_session_makes_aliases_doubtful(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        gateway.restart()
        gateway.sparkplug.connected(session_present=True)
        assert node.say("NDATA", total(2.0), qos=1)  # the broker has kept the session: nothing was missed
        gateway.sparkplug.connected(session_present=True)
        node.say("NDATA", total(3.0), qos=0)  # but nobody keeps messages of QoS 0
        gateway.sparkplug.connected(session_present=False)
        node.birth(total=4.0)
        gateway.sparkplug.connected(session_present=False)
        node.say("NDATA", total(5.0), qos=1)
        assert energy(gateway) == [1000, 2000, 4000]


def test_what_a_birth_repeats_is_no_new_reading(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        old = M(name="Energy/Total", alias=1, datatype=10, double_value=5.0, timestamp=NOW_MS)
        parts = M(name="Parts", alias=2, datatype=7, int_value=4, timestamp=NOW_MS)
        node.say("NBIRTH", old, parts)
        node.say("NDATA", M(alias=2, int_value=4))
        gateway.restart()
        node.seq = 0
        node.say("NBIRTH", old, parts)
        node.say("NDATA", total(6.0))
        assert [row.get("quantity") or row["register"] for row in gateway.rows()] == [5000, 4, 6000]


def test_the_late_death_of_a_connection_before_changes_nothing(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        node.bd_seq = 1
        node.birth(total=2.0)
        node.death(bd_seq=0)
        node.say("NDATA", total(3.0))
        node.death(bd_seq=1)
        node.say("NDATA", total(4.0))  # nobody who is dead has aliases
        assert energy(gateway) == [1000, 2000, 3000]
        assert gateway.sparkplug.rebirths(node.now)


def test_a_retained_birth_is_not_believed(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth(retained=True)
        node.say("NDATA", total(2.0))
        assert refused(gateway.intake, "retained") == 2
        assert gateway.sparkplug.rebirths(node.now)
        assert energy(gateway) == []


def test_stored_data_has_its_own_time_and_says_nothing_of_the_clock(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        past = NOW_MS - 3_600_000
        node.say("NDATA", *(total(kwh, is_historical=True, timestamp=past + kwh) for kwh in (2, 3)), total(4.0))
        rows = [row for row in gateway.rows() if row["machine"] == "line-3"]
        assert [(row["register"], row["observed_at"] < NOW_MS) for row in rows] == [
            (1000, False), (2000, True), (3000, True), (4000, False),
        ]  # fmt: skip
        clock = gateway.intake.metrics.registry.get_sample_value
        assert clock("tallyroot_gateway_clock_offset_seconds", {"device": "plant/line-3"}) == 0.0


def test_what_cannot_be_used_is_set_aside_and_the_rest_taken(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        node.say(
            "NDATA", M(alias=1, is_null=True), M(alias=1, template_value=b"x"), M(alias=77, int_value=1), total(2.0)
        )
        node.say("DDATA", M(name="Energy", datatype=8, long_value=2**60), device="press")
        node.say("DDATA", M(alias=4, int_value=2**32 - 5), device="press")  # -5 kW is no level
        assert not gateway.hand("spBv1.0/plant/NDATA/line-3", b"\x12\xff\xff")
        assert not gateway.hand("spBv1.0/plant/NDATA/stranger", b"")
        reasons = [refusal["reason"] for refusal in gateway.refusals()]
        assert reasons == ["not_a_reading"] * 3 + ["undecodable", "unmapped"]
        assert energy(gateway) == [1000, 2000]


def test_a_unit_that_the_node_says_otherwise_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        unit = Payload.PropertySet(keys=["engUnit"], values=[Payload.PropertyValue(type=12, string_value="MWh")])
        node = Node(gateway)
        node.say("NBIRTH", M(name="Energy/Total", alias=1, datatype=10, double_value=1.0, properties=unit))
        node.say("NDATA", total(2.0))
        assert {refusal["detail"] for refusal in gateway.refusals()} == {"the node says MWh, the file says kWh"}
        assert energy(gateway) == []


def test_what_the_disk_refused_has_changed_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        with monkeypatch.context() as patched:
            patched.setattr(gateway.intake, "write", lambda *_, **__: (_ for _ in ()).throw(InvalidInput("full")))
            with pytest.raises(InvalidInput):
                node.say("NDATA", total(2.0))
        gateway.sparkplug.connected(session_present=True)
        assert gateway.hand(*node.last, repeated=True)
        assert node.say("NDATA", total(3.0))
        assert refused(gateway.intake, "gap") == 0
        assert energy(gateway) == [1000, 2000, 3000]


def test_whatever_a_node_sends_nothing_breaks(tmp_path: Path) -> None:
    chance = random.Random(17)
    with bench(tmp_path, **TABLES) as gateway:
        node = Node(gateway)
        node.birth()
        for _ in range(3_000):
            node.say(chance.choice(["NDATA", "NBIRTH"]), total(chance.random()), M(alias=2, int_value=1))
            spoiled = bytearray(node.last[1])
            for _ in range(chance.randrange(1, 4)):
                spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
            gateway.hand(node.last[0], bytes(spoiled))
        node.birth(total=10**6)
        assert node.say("NDATA", total(10**6 + 1))
        assert energy(gateway)[-1] == (10**6 + 1) * 1000
