"""A log in Kafka with all that real ones have in them, and what the same records give without Faust or a crash."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from schemas.log import Log
from schemas.manifest import EpochFiles
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.murmur2 import partition_of
from streams.core.records import Record
from streams.core.state_tables import TABLES
from streams.kafka.reader import KafkaLogReader
from streams.kafka.security import client_config
from streams.kafka.topics import create_topic
from streams.storage.state_store import StateStore
from streams.worker.partition import Partition
from tests.support.sim_log import START_MS, heartbeat, reading, registration

PARTITIONS = 4
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

ODD_HEADERS: list[tuple[str, bytes | None]] = [
    ("", b""),
    ("ключ 鍵\n", b"\xff\xfe"),
    ("ce_type", b"\xc3\x28"),
    ("ce_type", None),
    ("content-type", b"text/" + b"x" * 5_000),
]

POISON = [
    Record(0, 0, b"\xff\x00", b"\x00\xff" * 40_000, ODD_HEADERS),
    Record(0, 0, b"", b"", [("content-type", b"application/vnd.apache.arrow.stream")]),
    Record(0, 0, None, None, []),
    Record(0, 0, b"k", b"[" * 100_000, []),
    Record(0, 0, b"k", b'{"machine": "\xed\xa0\x80"}', [("ce_type", b"machine.registered"), ("signature", None)]),
]


def a_log(name: str, **changes: Any) -> Log:
    """A log of four partitions and epochs of an hour, its topic named like it."""
    settings = {"partitions": PARTITIONS, "timestamp_type": "CreateTime", "epoch_ms": HOUR_MS} | changes
    return Log(log_id=name, topic=name, **settings)


def drop_topic(bootstrap_servers: str, log: Log) -> None:
    """Deletes a log's topic, as nobody should."""
    admin = AdminClient(client_config(bootstrap_servers))
    admin.delete_topics([log.topic])[log.topic].result(10)


def allow_any_future(bootstrap_servers: str, log: Log) -> None:
    """Takes away what makes a topic refuse records that are stamped far ahead, as nobody should."""
    admin = AdminClient(client_config(bootstrap_servers))
    changed = ConfigEntry("message.timestamp.after.max.ms", str(2**63 - 1), incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, log.topic, incremental_configs=[changed])
    admin.incremental_alter_configs([topic])[topic].result(10)


def end_offset(bootstrap_servers: str, log: Log, partition: int) -> int:
    """The offset that a partition's next record will have."""
    consumer = Consumer(client_config(bootstrap_servers) | {"group.id": "tests-ends"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(log.topic, partition), 10)[1])
    finally:
        consumer.close()


class Sender:
    """Sends records to where their keys belong; a record without a key goes to partition 0."""

    def __init__(self, bootstrap_servers: str, log: Log, **settings: Any) -> None:
        self.kafka = Producer(client_config(bootstrap_servers) | {"linger.ms": 5} | settings)
        self._log = log

    def send(self, records: Sequence[Record], partition: int | None = None) -> None:
        for record in records:
            place = partition_of(record.key, self._log.partitions) if record.key and partition is None else partition
            headers: Any = list(record.headers)
            self.kafka.produce(
                self._log.topic, record.value, record.key, place or 0, timestamp=record.timestamp, headers=headers
            )

    def end(self, last_ms: int) -> None:
        """Moves the time of every partition to `last_ms`."""
        for partition in range(self._log.partitions):
            self.send([heartbeat(0, last_ms)], partition)
        self.kafka.flush(30)


def readings(hours: int, machines: int = 8, start_ms: int = START_MS) -> list[Record]:
    """A reading of each machine for every minute, in the order of time."""
    return [
        reading(f"m{machine}", 0, start_ms + minute * MINUTE_MS, minute + 1, minute * 100 + machine)
        for minute in range(hours * 60)
        for machine in range(machines)
    ]


def fill(bootstrap_servers: str, log: Log, hours: int = 5) -> None:
    """Machines, readings in every compression, poison, a transaction that ends and one that is aborted, the end."""
    create_topic(bootstrap_servers, log)
    all_readings = readings(hours)
    plain = Sender(bootstrap_servers, log)
    plain.send([registration(f"m{machine}", 0) for machine in range(8)])
    plain.kafka.flush(30)
    part = len(all_readings) // (len(CODECS) + 1)
    for place, codec in enumerate(CODECS):
        sender = Sender(bootstrap_servers, log, **{"compression.type": codec})
        stretch = all_readings[place * part : (place + 1) * part]
        sender.send(stretch)
        sender.send([poison._replace(timestamp=stretch[-1].timestamp) for poison in POISON], place % log.partitions)
        sender.kafka.flush(30)
    rest = all_readings[len(CODECS) * part :]
    bound = Sender(bootstrap_servers, log, **{"transactional.id": log.log_id})
    bound.kafka.init_transactions()
    for place, stretch in enumerate((rest[:100], rest[:40], rest[100:])):
        bound.kafka.begin_transaction()
        bound.send(stretch)
        bound.kafka.flush(30)
        (bound.kafka.abort_transaction if place == 1 else bound.kafka.commit_transaction)()
    plain.end(START_MS + (hours + 1) * HOUR_MS)


class Outcome(NamedTuple):
    """All that a data folder holds and the log alone decides."""

    manifests: dict[str, EpochFiles]
    tables: dict[str, list[tuple[Any, ...]]]

    def differences(self, other: "Outcome") -> list[str]:
        """What is not the same in another one, in words."""
        found = []
        for mine, theirs in zip(self, other, strict=True):
            for name in sorted(mine.keys() | theirs.keys()):
                if mine.get(name) != theirs.get(name):
                    found.append(f"{name}: {mine.get(name)} is {theirs.get(name)}"[:2_000])
        return found


def outcome(data_dir: Path) -> Outcome:
    """The manifests by path, and the rows of every checkpoint by partition and table. No worker may run."""
    manifests = {
        str(path.relative_to(data_dir)): msgspec.json.decode(path.read_bytes(), type=EpochFiles)
        for path in sorted(data_dir.glob("epochs/*/*.manifest.json"))
    }
    tables = {}
    for path in sorted(data_dir.glob("partitions/*.duckdb")):
        with duckdb.connect(str(path)) as db:
            for name, rows in StateStore(db).load().items():  # how it is stored depends on where slices end
                keys = [(key, "ascending") for key in TABLES[name].key]
                tables[f"{path.stem}.state.{name}"] = [tuple(row.values()) for row in rows.sort_by(keys).to_pylist()]
            stored = {name for (name,) in db.execute("select table_name from duckdb_tables()").fetchall()}
            for name in sorted(stored - {"state", "changes"}):
                tables[f"{path.stem}.{name}"] = db.execute(f'select * from "{name}" order by all').fetchall()
    return Outcome(manifests, tables)


def without_faust(bootstrap_servers: str, log: Log, data_dir: Path) -> Outcome:
    """What the rest of the log gives when each partition is one slice, in this process, undisturbed."""
    reader = KafkaLogReader(bootstrap_servers, log.topic)
    try:
        for number in range(log.partitions):
            partition = Partition.open(data_dir, log, number, reader.topic_id(), reader)
            assert partition is not None
            start, (_, end) = partition.next_offset or 0, reader.range(number)
            partition.process(start, end, list(reader.read(number, start, end)))
            partition.close()
    finally:
        reader.close()
    return outcome(data_dir)
