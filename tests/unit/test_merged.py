"""Merged epochs: at every step each row shows once, in views that are open and in new ones; proofs stay as they are."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from msgspec import structs

from schemas.errors import InvalidInput
from schemas.units import DAY_MS, HOUR_MS
from streams.storage.analytics import make_analytics
from streams.storage.merged import merge
from streams.storage.views_origin import views_origin
from tests.support import archived_log

HOURS = 31
"""A day of four epochs, and one more epoch."""

LOG = structs.replace(archived_log.LOG, epoch_ms=6 * HOUR_MS)
ASKED = [
    *(f"SELECT count(*), sum(hash(v)) FROM {view} v" for view in ("lines", "dues", "agreements", "orders", "epochs")),
    "SELECT count(*), sum(net_micros), count(DISTINCT digest), sum(hash(w)) FROM windows w",
    "SELECT count(*), sum(readings), sum(net) FROM machines",
    'SELECT reason, count(*), sum("offset") FROM rejects GROUP BY ALL ORDER BY ALL',
]


def answers(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    return [connection.execute(query).fetchall() for query in ASKED]


def new_answers(folder: Path) -> list[Any]:
    """By views that are made where they would differ, as a query makes them."""
    path = folder / "analytics.duckdb"
    with duckdb.connect(str(path), read_only=True) as connection:
        if connection.execute("FROM files.made_from").fetchall() == [(views_origin(folder, LOG),)]:
            return answers(connection)
    make_analytics(folder, LOG)
    return new_answers(folder)


def digests(folder: Path) -> dict[str, str]:
    paths = [path for name in ("epochs", "log") for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    archived_log.fill(folder, HOURS, LOG)
    shutil.rmtree(folder / "live")  # its boundary moves a minute after an epoch's manifest
    make_analytics(folder, LOG)
    return folder


def test_rows_show_once_at_every_step_and_after_a_kill_at_each(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    make_analytics(folder, LOG)
    whole, proofs, steps = new_answers(folder), digests(folder), []
    assert whole[0][0][0] > 100

    class Killed(Exception):
        pass

    def die(name: str) -> None:
        assert answers(opened) == new_answers(folder) == whole, name
        if steps.count(name) < 1:
            steps.append(name)
            raise Killed

    while True:
        # Within a process DuckDB has one database of a name: what an analyst has open is a file of another one.
        shutil.copyfile(folder / "analytics.duckdb", tmp_path / "opened.duckdb")
        with duckdb.connect(str(tmp_path / "opened.duckdb"), read_only=True) as opened:
            try:
                done = merge(folder, LOG, lambda share, text: None, die)
                break
            except Killed:
                continue
    assert steps == ["1 files", "2 until"] and done.days == () and digests(folder) == proofs
    assert new_answers(folder) == whole
    with duckdb.connect(str(folder / "analytics.duckdb"), read_only=True) as connection:
        ((listed,),) = connection.execute("SELECT count(*) FROM files.published").fetchall()
    assert listed == 2 and done.until_ms == 18_001 * DAY_MS


def test_nothing_is_merged_that_a_partition_may_still_add_to(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    for path in (folder / "epochs").glob("*/1.*"):
        path.unlink()
    assert merge(folder, LOG, lambda share, text: None).days == ()


def test_a_changed_file_is_named(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(filled, folder)
    changed = next(iter(sorted((folder / "epochs").glob("*/0.windows.parquet"))))
    changed.write_bytes(changed.read_bytes() + b"x")
    with pytest.raises(InvalidInput, match=r"0\.windows\.parquet is not the file that"):
        merge(folder, LOG, lambda share, text: None)
