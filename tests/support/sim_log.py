"""A log in memory with a LogReader, and small logs to put into it."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.order import INVOICED, RECEIVED
from schemas.payment import PAID
from schemas.reading import READING, REGISTERED
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.records import JSON, LogRecord, Record
from streams.core.signature import operator_account, sign_control, sign_reading
from streams.storage.log_reader import LogReader
from tests.support.signed_logs import key_of, private_key

START_MS = 18_000 * 24 * HOUR_MS
"""Where the small logs begin: a midnight."""

HOURLY = Log(log_id="small", partitions=1, timestamp_type="CreateTime", epoch_ms=HOUR_MS)
"""One partition, windows of 15 minutes, epochs of an hour, 10 minutes of grace."""


class SimLog(LogReader):
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

    def pieces(self, size: int) -> Iterator[tuple[int, int, list[Record]]]:
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


SUPPLIER = bytes([11]) * 32
"""The private key of whoever sells to the shop."""


def with_shop(log: SimLog, minute: int) -> SimLog:
    """The same log, with a machine that at a minute orders, is supplied and billed, and serves who paid before."""
    moment = START_MS + minute * MINUTE_MS
    before = [record for record in log.records if record.timestamp <= moment]
    shop = shop_records(before[-1].offset + 1, moment)
    after = [record._replace(offset=record.offset + len(shop)) for record in log.records[len(before) :]]
    return SimLog([*before, *shop, *after], end=log.end + len(shop))


def shop_records(offset: int, moment: int) -> list[Record]:
    """What the shop and those who trade with it write, from an offset on, all at one moment (epoch ms)."""
    order = {"machine": "shop", "item": "beans", "number": 1, "quantity": 3}
    session = {"session": "s", "session_started_at": moment}
    row = {"machine": "shop", "boot": 1, "observed_at": moment}
    payment = {
        "machine": "shop", "version": 1, "session": "s", "payer": "0x" + "d" * 40, "amount": 900_000,
        "valid_until": moment + 40 * MINUTE_MS, "block": 1, "transaction": "0x" + "0" * 64, "log_index": 0,
    }  # fmt: skip
    sent: list[tuple[str, dict[str, Any]]] = [
        (REGISTERED, shop_registration()),
        (PAID, payment),
        (READING, row | {"meter": "stock", "seq": 1, "level": 2}),
        (READING, row | session | {"meter": "cups", "seq": 1, "quantity": 2, "session_end": True}),
        (RECEIVED, order | {"observed_at": moment}),
        (INVOICED, order | {"unit_price": 70_000, "reference": "INV-1"}),
    ]
    return [shop_record(offset + place, moment, *one) for place, one in enumerate(sent)]


def shop_registration() -> dict[str, Any]:
    """A machine that sells cups at 0.25 and orders beans."""
    meters = [("cups", "quantity"), ("stock", "level")]
    policy = {
        "item": "beans", "meter": "stock", "reorder_at": 2, "quantity": 4, "unit_price": 70_000,
        "supplier": operator_account(SUPPLIER), "budget": 1_000_000,
    }  # fmt: skip
    return {
        "machine": "shop", "route": "shop", "version": 1, "kind": "robot", "effective_from": 0,
        "meters": [
            {"meter": meter, "unit": "count", "kind": kind, "capacity_per_hour": 100} for meter, kind in meters
        ],
        "tariff": {"elements": [{"components": [{"meter": "cups", "price": 250_000, "per": 1}]}], "offsets": [[0, 0]]},
        "agreement": {"payees": {"owner": 10_000}}, "keys": [key_of("k", 1)], "orders": [policy],
    }  # fmt: skip


def shop_record(offset: int, timestamp: int, kind: str, document: dict[str, Any]) -> Record:
    """One of them, signed where it must be."""
    value = msgspec.json.encode(document)
    parts = (HOURLY.log_id, b"shop", kind, JSON, value)
    headers: list[tuple[str, bytes]] = [("ce_type", kind.encode())]
    if kind == RECEIVED:
        headers += [("signature", sign_reading(private_key(1), *parts)), ("key-id", b"k")]
    if kind == INVOICED:
        headers.append(("signature", sign_control(SUPPLIER, *parts)))
    return Record(offset, timestamp, b"shop", value, headers)
