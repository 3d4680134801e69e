"""Long logs of many machines that mostly do what they should: where `advance` takes nearly every row in columns."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from schemas.log import Log
from schemas.reading import REGISTERED, Reading
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from streams.core.records import ARROW, Record

START_MS = 18_000 * DAY_MS
LOG = Log(log_id="fleet", partitions=1, timestamp_type="CreateTime", epoch_ms=HOUR_MS)
METERS = (("energy", "register", 22_000), ("trips", "quantity", 60), ("stock", "level", 1_000))

COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("machine", "meter", "session")]
    + [(name, pa.int64()) for name in ("boot", "seq", "observed_at", "register", "quantity", "level")]
    + [("session_started_at", pa.int64())]
    + [(name, pa.bool_()) for name in ("session_start", "session_end", "reconstructed")]
)

Row = dict[str, Any]


class Fleet:
    """Writes one log; the same seed gives the same log. `dirt` (0 to 1) is the share of rows that are wrong."""

    def __init__(self, seed: int, *, dirt: float, machines: int, step_ms: int) -> None:
        self.draw = random.Random(seed)
        self.dirt = dirt
        self.machines = [f"machine-{number:04d}" for number in range(machines)]
        self.step_ms = step_ms
        self.seqs = {(machine, meter): 0 for machine in self.machines for meter, _, _ in METERS}
        self.registers = dict.fromkeys(self.machines, 0)
        self.moduli = {machine: self.draw.choice((None, None, 1_000)) for machine in self.machines}
        """Where a machine's register begins again."""
        self.sessions: dict[str, tuple[str, int]] = {}
        self.past: list[Row] = []

    def registrations(self) -> Iterator[Record]:
        """The machines, each with its own hours at the higher price."""
        headers = [("ce_type", REGISTERED.encode())]
        for offset, machine in enumerate(self.machines):
            value = msgspec.json.encode(self.registration(machine))
            yield Record(offset, START_MS, machine.encode(), value, headers)

    def registration(self, machine: str, version: int = 1) -> Row:
        """A registration whose tariff changes within the log."""
        by_day = {"start_time": self.draw.choice(("00:05", "06:00")), "end_time": self.draw.choice(("00:30", "20:00"))}
        parts = [
            [{"meter": "energy", "price": 300_000, "per": 1_000}, {"meter": "trips", "price": 7, "per": 3}],
            [{"meter": "energy", "price": 200_001, "per": 3}],
        ]
        if self.draw.random() < 0.3:
            parts[1].append({"meter": "energy", "price": 500_000, "per_session": True})
        meters: list[Row] = [
            {"meter": meter, "unit": "x", "kind": kind, "capacity_per_hour": capacity}
            for meter, kind, capacity in METERS
        ]
        if self.moduli[machine]:
            meters[0]["modulus"] = self.moduli[machine]
        if self.draw.random() < 0.3:
            meters[0] |= {"burst": self.draw.choice((10, 1_000)), "starts_per_hour": 4}
        return {
            "machine": machine,
            "route": machine,
            "version": version,
            "kind": "charger",
            "effective_from": 0,
            "meters": meters,
            "tariff": {
                "elements": [{"components": parts[0], "restrictions": by_day}, {"components": parts[1]}],
                "offsets": [[0, 0], [START_MS + 40 * MINUTE_MS, 3_600]],
            },
            "agreement": {"payees": {"owner": 7_000, "site": 3_000}},
        }

    def rows(self, count: int) -> Iterator[tuple[int, Row]]:
        """(timestamp in ms, row) of `count` rows, one after the other from each machine."""
        for number in range(count):
            machine = self.machines[number % len(self.machines)]
            moment_ms = START_MS + number // len(self.machines) * self.step_ms
            row = self.row(machine, moment_ms + number % len(self.machines))
            if self.draw.random() < self.dirt:
                row = self.spoilt(row)
            self.past.append(row)
            yield moment_ms + SECOND_MS, row

    def row(self, machine: str, moment_ms: int) -> Row:
        """The next row of a machine, right in every way."""
        meter, kind, _ = self.draw.choice(METERS)
        self.seqs[machine, meter] += 1
        row: Row = {"machine": machine, "meter": meter, "boot": 1, "seq": self.seqs[machine, meter]}
        row["observed_at"] = moment_ms
        if kind == "register":
            self.registers[machine] += self.draw.randrange(0, 20)
        register = self.registers[machine] % (self.moduli[machine] or 2**53)
        row[kind] = register if kind == "register" else self.draw.choice((0, 0, 1))
        if self.draw.random() < 0.02:
            self.sessions[machine] = (f"s{row['seq']}", moment_ms)
            row["session_start"] = True
        if machine in self.sessions:
            row["session"], row["session_started_at"] = self.sessions[machine]
            if self.draw.random() < 0.05:
                row["session_end"] = self.draw.random() < 0.7
                del self.sessions[machine]
        if self.draw.random() < 0.02:
            row["reconstructed"] = True
        return row

    def spoilt(self, row: Row) -> Row:
        """A row that is wrong, or right and unusual."""
        name = (row["machine"], row["meter"])
        match self.draw.randrange(12):
            case 0 | 1:
                return self.draw.choice(self.past[-200:] or [row])
            case 2:
                self.seqs[name] += self.draw.choice((1, 2, 5, 2**21))
                return row | {"seq": self.seqs[name]}
            case 3:
                return row | {"seq": max(0, row["seq"] - self.draw.choice((1, 2, 5)))}
            case 4:
                return row | {"boot": self.draw.choice((0, 1, 2))}
            case 5:
                return row | {"observed_at": row["observed_at"] + self.draw.choice((-HOUR_MS, -MINUTE_MS, HOUR_MS))}
            case 6:
                return row | {self.draw.choice(("register", "quantity", "level")): 10**7}
            case 7:
                return {key: 10**6 if key in ("register", "quantity") else value for key, value in row.items()}
            case 8:
                return {key: 0 if key in ("register", "quantity") else value for key, value in row.items()}
            case 9:
                return row | {self.draw.choice(("machine", "meter", "session")): self.draw.choice(("nobody", "é", ""))}
            case 10:
                return row | {
                    "session_started_at": row["observed_at"] - self.draw.choice((-1, 0, HOUR_MS, 36 * DAY_MS))
                }
            case _:
                return row | {"more": 1, "boot": self.draw.choice((1, -1, 2**53 + 1))}


