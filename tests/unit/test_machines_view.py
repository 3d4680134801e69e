"""The view `machines`, held against a plain recount: more than a year, machines that rest, and late rows."""

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import WINDOWS
from schemas.units import DAY_MS
from schemas.window import FLAGS, flag_bits, flags_from
from streams.storage.analytics import make_analytics
from streams.storage.epoch_files import epoch_paths
from tests.support.sim_log import HOURLY

WINDOW_MS = HOURLY.window_ms
FIRST_MS = 18_000 * DAY_MS
YEAR = 365 * DAY_MS // WINDOW_MS
END_SLOT = YEAR + 200 + FIRST_MS // WINDOW_MS


def the_rows() -> list[dict[str, Any]]:
    """Rows about both edges of the last year, in which windows without a reading and several rows for one lie."""
    draw = random.Random(4)
    rows = []
    slots = [END_SLOT - YEAR + place for place in range(-70, 70)] + list(range(END_SLOT - 130, END_SLOT))
    for machine in ("busy", "rests", "old", "silent"):
        for slot in slots:
            if (machine == "rests" and draw.random() < 0.6) or (machine == "old" and slot > END_SLOT - YEAR - 5):
                continue
            for mended in [None, *(slot - draw.randint(1, 65) for _ in range(draw.randint(0, 2)))]:
                net = draw.randint(-(10**14), 10**15)
                rows.append(dict.fromkeys(WINDOWS.names) | {
                    "machine": machine, "start_ms": slot * WINDOW_MS, "end_ms": (slot + 1) * WINDOW_MS,
                    "adjusts_ms": None if mended is None else mended * WINDOW_MS, "net_micros": net,
                    "gross_micros": net + 1, "readings": 0 if machine == "silent" else draw.choice((0, 3)),
                    "flags": flag_bits(draw.sample(FLAGS, draw.choice((0, 0, 1, 2)))), "trust": draw.randint(0, 2),
                    "registration_version": draw.randint(1, 3),
                })  # fmt: skip
    return rows


def recount(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
    """What the view says of one machine, from its rows, in the order of QUERY."""
    up = {r["start_ms"] if r["adjusts_ms"] is None else r["adjusts_ms"] for r in rows if r["readings"]}
    until_ms = END_SLOT * WINDOW_MS
    from_ms = max(min(up), until_ms - 365 * DAY_MS) if up else None
    period = silent = reporting = None
    if from_ms is not None:
        period = (until_ms - from_ms) // 60_000
        silent = period - sum(start_ms >= from_ms for start_ms in up) * WINDOW_MS // 60_000
        reporting = Decimal(100_000 * (period - silent) // period) / 1_000
    late = sum(row["adjusts_ms"] is not None for row in rows)
    return (
        rows[0]["machine"], 0, min(row["start_ms"] for row in rows), max(up) + WINDOW_MS if up else None,
        len(rows) - late, late, sum(row["readings"] for row in rows),
        Decimal(sum(row["gross_micros"] for row in rows)) / 10**6,
        Decimal(sum(row["net_micros"] for row in rows)) / 10**6,
        min(row["trust"] for row in rows), max(row["registration_version"] for row in rows),
        sorted({flag for row in rows for flag in flags_from(row["flags"])}), from_ms, until_ms if up else None,
        period, silent, reporting,
    )  # fmt: skip


QUERY = (
    'SELECT machine, "partition", epoch_ms(first_seen), epoch_ms(last_seen), windows, adjustments, readings, gross,'
    " net, trust, registration_version, flags, epoch_ms(reporting_from), epoch_ms(reporting_until),"
    " reporting_minutes, silent_minutes, reporting FROM machines ORDER BY machine"
)


def test_machines_say_what_a_recount_of_their_windows_says(tmp_path: Path) -> None:
    rows = the_rows()
    paths = epoch_paths(tmp_path, HOURLY, FIRST_MS // HOURLY.epoch_ms, 0)
    paths.manifest.parent.mkdir(parents=True)
    columns = [pa.array([row[name] for row in rows], WINDOWS.field(name).type) for name in WINDOWS.names]
    pq.write_table(pa.table(columns, schema=WINDOWS), paths.table("windows"))
    ends = {"partition": 0, "epoch": 0, "start_ms": FIRST_MS, "end_ms": END_SLOT * WINDOW_MS}
    paths.manifest.write_bytes(msgspec.json.encode({"manifest": ends, "manifest_digest": ""}))
    with duckdb.connect(str(make_analytics(tmp_path, HOURLY)), read_only=True) as db:
        seen = db.execute(QUERY).fetchall()
    names = sorted({row["machine"] for row in rows})
    assert seen == [recount([row for row in rows if row["machine"] == name]) for name in names]
