"""The load in the broker: topics, registrations, readings, and what they come to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer

from schemas.log import Log
from schemas.reading import HEARTBEAT, READING, REGISTERED
from schemas.units import MINUTE_MS
from streams.core.encode import signed_headers
from streams.core.records import ARROW
from streams.core.signature import reading_key, sign_reading
from streams.kafka.producer import producer_config
from streams.kafka.topics import create_topic
from tests.bench.dirt import DirtyReadings
from tests.bench.readings import PARTITIONS, ROW, SPAN_MS, START_MS, STEP_MS, Readings, names_of

ARRAY_ROWS, ARROW_ROWS = 100, 1_000
ROWS_A_RECORD = {"json-array": ARRAY_ROWS, "arrow": ARROW_ROWS, "arrow-signed": ARROW_ROWS, "arrow-minute": ARROW_ROWS}
"""By encoding; 1 in all others. `plain` holds single JSON readings and nothing else, for who only adds or counts."""

REGISTRATIONS = "registrations"
"""The encoding of a load without readings."""

STEPS = {"fleet": MINUTE_MS, "minute": MINUTE_MS, "arrow-minute": MINUTE_MS}
"""How often a machine reports, if not every STEP_MS."""

DIRT = {"json-dirty10": 0.1, "json-dirty100": 1.0}
OWNER, SITE = "0x" + "a1" * 20, "0x" + "b2" * 20
KEY_ID, PRIVATE_KEY = "gateway-1", bytes(range(32))
QUEUE_RECORDS, QUEUE_KBYTES = 500_000, 1_000_000
FLUSH_SECONDS = 120

Sent = tuple[int, int, bytes, bytes]
"""Partition, timestamp (epoch ms), key, value."""

Headers = Any
"""A list of (name, bytes)."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent: accepted readings, usage and sum of registers by machine, and the refused entries by reason."""

    readings: int
    machines: dict[str, tuple[int, int, int]]
    duplicates: int = 0
    rejects: dict[str, int] = {}
    trust: int = 0

    @classmethod
    def read(cls, path: Path) -> "Load":
        """As `write` left it."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> Path:
        """Writes it as JSON, for contenders without this project's packages."""
        path.write_bytes(msgspec.json.encode(self))
        return path


def log_of(encoding: str, readings: int, machines: int) -> Log:
    """A log with the settings that the demo has, named after what it holds."""
    name = f"bench-{encoding}-{readings}-{machines}"
    return Log(log_id=name, topic=name, partitions=PARTITIONS, timestamp_type="CreateTime")


def register_machines(servers: str, log: Log, machines: int) -> None:
    """Makes the topic and registers the machines: a day price and a night price, a gateway's key."""
    create_topic(servers, log)
    producer = producer_of(servers)
    headers = [("ce_type", REGISTERED.encode()), ("content-type", b"application/json")]
    for number, name in enumerate(names_of(machines)):
        value = msgspec.json.encode(registration_of(name.decode()))
        produce(producer, number, log.topic, value, name, timestamp=START_MS, headers=headers)
    flush(producer)


def send_readings(servers: str, log: Log, encoding: str, machines: int, count: int, span_ms: int = SPAN_MS) -> Load:
    """Sends the readings, then what closes all windows: heartbeats, and to `plain` a late reading of nobody."""
    create_topic(servers, log)
    readings = Readings(machines, count, STEPS.get(encoding, STEP_MS), span_ms)
    dirty = DirtyReadings(readings, DIRT[encoding]) if encoding in DIRT else None
    producer = producer_of(servers)
    for number, (partition, moment, key, value) in enumerate(_values(encoding, readings, dirty)):
        headers = _headers(encoding, log, key, value)
        produce(producer, number, log.topic, value, key, partition, timestamp=moment, headers=headers)
    for partition in range(PARTITIONS):
        is_plain = encoding == "plain"
        value = ROW % (b"", 0, 0, readings.end_ms, 0) if is_plain else b""
        headers = [] if is_plain else [("ce_type", HEARTBEAT.encode())]
        produce(producer, 0, log.topic, value, b"end", partition, timestamp=readings.end_ms, headers=headers)
    flush(producer)
    if dirty is not None:
        return Load(
            readings=count, machines=dirty.by_machine(), duplicates=dirty.duplicates, rejects=dict(dirty.rejects)
        )
    return Load(readings=count, machines=readings.by_machine(), trust=int(encoding == "arrow-signed"))


def _values(encoding: str, readings: Readings, dirty: DirtyReadings | None) -> Iterator[Sent]:
    if dirty is not None:
        return dirty.singles()
    if encoding == "json-array":
        return readings.batches(ARRAY_ROWS, "json")
    if encoding.startswith("arrow"):
        return readings.batches(ARROW_ROWS, "arrow")
    return readings.singles()


def _headers(encoding: str, log: Log, key: bytes, value: bytes) -> Headers:
    if encoding in ("arrow", "arrow-minute"):
        return [("content-type", ARROW.encode())]
    if encoding == "arrow-signed":
        return list(signed_headers(ARROW, KEY_ID, sign_reading(PRIVATE_KEY, log.log_id, key, READING, ARROW, value)))
    return []


def producer_of(servers: str) -> Producer:
    """A producer that ends the bench if the broker refuses a record."""
    return Producer(
        producer_config(servers)
        | {
            "linger.ms": 50,
            "batch.size": 500_000,
            "queue.buffering.max.messages": QUEUE_RECORDS,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            "delivery.report.only.error": True,
            "on_delivery": _refused,
        }
    )


def produce(
    producer: Producer,
    number: int,
    topic: str,
    value: bytes,
    key: bytes,
    partition: int = -1,
    *,
    timestamp: int,
    headers: Headers,
) -> None:
    """Sends a record, the `number`th of a load; waits where the queue is full."""
    if not number & 1_023:
        producer.poll(0)
    while True:
        try:
            producer.produce(topic, value, key, partition, timestamp=timestamp, headers=headers)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def flush(producer: Producer) -> None:
    """Waits until the broker has all of it."""
    if producer.flush(FLUSH_SECONDS):
        raise SystemExit("the broker did not take the load in time")


def _refused(error: object, _message: object) -> None:
    raise SystemExit(f"the broker refused a record of the load: {error}")


def registration_of(name: str) -> dict[str, object]:
    price = {"meter": "energy", "per": 1_000}
    by_day = {"start_time": "06:00", "end_time": "22:00"}
    return {
        "machine": name,
        "route": name,
        "version": 1,
        "kind": "charger",
        "effective_from": 0,
        "meters": [{"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000}],
        "tariff": {
            "elements": [
                {
                    "components": [price | {"price": 420_000}],
                    "restrictions": by_day,
                },
                {"components": [price | {"price": 310_000}]},
            ],
            "offsets": [[0, 3_600]],
        },
        "agreement": {"payees": {OWNER: 7_000, SITE: 3_000}},
        "keys": [{"key_id": KEY_ID, "public_key": reading_key(PRIVATE_KEY)}],
    }