def fleet_log(
    seed: int, *, dirt: float = 0.0, encoding: str = "json", machines: int = 12, rows: int = 1_500, batch: int = 1
) -> list[Record]:
    """A log of some hours with new versions on the way. `encoding` is json, arrow or mixed, `batch` rows a record."""
    fleet = Fleet(seed, dirt=dirt, machines=machines, step_ms=MINUTE_MS)
    records = list(fleet.registrations())
    versions = dict.fromkeys(fleet.machines, 1)
    pending: list[Row] = []
    for timestamp, row in fleet.rows(rows):
        pending.append(row)
        if len(pending) < batch:
            continue
        chosen = fleet.draw.choice(("json", "arrow")) if encoding == "mixed" else encoding
        records.append(reading_record(len(records), timestamp, pending, chosen))
        pending = []
        if fleet.draw.random() < 2 / rows * batch:
            machine = fleet.draw.choice(fleet.machines)
            versions[machine] += 1
            value = msgspec.json.encode(fleet.registration(machine, versions[machine]))
            headers = [("ce_type", REGISTERED.encode())]
            records.append(Record(len(records), timestamp, machine.encode(), value, headers))
    return records


def reading_record(offset: int, timestamp: int, rows: Sequence[Row], encoding: str) -> Record:
    """Rows as one record; as JSON where Arrow has no such form."""
    arrow = as_arrow(rows) if encoding == "arrow" else None
    if arrow is not None:
        return Record(offset, timestamp, b"", arrow, (("content-type", ARROW.encode()),))
    return Record(offset, timestamp, b"", msgspec.json.encode(rows[0] if len(rows) == 1 else list(rows)))


def as_arrow(rows: Sequence[Row]) -> bytes | None:
    """Rows as an Arrow stream, or None where they have no such form."""
    known = [{name: cell for name, cell in row.items() if name in Reading.__struct_fields__} for row in rows]
    try:
        table = pa.Table.from_pylist(known, schema=COLUMNS)
    except (pa.ArrowException, TypeError, OverflowError):
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def in_arrow(record: Record) -> Record:
    """The same readings as Arrow, where they have such a form."""
    if record.headers or not record.value:
        return record
    try:
        value = msgspec.json.decode(record.value)
    except (msgspec.DecodeError, RecursionError):  # such a value is among the dirt
        return record
    rows = value if isinstance(value, list) else [value]
    arrow = as_arrow(rows) if rows and all(isinstance(row, dict) for row in rows) else None
    return record if arrow is None else record._replace(value=arrow, headers=[("content-type", ARROW.encode())])
