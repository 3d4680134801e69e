"""What a data folder alone says of meters that earn less than they could: by its views, as `machines` asks them."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.explain.refused_signs import refused_signs
from schemas.arrow import REJECTED_RECORDS, REJECTS, WINDOWS
from schemas.units import DAY_MS, MINUTE_MS
from schemas.window import FLAGS
from streams.storage.epoch_files import epoch_paths
from tests.support.sim_log import HOURLY

FIRST_MS = 18_000 * DAY_MS


def written(path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    pq.write_table(pa.table(columns, schema=schema), path)


def test_refused_steps_and_a_clock_that_steps_are_named(tmp_path: Path) -> None:
    data = DataFolder(tmp_path, Settings())
    data.create_log(HOURLY)
    paths = epoch_paths(tmp_path, HOURLY, FIRST_MS // HOURLY.epoch_ms, 0)
    paths.table("windows").parent.mkdir(parents=True)
    shown = [
        {"machine": "bay", "meter": "energy", "boot": 1, "seq": n, "observed_at": FIRST_MS + n * MINUTE_MS,
         "register": 100_000 + 500 * n}
        for n in range(1, 4)
    ]  # fmt: skip
    values = [msgspec.json.encode(row) for row in shown]
    rejects = [{"offset": n, "row": 0, "reason": "too_high"} for n in range(len(values))]
    records = [
        {"offset": n, "timestamp_ms": FIRST_MS + n, "key": b"bay", "value": value, "value_size": len(value),
         "value_sha256": bytes(32)}
        for n, value in enumerate(values)
    ]  # fmt: skip
    window = {
        "machine": "home",
        "start_ms": FIRST_MS,
        "end_ms": FIRST_MS + HOURLY.window_ms,
        "flags": 1 << FLAGS.index("clock"),
    }
    written(paths.table("rejects"), REJECTS, rejects)
    written(paths.table("rejected_records"), REJECTED_RECORDS, records)
    written(paths.table("windows"), WINDOWS, [window])
    ends = {"partition": 0, "epoch": 0, "start_ms": FIRST_MS, "end_ms": FIRST_MS + HOURLY.epoch_ms}
    paths.manifest.write_bytes(msgspec.json.encode({"manifest": ends, "manifest_digest": ""}))
    found = [(sign.machine, sign.sign, sign.count, sign.field, sign.value) for sign in refused_signs(data)]
    assert found == [("bay", "steps", 3, "burst", 500), ("home", "clock", 1, None, None)]
