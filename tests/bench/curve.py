"""How a worker grows: with machines, with readings, with a second worker. `make bench ARGS=--curve`. Asserts no time.

For each number of machines, JSON single readings: readings per CPU second, peak memory, how long the worker's process
takes from its start to its first commit; then, on the folder that it left, how long a partition takes to open and to
make its first commit (a reading of each of its machines), how long that commit's transaction takes once it is warm, how
large the checkpoints are, and what a meter's state takes. Then, for one large partition, what its registrations, a cut
and a restart take (`large_partition.py`).
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from deploy.stack.servers import start_kafka
from streams.core.records import Record
from streams.kafka.reader import KafkaLogReader
from streams.worker.partition import Partition
from tests.bench.__main__ import NEWCOMERS, Bench, Result, result_of
from tests.bench.contender import COMMITS_FILE, is_right
from tests.bench.large_partition import of_partition
from tests.bench.load import Load, log_of
from tests.bench.readings import ROW, STEP_MS, Readings

JSON = "tallyroot-json"
ARROW = "tallyroot-arrow"
SIZES = (1_000, 10_000, 100_000)
MACHINES = 5_000
GROWTH = 10
ROUNDS = 3


def main() -> int:
    """Measures and prints, as tables or as one JSON object."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the broker ends with us
    report: dict[str, list[Result]] = {"machines": [], "partition": [], "readings": [], "workers": []}
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        home = Path(folder)
        kafka = start_kafka(home / "kafka")
        try:
            for size in options.sizes:
                report["machines"].append(of_machines(kafka.bootstrap_servers, home, options.readings, size))
            for size in options.partition:
                sys.stderr.write(f"bench: a partition of {size:,} machines\n")
                report["partition"].append(of_partition(kafka.bootstrap_servers, home / f"partition-{size}", size))
            if not options.machines_only:
                report["readings"] = of_readings(kafka.bootstrap_servers, home, options.readings)
                report["workers"] = of_workers(kafka.bootstrap_servers, home, 2 * options.readings)
        finally:
            kafka.stop()
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        for title, rows in report.items():
            _print(title, rows)
    return 0 if all(row["correct"] for rows in report.values() for row in rows) else 1


def of_machines(servers: str, home: Path, readings: int, machines: int) -> Result:
    """One point of the curve."""
    bench = _prepared(servers, home, readings, machines, JSON)
    with bench.folder(JSON) as folder:
        began = time.time()
        result = result_of(bench.start(JSON, folder, sys.executable))
        (commits,) = (_commits(path) for path in folder.glob(f"*-{COMMITS_FILE}"))
        look = look_at_partition(servers, folder, bench.topic(JSON), Readings(machines, bench.readings(JSON)))
        size = sum(path.stat().st_size for path in (folder / "partitions").glob("*.duckdb*"))
    return {
        "machines": machines,
        "readings_per_cpu_second": result["readings_per_cpu_second"],
        "peak_rss_bytes": result["peak_rss_bytes"],
        "first_commit_seconds": round(commits[0][0] - began, 3),
        "checkpoint_bytes": size,
        **look,
        "correct": result["correct"],
    }


def look_at_partition(servers: str, folder: Path, topic: str, readings: Readings) -> dict[str, float]:
    """Opens partition 0 of a folder that no worker holds, and gives it three rounds of readings."""
    with duckdb.connect(str(folder / "partitions" / "0.duckdb"), read_only=True) as db:
        ((identity,),) = db.execute("SELECT content FROM identity").fetchall()
    topic_id = msgspec.json.decode(identity)["topic_id"]
    log = log_of("json", readings.count, readings.machines)
    reader = KafkaLogReader(servers, topic)
    began = time.perf_counter()
    partition = Partition.open(folder, log, 0, topic_id, reader)
    if partition is None:
        raise SystemExit("a worker still holds the partition")
    opened = time.perf_counter() - began
    rounds = [_round(partition, readings, number) for number in range(ROUNDS)]
    tables = partition._state.tables()
    partition.close()
    reader.close()
    meters = tables["meters"].num_rows
    return {
        "open_seconds": round(opened, 3),
        "restart_seconds": round(opened + rounds[0][0], 3),
        "commit_readings": meters,
        "commit_seconds": round(rounds[-1][1], 4),
        "state_bytes_per_meter": round(sum(table.nbytes for table in tables.values()) / meters),
        "meters_table_bytes_per_meter": round(tables["meters"].nbytes / meters),
    }


