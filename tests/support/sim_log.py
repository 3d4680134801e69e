"""A log in memory with a LogReader, and small logs to put into it."""

from collections.abc import Iterator, Sequence

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.records import LogRecord, Record

START_MS = 18_000 * 24 * HOUR_MS
"""Where the small logs begin: a midnight."""

HOURLY = Log(log_id="small", partitions=1, timestamp_type="CreateTime", epoch_ms=HOUR_MS)
"""One partition, windows of 15 minutes, epochs of an hour, 10 minutes of grace."""


class SimLog:
    """Implements LogReader. Offsets may have gaps, as transactions and compaction leave them."""

    def __init__(self, records: Sequence[Record] = (), *, end: int | None = None) -> None:
        self.records = list(records)
        self.end = end if end is not None else (records[-1].offset + 1 if records else 0)
        self.reads: list[tuple[int, int]] = []

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        if next > self.end:
            raise InvalidInput(f"partition {partition} ends at {self.end}")
        self.reads.append((first, next))
        return (record for record in self.records if first <= record.offset < next)

    def range(self, partition: int) -> tuple[int, int]:
        return 0, self.end

    def topic_id(self) -> str:
        return "topic-1"

    def close(self) -> None:
        pass

    def slices(self, size: int) -> Iterator[tuple[int, int, list[Record]]]:
        """(start, next, records) by `size` records, each starting where the one before ended."""
        start = 0
        for place in range(0, len(self.records), size):
            records = self.records[place : place + size]
            whole = place + size >= len(self.records)
            next = self.end if whole else records[-1].offset + 1
            yield start, next, records
            start = next


def registration(machine: str, offset: int, timestamp: int = START_MS) -> Record:
    """A machine with one energy meter at 0.30 per kWh, whose owner gets 70 % and whose site 30 %."""
    document = {
        "machine": machine,
        "route": machine,
        "version": 1,
        "kind": "charger",
        "effective_from": 0,
        "meters": [{"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000}],
        "tariff": {
            "elements": [{"components": [{"meter": "energy", "price": 300_000, "per": 1_000}]}],
            "offsets": [[0, 0]],
        },
        "agreement": {"payees": {"owner": 7_000, "site": 3_000}},
    }
    headers = [("ce_type", b"machine.registered"), ("content-type", b"application/json")]
    return Record(offset, timestamp, machine.encode(), msgspec.json.encode(document), headers)


def reading(machine: str, offset: int, observed_at: int, seq: int, register: int, lag_ms: int = 1_000) -> Record:
    """A register of a machine's energy meter, logged `lag_ms` after it was observed."""
    document = {
        "machine": machine,
        "meter": "energy",
        "boot": 1,
        "seq": seq,
        "observed_at": observed_at,
        "register": register,
    }
    return Record(offset, observed_at + lag_ms, machine.encode(), msgspec.json.encode(document), [])


def heartbeat(offset: int, timestamp: int) -> Record:
    """A record that only moves time."""
    return Record(offset, timestamp, None, b"", [("ce_type", b"heartbeat")])


def small_log(machines: int = 3, minutes: int = 150, step_minutes: int = 5, silent_hours: int = 4) -> SimLog:
    """Some hours of some machines: with rejects, a late reading, gaps of offsets, then silence until two heartbeats."""
    names = [f"m{number}" for number in range(machines)]
    records = [registration(name, offset) for offset, name in enumerate(names)]
    offset = len(records)
    for minute in range(0, minutes, step_minutes):
        moment = START_MS + minute * MINUTE_MS
        for place, name in enumerate(names):
            records.append(reading(name, offset, moment, minute + 1, minute * 100 * (place + 1)))
            offset += 1
        if minute % 30 == 10:
            records.append(Record(offset, moment + 1_000, b"m0", b"{ not json", []))
            records.append(Record(offset + 2, moment + 1_000, None, None, [("trace", b"\x00\xff"), ("trace", b"")]))
            offset += 5
    late = START_MS + 20 * MINUTE_MS + 1
    records.append(reading("m0", offset, late, 22, 2_001, lag_ms=(minutes - 20) * MINUTE_MS))
    end_ms = START_MS + minutes * MINUTE_MS + silent_hours * HOUR_MS
    records += [heartbeat(offset + 1, end_ms), heartbeat(offset + 2, end_ms + MINUTE_MS)]
    return SimLog(records, end=offset + 4)
