"""A session is billed whole or, where its departure is refused, not at all: random stations, through advance."""

import csv
from collections import Counter, defaultdict
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from deploy.importers.acn_sessions import COLUMNS
from deploy.importers.replay import planned
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.log import Log
from schemas.reading import Reading
from schemas.registration import Agreement
from streams.core.records import Record
from streams.core.replay import judge_watched, replay
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


def departures_of(source: SourceLog) -> dict[tuple[str, str], list[tuple[str, int, bool]]]:
    """By meter, in the order of the log: each session, the Wh that its rows bill, and whether a row was refused."""
    plan = planned(LOG, [source], bytes(range(1, 33)), lambda machine: Agreement({"payee": 10_000}), seed="1")
    records = [Record(place, out.timestamp_ms, out.key, out.value, out.headers) for place, out in enumerate(plan)]
    machines = {machine.machine for machine in source.machines}
    state = State.new(LOG, 0)
    billed: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    refused: set[tuple[str, str, str]] = set()
    for stop in replay(state, records, lambda record: not record.headers):
        if stop.record is None:
            continue
        for change in judge_watched(state, stop.record, machines):
            reading = change.entry
            assert isinstance(reading, Reading)
            assert change.reason in (None, "too_high")
            lines = change.window.lines if change.window else ()
            billed[reading.machine, reading.meter][str(reading.session)] += sum(line.usage for line in lines)
            if change.reason:
                refused.add((reading.machine, reading.meter, str(reading.session)))
    return {
        meter: [(session, usage, (*meter, session) in refused) for session, usage in sessions.items()]
        for meter, sessions in billed.items()
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_session_is_billed_whole_or_not_at_all(seed: int, tmp_path: Path) -> None:
    """Where sessions before it on its meter were refused, it may bill them too, each whole (rule 16: displaced)."""
    rows = random_sessions(Random(seed))
    with (path := tmp_path / "s.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    source = SOURCES["acn-sessions"].read(path, SourceOptions())
    assert not source.skipped
    energy_wh = {(f"s.{row[1]}", row[2]): int(Fraction(row[5]) * 1_000 + Fraction(1, 2)) for row in rows}
    found = departures_of(source)
    assert sum(len(sessions) for sessions in found.values()) == len(rows)
    for (machine, _), sessions in found.items():
        sums, is_all_accepted = [0], True
        for session, usage, is_refused in sessions:
            energy = energy_wh[machine, session]
            sums = [energy + before for before in (0, *sums)]
            is_all_accepted &= not is_refused
            assert usage == 0 if is_refused else usage in sums
            assert usage == energy or not is_all_accepted
