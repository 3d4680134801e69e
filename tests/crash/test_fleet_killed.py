"""A short run of `python -m tests.crash.fleet`, and that it would notice."""

from pathlib import Path

import duckdb
import pytest

from tests.bench.load import Load
from tests.crash.fleet import differences, prove
from tests.support.kafka_log import a_log

pytestmark = [pytest.mark.crash, pytest.mark.kafka, pytest.mark.slow]


def test_windows_and_roots_of_killed_workers_are_those_of_undisturbed_ones(kafka: str, tmp_path: Path) -> None:
    log = a_log("fleet-killed")
    assert prove(kafka, log, tmp_path, machines=20, minutes=75, kills=2, seed=1) == []
    steady, killed = tmp_path / "steady", tmp_path / "killed"
    load = Load.read(tmp_path / "load.json")
    with duckdb.connect(str(killed / "partitions" / "0.duckdb")) as db:
        db.execute("UPDATE position SET duplicate = duplicate + 1")
    assert [fault.partition(":")[0] for fault in differences(log, load, steady, killed)] == ["0.position"]
    load.machines["m-000003"] = (76, 0, 0)
    assert any("readings of 1 machines" in fault for fault in differences(log, load, steady, killed))
