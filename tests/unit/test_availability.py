"""Uptime comes from what a meter `availability` said, and from nothing else."""

import json
import random
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain import availability
from deploy.explain.availability import YEAR_MS, minutes_of, refresh_availability
from deploy.explain.query import query
from files.foreign import PlainFiles
from schemas.units import HOUR_MS, MINUTE_MS
from streams.core.records import Record
from streams.worker.partition import Partition
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


def a_day_of_words(seed: int) -> SimLog:
    """A day of two chargers that say so every few minutes: some words late, some twice, some refused."""
    draw, names = random.Random(seed), ("one", "two")
    records = [says_so(registration(name, at)) for at, name in enumerate(names)]
    for minute in range(1, 24 * 60, 5):
        name, offset = draw.choice(names), len(records)
        late = draw.choice([0, 0, 0, 3, 90])
        word = level(name, offset, max(1, minute - late), minute, draw.choice([0, 1, 1]))
        records.append(word._replace(timestamp=START_MS + minute * MINUTE_MS))
        if draw.random() < 0.1:  # what a restart repeats, or another content under a used number
            records.append(records[-1]._replace(offset=len(records), timestamp=records[-1].timestamp + 1))
        records.append(reading(name, len(records), START_MS + minute * MINUTE_MS, minute, minute * 10))
    records.append(heartbeat(len(records), START_MS + 26 * 60 * MINUTE_MS))
    return SimLog(records)


@pytest.mark.parametrize(("seed", "year_ms"), [(2, YEAR_MS), (3, 4 * HOUR_MS)])
def test_going_on_from_the_last_epoch_equals_the_replay_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, year_ms: int
) -> None:
    """A replay from the start at every new epoch made a day's work grow with the log's age."""
    monkeypatch.setattr(availability, "YEAR_MS", year_ms)
    read: list[str] = []

    plain = PlainFiles.batches

    def noting(files: PlainFiles, path: Path, schema: pa.Schema, max_rows: int) -> Iterator[pa.RecordBatch]:
        read.append(path.parent.name)
        return plain(files, path, schema, max_rows)

    monkeypatch.setattr(PlainFiles, "rows", lambda *_: 0)
    monkeypatch.setattr(PlainFiles, "batches", noting)
    log, data = a_day_of_words(seed), DataFolder(tmp_path, load_settings())
    whole, draw, at, seen = log.records, random.Random(seed), 0, 0
    while at < len(whole):
        upto = min(len(whole), at + draw.randint(200, 500))
        partition = Partition.open(tmp_path, HOURLY, 0, log.topic_id(), log)
        assert partition is not None
        partition.process(at, upto if upto < len(whole) else log.end, whole[at:upto])
        partition.close()
        (tmp_path / "log.json").write_bytes(msgspec.json.encode(HOURLY))
        at = upto
        refresh_availability(data)
        assert len(read) == len(set(read)), "an epoch was replayed twice"
        went_on = asked(data)
        if at < len(whole) and draw.random() < 0.7:
            continue
        other = DataFolder(shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-{at}")), load_settings())
        shutil.rmtree(other.data_dir / "availability", ignore_errors=True)
        (other.data_dir / "availability.json").unlink(missing_ok=True)
        kept = list(read)
        refresh_availability(other)
        seen += len(went_on)
        assert asked(other) == went_on
        read[:] = kept
    assert seen and len(read) > 20


def asked(data: DataFolder) -> list[list[object]]:
    return [list(row) for row in query(data, QUERY).rows if row[2] is not None]


@pytest.mark.parametrize("damage", [b"\x00" * 50, None])
def test_a_standing_that_is_damaged_or_of_another_archive_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    data = DataFolder(fill(tmp_path / "a", HOURLY, a_day_of_words(5)), load_settings())
    refresh_availability(data)
    expected, path = asked(data), data.data_dir / "availability" / "0.standing"
    if damage is None:
        other = DataFolder(fill(tmp_path / "b", HOURLY, a_day_of_words(6)), load_settings())
        refresh_availability(other)
        damage = (other.data_dir / "availability" / "0.standing").read_bytes()
    path.write_bytes(damage)
    (data.data_dir / "availability.json").unlink()
    refresh_availability(data)
    assert asked(data) == expected != []
