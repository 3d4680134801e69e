"""Files of one's own into a log: every row once, whatever was sent before; and what is paid is what the file says."""

from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deploy.importers.mapping import read_mapping
from deploy.importers.placing import BEHIND, CHANGED, IN_FUTURE, OVERLAPS, TOO_MUCH, TOO_OLD
from schemas.errors import InvalidInput
from schemas.units import HOUR_MS, MINUTE_MS
from tests.support.ingested import IngestedLog, csv_file, drafts_of, mapping_of, readings_of, usage

DATA = Path(__file__).parents[2] / "data"
SESSIONS = read_mapping("acn-sessions")
HEADER = "site,station_id,session_id,arrival,departure,delivered_energy_kwh\n"
FAST = HEADER + (
    "dc,hpc1,1,2024-05-01T08:00:00+02:00,2024-05-01T08:25:00+02:00,50.0\n"
    "dc,hpc1,2,2024-05-01T09:00:00+02:00,2024-05-01T09:25:00+02:00,55.0\n"
    "dc,hpc1,3,2024-05-01T10:00:00+02:00,2024-05-01T10:25:00+02:00,45.0\n"
    "ac,ac22,4,2024-05-01T08:00:00+02:00,2024-05-01T10:00:00+02:00,40.0\n"
    "ac,ac22,5,2024-05-01T12:00:00+02:00,2024-05-01T14:00:00+02:00,36.0\n"
    "ac,ac22,6,2024-05-01T15:00:00+02:00,2024-05-01T18:00:00+02:00,21.0\n"
)
REGISTERS = 'kind = "registers"\nmachine_id = "m"\n[reading]\nat = "at"\n[amounts.energy]\ncolumn = "v"\nunit = "Wh"\n'
INTERVALS = (
    'kind = "intervals"\nmachine_id = "m"\nzone = "Europe/Berlin"\n[reading]\nat = "at"\nstands_for = "start"\n'
    '[amounts.energy]\ncolumn = "v"\nunit = "Wh"\nwritten_in = "kWh"\n'
)


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000


def test_sessions_of_22_kw_and_dc_are_paid_whole(tmp_path: Path) -> None:
    """Found by a user: stations were 7.4 kW by a constant, and 21 of 247 kWh were paid."""
    log = IngestedLog(tmp_path, day("2024-05-01"))
    file = csv_file(tmp_path, FAST)
    log.register_file(file, SESSIONS)
    log.ingest(file, SESSIONS)
    windows, rejects = log.sealed()
    assert rejects == []
    assert usage(windows) == {"dc.hpc1": Counter(energy=150_000), "ac.ac22": Counter(energy=97_000)}
    assert sum(window.gross_micros for window in windows) == 247 * 400_000


def test_what_a_registration_does_not_allow_is_not_sent_and_said(tmp_path: Path) -> None:
    log = IngestedLog(tmp_path, day("2024-05-01"))
    file = csv_file(tmp_path, FAST)
    log.register_file(file, SESSIONS)
    other = IngestedLog(tmp_path, day("2024-05-01"))
    other.register((tmp_path / "form.toml").read_text().replace('"150 kW"', '"50 kW"'))
    placement = other.ingest(file, SESSIONS)
    assert [(row.origin.row, row.reason) for row in placement.skipped] == [(1, TOO_MUCH), (2, TOO_MUCH), (3, TOO_MUCH)]
    assert usage(other.sealed()[0]) == {"ac.ac22": Counter(energy=97_000)}


def test_names_in_other_scripts_are_machines_of_their_own(tmp_path: Path) -> None:
    """Found by a user: three stations of two cities became one machine, and a session of 5 kWh was lost."""
    rows = [
        ("上海", "东门站", "s1", "08:00:00+08:00", "10:00:00+08:00", 10),
        ("上海", "西门站", "s2", "08:30:00+08:00", "10:30:00+08:00", 12),
        ("北京", "东门站", "s1", "08:00:00+08:00", "10:00:00+08:00", 5),
        ("Köln", "Süd", "s3", "08:00:00+02:00", "10:00:00+02:00", 7),
        ("Kêln", "Sïd", "s4", "11:00:00+02:00", "12:00:00+02:00", 3),
        ("NL", "NL*ABC*E1", "s5", "08:00:00+02:00", "10:00:00+02:00", 4),
        ("NL", "NL_ABC_E1", "s6", "11:00:00+02:00", "12:00:00+02:00", 4),
    ]
    text = "".join(f"{a},{b},{c},2024-05-01T{d},2024-05-01T{e},{f}\n" for a, b, c, d, e, f in rows)
    file = csv_file(tmp_path, HEADER + text)
    log = IngestedLog(tmp_path, day("2024-05-01"))
    log.register_file(file, SESSIONS)
    found, placement = log.plan(file, SESSIONS)
    assert sorted(found.names.values()) == sorted(f"{a} / {b}" for a, b, *_ in rows)
    log.ingest(file, SESSIONS)
    assert placement.skipped == found.skipped == []
    assert sorted(total["energy"] for total in usage(log.sealed()[0]).values()) == [3e3, 4e3, 4e3, 5e3, 7e3, 10e3, 12e3]
    assert [name for name in found.names if name.startswith("NL.")] == sorted(
        (name for name in found.names if name.startswith("NL.")), key=len, reverse=True
    )


