"""A row that nobody can read is skipped by name; the rest of its file counts as if it weren't there."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.importers.source_log import SourceLog, SourceOptions
from deploy.importers.sources import SOURCES
from schemas.errors import InvalidInput

PV = "ts,meas_val_f", "2020-01-01 00:00:00,5", "2020-01-01 00:05:00,7"
TAXI = "trip_start_timestamp,trip_seconds,trip_miles,fare,payment_type,company", "1400000000,60,1,5,Cash,A"
ACN = (
    "site,station_id,session_id,arrival,departure,delivered_energy_kwh",
    "s,1,a,2019-09-01 08:00:00-07:00,2019-09-01 09:00:00-07:00,1",
)


def read(kind: str, path: Path, zone: str = "Europe/Berlin") -> SourceLog:
    return SOURCES[kind].read(path, SourceOptions(zone=zone))


def sent(log: SourceLog) -> list[object]:
    return [msgspec.json.decode(record.value) for record in log.records()]


@pytest.mark.parametrize(
    ("kind", "good", "odd", "reason"),
    [
        ("pv-power", PV, "2020-01-01 00:1", "1 fields where the header has 2"),
        ("pv-power", PV, "2020-01-01 00:10:00,5,", "3 fields where the header has 2"),
        ("pv-power", PV, "0001-01-01 00:00:00,5", "ts is not a time: '0001-01-01 00:00:00'"),
        ("pv-power", PV, "9999-12-31 23:59:59,5", "ts is not a time: '9999-12-31 23:59:59'"),
        ("pv-power", PV, ",5", "ts is not a time: ''"),
        ("pv-power", PV, "2020-01-01 00:10:00,inf", "meas_val_f is not a number: 'inf'"),
        ("pv-power", PV, "2020-01-01 00:10:00," + "9" * 50, f"meas_val_f is not a number: '{'9' * 40}'"),
        ("chicago-taxi", TAXI, ",60,1,5,Cash,A", "trip_start_timestamp is not a number: ''"),
        (
            "chicago-taxi",
            TAXI,
            "1400000000.5,60,1,5,Cash,A",
            "trip_start_timestamp is not a whole second: '1400000000.5'",
        ),
        ("chicago-taxi", TAXI, "1400000000,60,1,$5,Cash,A", "fare is not a number: '$5'"),
        ("acn-sessions", ACN, "s,1,b,2019-09-01,,1", "departure is not a time: ''"),
        ("acn-sessions", ACN, "s,1,,2019-09-01,2019-09-02,1", "site, station_id or session_id is empty"),
        ("acn-sessions", ACN, "s,1,b,2019-09-01,2019-09-02,", "delivered_energy_kwh is not a number: ''"),
        # Were it taken, no later register of the station would fit into a reading.
        ("acn-sessions", ACN, "s,1,b,2019-08-01,2019-08-02,1e30", "the energy is out of range"),
        (
            "acn-sessions",
            ACN,
            "s,1,b,2019-03-31 02:30:00,2019-04-01,1",
            "arrival lies in an hour that the clock skipped",
        ),
    ],
)
@pytest.mark.parametrize("is_first", [False, True])
def test_an_odd_row_alone_is_lost(
    kind: str, good: tuple[str, ...], odd: str, reason: str, is_first: bool, tmp_path: Path
) -> None:
    rows = [good[0], odd, *good[1:]] if is_first else [*good, odd]
    (tmp_path / "file.csv").write_text("\n".join(good))
    without = read(kind, tmp_path / "file.csv")
    (tmp_path / "file.csv").write_text("\r\n".join(rows), encoding="utf-8-sig")
    log = read(kind, tmp_path / "file.csv")
    assert log.skipped == ((1 if is_first else len(good), reason),)
    assert (sent(log), log.totals) == (sent(without), without.totals)
    assert log.rows == without.rows + 1


def test_empty_lines_are_no_rows_and_headers_may_have_spaces(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("\n".join(PV))
    plain = read("pv-power", path)
    path.write_text("\n ts , meas_val_f\n\n2020-01-01 00:00:00,5\n\n\n2020-01-01 00:05:00,7\n\n")
    spaced = read("pv-power", path)
    assert (sent(spaced), spaced.rows, spaced.skipped) == (sent(plain), 2, ())


def test_moments_of_parquet_finer_than_python_and_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    fine = pa.array([1_577_836_800_000_000_001, 1_577_837_100_000_000_999], pa.timestamp("ns"))
    pq.write_table(pa.table({"ts": fine, "meas_val_f": [5.0, 7.0]}), path)
    assert read("pv-power", path, "UTC").totals == {"energy Wh": 1_000, "import Wh": 0}
    far = pa.array([1_577_836_800_000, 2**62, 1_577_837_100_000], pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table({"ts": far, "meas_val_f": [5.0, 1.0, 7.0]}), path)
    log = read("pv-power", path)
    assert [skipped.row for skipped in log.skipped] == [2]
    assert log.totals == {"energy Wh": 1_000, "import Wh": 0}


@pytest.mark.parametrize("at", [10, 40])
def test_a_parquet_file_with_broken_pages_is_named_in_one_line(at: int, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    moments = [f"2020-01-01 00:{minute:02}:00" for minute in range(60)]
    pq.write_table(pa.table({"ts": moments, "meas_val_f": [float(n) for n in range(60)]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"\Afile.parquet can't be read as Parquet: [^\n]+\Z"):
        read("pv-power", path)
