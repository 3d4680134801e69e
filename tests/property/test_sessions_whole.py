"""A session is billed whole or, where its departure is refused, not at all: random stations, through advance."""

import csv
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from random import Random

import msgspec
import pytest

from deploy.importers.acn_sessions import COLUMNS
from deploy.importers.replay import planned
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.log import Log
from schemas.reading import Reading
from schemas.registration import Agreement
from streams.core.records import Record
from streams.core.replay import advance_through
from streams.core.state import State

LOG = Log(log_id="sessions", timestamp_type="CreateTime", partitions=1)
START_S = 1_567_296_000


def random_sessions(random: Random) -> list[tuple[str, ...]]:
    """Rows of two stations: ties, overlaps, rates around and far above what is plausible."""
    rows = []
    for station in ("1", "2"):
        at_s = START_S + random.randrange(3_600)
        for number in range(random.randrange(1, 25)):
            lasted_s = random.choice([60, 300, random.randrange(1, 20_000), random.randrange(1, 200_000)])
            kw = random.choice([0, 1, 6.6, 9.9, 9.98, 10, 10.1, 12, 50, 809])
            kwh = f"{kw * lasted_s / 3_600:.4f}"
            ends = (datetime.fromtimestamp(moment, UTC).isoformat() for moment in (at_s, at_s + lasted_s))
            rows.append(("s", station, f"{number}", *ends, kwh))
            at_s += random.choice([lasted_s, lasted_s + random.randrange(100_000), lasted_s // 2])
    random.shuffle(rows)
    return rows


def billed_and_refused(source: SourceLog) -> tuple[int, set[tuple[str, str]]]:
    """(Wh in all windows, the sessions whose departure was refused)."""
    plan = planned(LOG, [source], bytes(range(1, 33)), lambda machine: Agreement({"payee": 10_000}), seed="1")
    records = [Record(place, out.timestamp_ms, out.key, out.value, out.headers) for place, out in enumerate(plan)]
    departures = {}
    for record in records:
        if not record.headers:
            reading = msgspec.json.decode(record.value or b"", type=Reading)
            departures[reading.machine, str(reading.session)] = record.offset
    billed_wh = 0
    refused: set[int] = set()
    for done in advance_through(State.new(LOG, 0), records):
        billed_wh += sum(line.usage for window in done.windows for line in window.lines)
        assert {reject.reason for reject in done.rejects} <= {"too_high"}
        refused |= {reject.offset for reject in done.rejects}
    return billed_wh, {session for session, offset in departures.items() if offset in refused}


@pytest.mark.parametrize("seed", range(20))
def test_a_session_is_billed_whole_or_not_at_all(seed: int, tmp_path: Path) -> None:
    rows = random_sessions(Random(seed))
    with (path := tmp_path / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    source = SOURCES["acn-sessions"].read(path, SourceOptions())
    billed_wh, refused = billed_and_refused(source)
    energy_wh = {(f"s.{row[1]}", row[2]): int(Fraction(row[5]) * 1_000 + Fraction(1, 2)) for row in rows}
    assert not source.skipped
    assert billed_wh == sum(energy_wh.values()) - sum(energy_wh[session] for session in refused)
