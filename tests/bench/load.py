"""The load: the same in every run and in every encoding. Each machine shows its register every ten seconds."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pyarrow as pa

from schemas.log import Log
from schemas.reading import HEARTBEAT, REGISTERED
from schemas.units import DAY_MS, HOUR_MS, SECOND_MS
from streams.adapters.topics import create_topic
from streams.gateway.producer import LogProducer
from streams.murmur2 import partition_of
from streams.records import ARROW

PARTITIONS = 4
START_MS = 18_000 * DAY_MS + 9 * HOUR_MS
"""No epoch ends within the load: neither the archive nor an epoch's files are measured."""

STEP_MS = 10 * SECOND_MS
ARRAY_ROWS, ARROW_ROWS = 100, 1_000
ROWS_A_RECORD = {"json": 1, "json-array": ARRAY_ROWS, "arrow": ARROW_ROWS, "plain": 1}
"""By topic; `plain` holds single JSON readings and nothing else, for those who only sum or count."""

SCHEMA = pa.schema(
    [("machine", pa.string()), ("meter", pa.string())]
    + [(name, pa.int64()) for name in ("boot", "seq", "observed_at", "register")]
)


class Row(msgspec.Struct):
    """A reading as it travels."""

    machine: str
    meter: str
    boot: int
    seq: int
    observed_at: int
    register: int


class Load(NamedTuple):
    """What was sent: `usage` is what all registers rose by since each one's first reading, `registers` their sum."""

    readings: int
    usage: int
    registers: int


def log_of(encoding: str) -> Log:
    """A log with the settings that the demo has; its topic is named after the encoding."""
    return Log(
        log_id=f"bench-{encoding}", topic=f"bench-{encoding}", partitions=PARTITIONS, timestamp_type="CreateTime"
    )


def register_machines(bootstrap_servers: str, log: Log, machines: int) -> None:
    """Makes the topic and registers the machines: a day price and a night price."""
    create_topic(bootstrap_servers, log)
    producer = LogProducer(bootstrap_servers, log)
    headers = [("ce_type", REGISTERED.encode()), ("content-type", b"application/json")]
    for name in names_of(machines):
        producer.send(START_MS, name.encode(), msgspec.json.encode(_registration(name)), headers)
    producer.flush()
    producer.close()


def send_readings(bootstrap_servers: str, log: Log, encoding: str, machines: int, readings: int) -> Load:
    """Sends the readings and, except to `plain`, heartbeats that seal all windows."""
    create_topic(bootstrap_servers, log)
    producer = LogProducer(bootstrap_servers, log)
    pending: list[list[Row]] = [[] for _ in range(PARTITIONS)]
    partitions = {name: partition_of(name.encode(), PARTITIONS) for name in names_of(machines)}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    registers = 0
    for row in rows_of(machines, readings):
        first.setdefault(row.machine, row.register)
        last[row.machine] = row.register
        registers += row.register
        rows = pending[partitions[row.machine]]
        rows.append(row)
        if len(rows) == ROWS_A_RECORD[encoding]:
            _send(producer, encoding, partitions[row.machine], rows)
            rows.clear()
    for partition, rows in enumerate(pending):
        if rows:
            _send(producer, encoding, partition, rows)
        if encoding != "plain":
            end_ms = START_MS + (readings // machines + 1) * STEP_MS + HOUR_MS
            producer.send(end_ms, None, b"", [("ce_type", HEARTBEAT.encode())], partition)
    producer.flush()
    producer.close()
    return Load(readings, sum(last.values()) - sum(first.values()), registers)


def rows_of(machines: int, readings: int) -> Iterator[Row]:
    """The readings in the order of time."""
    draw = random.Random(7)
    names = names_of(machines)
    registers = [draw.randrange(10**6) for _ in names]
    for number in range(readings):
        seq, place = divmod(number, machines)
        registers[place] += draw.randrange(60)
        moment_ms = START_MS + seq * STEP_MS + place * STEP_MS // machines
        yield Row(names[place], "energy", 1, seq, moment_ms, registers[place])


def names_of(machines: int) -> list[str]:
    """The machines' ids."""
    return [f"m-{number:05d}" for number in range(machines)]


def _send(producer: LogProducer, encoding: str, partition: int, rows: list[Row]) -> None:
    headers = [("content-type", ARROW.encode())] if encoding == "arrow" else []
    if encoding == "arrow":
        value = _arrow(rows)
    else:
        value = msgspec.json.encode(rows if encoding == "json-array" else rows[0])
    producer.send(rows[-1].observed_at, rows[0].machine.encode(), value, headers, partition)


def _arrow(rows: list[Row]) -> bytes:
    columns = zip(*(msgspec.structs.astuple(row) for row in rows), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
    return bytes(sink.getvalue().to_pybytes())


def _registration(name: str) -> dict[str, object]:
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
        "agreement": {"payees": {"owner": 7_000, "site": 3_000}},
    }
