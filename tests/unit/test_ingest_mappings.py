"""The mappings that ship, each on records of its kind, and what is refused of a mapping and said of a row.

Real records: sessions of ACN-Data, PVDAQ's plant, trips of Chicago (licences in data/README.md). ACN-Data's API form
and Chicago's are those records under the fields that the two APIs publish. No export of evcc and no CDR under a free
licence was at hand: theirs are written by the names that evcc's source and OCPI 2.2.1 publish.
"""

import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from deploy.importers.drafts import Draft
from deploy.importers.guess import guess
from deploy.importers.mapping import read_mapping, shipped
from deploy.machines.form import read_form
from schemas.errors import InvalidInput
from schemas.units import HOUR_MS
from tests.support.ingested import csv_file, drafts_of, filled_in, form_of, mapping_of

DATA = Path(__file__).parents[2] / "data"
BERLIN = ZoneInfo("Europe/Berlin")
MACHINE = 'machine_id = "m"\n'
AMOUNT = '[amounts.energy]\ncolumn = "v"\nunit = "Wh"\n'
SESSION = '[session]\nstart = "a"\nend = "b"\n'


def ms(*parts: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*parts, tzinfo=zone or UTC).timestamp()) * 1_000  # type: ignore[misc, arg-type]


def only(drafts: list[Draft]) -> Draft:
    assert len(drafts) == 1
    return drafts[0]


def test_acn_data_as_its_api_writes_it(tmp_path: Path) -> None:
    items = []
    for row in pq.read_table(DATA / "ev_sessions_acn_2019.parquet").slice(0, 300).to_pylist():
        gmt = [datetime.fromisoformat(str(row[name])).astimezone(UTC) for name in ("arrival", "departure")]
        connected, disconnected = (at.strftime("%a, %d %b %Y %H:%M:%S GMT") for at in gmt)
        items.append(
            {"_id": "5e23b149f9af8b5fe4b973cf", "clusterID": "0039", "connectionTime": connected,
             "disconnectTime": disconnected, "doneChargingTime": None,
             "kWhDelivered": float(row["delivered_energy_kwh"]), "sessionID": row["session_id"], "siteID": row["site"],
             "spaceID": "AG-3F30", "stationID": row["station_id"],
             "timezone": "America/Los_Angeles", "userID": None, "userInputs": None}
        )  # fmt: skip
    file = tmp_path / "acndata_sessions.json"
    file.write_text(json.dumps({"_meta": {"site": "caltech"}, "_items": items}))
    found, plain = drafts_of([file], read_mapping("acn-data")), tmp_path / "plain.parquet"
    pq.write_table(pq.read_table(DATA / "ev_sessions_acn_2019.parquet").slice(0, 300), plain)
    expected = drafts_of([plain], read_mapping("acn-sessions"))
    assert found.skipped == expected.skipped == []
    assert [(d.machine, d.start_ms, d.end_ms, d.amounts, d.session) for d in found.drafts] == [
        (d.machine, d.start_ms, d.end_ms, d.amounts, d.session) for d in expected.drafts
    ]


def test_evcc_s_export_in_both_languages(tmp_path: Path) -> None:
    english = csv_file(
        tmp_path,
        "\ufeffCreated,Finished,Charging point,Identifier,Vehicle,Mileage (km),Meter start (kWh),Meter stop (kWh),"
        "Energy (kWh),Duration,Solar (%),Price,Price/kWh,CO₂/kWh (gCO₂eq)\n"
        "2024-10-26 18:02:11,2024-10-27 06:30:00,Garage,,e-Golf,,1024.1,1036.4455,12.3455,2h10m0s,45.1,2.1,0.17,\n"
        "2024-11-01 08:00:00,,Carport,,,,,,1.5,,,,,\n",
        "evcc.csv",
    )
    german = csv_file(
        tmp_path,
        "\ufeffStartzeit;Endzeit;Ladepunkt;Kennung;Fahrzeug;Energie (kWh)\n"
        "2024-10-26 18:02:11;2024-10-27 06:30:00;Garage;;e-Golf;12,3455\n",
        "evcc-de.csv",
    )
    found = drafts_of([english], read_mapping("evcc"))
    assert [(row.origin.row, row.reason) for row in found.skipped] == [(2, "Finished is empty")]
    draft = only(found.drafts)
    assert (draft.machine, draft.amounts) == ("Garage", {"energy": 12_346})
    assert draft.start_ms == ms(2024, 10, 26, 18, 2, 11, zone=BERLIN)
    assert draft.end_ms - draft.start_ms == 13 * HOUR_MS + 27 * 60_000 + 49_000  # an hour more than the clock shows
    again = only(drafts_of([german], read_mapping("evcc-de")).drafts)
    assert (again.machine, again.start_ms, again.end_ms, again.amounts) == (
        draft.machine, draft.start_ms, draft.end_ms, draft.amounts,
    )  # fmt: skip
    for file, name in ((english, "evcc"), (german, "evcc-de")):
        assert f"--map {name} " in guess(file)


