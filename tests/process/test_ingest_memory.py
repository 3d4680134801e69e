"""A long file, and a long log, are ingested in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GROWTH_BYTES_MAX = 40 << 20
"""Seen: 16 MB. With all rows in memory a row took more than a kilobyte: 60,000 of them some 80 MB."""


def ingested(folder: Path, machines: int, rows: int) -> Any:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.support.big_ingest", str(folder), str(machines), str(rows)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_60_000_rows_take_hardly_more_memory_than_a_few(tmp_path: Path) -> None:
    """And the same file sent again sends nothing, by an index of the log that does not lie in memory."""
    few, many = ingested(tmp_path / "few", 300, 20), ingested(tmp_path / "many", 300, 200)
    assert many["runs"] == [
        {"rows": 60_000, "sent": 60_000, "there_already": 0},
        {"rows": 60_000, "sent": 0, "there_already": 60_000},
    ]
    assert many["peak_bytes"] - few["peak_bytes"] < GROWTH_BYTES_MAX
    assert not list(tmp_path.glob("*/spool*"))
