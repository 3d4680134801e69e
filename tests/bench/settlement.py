"""What settling costs, in CPU seconds: `make bench ARGS=--settlement`. Asserts no time; needs no server.

A day of 100,000 windows, 10,000 payees and four partitions: read from `epochs/`, split, both trees, then the post's
files, every account's proof among them. Then an audit's part: windows and epochs recomputed from the log's records.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from schemas.log import Log
from schemas.reading import HEARTBEAT, REGISTERED
from schemas.registration import Agreement
from schemas.units import DAY_MS
from settlement.chain.job import SettleOptions, choose_run
from settlement.leaf import machine_hash, window_leaf
from settlement.merkle import MerkleTree
from settlement.post import PostStanding, assemble
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader
from streams.core.murmur2 import partition_of
from streams.core.recompute import recompute
from streams.core.records import ARROW, Record
from tests.bench.load import registration_of
from tests.bench.readings import PARTITIONS, START_MS, Readings
from tests.support.settlement_data import FIRST_EPOCH, publish, window

DECIMALS = 6
WINDOWS_A_DAY = 96
PAYEES = 4
AUDIT_MACHINES = 1_000
"""Few, so that their registrations hardly count."""
LOG = Log(log_id="bench-settlement", partitions=PARTITIONS, timestamp_type="CreateTime")


def main() -> int:
    """Measures and prints, as lines or as one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench ARGS='--settlement ...'", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--readings", type=int, default=800_000, help="of the audit")
    options = parser.parse_args()
    report = tree(options.windows)
    with tempfile.TemporaryDirectory(prefix="tallyroot-bench-") as folder:
        report |= day(Path(folder), options.windows, options.accounts)
    report |= audit(options.readings)
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        for name, value in report.items():
            print(f"{name:<40}{value:>14,}")
    return 0


def tree(leaves: int) -> dict[str, float]:
    """The windows tree: leaves hashed, sorted and joined."""
    machines = [machine_hash(f"m-{number}") for number in range(1_000)]
    digest = bytes(32)

    def build() -> MerkleTree:
        return MerkleTree(
            window_leaf(machines[number % 1_000], (number, number + 1), 0, number, digest) for number in range(leaves)
        )

    seconds, _ = spent(build)
    return {"tree_leaves_per_cpu_second": round(leaves / seconds)}


def day(folder: Path, windows: int, accounts: int) -> dict[str, float]:
    """A day's post, from the epochs' files to its own."""
    machines = accounts // PAYEES
    places = min(WINDOWS_A_DAY, -(-windows // machines))
    by_partition: dict[int, list[Any]] = {partition: [] for partition in range(PARTITIONS)}
    made = 0
    for number in range(machines):
        name = f"m-{number:06d}"
        payees = {f"0x{number * PAYEES + payee + 1:040x}": 10_000 // PAYEES for payee in range(PAYEES)}
        own = by_partition[partition_of(name.encode(), PARTITIONS)]
        for place in range(min(places, windows - made)):
            own.append(window(name, FIRST_EPOCH, 1_000_003, place=place, agreement=Agreement(payees), log=LOG))
            made += 1
    for partition, its_windows in by_partition.items():
        publish(folder, partition, FIRST_EPOCH, its_windows, LOG)
    options = SettleOptions()
    reading, (run, _) = spent(lambda: choose_run(EpochReader(folder, LOG), PostStanding.initial(), LOG, options))
    assert run is not None
    assembling, post = spent(lambda: assemble(PostStanding.initial(), run, DECIMALS))
    assert post is not None
    header = post.header(bytes(32), DECIMALS)
    saving, _ = spent(lambda: Store(folder).save(post, header, 1, DECIMALS))
    return {
        "day_windows": made,
        "day_accounts": machines * PAYEES,
        "day_read_cpu_seconds": round(reading, 2),
        "day_assemble_cpu_seconds": round(assembling, 2),
        "day_files_and_proofs_cpu_seconds": round(saving, 2),
        "day_cpu_seconds": round(reading + assembling + saving, 2),
        "day_post_bytes": sum(path.stat().st_size for path in (folder / "settlement").rglob("*") if path.is_file()),
    }


def audit(count: int) -> dict[str, float]:
    """The log's part of an audit, of partition 0, from records in memory: up to its cut, with digests and log root."""
    readings = Readings(AUDIT_MACHINES, count)
    report: dict[str, float] = {}
    for form, rows in (("json", 1), ("arrow", 1_000)):
        values = readings.singles() if rows == 1 else readings.batches(rows, "arrow")
        records = [
            Record(at, START_MS, name, msgspec.json.encode(registration_of(name.decode())), _type(REGISTERED))
            for at, name in enumerate(name for name in readings.names if partition_of(name, PARTITIONS) == 0)
        ]
        headers = () if rows == 1 else (("content-type", ARROW.encode()),)
        for partition, moment, key, value in values:
            if partition == 0:
                records.append(Record(len(records), moment, key, value, headers))
        records.append(Record(len(records), readings.end_ms + DAY_MS, b"", b"", _type(HEARTBEAT)))
        seconds, epochs = spent(lambda log=LOG, held=records: list(recompute(log, 0, [held])))  # type: ignore[misc]
        found = sum(each.readings for epoch in epochs for each in epoch.windows)
        expected = sum(int(readings.partitions[n % AUDIT_MACHINES] == 0) for n in range(count))
        if found != expected:
            raise SystemExit(f"the audit found {found} readings of {expected}")
        report[f"audit_{form}_readings_per_cpu_second"] = round(found / seconds)
    return report


def spent(run: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it gave."""
    before = time.process_time()
    result = run()
    return time.process_time() - before, result


def _type(name: str) -> tuple[tuple[str, bytes], ...]:
    return (("ce_type", name.encode()),)


if __name__ == "__main__":
    sys.exit(main())
