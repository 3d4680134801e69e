"""Fleets earn what their trips say: every metre, second and cent, and nothing where nothing was paid."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from deploy.importers.chicago_taxi import COLUMNS
from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput
from schemas.reading import Reading

REAL = Path(__file__).parents[2] / "data" / "taxi_trips_chicago_a.parquet"


def read(path: Path, **options: object) -> SourceLog:
    return SOURCES["chicago-taxi"].read(path, SourceOptions(**options))  # type: ignore[arg-type]


def trips_of(log: SourceLog) -> list[list[Reading]]:
    return [msgspec.json.decode(record.value, type=list[Reading]) for record in log.records()]


def write_csv(folder: Path, rows: Iterable[Sequence[str]]) -> Path:
    path = folder / "trips.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def whole(number: Decimal) -> int:
    return int(number.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def recount(rows: list[dict[str, str]]) -> Counter[str]:
    """Totals by meter and unit, without the source's own code."""
    totals: Counter[str] = Counter()
    for row in rows:
        totals["distance m"] += whole(Decimal(row["trip_miles"]) * Decimal("1609.344"))
        totals["duration s"] += int(row["trip_seconds"] or "0")
        totals["trips count"] += 1
        if row["payment_type"] not in ("No Charge", "Dispute"):
            totals["fare cents"] += whole(Decimal(row["fare"]) * 100)
    return totals


def test_the_real_file_is_recounted_exactly() -> None:
    log = read(REAL)
    rows = pq.read_table(REAL).to_pylist()
    assert (log.rows, log.skipped, log.left_out) == (len(rows), (), 0)
    assert log.totals == recount(rows)
    units = {meter.meter: f"{meter.meter} {meter.unit}" for meter in log.machines[0].meters}
    found: Counter[str] = Counter()
    for trip in trips_of(log):
        for reading in trip:
            found[units[reading.meter]] += reading.value
    assert found == recount(rows)
    companies = {row["company"] for row in rows}
    assert len(log.machines) == len(companies)


def test_each_fleet_is_recounted_and_in_order() -> None:
    log = read(REAL)
    rows = pq.read_table(REAL).to_pylist()
    fares: Counter[str] = Counter()
    last: dict[tuple[str, str], Reading] = {}
    for trip in trips_of(log):
        for reading in trip:
            before = last.get((reading.machine, reading.meter))
            assert reading.seq == (before.seq + 1 if before else 1)
            assert before is None or reading.observed_at >= before.observed_at
            last[reading.machine, reading.meter] = reading
            fares[reading.machine] += reading.value if reading.meter == "fare" else 0
    for company, machine in (
        ("Taxi Affiliation Services", "taxi.taxi-affiliation-services"),
        ("Chicago Elite Cab Corp. (Chicago Carriag", "taxi.chicago-elite-cab-corp-chicago-carriag"),
        ("", "taxi.unnamed"),
    ):
        assert fares[machine] == recount([row for row in rows if row["company"] == company])["fare cents"]


def test_what_was_not_paid_earns_nothing_and_zero_miles_keep_their_fare(tmp_path: Path) -> None:
    rows = [
        ("1000", "60", "0.0", "12.45", "Cash", "A"),
        ("900", "60", "1", "5", "Dispute", "A"),
        ("800", "60", "1", "5", "No Charge", "A"),
        ("950", "", "0.5", "3.255", "Unknown", "B"),
        ("940", "10", "0.5", "0", "Cash", "B"),
    ]
    trips = [{row.meter: row.value for row in trip} for trip in trips_of(read(write_csv(tmp_path, rows)))]
    assert trips == [
        {"distance": 1609, "duration": 60, "trips": 1},
        {"distance": 805, "duration": 10, "trips": 1, "fare": 0},
        {"distance": 805, "trips": 1, "fare": 326},
        {"distance": 1609, "duration": 60, "trips": 1},
        {"distance": 0, "duration": 60, "trips": 1, "fare": 1245},
    ]


def test_names_alike_are_different_fleets(tmp_path: Path) -> None:
    rows = [("1", "1", "1", "1", "Cash", company) for company in ("Top Cab", "Top-Cab", "top cab", "Yellow")]
    machines = [machine.machine for machine in read(write_csv(tmp_path, rows)).machines]
    assert len(set(machines)) == 4
    assert machines[-1] == "taxi.yellow"
    assert all(name.startswith("taxi.top-cab.") for name in machines[:3])


@pytest.mark.parametrize(
    "change",
    [
        {"trip_seconds": "-1"},
        {"trip_seconds": "3024001"},
        {"trip_miles": "-0.1"},
        {"fare": "-5"},
        {"fare": "1e17"},
        {"trip_start_timestamp": "-1"},
        {"trip_start_timestamp": "1e17"},
    ],
)
def test_an_impossible_row_is_skipped_and_named(change: dict[str, str], tmp_path: Path) -> None:
    good = ("1000", "60", "1", "5", "Cash", "A")
    bad = dict(zip(COLUMNS, good, strict=True)) | change
    log = read(write_csv(tmp_path, [good, list(bad.values())]))
    assert [skipped.row for skipped in log.skipped] == [2]
    assert len(list(log.records())) == 1


@pytest.mark.parametrize(("column", "text"), [("fare", "free"), ("trip_start_timestamp", "1.5"), ("trip_miles", "nan")])
def test_a_wrong_row_is_named_in_one_line(column: str, text: str, tmp_path: Path) -> None:
    row = dict(zip(COLUMNS, ("1000", "60", "1", "5", "Cash", "A"), strict=True)) | {column: text}
    with pytest.raises(InvalidInput, match=rf"trips\.csv, row 1: {column} is not a .*: '{text}'$"):
        read(write_csv(tmp_path, [list(row.values())]))


def test_a_file_without_trips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no trip"):
        read(write_csv(tmp_path, []))


def test_the_first_days_only() -> None:
    log = read(REAL, days=100)
    assert log.rows - log.left_out == len(list(log.records())) == log.totals["trips count"]
    assert log.end_ms < log.start_ms + 100 * 86_400_000