def real_sessions(folder: Path, first: str, end: str) -> Path:
    rows = pq.read_table(DATA / "ev_sessions_acn_2019.parquet").to_pylist()
    lines = [
        ",".join(str(row[name]) for name in HEADER.strip().split(",")) for row in rows if first <= row["arrival"] < end
    ]
    return csv_file(folder, HEADER + "\n".join(lines) + "\n", f"{first}-{end}.csv")


def test_real_sessions_over_the_change_of_the_clock_once_whatever_was_sent(tmp_path: Path) -> None:
    """Two files that overlap, one of them sent twice, one run killed: as if one file had been sent once."""
    first = real_sessions(tmp_path, "2019-10-31", "2019-11-04")
    second = real_sessions(tmp_path, "2019-11-02", "2019-11-06")
    both = real_sessions(tmp_path, "2019-10-31", "2019-11-06")
    log, once = (IngestedLog(tmp_path, day("2019-10-31")) for _ in range(2))
    for each in (log, once):
        each.register_file(both, SESSIONS)
    assert once.ingest(both, SESSIONS).there_already == 0
    log.ingest(first, SESSIONS, at_most=700)
    log.ingest(first, SESSIONS)
    again = log.ingest(first, SESSIONS)
    assert (again.readings, again.sent_rows, again.skipped) == ([], 0, [])
    placement = log.ingest(second, SESSIONS)
    assert placement.there_already > 0 and placement.sent_rows > 0
    assert log.ingest(both, SESSIONS).readings == []
    windows, rejects = log.sealed()
    expected, none = once.sealed()
    assert (rejects, none) == ([], [])
    totals = [sum(sum(total.values()) for total in usage(each).values()) for each in (windows, expected)]
    drafts = drafts_of([both], SESSIONS)
    assert totals == [drafts.totals["energy"]] * 2
    assert drafts.skipped == []
    kwh = [line.rsplit(",", 1)[1] for line in both.read_text().splitlines()[1:]]
    assert totals[0] == sum(int(Fraction(text) * 1_000 + Fraction(1, 2)) for text in kwh)


def test_a_killed_run_goes_on_at_every_record(tmp_path: Path) -> None:
    file = csv_file(tmp_path, FAST)
    whole = IngestedLog(tmp_path, day("2024-05-01"))
    whole.register_file(file, SESSIONS)
    count = len({(p.route, p.reading.observed_at) for p in whole.ingest(file, SESSIONS).readings})
    for at_most in range(count):
        log = IngestedLog(tmp_path, day("2024-05-01"))
        log.register_file(file, SESSIONS)
        log.ingest(file, SESSIONS, at_most=at_most)
        log.ingest(file, SESSIONS)
        assert log.records == whole.records


def test_a_session_that_says_something_else_now_is_not_sent_again(tmp_path: Path) -> None:
    log = IngestedLog(tmp_path, day("2024-05-01"))
    file = csv_file(tmp_path, FAST)
    log.register_file(file, SESSIONS)
    log.ingest(file, SESSIONS)
    changed = csv_file(tmp_path, FAST.replace(",50.0", ",51.0").replace("18:00:00+02:00,21", "17:00:00+02:00,21"))
    placement = log.ingest(changed, SESSIONS)
    assert [(row.origin.row, row.reason) for row in placement.skipped] == [(1, CHANGED), (6, CHANGED)]
    assert placement.readings == []


