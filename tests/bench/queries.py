"""What analysts wait for: `make bench ARGS=--queries`. Asserts no time; needs no server.

A folder with the files of 10 million sealed windows (machines in four partitions, days as epochs, 96 windows a day),
and on it the ten queries of notebooks/analysts.ipynb, each in a fresh connection to `analytics.duckdb`, all rows
fetched: its first run, and the fastest of all. The files were just written, so they lie in the system's cache.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from files.parquet import write_table
from files.write import Temporary
from schemas.arrow import AGREEMENTS, LINES, REJECTED_RECORDS, REJECTS, WINDOWS
from schemas.log import Log
from schemas.payout import CLAIMS, PAYOUTS, SETTLEMENTS, Claim, Payout, Settlement, rows_table
from schemas.units import DAY_MS, MINUTE_MS
from schemas.window import flag_bits
from streams.core.murmur2 import partition_of
from streams.storage.analytics import make_analytics
from streams.storage.epoch_files import EpochPaths, epoch_paths
from tests.bench.readings import PARTITIONS, SEED
from tests.support.analyst_notebook import queries

LOG = Log(log_id="bench-queries", partitions=PARTITIONS, timestamp_type="CreateTime")
FIRST_EPOCH = 18_000
WINDOW_MS = 15 * MINUTE_MS
PLACES = DAY_MS // WINDOW_MS
PAYEES = 3
REJECTS_PER_FILE = 200
LATE_ONE_IN = 500
REASONS = ("undecodable", "future", "late", "equivocation", "capacity")


def main() -> int:
    """Makes the folder, runs the queries, prints a table or one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench ARGS='--queries ...'", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--windows", type=int, default=10_000_000)
    parser.add_argument("--machines", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        made = make_folder(Path(folder), options.windows, options.machines)
        sys.stderr.write(f"bench: {made:,} windows made\n")
        results = run_queries(make_analytics(Path(folder), LOG), options.runs)
        size = sum(path.stat().st_size for path in (Path(folder) / "epochs").rglob("*.parquet"))
    report = {"windows": made, "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)}
    report |= {"duckdb": duckdb.__version__, "parquet_bytes": size}
    if options.json:
        print(msgspec.json.encode(report | {"queries": results}).decode())
        return 0
    print(
        "  ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in report.items()
        )
    )
    print(f"{'query':<12}{'rows':>8}{'first s':>10}{'wall s':>10}{'CPU s':>10}")
    for row in results:
        figures = f"{row['first_seconds']:>10.2f}{row['wall_seconds']:>10.2f}{row['cpu_seconds']:>10.2f}"
        print(f"{row['query']:<12}{row['rows']:>8,}{figures}")
    return 0


def run_queries(database: Path, runs: int) -> list[dict[str, Any]]:
    """The seconds of each query: of its first run, and of the fastest of all `runs` with that run's CPU time."""
    results = []
    for name, sql in queries().items():
        times, rows = [], 0
        for _ in range(runs):
            with duckdb.connect(str(database), read_only=True) as db:
                wall, cpu = time.perf_counter(), time.process_time()
                rows = len(db.execute(sql).fetchall())
                times.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = min(times)
        figures = {"first_seconds": times[0][0], "wall_seconds": wall, "cpu_seconds": cpu}
        results.append({"query": name, "rows": rows} | {field: round(value, 3) for field, value in figures.items()})
    return results


def make_folder(data_dir: Path, windows: int, machines: int) -> int:
    """Writes files as workers and a settlement leave them, of at least so many windows; gives how many."""
    names = [f"m-{number:06d}" for number in range(machines)]
    by_partition: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for number, name in enumerate(names):
        by_partition[partition_of(name.encode(), PARTITIONS)].append(number)
    draw = np.random.default_rng(SEED)
    made, epoch = 0, FIRST_EPOCH
    while made < windows:
        for partition, own in enumerate(by_partition):
            tables = _tables(draw, names, np.array(own), epoch)
            made += tables["windows"].num_rows
            _publish(epoch_paths(data_dir, LOG, epoch, partition), partition, epoch, tables, [names[n] for n in own])
        epoch += 1
    _settle(data_dir, machines, epoch)
    return made


def _tables(draw: np.random.Generator, names: Sequence[str], own: Any, epoch: int) -> dict[str, pa.Table]:
    """A partition's day, by machine and start; one row in so many adjusts the window before it."""
    count = PLACES * len(own)
    order = np.arange(count)
    starts = epoch * DAY_MS + order % PLACES * WINDOW_MS
    numbers = own[order // PLACES]
    usage = np.where(draw.random(count) < 0.6, draw.integers(1, 5_000, count), 0)
    is_late = order % LATE_ONE_IN == LATE_ONE_IN - 1
    machines = pa.array(names).take(pa.array(numbers))
    gross = pa.array(usage * 123_457 // 1_000)
    offsets = epoch * count * 15 + order * 15
    window: dict[str, Any] = {
        "machine": machines, "start_ms": starts, "adjusts_ms": pa.array(starts - WINDOW_MS, mask=~is_late),
        "utc_offset_s": numbers % 24 * 3_600 - 43_200,
    }  # fmt: skip
    windows = window | {
        "end_ms": starts + WINDOW_MS, "kind": _repeat("charger", count), "route": machines,
        "registration_version": _repeat(1, count),
        "agreement": pa.array(map(_agreement, names)).take(pa.array(numbers)),
        "gross_micros": gross, "expenses_micros": _repeat(0, count), "uncollected_micros": _repeat(0, count),
        "net_micros": gross, "collected_micros": _repeat(0, count), "carry_in": draw.integers(0, 3_600_000, count),
        "carry_out": draw.integers(0, 3_600_000, count), "readings": np.where(draw.random(count) < 0.02, 0, 15),
        "first_offset": offsets, "last_offset": offsets + 14, "skipped": _repeat(0, count),
        "flags": np.where(is_late, flag_bits(("reset",)), 0), "trust": numbers % 3,
        "digest": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), count, [None, pa.py_buffer(draw.bytes(32 * count))]
        ),
    }  # fmt: skip
    lines = window | {
        "position": _repeat(0, count), "meter": _repeat("energy", count), "unit": _repeat("Wh", count),
        "version": _repeat(1, count), "usage": usage, "price_micros": _repeat(123_457, count),
        "per": _repeat(1_000, count), "amount_micros": gross,
    }  # fmt: skip
    return {
        "windows": pa.table([pa.array(windows[name]) for name in WINDOWS.names], schema=WINDOWS),
        "lines": pa.table([pa.array(lines[name]) for name in LINES.names], schema=LINES).filter(pa.array(usage > 0)),
        "agreements": _agreements([(names[number], number) for number in own]),
    }


def _agreement(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _agreements(machines: Sequence[tuple[str, int]]) -> pa.Table:
    """Each machine has payees of its own."""
    rows = [
        (_agreement(name), f"0x{PAYEES * number + place:040x}", points, None, 0)
        for name, number in machines
        for place, points in enumerate((7_000, 2_000, 1_000))
    ]
    return pa.table([list(column) for column in zip(*sorted(rows), strict=True)], schema=AGREEMENTS)


def _publish(paths: EpochPaths, partition: int, epoch: int, tables: dict[str, pa.Table], names: Sequence[str]) -> None:
    """The files of an epoch, its manifest with what the view `epochs` shows."""
    count = REJECTS_PER_FILE
    rejects = [range(count), [-1] * count, [REASONS[n % len(REASONS)] for n in range(count)]]
    records = [
        range(count), [epoch * DAY_MS] * count, [names[n % len(names)].encode() for n in range(count)],
        [b"{ no json"] * count, [9] * count, [bytes(32)] * count,
    ]  # fmt: skip
    tables |= {
        "rejects": pa.table([*map(list, rejects)], schema=REJECTS),
        "rejected_records": pa.table([*map(list, records)], schema=REJECTED_RECORDS),
    }
    for name, table in tables.items():
        write_table(Temporary(paths.table(name)), table).publish(durable=False)
    counts = {"entries": count, "accepted": 0, "duplicate": 0, "rejected": count}
    manifest = {
        "partition": partition, "epoch": epoch, "start_ms": epoch * DAY_MS, "end_ms": (epoch + 1) * DAY_MS,
        "first_offset": 0, "next_offset": count, "counts": counts, "rejects_by_reason": {},
        "windows": tables["windows"].num_rows,
        "adjustments": 0, "currency": LOG.currency, "gross_micros": "0", "net_micros": "0", "log_root": "",
        "orders": 0, "expenses_micros": "0", "uncollected_micros": "0", "deposits_micros": "0",
    }  # fmt: skip
    paths.manifest.write_bytes(msgspec.json.encode({"manifest": manifest, "manifest_digest": ""}))


def _settle(data_dir: Path, machines: int, until: int) -> None:
    """A post of each week, with every account in it, of whom every third has claimed."""
    settlements, payouts, claims = [], [], []
    for sequence, first in enumerate(range(FIRST_EPOCH, until, 7), 1):
        settlements.append(Settlement(
            sequence=sequence, first_epoch=first, last_epoch=min(first + 6, until - 1), windows_root="",
            payouts_root="", head="", transaction="", state="active",
            total_micros=sequence * machines,
            deposits_micros=0, posted_block=sequence,
        ))  # fmt: skip
        payouts += [Payout(sequence, f"0x{n:040x}", sequence * n, n) for n in range(PAYEES * machines)]
        claims += [Claim(f"0x{n:040x}", sequence, n, "", sequence) for n in range(0, PAYEES * machines, 3)]
    for name, rows, schema in (
        ("settlements", settlements, SETTLEMENTS), ("payouts", payouts, PAYOUTS), ("claims", claims, CLAIMS),
    ):  # fmt: skip
        path = data_dir / "settlement" / f"{name}.parquet"
        write_table(Temporary(path), rows_table(rows, schema)).publish(durable=False)


def _repeat(value: object, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


if __name__ == "__main__":
    sys.exit(main())
