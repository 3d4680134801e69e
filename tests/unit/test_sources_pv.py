"""What an inverter's file says in power comes out as energy, exactly, and never as negative energy."""

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from math import floor
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput
from schemas.reading import Reading
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS

DATA = Path(__file__).parents[2] / "data"
REAL = {
    "pv_abb_5min": ("ts", "meas_val_f", 1_000, 300, {"zone": "UTC"}),
    "pv_serf_east_15min": ("measured_on", "ac_power", 1, 900, {}),
}


def read(path: Path, **options: object) -> SourceLog:
    return SOURCES["pv-power"].read(path, SourceOptions(**options))  # type: ignore[arg-type]


def readings(log: SourceLog) -> list[Reading]:
    return [row for record in log.records() for row in msgspec.json.decode(record.value, type=list[Reading])]


def total(log: SourceLog, meter: str) -> int:
    return sum(reading.value for reading in readings(log) if reading.meter == meter)


def write_csv(folder: Path, rows: Iterable[Sequence[str]], columns: Sequence[str] = ("ts", "meas_val_f")) -> Path:
    path = folder / "plant.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def recount(name: str) -> tuple[int, int, int]:
    """(samples, Wh produced, Wh drawn) of a real file, without the source's own code: fractions, one by one."""
    stamp, power, watts, step_s, _ = REAL[name]
    rows = sorted((row[stamp], row[power]) for row in pq.read_table(DATA / f"{name}.parquet").to_pylist())
    moments = [datetime.fromisoformat(moment) for moment, _ in rows]
    produced = drawn = Fraction(0)
    for index, (_, text) in enumerate(rows):
        gap_s = (moments[index + 1] - moments[index]).total_seconds() if index + 1 < len(rows) else step_s
        energy = Fraction(text) * watts * min(int(gap_s), step_s) / 3_600
        if energy > 0:
            produced += energy
        else:
            drawn -= energy
    return len(rows), floor(produced), floor(drawn)


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_recounted_exactly(name: str) -> None:
    log = read(DATA / f"{name}.parquet", **REAL[name][4])
    samples, produced_wh, drawn_wh = recount(name)
    assert (log.rows, log.skipped, log.left_out) == (samples, (), 0)
    assert (total(log, "energy"), total(log, "import")) == (produced_wh, drawn_wh)
    assert log.totals == {"energy Wh": produced_wh, "import Wh": drawn_wh}
    found = readings(log)
    assert [reading.seq for reading in found] == [n for n in range(1, samples + 1) for _ in (1, 2)]
    times = [reading.observed_at for reading in found]
    assert times == sorted(times)
    assert (log.start_ms, log.end_ms) == (times[0], times[-1])


