"""`ingest` on a real broker: init, a form from the file, register, ingest, a worker; what windows hold is the file."""

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec
import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.importers.ingest import IngestOptions, IngestReport, ingest, write_register_form
from deploy.importers.mapping import read_mapping
from deploy.machines.apply import register
from deploy.machines.new_log import InitOptions, init
from files.lock import FileLock
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.parsing import day_number
from schemas.units import DAY_MS
from streams.storage.analytics import make_analytics
from tests.support.ingested import csv_file, filled_in
from tests.support.workers import Workers

MAPPING = read_mapping("acn-sessions")
HEADER = "site,station_id,session_id,arrival,departure,delivered_energy_kwh\n"
MAY = HEADER + (
    "Köln,Süd,1,2024-05-30T08:00:00+02:00,2024-05-30T08:25:00+02:00,50.005\n"
    "Köln,Nord,2,2024-05-31T23:00:00+02:00,2024-06-01T04:00:00+02:00,61.5\n"
    "Köln,Nord,broken,2024-05-31T23:00:00+02:00,2024-06-01T04:00:00+02:00,much\n"
)
JUNE = MAY + "Köln,Süd,3,2024-06-02T08:00:00+02:00,2024-06-02T08:25:00+02:00,45\n"


def day_ms(text: str) -> int:
    return day_number(text) * DAY_MS


@pytest.fixture
def data(kafka: str, tmp_path: Path) -> DataFolder:
    settings = Settings(
        kafka_bootstrap_servers=kafka, chain_rpc_url="http://127.0.0.1:1", topic=f"t-{uuid.uuid4().hex[:12]}"
    )
    return DataFolder(tmp_path / "data", settings)


@pytest.fixture
def workers(kafka: str, data: DataFolder) -> Iterator[Workers]:
    found = Workers(kafka, data.data_dir)
    yield found
    found.kill()


def run(data: DataFolder, file: Path, **options: object) -> IngestReport:
    return ingest(data, [file], MAPPING, msgspec.convert(options, IngestOptions), lambda _: None)


def test_a_file_comes_into_windows_and_next_month_s_after_it(
    data: DataFolder, workers: Workers, tmp_path: Path
) -> None:
    may, june = csv_file(tmp_path, MAY, "may.csv"), csv_file(tmp_path, JUNE, "june.csv")
    log = init(data, InitOptions(currency="EUR", partitions=2, begins_ms=day_ms("2024-05-01"))).log
    with pytest.raises(InvalidInput, match="none of the 2 machines of the file is registered"):
        run(data, may)
    form = tmp_path / "machines.toml"
    assert write_register_form(data, [may], MAPPING, form) == 2
    with pytest.raises(InvalidInput, match="is there already"):
        write_register_form(data, [may], MAPPING, form)
    form.write_text(filled_in(form.read_text("utf-8")), "utf-8")
    assert register(data, [form], lambda _: None, dry_run=False, print_payload=False).sent

    planned = run(data, may, dry_run=True)
    report = run(data, may)
    assert (planned.readings, planned.sent) == (report.readings, False)
    assert (report.rows, report.sent_rows, report.there_already) == (3, 2, 0)
    assert report.skipped == {"delivered_energy_kwh is not a number": 1}
    assert Path(report.skipped_file or "").read_text() == (
        "file,row,reason,detail\nmay.csv,3,delivered_energy_kwh is not a number,much\n"
    )
    assert sorted(report.names.values()) == ["Köln / Nord", "Köln / Süd"]
    kept = msgspec.json.decode((data.data_dir / "ingest" / "names.json").read_bytes())
    assert kept["content"] == report.names
    assert report.totals == report.file_totals == {"energy Wh": 111_505}

    again = run(data, may)
    assert (again.sent_rows, again.there_already, again.records) == (0, 2, 0)
    with pytest.raises(InvalidInput, match="--end lies ahead"):
        run(data, june, end_ms=day_ms("2100-01-01"))
    following = run(data, june, end_ms=day_ms("2024-07-01"))
    assert (following.sent_rows, following.there_already, following.totals) == (1, 2, {"energy Wh": 45_000})
    assert run(data, june, end_ms=day_ms("2024-07-01")).records == 0
    workers.catch_up(log)
    assert sealed_usage(data.data_dir, log) == Counter({"Köln / Süd": 95_005, "Köln / Nord": 61_500})


def sealed_usage(data_dir: Path, log: Log) -> Counter[str]:
    """Usage in all windows, by the machines' names."""
    names = msgspec.json.decode((data_dir / "ingest" / "names.json").read_bytes())["content"]
    with duckdb.connect(str(make_analytics(data_dir, log)), read_only=True) as db:
        rows = db.execute("SELECT machine, sum(usage)::BIGINT FROM lines GROUP BY machine").fetchall()
    return Counter({names[machine]: total for machine, total in rows})


def test_two_at_once_and_an_end_of_a_live_log_are_refused(data: DataFolder, tmp_path: Path) -> None:
    init(data, InitOptions(currency="EUR", partitions=2))
    file = csv_file(tmp_path, MAY)
    with pytest.raises(InvalidInput, match="--end is for a log of recorded data"):
        run(data, file, end_ms=day_ms("2024-06-01"))
    lock = FileLock.acquire(data.data_dir / "ingest.lock")
    assert lock is not None
    with pytest.raises(InvalidInput, match="another `tallyroot ingest` is at work"):
        run(data, file)
    lock.release()