def test_sessions_that_overlap_have_meters_of_their_own(tmp_path: Path) -> None:
    rows = "s,x,{},2024-05-01T{}:00Z,2024-05-01T{}:00Z,{}\n"
    early = rows.format(1, "08:00", "10:00", 8) + rows.format(2, "09:00", "11:00", 6)
    late = rows.format(3, "10:30", "12:00", 5) + rows.format(4, "11:30", "13:00", 4)
    both = csv_file(tmp_path, HEADER + early + late)
    log = IngestedLog(tmp_path, day("2024-05-01"))
    log.register_file(both, SESSIONS)
    log.ingest(csv_file(tmp_path, HEADER + early, "early.csv"), SESSIONS)
    log.ingest(both, SESSIONS)
    windows, rejects = log.sealed()
    assert rejects == [] and usage(windows) == {"s.x": Counter({"energy": 13_000, "energy.2": 10_000})}
    third = csv_file(tmp_path, HEADER + early + late + rows.format(5, "09:30", "09:45", 1))
    assert [row.reason for row in log.ingest(third, SESSIONS).skipped] == [OVERLAPS]


def test_unregistered_machines_are_named_and_none_at_all_is_one_line(tmp_path: Path) -> None:
    file = csv_file(tmp_path, FAST)
    log = IngestedLog(tmp_path, day("2024-05-01"))
    with pytest.raises(InvalidInput, match="none of the 2 machines of the file is registered"):
        log.ingest(file, SESSIONS)
    log.register_file(csv_file(tmp_path, "\n".join(FAST.splitlines()[:4]) + "\n", "dc.csv"), SESSIONS)
    placement = log.ingest(file, SESSIONS)
    assert {(row.reason, row.detail) for row in placement.skipped} == {("its machine is not registered", "ac.ac22")}
    assert placement.sent_rows == 3


def test_rows_too_old_or_ahead_are_not_sent_and_late_ones_become_adjustments(tmp_path: Path) -> None:
    row = "s,x,{0},2024-0{1}T08:00:00Z,2024-0{1}T09:00:00Z,5\n"
    late = row.format("late", "5-20")
    file = csv_file(
        tmp_path, HEADER + row.format("old", "2-01") + late + row.format("new", "6-01") + late.replace("2024", "2034")
    )
    log = IngestedLog(tmp_path, day("2024-04-01"))
    log.register_file(file, SESSIONS)
    log.heartbeats(day("2024-05-25"))
    placement = log.ingest(file, SESSIONS)
    assert [(row.origin.row, row.reason) for row in placement.skipped] == [(1, TOO_OLD), (4, IN_FUTURE)]
    assert (placement.sent_rows, placement.late) == (2, 1)
    windows, rejects = log.sealed()
    assert rejects == [] and usage(windows) == {"s.x": Counter(energy=10_000)}
    quarters = [day("2024-05-20") + 8 * HOUR_MS + 15 * MINUTE_MS * number for number in range(4)]
    assert [window.adjusts_ms for window in windows if window.adjusts_ms is not None] == quarters


def test_a_register_moves_on_and_what_lies_behind_is_not_sent(tmp_path: Path) -> None:
    mapping = mapping_of(REGISTERS, tmp_path)
    rows = [f"2024-05-01T0{hour}:00:00Z,{1_000.9 + 500 * hour}\n" for hour in range(6)]
    file = csv_file(tmp_path, "at,v\n" + "".join(rows[::2]))
    log = IngestedLog(tmp_path, day("2024-05-01"))
    log.register_file(file, mapping)
    assert [reading["register"] for reading in readings_of(log.ingest(file, mapping))] == [1_000, 2_000, 3_000]
    placement = log.ingest(csv_file(tmp_path, "at,v\n" + "".join(rows)), mapping)
    assert [row.reason for row in placement.skipped] == [BEHIND, BEHIND]
    assert (placement.there_already, placement.sent_rows) == (3, 1)
    assert usage(log.sealed()[0]) == {"m": Counter(energy=2_500)}