@pytest.mark.parametrize("name", REAL)
def test_every_real_sample_is_plausible(name: str) -> None:
    """RULES 15 and 17, with the slack as it is paid back."""
    log = read(DATA / f"{name}.parquet", days=90, **REAL[name][4])
    capacity = {meter.meter: meter.capacity_per_hour for meter in log.machines[0].meters}
    slack, last = dict.fromkeys(capacity, MINUTE_MS), dict.fromkeys(capacity, log.start_ms - DAY_MS)
    for reading in readings(log):
        meter = reading.meter
        needed_ms = -(-reading.value * HOUR_MS * 100 // (135 * capacity[meter]))
        left_ms = slack[meter] + reading.observed_at - last[meter] - needed_ms
        assert left_ms >= 0, reading
        slack[meter], last[meter] = min(MINUTE_MS, left_ms), reading.observed_at


def test_fractions_of_a_wh_are_carried_and_gaps_count_as_nothing(tmp_path: Path) -> None:
    rows = [
        ("2020-01-01 00:00:00", "0.0001"),  # 0.0083.. Wh in 5 min
        ("2020-01-01 00:05:00", "0.0119"),  # 0.9916.. Wh: 1 Wh together
        ("2020-01-01 00:10:00", "12"),  # 1,000 Wh, although 12 h go by
        ("2020-01-01 12:00:00", "-12"),  # 800 Wh drawn: the next sample comes after 4 min
        ("2020-01-01 12:04:00", "-6"),  # 500 Wh drawn
    ]
    log = read(write_csv(tmp_path, rows), zone="UTC")
    found = [(reading.meter, reading.value) for reading in readings(log)]
    assert [value for meter, value in found if meter == "energy"] == [0, 1, 1_000, 0, 0]
    assert [value for meter, value in found if meter == "import"] == [0, 0, 0, 800, 500]
    assert [record.timestamp_ms - 1577836800000 for record in log.records()] == [
        minutes * MINUTE_MS for minutes in (5, 10, 15, 724, 729)
    ]


def test_a_sentinel_goes_out_for_the_stream_to_refuse(tmp_path: Path) -> None:
    rows = [(f"2020-01-01 00:{minute:02}:00", "-1000000" if minute == 30 else "5") for minute in range(0, 60, 5)]
    log = read(write_csv(tmp_path, rows), zone="UTC")
    assert log.totals == {"energy Wh": 11 * 5_000 // 12, "import Wh": 1_000_000_000 // 12}
    drawn = [reading for reading in readings(log) if reading.meter == "import"]
    worst = max(drawn, key=lambda reading: reading.value)
    capacity = log.machines[0].meters[1].capacity_per_hour
    assert worst.value * 100 > 135 * capacity * 24 * 35  # implausible, whatever time it may claim
    assert [meter.capacity_per_hour for meter in log.machines[0].meters] == [5_000, 100]


def test_options_say_what_the_file_does_not(tmp_path: Path) -> None:
    rows = [("2020-03-08 01:55:00", "60"), ("2020-03-08 03:00:00", "60"), ("2020-03-08 03:05:00", "120")]
    log = read(write_csv(tmp_path, rows), unit="W", zone="America/Los_Angeles", machine="roof-1", capacity_w=700)
    assert log.machines[0].machine == "roof-1"
    assert log.machines[0].meters[0].capacity_per_hour == 700
    assert log.totals == {"energy Wh": 20, "import Wh": 0}
    assert log.end_ms - log.start_ms == 10 * MINUTE_MS  # the clock skipped an hour between the first two


def test_the_hour_that_comes_twice(tmp_path: Path) -> None:
    stamps = ("00:30", "01:00", "01:30", "01:00", "01:30", "02:00")
    log = read(write_csv(tmp_path, [(f"2020-11-01 {stamp}:00", "1") for stamp in stamps]), zone="America/Chicago")
    assert log.skipped == ()
    assert log.totals == {"energy Wh": 3_000, "import Wh": 0}


def test_rows_that_say_nothing_are_named(tmp_path: Path) -> None:
    rows = [
        ("2020-03-08 01:00:00", "1"),
        ("2020-03-08 01:05:00", "nan"),
        ("2020-03-08 01:10:00", ""),
        ("2020-03-08 01:00:00", "9"),
        ("2020-03-08 02:30:00", "9"),
        ("2020-03-08 01:15:00", "1e30"),
        ("2020-03-08 01:05:00", "1"),
    ]
    log = read(write_csv(tmp_path, rows), zone="America/Los_Angeles", unit="W")
    assert [skipped.row for skipped in log.skipped] == [2, 3, 4, 5, 6]
    assert log.rows == 7


def test_the_first_days_only() -> None:
    log = read(DATA / "pv_serf_east_15min.parquet", days=3)
    assert log.end_ms <= log.start_ms + 3 * DAY_MS
    assert 0 < log.rows - log.left_out == len(readings(log)) // 2 <= 3 * 96


@pytest.mark.parametrize(
    ("columns", "rows", "text"),
    [
        (("time", "power"), [], "has no column ac_power (with measured_on) or meas_val_f (with ts)"),
        (("ts", "ac_power"), [], "has no column measured_on"),
        (("ts", "meas_val_f"), [("2020-01-01 00:00:00", "1")], "row 1: ts has no UTC offset: add --zone"),
        (("ts", "meas_val_f"), [("noon", "1")], "row 1: ts is not a time: 'noon'"),
        (("ts", "meas_val_f"), [("2020-01-01T00:00:00Z", "much")], "row 1: meas_val_f is not a number: 'much'"),
        (("ts", "meas_val_f"), [("2020-01-01T00:00:00Z", "1")], "fewer than two samples"),
        (("ts", "meas_val_f"), [], "fewer than two samples"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(
    columns: Sequence[str], rows: list[Sequence[str]], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(write_csv(tmp_path, rows, columns))
    assert text in str(caught.value)


def test_an_unknown_zone_is_named() -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        read(DATA / "pv_abb_5min.parquet", zone="../UTC")
