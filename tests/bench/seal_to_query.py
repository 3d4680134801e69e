"""From the record that seals a window to its row in `windows`: `python -m tests.bench.seal_to_query`. Asserts nothing.

A live fleet sends each second, a worker reads, and a reader asks `analytics.duckdb` over and over. The fleet starts
once the worker has committed in all partitions. A window's delay is the time from the broker's timestamp on the first
record at or after its end and grace, to the end of the first query that had its row; it includes the time between two
queries. In partitions without a machine's record at that moment it is a worker's heartbeat that seals.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path

import duckdb

from deploy.cli.options import data_folder
from schemas.log import Log, Ruleset
from schemas.parsing import duration_ms
from streams.core.murmur2 import partition_of
from streams.core.signature import operator_account
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic
from streams.storage.analytics import make_analytics

QUERY = 'SELECT machine, epoch_ms("end") FROM windows WHERE adjusts IS NULL'
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Runs the fleet and the worker, then prints the delays' median and maximum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--machines", type=int, default=12)
    parser.add_argument("--window", default="5s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        measure(Path(folder) / "data", options)


def measure(data_dir: Path, options: argparse.Namespace) -> None:
    """Starts all, looks, ends all."""
    place = data_folder(data_dir)
    stack = place.start_stack()
    run, common = [sys.executable, "-m", "deploy"], ["--data-dir", str(data_dir)]
    operators = (operator_account(place.operator_key()),)
    log = place.create_log(
        Log(log_id="seal-to-query", window_ms=duration_ms(options.window), epoch_ms=10 * duration_ms(options.window),
            rulesets=(Ruleset(grace_ms=duration_ms("1s"), operators=operators),))
    )  # fmt: skip
    create_topic(stack.kafka_bootstrap_servers, log)
    make_analytics(data_dir, log)
    said = data_dir / "worker.txt"
    with said.open("wb") as output:
        processes = [subprocess.Popen([*run, "stream", *common], cwd=ROOT, stderr=output)]
    try:
        while any(f"partition {partition}:" not in said.read_text() for partition in range(log.partitions)):
            if processes[0].poll() is not None:
                raise SystemExit(said.read_text())
            time.sleep(0.2)
        words = ["--machines", str(options.machines), "--every", "1s", "--for", f"{options.seconds}s"]
        processes.append(subprocess.Popen([*run, "simulate", *common, *words], cwd=ROOT))
        seen = look(data_dir, processes[1])
        moments = times(stack.kafka_bootstrap_servers, log.topic, log.partitions)
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)
        stack.stop()
    delays = []
    for (machine, end_ms), found_ms in seen.items():
        column = moments[partition_of(machine.encode(), log.partitions)]
        at = bisect_left(column, end_ms + log.ruleset_at(0).grace_ms)
        if at < len(column):
            delays.append((found_ms - column[at], found_ms - end_ms))
    if not delays:
        raise SystemExit(f"no window sealed while it ran ({len(seen)} seen): give it more --seconds")
    for name, of in (("from the record that seals", 0), ("from the window's end", 1)):
        column = [delay[of] for delay in delays]
        print(f"{len(column)} windows, {name}: median {statistics.median(column):.0f} ms, max {max(column):.0f} ms")


def look(data_dir: Path, fleet: "subprocess.Popen[bytes]") -> dict[tuple[str, int], int]:
    """(machine, window's end) to the epoch ms at which its row was first seen."""
    seen: dict[tuple[str, int], int] = {}
    while fleet.poll() is None:
        try:
            with duckdb.connect(str(data_dir / "analytics.duckdb"), read_only=True) as reader:
                rows = reader.execute(QUERY).fetchall()
        except duckdb.Error as error:  # a file that a query names may just have been replaced
            sys.stderr.write(f"  {str(error).splitlines()[0]}\n")
            rows = []
        now_ms = time.time_ns() // 1_000_000
        for machine, end_ms in rows:
            seen.setdefault((machine, end_ms), now_ms)
        time.sleep(0.05)
    return seen


def times(servers: str, topic: str, partitions: int) -> list[list[int]]:
    """Each partition's stream time after each of its records."""
    reader = KafkaLogReader(servers, topic)
    try:
        return [
            list(accumulate((record.timestamp for record in reader.read(partition, *reader.range(partition))), max))
            for partition in range(partitions)
        ]
    finally:
        reader.close()


if __name__ == "__main__":
    main()
