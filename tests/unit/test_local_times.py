"""A window knows its machine's zone, by the offsets that restrictions are looked up in; analysts see both times."""

from pathlib import Path
from typing import Any

import duckdb
import msgspec

from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.records import Record
from streams.core.replay import advance_through
from streams.core.state import State
from streams.storage.analytics import make_analytics
from streams.worker.partition import Partition
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, reading, registration

NIGHT_MS = START_MS + HOUR_MS
"""Where the clocks go forward."""


def with_offsets(record: Record, offsets: list[tuple[int, int]], version: int = 1) -> Record:
    """A registration whose tariff has these offsets."""
    document: dict[str, Any] = msgspec.json.decode(record.value or b"")
    document |= {"version": version, "tariff": document["tariff"] | {"offsets": offsets}}
    return record._replace(value=msgspec.json.encode(document))


def the_log() -> list[Record]:
    """The clocks of m0 go forward an hour; one reading comes an hour late. Then a version has other offsets."""
    late_ms = START_MS + 50 * MINUTE_MS
    return [
        with_offsets(registration("m0", 0), [(0, -3_600), (NIGHT_MS, 0)]),
        reading("m0", 1, START_MS + 46 * MINUTE_MS, 1, 0),
        reading("m0", 2, NIGHT_MS + 1, 3, 0),
        reading("m0", 3, late_ms, 2, 0, lag_ms=HOUR_MS),
        with_offsets(registration("m0", 4, late_ms + HOUR_MS), [(0, 20_700)], version=2),
        reading("m0", 5, START_MS + 3 * HOUR_MS + 1, 4, 0),
        heartbeat(6, START_MS + DAY_MS),
    ]


def test_a_window_has_the_offset_of_its_start_or_of_what_it_adjusts() -> None:
    windows = [w for part in advance_through(State.new(HOURLY, 0), the_log()) for w in part.windows]
    found = [((w.start_ms - START_MS) // MINUTE_MS, w.adjusts_ms is not None, w.utc_offset_s) for w in windows]
    assert found == [(45, False, -3_600), (60, False, 0), (90, True, -3_600), (180, False, 20_700)]


def test_views_show_times_in_the_machine_s_zone(tmp_path: Path) -> None:
    log = SimLog(the_log())
    partition = Partition.open(tmp_path, HOURLY, 0, log.topic_id(), log)
    assert partition is not None
    partition.process(0, log.end, log.records)
    partition.close()
    db = duckdb.connect(str(make_analytics(tmp_path, HOURLY)), read_only=True)

    def seen(query: str) -> list[Any]:
        return db.execute(query).fetchall()

    local = "start_local::VARCHAR, end_local::VARCHAR, adjusts_local::VARCHAR"
    assert seen(f'SELECT "start"::VARCHAR, {local} FROM windows ORDER BY "start", adjusts') == [
        ("2019-04-14 00:45:00", "2019-04-13 23:45:00", "2019-04-14 00:00:00", None),
        ("2019-04-14 01:00:00", "2019-04-14 01:00:00", "2019-04-14 01:15:00", None),
        ("2019-04-14 01:30:00", "2019-04-14 00:30:00", "2019-04-14 00:45:00", "2019-04-13 23:45:00"),
        ("2019-04-14 03:00:00", "2019-04-14 08:45:00", "2019-04-14 09:00:00", None),
    ]
    assert seen("SELECT adjusts_local::VARCHAR FROM adjustments") == [("2019-04-13 23:45:00",)]
    assert seen(f"SELECT {local} FROM lines") == []
