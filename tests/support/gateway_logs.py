"""A live log with one machine, for tests of gateways, and what the core makes of what arrived in it."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.log import Log
from streams.core.advance import Advanced, advance
from streams.core.murmur2 import partition_of
from streams.core.records import LogRecord
from streams.core.sealing import open_windows
from streams.core.signature import reading_key
from streams.core.state import State
from streams.kafka.producer import LogProducer
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic

KEY = bytes(range(32))


def new_log(kafka: str, name: str, **registration: Any) -> Log:
    """A live log with one machine, taxi-1, whose trips (0.30 each) and energy are metered and signed by gw-1."""
    log = Log(log_id=name, topic=name)
    create_topic(kafka, log)
    document = {
        "machine": "taxi-1",
        "route": "taxi-1",
        "version": 1,
        "kind": "taxi",
        "effective_from": 0,
        "meters": [
            {"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 10**9},
            {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000},
        ],
        "tariff": {
            "elements": [{"components": [{"meter": "trips", "price": 300_000, "per": 1}]}],
            "offsets": [[0, 0]],
        },
        "agreement": {"payees": {"owner": 10_000}},
        "keys": [{"key_id": "gw-1", "public_key": reading_key(KEY)}],
    }
    producer = LogProducer(kafka, log)
    producer.send(
        int(time.time() * 1000), b"taxi-1", msgspec.json.encode(document | registration),
        [("ce_type", b"machine.registered")],
    )  # fmt: skip
    producer.flush()
    producer.close()
    return log


def arrived(kafka: str, log: Log) -> tuple[State, Advanced, Sequence[LogRecord]]:
    """The machine's partition, taken through the core: state, what it came to, the records of readings."""
    partition = partition_of(b"taxi-1", log.partitions)
    reader = KafkaLogReader(kafka, log.topic)
    first, end = reader.range(partition)
    records = list(reader.read(partition, first, end))
    reader.close()
    state = State.new(log, partition)
    return state, advance(state, records), records[1:]


def window_facts(state: State) -> tuple[int, int, int]:
    """(readings, usage, lowest trust) of the machine's open windows."""
    windows = open_windows(state)
    return (
        sum(window.readings for window in windows),
        sum(line.usage for window in windows for line in window.lines),
        min(window.trust for window in windows),
    )