@pytest.mark.parametrize("turned", [False, True], ids=["oldest-first", "newest-first"])
def test_an_hour_that_the_clock_has_twice_is_read_twice(tmp_path: Path, turned: bool) -> None:
    local = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    rows = [f"2024-10-27 {clock}:00,{kwh}" for kwh, clock in enumerate(local, 1)]
    mapping = mapping_of(INTERVALS, tmp_path)
    file = csv_file(tmp_path, "\n".join(["at,v", *(reversed(rows) if turned else rows)]) + "\n")
    found = drafts_of([file], mapping)
    assert found.skipped == [] and found.twice_by_the_clock == 4
    starts = [draft.start_ms for draft in found.drafts]
    assert starts == [day("2024-10-26T23:30") + half * HOUR_MS // 2 for half in range(6)]
    assert [draft.amounts["energy"] for draft in found.drafts] == [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]


def test_an_hour_that_the_clock_skips_is_skipped_and_said(tmp_path: Path) -> None:
    file = csv_file(tmp_path, "at,v\n2024-03-31 01:30:00,1\n2024-03-31 02:30:00,1\n2024-03-31 03:00:00,1\n")
    found = drafts_of([file], mapping_of(INTERVALS, tmp_path))
    assert [(row.origin.row, row.reason) for row in found.skipped] == [(2, "at lies in an hour that the clock skipped")]
    assert [draft.start_ms for draft in found.drafts] == [day("2024-03-31T00:30"), day("2024-03-31T01:00")]


def test_a_session_that_ends_in_the_second_of_two_equal_hours(tmp_path: Path) -> None:
    mapping = mapping_of(
        'kind = "sessions"\nmachine_id = "m"\nzone = "Europe/Berlin"\n[session]\nstart = "a"\nend = "b"\n'
        '[amounts.energy]\ncolumn = "v"\nunit = "Wh"\n',
        tmp_path,
    )
    rows = "2024-10-27 02:50:00,2024-10-27 02:10:00,5\n2024-10-27 02:10:00,2024-10-27 02:05:00,5\n"
    file = csv_file(tmp_path, "a,b,v\n" + rows)
    spans = [(draft.start_ms, draft.end_ms) for draft in drafts_of([file], mapping).drafts]
    assert spans == [
        (day("2024-10-27T00:50"), day("2024-10-27T01:10")),
        (day("2024-10-27T00:10"), day("2024-10-27T01:05")),
    ]


def test_equal_events_count_as_often_as_they_stand_there(tmp_path: Path) -> None:
    mapping = mapping_of(
        'kind = "events"\nmachine_id = "fleet"\n[session]\nend = "at"\n[amounts.fare]\ncolumn = "v"\ntimes = "100"\n'
        'unit = "cents"\ncapacity = "100000 cents/h"\n',
        tmp_path,
    )
    one, two = (csv_file(tmp_path, "at,v\n" + "2024-05-01T08:00:00Z,5.50\n" * n, f"{n}.csv") for n in (2, 3))
    log = IngestedLog(tmp_path, day("2024-05-01"))
    log.register_file(two, mapping)
    assert len(log.ingest(one, mapping).readings) == 2
    placement = log.ingest(two, mapping)
    assert (len(placement.readings), placement.there_already) == (1, 2)
    assert usage(log.sealed()[0]) == {"fleet": Counter(fare=1_650)}


def test_a_meter_of_another_kind_is_one_line(tmp_path: Path) -> None:
    file = csv_file(tmp_path, FAST)
    log = IngestedLog(tmp_path, day("2024-05-01"))
    log.register_file(file, SESSIONS)
    form = (tmp_path / "form.toml").read_text().replace('"quantity"', '"register"')
    log = IngestedLog(tmp_path, day("2024-05-01"))
    log.register(form)
    with pytest.raises(InvalidInput, match="counts energy as a register in Wh, the file is a quantity in Wh"):
        log.ingest(file, SESSIONS)


def test_power_is_energy_and_its_rest_is_carried(tmp_path: Path) -> None:
    mapping = read_mapping("pvdaq")
    table = pq.read_table(DATA / "pv_serf_east_15min.parquet").slice(0, 3_000)
    pq.write_table(table, tmp_path / "pv.parquet")
    log = IngestedLog(tmp_path, day("2016-07-01"))
    log.register_file(tmp_path / "pv.parquet", mapping)
    placement = log.ingest(tmp_path / "pv.parquet", mapping)
    values = [Fraction(text) for text in map(str, table["ac_power"].to_pylist()) if text not in ("None", "nan")]
    expected = {
        "energy": int(sum(max(value, Fraction(0)) for value in values) / 4),
        "import": int(sum(max(-value, Fraction(0)) for value in values) / 4),
    }
    windows, rejects = log.sealed()
    assert rejects == [] and placement.skipped == []
    assert usage(windows) == {"pv-1": Counter(expected)}
    pq.write_table(table.slice(1_000), tmp_path / "later.parquet")
    assert log.ingest(tmp_path / "later.parquet", mapping).readings == []
