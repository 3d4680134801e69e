"""The queries of the page about charts run on a small folder, read-only, and return rows of the columns it names."""

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from streams.storage.analytics import make_analytics
from tests.support.report_data import HOURLY, small_folder

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "charts-and-bi.md"
QUERIES = re.findall(r"(?ms)^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = small_folder(tmp_path_factory.mktemp("charts"))
    make_analytics(data_dir, HOURLY)
    return data_dir


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.split()[1] + query.split()[2])
def test_a_query_returns_rows(folder: Path, tmp_path: Path, query: str) -> None:
    with duckdb.connect(str(folder / "analytics.duckdb"), read_only=True) as db:
        assert db.execute(query.replace("'windows.parquet'", f"'{tmp_path / 'windows.parquet'}'")).fetchall()


def test_every_view_and_column_that_the_page_names_is_there(folder: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", "\n".join(line for line in text.splitlines() if line.startswith("| `"))))
    with duckdb.connect(str(folder / "analytics.duckdb"), read_only=True) as db:
        rows = db.execute("SELECT table_name, column_name FROM duckdb_columns()").fetchall()
    assert named - {name for row in rows for name in row} == set()


def test_the_json_for_grafana_is_rows_and_columns(folder: Path) -> None:
    (query,) = re.findall(r'sql --json -c "(.*)" +>', PAGE.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "deploy", "sql", "--json", "--data-dir", str(folder), "-c", query]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith('{"columns": ["machine", "net", "uptime"], "rows": [["')