def test_ocpi_s_cdrs(tmp_path: Path) -> None:
    cdr = {
        "country_code": "BE", "party_id": "BEC", "id": "12345", "start_date_time": "2015-06-29T21:39:09Z",
        "end_date_time": "2015-06-29T23:37:32Z", "session_id": "7",
        "cdr_location": {"id": "LOC1", "evse_uid": "3256", "evse_id": "BE*BEC*E041503003", "connector_id": "1"},
        "currency": "EUR", "total_cost": {"excl_vat": 4.00}, "total_energy": 15.342, "total_time": 1.973,
        "charging_periods": [{"start_date_time": "2015-06-29T21:39:09Z", "dimensions": []}],
    }  # fmt: skip
    file = tmp_path / "cdrs.json"
    file.write_text(json.dumps({"data": [cdr, cdr | {"id": "12345-c", "credit": True}], "status_code": 1000}))
    found = drafts_of([file], read_mapping("ocpi-cdr"))
    draft = only(found.drafts)
    assert draft.amounts == {"energy": 15_342} and draft.session == "12345"
    assert found.names == {draft.machine: "BE*BEC*E041503003"}
    assert [(row.origin.row, row.detail) for row in found.skipped] == [(2, "true")]
    old = cdr | {"cdr_location": {"evse_uid": "3256"}, "credit": False}
    file.write_text(json.dumps([old]))
    assert only(drafts_of([file], read_mapping("ocpi-cdr")).drafts).machine == "3256"


def test_chicago_s_trips_as_its_api_writes_them(tmp_path: Path) -> None:
    chicago = ZoneInfo("America/Chicago")
    items, fares = [], 0
    rows = pq.read_table(DATA / "taxi_trips_chicago_a.parquet").slice(0, 400).to_pylist()
    for number, row in enumerate(rows):
        start = datetime.fromtimestamp(int(row["trip_start_timestamp"]), chicago)
        end = datetime.fromtimestamp(int(row["trip_start_timestamp"]) + int(row["trip_seconds"] or 0), chicago)
        is_paid = row["payment_type"] not in ("No Charge", "Dispute")
        item = {
            "trip_id": f"{number:040x}", "taxi_id": "ab" * 64, "trip_start_timestamp": f"{start:%Y-%m-%dT%H:%M:%S.000}",
            "trip_end_timestamp": f"{end:%Y-%m-%dT%H:%M:%S.000}", "trip_miles": str(row["trip_miles"]),
            "fare": str(row["fare"]), "payment_type": row["payment_type"], "company": row["company"],
        }  # fmt: skip
        items.append(item | ({} if row["trip_seconds"] is None else {"trip_seconds": str(row["trip_seconds"])}))
        if start.hour not in (1, 2) and row["fare"] is not None and is_paid:
            fares += int(Fraction(str(row["fare"])) * 100 + Fraction(1, 2))
    file = tmp_path / "trips.json"
    file.write_text(json.dumps([item for item in items if item["trip_start_timestamp"][11:13] not in ("01", "02")]))
    found = drafts_of([file], read_mapping("chicago-taxi"))
    assert found.skipped == [] and found.totals["fare"] == fares > 0
    assert {len(machine) for machine in found.names} == {64}


