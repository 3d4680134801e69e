"""What readings take: CPU, memory, the broker's disk, ours. `make bench ARGS=--footprint`. Asserts no time.

A thousand machines report once a minute for 39 hours, over the end of two epochs; once as single JSON records, once in
Arrow batches. Sizes are those of the files when the worker has caught up. The how-to on sizing has its figures.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from deploy.stack.servers import start_kafka
from schemas.units import HOUR_MS, MINUTE_MS
from tests.bench.__main__ import CONTENDERS, Bench, Contender, Result, result_of
from tests.bench.load import log_of, register_machines, send_readings

MACHINES = 1_000
SPAN_MS = 39 * HOUR_MS
READINGS = MACHINES * SPAN_MS // MINUTE_MS
ENCODINGS = {"single JSON": "fleet", "Arrow batches": "arrow-minute"}
BATCH_HEADER = 12
"""Bytes before a record batch's own length: its offset and that length."""

PARTS = {
    "archive": "log/**/*.*",
    "epochs": "epochs/**/*.*",
    "checkpoints": "partitions/*.duckdb*",
    "snapshots": "snapshots/**/*.*",
}


def main() -> int:
    """Measures and prints: a table, or with --json one object."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=--footprint")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the broker ends with us
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        home = Path(folder)
        kafka = start_kafka(home / "kafka")
        try:
            report = {name: of(kafka.bootstrap_servers, home, encoding) for name, encoding in ENCODINGS.items()}
        finally:
            kafka.stop()
    if options.json:
        print(msgspec.json.encode(report).decode())
        return 0
    for name, row in report.items():
        print(f"{name}: {READINGS:,} readings of {MACHINES:,} machines; for a million readings")
        for what, value in row.items():
            print(f"  {what:28} {value:>14,}")
    return 0 if all(row["correct"] for row in report.values()) else 1


def of(servers: str, home: Path, encoding: str) -> Result:
    """One load: seconds and bytes for a million readings; the peak of memory as it is."""
    name = f"tallyroot-{encoding}"
    CONTENDERS[name] = Contender(encoding, 1, machines=MACHINES)
    log = log_of(encoding, READINGS, MACHINES)
    register_machines(servers, log, MACHINES)
    load = send_readings(servers, log, encoding, MACHINES, READINGS, SPAN_MS)
    bench = Bench(servers, home, READINGS, MACHINES)
    load.write(bench.load_file(log.topic))
    (home / log.topic).mkdir()
    with bench.folder(name) as folder:
        done = result_of(bench.start(name, folder, sys.executable, "--unchecked"))
        sizes = {part: sum(file.stat().st_size for file in folder.glob(kept)) for part, kept in PARTS.items()}
    batches = [length for path in (home / "kafka").glob(f"data/{log.topic}-*/*.log") for length in lengths(path)]
    millions = READINGS / 1_000_000
    return {
        "worker's CPU, ms": round(1e9 / done["readings_per_cpu_second"]),
        "worker's peak memory, bytes": done["peak_rss_bytes"],
        "broker: bytes of a replica": round(sum(batches) / millions),
        "broker: record batches": round(len(batches) / millions),
        **{f"disk: {part}, bytes": round(size / millions) for part, size in sizes.items()},
        "correct": done["correct"],
    }


def lengths(path: Path) -> Iterator[int]:
    """Bytes of each record batch in a segment of the broker's log."""
    with path.open("rb") as file:
        while len(header := file.read(BATCH_HEADER)) == BATCH_HEADER:
            length = int.from_bytes(header[8:], "big")
            if not length:  # what the broker reserves behind the end
                return
            file.seek(length, 1)
            yield BATCH_HEADER + length


if __name__ == "__main__":
    sys.exit(main())
