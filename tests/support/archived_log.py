"""A data folder with a real archive: two machines in two partitions, hourly epochs, made as a worker makes it."""

from pathlib import Path

import msgspec

from schemas.log import Log
from schemas.reading import HEARTBEAT, READING, REGISTERED
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.murmur2 import partition_of
from streams.core.records import Record
from streams.worker.partition import Partition
from tests.support.sim_log import SimLog

LOG = Log(log_id="watched", partitions=2, timestamp_type="CreateTime", epoch_ms=HOUR_MS)
START_MS = 18_000 * DAY_MS + 15 * MINUTE_MS
OWNER, SITE = "0x" + "a1" * 20, "0x" + "b2" * 20
MACHINES = [
    next(name for number in range(99) if partition_of((name := f"m{number}").encode(), 2) == partition)
    for partition in (0, 1)
]
PRICE = 300_007
"""Micros for 1,000 Wh."""


def registration(machine: str) -> dict[str, object]:
    """A machine whose owner gets two thirds, near enough."""
    return {
        "machine": machine, "route": machine, "version": 1, "kind": "charger", "effective_from": 0,
        "meters": [
            {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000},
            {"meter": "visits", "unit": "count", "kind": "quantity", "capacity_per_hour": 60},
        ],
        "tariff": {
            "elements": [{"components": [
                {"meter": "energy", "price": PRICE, "per": 1_000},
                {"meter": "visits", "price": 500_000, "per_session": True},
            ]}],
            "offsets": [[0, 0]],
        },
        "agreement": {"payees": {OWNER: 6_667, SITE: 3_333}},
    }  # fmt: skip


def records_of(machine: str, hours: int) -> SimLog:
    """A reading every five minutes, some twice, one late by an hour, a correction; then silence to the last cut."""
    log: list[Record] = []

    def send(kind: str, at_ms: int, document: object) -> None:
        value = msgspec.json.encode(document)
        log.append(Record(len(log), START_MS + at_ms, machine.encode(), value, [("ce_type", kind.encode())]))

    send(REGISTERED, 0, registration(machine))
    for number in range(12 * hours):
        at_ms = number * 5 * MINUTE_MS + MINUTE_MS
        row = {"machine": machine, "meter": "energy", "boot": 1, "seq": number, "observed_at": START_MS + at_ms}
        row |= {"register": 137 * number}
        visit = {"machine": machine, "meter": "visits", "boot": 1, "seq": number, "observed_at": START_MS + at_ms}
        visit |= {"quantity": 1, "session": f"s{number}", "session_started_at": START_MS + at_ms, "session_start": True}
        if number % 7 != 3:
            send(READING, at_ms, [row, visit] if number % 4 == 0 else row)
        if number % 5 == 2:
            send(READING, at_ms, row)
        if number == 15:
            late = row | {"seq": 3, "observed_at": START_MS + 16 * MINUTE_MS, "meter": "visits", "quantity": 1}
            send(READING, at_ms, late)
            send("usage.corrected", at_ms, {
                "machine": machine, "version": 1, "meter": "energy", "observed_at": START_MS + at_ms,
                "difference": -40, "reason": "credit note",
            })  # fmt: skip
    send(HEARTBEAT, hours * HOUR_MS + 11 * MINUTE_MS, None)
    send(HEARTBEAT, hours * HOUR_MS + 12 * MINUTE_MS, None)
    return SimLog(log)


def fill(data_dir: Path, hours: int = 3, log: Log = LOG) -> None:
    """The log's archives and epochs, as workers leave them."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "log.json").write_bytes(msgspec.json.encode(log))
    for partition, machine in enumerate(MACHINES):
        records = records_of(machine, hours)
        opened = Partition.open(data_dir, log, partition, records.topic_id(), records)
        assert opened is not None
        opened.process(0, records.end, records.records)
        opened.close()
