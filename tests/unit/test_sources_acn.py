"""A station's register is the sum of its sessions: none lost, none doubled, each recounted apart from the source."""

import csv
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.importers.acn_sessions import COLUMNS
from deploy.importers.names import id_of
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput
from schemas.reading import Reading
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS

DATA = Path(__file__).parents[2] / "data"
REAL = DATA / "ev_sessions_acn_2019.parquet"
Row = Sequence[str]


def session_wh(kwh: str) -> int:
    """The energy of one session as a person would round it."""
    return int((Decimal(kwh) * 1000).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def recount(path: Path) -> tuple[int, dict[str, int]]:
    """(sessions, Wh by station) of a good file, without the source's own code."""
    rows = pq.read_table(path).to_pylist()
    by_station: dict[str, int] = {}
    for row in rows:
        station = f"{row['site']}.{row['station_id']}"
        by_station[station] = by_station.get(station, 0) + session_wh(row["delivered_energy_kwh"])
    return len(rows), by_station


def write_csv(folder: Path, rows: Iterable[Row], columns: Row = COLUMNS) -> Path:
    path = folder / "sessions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def read(path: Path, **options: object) -> SourceLog:
    return SOURCES["acn-sessions"].read(path, SourceOptions(**options))  # type: ignore[arg-type]


def readings(log: SourceLog) -> list[Reading]:
    return [msgspec.json.decode(record.value, type=Reading) for record in log.records()]


def usage_by_session(found: Iterable[Reading]) -> dict[tuple[str, str], int]:
    """What each session's readings add to the registers, by difference to the reading before on the same meter."""
    last: dict[tuple[str, str], int] = {}
    usage: dict[tuple[str, str], int] = {}
    for reading in found:
        assert isinstance(reading.session, str)
        meter, session = (reading.machine, reading.meter), (reading.machine, reading.session)
        usage[session] = usage.get(session, 0) + reading.value - last.get(meter, 0)
        last[meter] = reading.value
    return usage


@pytest.fixture(scope="module")
def real() -> SourceLog:
    return read(REAL)


@pytest.fixture(scope="module")
def real_readings(real: SourceLog) -> list[Reading]:
    return readings(real)


def test_the_real_file_is_recounted_session_by_session(real: SourceLog, real_readings: list[Reading]) -> None:
    sessions, by_station = recount(REAL)
    usage = usage_by_session(real_readings)
    assert (real.rows, real.skipped, real.left_out) == (sessions, (), 0)
    assert len(usage) == sessions
    assert real.totals == {"energy Wh": sum(by_station.values())}
    assert {machine.machine for machine in real.machines} == by_station.keys()
    for station, energy_wh in by_station.items():
        assert sum(wh for (machine, _), wh in usage.items() if machine == station) == energy_wh
    rows = pq.read_table(REAL).to_pylist()
    for row in rows:
        key = f"{row['site']}.{row['station_id']}", id_of(row["session_id"])
        assert usage[key] == session_wh(row["delivered_energy_kwh"])


def test_every_reading_keeps_the_rules_of_the_wire(real: SourceLog, real_readings: list[Reading]) -> None:
    last: dict[tuple[str, str], Reading] = {}
    for reading, record in zip(real_readings, real.records(), strict=True):
        assert reading.is_valid()
        assert (record.timestamp_ms, record.key) == (reading.observed_at, reading.machine)
        before = last.get((reading.machine, reading.meter))
        assert reading.seq == (before.seq + 1 if before else 1)
        if before:
            assert reading.observed_at >= before.observed_at
            assert reading.value >= before.value
            assert reading.session_start == (reading.session != before.session)
        assert reading.observed_at % (15 * MINUTE_MS) == 0 or not reading.reconstructed
        last[reading.machine, reading.meter] = reading
    times = [reading.observed_at for reading in real_readings]
    assert times == sorted(times)
    assert (real.start_ms, real.end_ms) == (times[0], times[-1])


def test_every_real_session_is_plausible(real: SourceLog, real_readings: list[Reading]) -> None:
    """RULES 15, with the slack as it is paid back, at the capacity that the registrations give."""
    capacity = {machine.machine: machine.meters[0].capacity_per_hour for machine in real.machines}
    slack: dict[str, int] = {}
    last: dict[str, Reading] = {}
    for reading in real_readings:
        before = last.get(reading.machine)
        used = reading.value - (before.value if before else 0)
        needed_ms = -(-used * HOUR_MS * 100 // (135 * capacity[reading.machine]))
        elapsed_ms = min(reading.observed_at - before.observed_at, 35 * DAY_MS) if before else 35 * DAY_MS
        left_ms = slack.get(reading.machine, MINUTE_MS) + elapsed_ms - needed_ms
        assert left_ms >= 0, reading
        slack[reading.machine], last[reading.machine] = min(MINUTE_MS, left_ms), reading


def test_every_real_station_has_the_class_of_its_site(real: SourceLog) -> None:
    """Roots that are published depend on it."""
    assert {meter.capacity_per_hour for machine in real.machines for meter in machine.meters} == {7_400}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = pq.read_table(REAL).to_pylist()
    as_csv = write_csv(tmp_path, [[row[column] for column in COLUMNS] for row in rows])
    log, again = read(REAL, days=14), read(as_csv, days=14)
    assert list(again.records()) == list(log.records())
    assert again.machines == log.machines


def test_moved_by_weeks_only_the_moments_change(tmp_path: Path) -> None:
    path = write_csv(tmp_path, [("s", "1", "a", "2019-11-03T00:10:00-07:00", "2019-11-03T05:00:00-08:00", "9.9995")])
    log = read(path)
    moved = log.moved(7 * DAY_MS)
    for before, after in zip(readings(log), readings(moved), strict=True):
        assert isinstance(before.session_started_at, int)
        assert after == msgspec.structs.replace(
            before,
            observed_at=before.observed_at + 7 * DAY_MS,
            session_started_at=before.session_started_at + 7 * DAY_MS,
        )
    assert moved.start_ms - log.start_ms == moved.end_ms - log.end_ms == 7 * DAY_MS
    assert log.end_ms - log.start_ms == 5 * HOUR_MS + 50 * MINUTE_MS  # the hour of the clock change is in it
    assert readings(log)[-1].register == 10_000  # half a Wh goes up


def test_overlapping_sessions_have_meters_of_their_own(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path,
        [
            ("s", "1", "b", "2019-09-01 08:30:00+00:00", "2019-09-01 10:30:00+00:00", "10"),
            ("s", "1", "a", "2019-09-01 08:00:00+00:00", "2019-09-01 09:00:00+00:00", "6"),
            ("s", "1", "c", "2019-09-01 09:00:00+00:00", "2019-09-01 09:10:00+00:00", "1"),
        ],
    )
    log = read(path)
    found = readings(log)
    assert [meter.meter for meter in log.machines[0].meters] == ["energy", "energy.2"]
    assert {(r.session, r.meter) for r in found} == {("a", "energy"), ("b", "energy.2"), ("c", "energy")}
    assert usage_by_session(found) == {("s.1", "a"): 6_000, ("s.1", "b"): 10_000, ("s.1", "c"): 1_000}
    assert log.machines[0].tariff.elements[0].components[1].meter == "energy.2"


def test_an_implausible_session_is_not_reconstructed(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path,
        [("s", "1", "a", "2019-09-01 08:07:00+00:00", "2019-09-01 09:07:00+00:00", "809")],
    )
    assert [(r.register, r.reconstructed) for r in readings(read(path))] == [(0, False), (809_000, False)]


@pytest.mark.parametrize(
    ("arrival", "departure", "energy", "reason"),
    [
        ("2019-09-01 08:00:00+00:00", "2019-09-01 08:00:00+00:00", "1", "the departure is not after the arrival"),
        ("2019-09-01 08:00:00+00:00", "2019-09-01 08:59:00+01:00", "1", "the departure is not after the arrival"),
        ("2019-09-01 08:00:00+00:00", "2019-10-07 08:00:00+00:00", "1", "the session is longer than 35 days"),
        ("2019-09-01 08:00:00+00:00", "2019-09-01 09:00:00+00:00", "-0.001", "the energy is negative"),
        ("2019-09-01 08:00:00", "2019-09-01 09:00:00+00:00", "1", "a time without a UTC offset: add --zone"),
        ("2019-09-02 08:00:00+00:00", "2019-09-02 09:00:00+00:00", "1", "the session is a repetition"),
    ],
)
def test_an_impossible_row_is_skipped_and_named(
    arrival: str, departure: str, energy: str, reason: str, tmp_path: Path
) -> None:
    session = "good" if "repetition" in reason else "bad"
    good = ("s", "1", "good", "2019-09-01 07:00:00+00:00", "2019-09-01 07:30:00+00:00", "1")
    log = read(write_csv(tmp_path, [good, ("s", "1", session, arrival, departure, energy)]))
    assert log.skipped == ((2, reason),)
    assert (log.rows, log.totals) == (2, {"energy Wh": 1_000})


def test_naive_moments_are_read_in_the_zone_given(tmp_path: Path) -> None:
    rows = [("s", "1", "a", "2019-11-03 00:30:00", "2019-11-03 03:30:00", "1")]
    log = read(write_csv(tmp_path, rows), zone="America/Los_Angeles")
    assert log.end_ms - log.start_ms == 4 * HOUR_MS


def test_the_first_days_only(real: SourceLog) -> None:
    log = read(REAL, days=7)
    end_ms = real.start_ms - real.start_ms % DAY_MS + 7 * DAY_MS
    starts = [reading.session_started_at for reading in readings(log)]
    assert all(isinstance(start, int) and start < end_ms for start in starts)
    assert 0 < log.left_out < log.rows == real.rows
    assert len(usage_by_session(readings(log))) == log.rows - log.left_out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"site": ""}, "row 1: site, station_id or session_id is empty"),
        ({"arrival": "yesterday"}, "row 1: arrival is not a time: 'yesterday'"),
        ({"departure": ""}, "row 1: departure is not a time: ''"),
        ({"delivered_energy_kwh": "nan"}, "row 1: delivered_energy_kwh is not a number: 'nan'"),
        ({"delivered_energy_kwh": "1e999"}, "row 1: delivered_energy_kwh is not a number"),
        ({"delivered_energy_kwh": "0x10"}, "row 1: delivered_energy_kwh is not a number"),
    ],
)
def test_a_wrong_row_is_named_in_one_line(change: dict[str, str], text: str, tmp_path: Path) -> None:
    row = dict(zip(COLUMNS, ("s", "1", "a", "2019-09-01T08:00:00Z", "2019-09-01T09:00:00Z", "1"), strict=True)) | change
    with pytest.raises(InvalidInput) as caught:
        read(write_csv(tmp_path, [list(row.values())]))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    (tmp_path / "latin.csv").write_bytes(",".join(COLUMNS).encode() + b"\nk\xe4,1,a,b,c,1\n")
    pq.write_table(pa.table({"site": ["s"]}), tmp_path / "other.parquet")
    short = write_csv(tmp_path, [("s", "1", "a")])
    for path, text in [
        (tmp_path / "absent.csv", "no file"),
        (tmp_path / "no.parquet", "is not a Parquet file"),
        (tmp_path / "latin.csv", "is not a CSV file in UTF-8"),
        (tmp_path / "other.parquet", "has no column station_id"),
        (tmp_path / "file.xlsx", "neither a .csv nor a .parquet"),
        (short, "row 1: 3 fields where the header has 6"),
        (DATA / "pv_abb_5min.parquet", "has no column site"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            read(path)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidInput, match="no session"):
        read(write_csv(tmp_path, []))


def test_typed_parquet_reads_as_text_does(tmp_path: Path) -> None:
    rows = [("s", "1", "a", "2019-09-01 08:00:00+00:00", "2019-09-01 09:00:00+00:00", "4.0005")]
    typed = pa.table(
        {
            "site": ["s"],
            "station_id": [1],
            "session_id": ["a"],
            "arrival": pa.array([1567324800000], pa.timestamp("ms", "UTC")),
            "departure": pa.array([1567328400000], pa.timestamp("ms", "UTC")),
            "delivered_energy_kwh": [4.0005],
        }
    )
    pq.write_table(typed, tmp_path / "typed.parquet")
    assert readings(read(tmp_path / "typed.parquet")) == readings(read(write_csv(tmp_path, rows)))
    assert readings(read(tmp_path / "typed.parquet"))[-1].register == 4_001  # 4,000.5 rounded half up
