"""The analysts' notebook: valid, without outputs, and every cell runs with plain Python and gives rows."""

import shlex
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from schemas.payout import Funding
from streams.core.records import Record
from streams.storage.analytics import make_analytics
from tests.support.analyst_notebook import code_cells, notebook, queries
from tests.support.report_data import HOURLY, OWNER, at, fill, post_all, small_fleet
from tests.support.sim_log import SimLog, heartbeat


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small fleet's folder, posted in two, with a correction that came late."""
    data_dir = tmp_path_factory.mktemp("notebook")
    records = small_fleet().records[:-2]
    offset = len(records)
    document = {
        "machine": "ev1", "version": 1, "meter": "energy", "observed_at": at(20), "difference": -400,
        "reason": "credit note",
    }  # fmt: skip
    correction = msgspec.json.encode(document)
    records.append(Record(offset, at(362), b"ev1", correction, [("ce_type", b"usage.corrected")]))
    records += [heartbeat(offset + 1, at(600)), heartbeat(offset + 2, at(601))]
    fill(data_dir, HOURLY, SimLog(records))
    post_all(data_dir, HOURLY, 4)
    funding = msgspec.json.encode(
        Funding(earned="12", funded="0", claimed="0", deposits="0", shortfall="12", decimals=6, at_ms=at(700), posts=4)
    )
    (data_dir / "settlement" / "funding.json").write_bytes(funding)
    make_analytics(data_dir, HOURLY)
    return data_dir


@pytest.fixture(scope="module")
def names(folder: Path) -> dict[str, Any]:
    """What the notebook's variables are after its last cell."""
    held: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYROOT_DATA_DIR", str(folder))
        for name, source in code_cells():
            exec(compile(source, f"cell {name}", "exec"), held)
    return held


def test_it_is_a_notebook_of_format_4_without_outputs() -> None:
    document = notebook()
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    for cell in document["cells"]:
        assert cell["cell_type"] in ("markdown", "code") and cell["metadata"] == {}
        assert "".join(cell["source"]).strip()
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_ten_questions_are_answered(names: dict[str, Any]) -> None:
    assert len(queries()) == 10
    for name in [*queries(), "shortfall"]:
        assert names[name].fetchall(), name


def test_the_answers_are_those_of_the_files(names: dict[str, Any]) -> None:
    db = names["db"]
    total = db.sql("SELECT sum(net) FROM windows").fetchall()[0][0]
    assert sum(row[1] for row in names["earned"].fetchall()) == total
    assert sum(row[1] for row in names["hours"].fetchall()) == total, "no expenses here"
    shares = {row[0]: row[1] for row in names["payees"].fetchall()}
    assert shares[OWNER] == pytest.approx(float(total) * 0.6667, abs=0.006)
    adjusted = names["adjusted"].fetchall()
    assert [(row[0], row[4]) for row in adjusted] == [("ev1", "correction, or usage found late")]
    assert [row[:3] for row in names["rejects"].fetchall()] == [("undecodable", "ev1", 1)]
    claimed = {row[0]: row[2] for row in names["claims"].fetchall()}
    assert claimed[OWNER] == 1_000
    assert all(0 <= row[3] < 1 for row in names["rounding"].fetchall())


def test_what_the_readme_says_on_duckdb_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line of DuckDB isn't installed: its query runs in Python, on the same file."""
    text = (Path(__file__).resolve().parents[2] / "streams" / "README.md").read_text("utf-8")
    section = text.split("## DuckDB on a data folder")[1].split("\n## ")[0]
    python, client, parquet = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    (tmp_path / "tallyroot-data").symlink_to(folder)
    program, flag, code = shlex.split(python)
    assert (program, flag) == ("python", "-c")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "ev1" in capsys.readouterr().out
    program, flag, database, _, query = shlex.split(client)
    assert (program, flag) == ("duckdb", "-readonly")
    with duckdb.connect(str(tmp_path / database), read_only=True) as db:
        by_view = {machine: int(net * 1_000_000) for machine, net in db.execute(query).fetchall()}
        rows = db.execute(parquet.replace("tallyroot-data", str(tmp_path / "tallyroot-data"))).fetchall()
    assert by_view == {machine: int(net) for machine, net in rows} != {}
