"""Uptime comes from what a meter `availability` said, and from nothing else."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain import availability
from deploy.explain.availability import YEAR_MS, minutes_of, refresh_availability
from deploy.explain.query import query
from schemas.units import MINUTE_MS
from streams.core.records import Record
from tests.support.report_data import fill
from tests.support.sim_log import HOURLY, START_MS, SimLog, heartbeat, reading, registration

QUERY = "SELECT machine, reporting, uptime_minutes, outage_minutes, uptime FROM machines ORDER BY machine"


def minutes(*moments: tuple[int, int]) -> list[tuple[int, int]]:
    return [(minute * MINUTE_MS, level) for minute, level in moments]


@pytest.mark.parametrize(
    ("said", "seen", "until", "expected"),
    [
        (minutes((0, 1)), 100, 100, (100, 0)),
        (minutes((0, 0)), 100, 100, (100, 100)),
        (minutes((10, 1), (40, 0), (60, 1)), 100, 100, (90, 20)),
        (minutes((60, 1), (10, 1), (40, 0)), 100, 100, (90, 20)),  # whatever the order that it came in
        (minutes((0, 1), (30, 1), (30, 0)), 100, 100, (100, 70)),  # of one moment the later word stands
        (minutes((0, 1)), 70, 100, (100, 30)),  # silent at the end: out
        (minutes((0, 1), (50, 2)), 100, 100, (100, 50)),  # only 1 is in service
        ([(0, 1), (90_001, 0)], 100, 100, (100, 99)),  # a part of a minute is none
    ],
)
def test_minutes(said: list[tuple[int, int]], seen: int, until: int, expected: tuple[int, int]) -> None:
    found = minutes_of("m", said, seen * MINUTE_MS, until * MINUTE_MS)
    assert (found.period_minutes, found.outage_minutes) == expected


def test_a_year_at_most() -> None:
    until = YEAR_MS + 10 * MINUTE_MS
    found = minutes_of("m", [(0, 0), (5 * MINUTE_MS, 1)], until, until)
    assert (found.period_minutes, found.outage_minutes) == (YEAR_MS // MINUTE_MS, 0)


def level(machine: str, offset: int, minute: int, seq: int, value: int, meter: str = "availability") -> Record:
    at_ms = START_MS + minute * MINUTE_MS
    document = {"machine": machine, "meter": meter, "boot": 1, "seq": seq, "observed_at": at_ms, "level": value}
    return Record(offset, at_ms + 1_000, machine.encode(), msgspec.json.encode(document), [])


def says_so(record: Record) -> Record:
    """The registration with a meter `availability` more."""
    document = json.loads(record.value or b"")
    document["meters"].append({"meter": "availability", "unit": "state", "kind": "level", "capacity_per_hour": 1})
    return record._replace(value=msgspec.json.encode(document))


def test_the_view_has_uptime_where_the_log_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [says_so(registration("says", 0)), registration("silent", 1)]
    records += [level("says", 2, 0, 1, 1), level("says", 3, 60, 2, 0), level("says", 4, 90, 3, 1)]
    records.append(level("says", 5, 100, 3, 0))  # another content under a used number: refused
    records.append(level("silent", 6, 100, 1, 0))  # it has no such meter: refused
    records += [reading(name, 7 + at, START_MS + 235 * MINUTE_MS, 9, 5) for at, name in enumerate(("says", "silent"))]
    records += [heartbeat(9, START_MS + 256 * MINUTE_MS), heartbeat(10, START_MS + 257 * MINUTE_MS)]
    data = DataFolder(fill(tmp_path, HOURLY, SimLog(sorted(records, key=lambda r: r.offset))), load_settings())
    assert [row[-1] for row in query(data, QUERY).rows] == [None, None]
    refresh_availability(data)
    rows = query(data, QUERY).rows
    assert rows[0][:1] + rows[0][2:] == ("says", 240, 30, Decimal("87.500"))
    assert rows[1][0] == "silent" and rows[1][2:] == (None, None, None)
    assert all(row[1] is not None for row in rows)

    monkeypatch.setattr(availability, "write_json", None)
    refresh_availability(data)  # nothing new in the archive: nothing is read again, nothing written
