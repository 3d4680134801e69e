"""A data folder held against the log itself: every manifest recomputed without a checkpoint, every window once."""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from schemas.log import Log
from schemas.manifest import EpochFiles, epoch_folder
from streams.core.recompute import recompute
from streams.kafka.reader import KafkaLogReader
from streams.storage.analytics import make_analytics


def manifest_faults(bootstrap_servers: str, log: Log, found: Mapping[str, EpochFiles]) -> list[str]:
    """Where the manifests (by path in the data folder) are not those that the log gives, in words."""
    expected = {}
    reader = KafkaLogReader(bootstrap_servers, log.topic)
    try:
        for number in range(log.partitions):
            _, end = reader.range(number)
            for result in recompute(log, number, reader.slices(number, 0, end)):
                path = f"epochs/{epoch_folder(result.manifest.start_ms)}/{number}.manifest.json"
                expected[path] = result.manifest
    finally:
        reader.close()
    faults = [f"{path}: is there or not there against the log" for path in sorted(expected.keys() ^ found.keys())]
    for path in sorted(expected.keys() & found.keys()):
        if found[path].manifest_digest != expected[path].digest().hex():
            faults.append(f"{path}: {found[path].manifest} is {expected[path]} in the log")
    return faults


def view_faults(data_dir: Path, log: Log) -> list[str]:
    """Windows that the view `windows` shows more than once, in words, and a view that shows none."""
    with duckdb.connect(str(make_analytics(data_dir, log)), read_only=True) as db:
        rows = db.execute(
            'SELECT machine, "start", adjusts, count(*) FROM windows GROUP BY ALL ORDER BY ALL'
        ).fetchall()
    faults = [f"the view shows {row[:3]} {row[3]} times" for row in rows if row[3] != 1]
    return faults or ([] if rows else ["the view shows no window"])