def _round(partition: Partition, readings: Readings, number: int) -> tuple[float, float]:
    """Seconds for a reading of each machine of partition 0, all in all and of its transaction."""
    start = partition.next_offset or 0
    moment = readings.end_ms + number * STEP_MS
    seq = len(readings.registers) + number
    registers = readings.registers[-1].tolist()
    places = [place for place, owner in enumerate(readings.partitions.tolist()) if owner == 0]
    records = [
        Record(
            start + at, moment, readings.names[place], ROW % (readings.names[place], 1, seq, moment, registers[place])
        )
        for at, place in enumerate(places)
    ]
    spent: list[float] = []
    checkpoint: Any = partition._checkpoint
    commit = checkpoint.commit

    def timed(piece: Any) -> None:
        before = time.perf_counter()
        commit(piece)
        spent.append(time.perf_counter() - before)

    checkpoint.commit = timed
    began = time.perf_counter()
    partition.process(start, start + len(records), records)
    whole = time.perf_counter() - began
    checkpoint.commit = commit
    return whole, sum(spent)


def of_readings(servers: str, home: Path, readings: int) -> list[Result]:
    """Peak memory with some readings and with ten times as many, by the same machines."""
    rows = []
    for count in (readings // GROWTH, readings):
        bench = _prepared(servers, home, count, MACHINES, ARROW)
        result = bench.run(ARROW)
        rows.append(
            {
                "readings": bench.readings(ARROW),
                "peak_rss_bytes": result["peak_rss_bytes"],
                "correct": result["correct"],
            }
        )
    return rows


def of_workers(servers: str, home: Path, readings: int) -> list[Result]:
    """Readings per wall second of one worker and of two, while all of them are at work."""
    bench = _prepared(servers, home, readings, MACHINES, JSON)
    rows: list[Result] = []
    for workers in (1, 2):
        with bench.folder(JSON) as folder:
            running = [bench.start(JSON, folder, sys.executable, "--unchecked") for _ in range(workers)]
            for process in running:
                result_of(process)
            commits = [_commits(path) for path in folder.glob(f"*-{COMMITS_FILE}")]
            rate = together([each for each in commits if each])
            rows.append(
                {
                    "workers": workers,
                    "readings_per_second": round(rate),
                    "times_one": round(rate / rows[0]["readings_per_second"], 2) if rows else 1.0,
                    "correct": is_right(folder, Load.read(bench.load_file(bench.topic(JSON)))),
                }
            )
    return rows


def together(commits: Sequence[list[tuple[float, int]]]) -> float:
    """Readings per second from the moment when all workers have committed, to the first one's last commit.

    Gives 0 if one worker had all to itself.
    """
    began = max(each[0][0] for each in commits)
    ended = min(each[-1][0] for each in commits)
    done = sum(count for each in commits for moment, count in each if began < moment <= ended)
    return done / (ended - began) if ended > began else 0.0


def _commits(path: Path) -> list[tuple[float, int]]:
    return [msgspec.json.decode(line, type=tuple[float, int]) for line in path.read_bytes().splitlines()]


def _prepared(servers: str, home: Path, readings: int, machines: int, name: str) -> Bench:
    sys.stderr.write(f"bench: {readings:,} readings of {machines:,} machines\n")
    bench = Bench(servers, home, readings, machines)
    bench.prepare([name])
    return bench


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS='--curve ...'", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--readings", type=int, default=1_000_000)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="numbers of machines, up to 1000000")
    parser.add_argument("--partition", nargs="*", type=int, default=[NEWCOMERS], help="the same in one partition")
    parser.add_argument("--machines-only", action="store_true", help="without more readings, without more workers")
    return parser.parse_args()


def _print(title: str, rows: Sequence[Result]) -> None:
    if not rows:
        return
    print(f"\nby {title}")
    for field in rows[0]:
        cells = [row[field] for row in rows]
        print(
            f"  {field:<30}"
            + "".join(f"{cell:>16,}" if not isinstance(cell, bool) else f"{cell!s:>16}" for cell in cells)
        )


if __name__ == "__main__":
    raise SystemExit(main())