def test_the_shipped_mappings_give_forms_that_are_read_once_filled_in(tmp_path: Path) -> None:
    assert sorted(shipped()) == ["acn-data", "acn-sessions", "chicago-taxi", "evcc", "evcc-de", "ocpi-cdr", "pvdaq"]
    mapping = read_mapping("pvdaq")
    form = form_of(DATA / "pv_serf_east_15min.parquet", mapping)
    path = tmp_path / "form.toml"
    path.write_text(filled_in(form))
    assert [machine.id for machine in read_form(path)] == ["pv-1"]
    assert "0x... YOUR ACCOUNT" in form and "?.??" in form


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MACHINE + SESSION + AMOUNT, "kind"),
        ('kind = "session"\n' + MACHINE + SESSION + AMOUNT, "Invalid enum value 'session'"),
        ('kind = "sessions"\n' + SESSION + AMOUNT, "name the machine by columns"),
        ('kind = "sessions"\n' + MACHINE + AMOUNT, r"sessions need \[session\]"),
        ('kind = "sessions"\n' + MACHINE + '[session]\nstart = "a"\n' + AMOUNT, "neither end nor duration"),
        ('kind = "sessions"\nzone = "Berlin"\n' + MACHINE + SESSION + AMOUNT, "no time zone 'Berlin'"),
        ('kind = "sessions"\n' + MACHINE + SESSION + '[amounts.energy]\nunit = "Wh"\n', "needs a column or a value"),
        ('kind = "sessions"\n' + MACHINE + SESSION + AMOUNT + 'written_in = "kW"\n', "a power needs kind"),
        ('kind = "sessions"\n' + MACHINE + SESSION + AMOUNT + 'written_in = "km"\n', "'km' can't become Wh"),
        ('kind = "sessions"\n' + MACHINE + SESSION + AMOUNT + "colum = 1\n", "unknown field `colum`"),
        (
            'kind = "sessions"\n' + MACHINE + SESSION + AMOUNT.replace("energy", '"energy.2"'),
            "for sessions that overlap",
        ),
        ('kind = "registers"\n' + MACHINE + SESSION + AMOUNT, r"registers need \[reading\]"),
        ("kind = ", "Invalid value"),
    ],
)
def test_a_mapping_that_can_t_be_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as raised:
        mapping_of(text, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_mapping_that_is_not_there_names_those_that_ship() -> None:
    with pytest.raises(InvalidInput, match="no mapping evc: give a file, or one of acn-data, acn-sessions"):
        read_mapping("evc")


def test_rows_that_say_nothing_are_counted_by_reason(tmp_path: Path) -> None:
    mapping = mapping_of('kind = "sessions"\nmachine = ["m"]\n' + SESSION + AMOUNT, tmp_path)
    times = "2024-05-01T08:00:00Z,2024-05-01T09:00:00Z"
    file = csv_file(
        tmp_path,
        f"m,a,b,v\nx,{times},5\nx,{times},5\nx,{times},6\n,{times},5\nx,{times},five\nx,{times},-1\nx,{times},\n"
        "x,2024-05-01,5\nx,2024-05-01T09:00:00Z,2024-05-01T08:00:00Z,5\nx,soon,2024-05-01T09:00:00Z,5\n"
        "x,2024-05-01T08:00:00Z,2024-07-01T09:00:00Z,5\n",
    )
    found = drafts_of([file], mapping)
    assert (found.rows, len(found.drafts)) == (11, 1)
    assert [(row.origin.row, row.reason) for row in found.skipped] == [
        (2, "the same row is in the file twice"),
        (3, "another row has the same session and start"),
        (4, "the machine has no name"),
        (5, "v is not a number"),
        (6, "v is negative"),
        (7, "no value"),
        (8, "another number of fields than the header"),
        (9, "the end is not after the start"),
        (10, "a is not a time"),
        (11, "longer than 35 days"),
    ]


def test_other_dialects(tmp_path: Path) -> None:
    mapping = mapping_of(
        'kind = "sessions"\nmachine = ["Säule"]\ntime_format = "%d.%m.%Y %H:%M"\nzone = "Europe/Berlin"\n[file]\n'
        'delimiter = ";"\ndecimal = ","\nthousands = "."\nencoding = "cp1252"\nskip_lines = 2\n'
        '[session]\nstart = "Von"\nduration = "Min"\nduration_in = "min"\n' + AMOUNT.replace('"v"', '"Wh"'),
        tmp_path,
    )
    file = tmp_path / "rows.csv"
    rows = "Säule;Von;Min;Wh\nNord;31.12.2023 23:30;90,5;1.234.567,5\nNord;1.1.2024 5:00;1;1.2\n"
    file.write_bytes(("Bericht\n\n" + rows).encode("cp1252"))
    found = drafts_of([file], mapping)
    draft = only(found.drafts)
    assert (draft.amounts, draft.start_ms) == ({"energy": 1_234_568}, ms(2023, 12, 31, 22, 30))
    assert draft.end_ms - draft.start_ms == 90 * 60_000 + 30_000
    assert [row.reason for row in found.skipped] == ["Wh is not a number"]


def test_json_lines_keep_every_digit(tmp_path: Path) -> None:
    mapping = mapping_of('kind = "sessions"\n' + MACHINE + SESSION + AMOUNT.replace('"v"', '"x.v"'), tmp_path)
    file = tmp_path / "rows.jsonl"
    line = '{"a": "2024-05-01T08:00:00Z", "b": "2024-05-01T09:00:00Z", "x": {"v": 9007199254740991.4999999999999999}}'
    file.write_text(f"{line}\n\n[1]\n{{broken\n")
    found = drafts_of([file], mapping)
    assert only(found.drafts).amounts == {"energy": 9_007_199_254_740_991}
    assert [(row.origin.row, row.reason) for row in found.skipped] == [(2, "not an object"), (3, "not a line of JSON")]


def test_a_missing_column_and_times_without_a_zone_are_one_line(tmp_path: Path) -> None:
    mapping = mapping_of('kind = "sessions"\n' + MACHINE + SESSION + AMOUNT, tmp_path)
    with pytest.raises(InvalidInput, match=r"rows\.csv has no column b; it has a, v"):
        drafts_of([csv_file(tmp_path, "a,v\n1,2\n")], mapping)
    with pytest.raises(InvalidInput, match=r'b has times without an offset .* write zone = "Europe/Berlin"'):
        drafts_of([csv_file(tmp_path, "a,b,v\n2024-05-01 08:00,2024-05-01 09:00,2\n")], mapping)


def test_a_guess_is_a_mapping_that_reads_the_file(tmp_path: Path) -> None:
    file = csv_file(
        tmp_path,
        "Transaktion;Ladepunkt;Beginn;Ende;Energie kWh\n"
        + "".join(f"t{n};Säule {n % 2};0{n}.05.2024 08:00;0{n}.05.2024 09:00;{n},5\n" for n in range(1, 9)),
    )
    text = guess(file).replace('start = ""', 'start = "Beginn"')
    found = drafts_of([file], mapping_of(text, tmp_path))
    assert found.skipped == [] and found.totals == {"energy": 40_000}
    assert sorted(found.names.values()) == ["Säule 0", "Säule 1"]
    meter = csv_file(
        tmp_path, "time,counter_kwh\n" + "".join(f"2024-05-0{n}T00:00:00Z,{n * 10}\n" for n in range(1, 9))
    )
    mapping = mapping_of(guess(meter), tmp_path)
    assert mapping.kind == "registers"
    assert drafts_of([meter], mapping).drafts[-1].amounts == {"energy": 80_000}
    with pytest.raises(InvalidInput, match="has no rows to guess from"):
        guess(csv_file(tmp_path, "a,b\n"))


def test_the_guess_names_a_mapping_that_fits() -> None:
    assert guess(DATA / "ev_sessions_acn_2019.parquet").startswith("# ev_sessions_acn_2019.parquet has the columns")
