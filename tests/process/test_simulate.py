"""`simulate` on a real broker: a live fleet and a worker at once, and a backfill that is interrupted and taken up."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.config import KeySettings, Settings
from deploy.data_folder import DataFolder
from deploy.explain.query import query
from deploy.simulate.run import SimulateOptions, SimulateReport, simulate
from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.units import SECOND_MS
from streams.core.signature import operator_account
from streams.kafka.reader import KafkaLogReader
from streams.kafka.topics import create_topic
from tests.support.workers import Workers

KEY = bytes(range(1, 33))
PAYEES = {operator_account(KEY): 10_000}


def a_place(kafka: str, folder: Path, topic: str) -> DataFolder:
    """A data folder on the shared broker; nothing asks its chain."""
    settings = Settings(
        topic=topic,
        kafka_bootstrap_servers=kafka,
        chain_rpc_url="http://127.0.0.1:1",
        operator=KeySettings(key=KEY.hex()),
    )
    return DataFolder(folder, settings)


@pytest.fixture
def workers(kafka: str, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(kafka, tmp_path)
    yield workers
    workers.kill()


def rows(place: DataFolder, text: str) -> list[tuple[Any, ...]]:
    return query(place, text).rows


def test_windows_of_a_live_fleet_show_while_it_runs_and_its_faults_come_to_what_was_foretold(
    kafka: str, tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.simulate.fleet_faults.APART", 1)  # all kinds of faults within nine moments
    place = a_place(kafka, tmp_path, "simulate-live")
    log = place.create_log(
        Log(
            log_id="simulate-live", topic="simulate-live", partitions=2, timestamp_type="LogAppendTime",
            window_ms=2 * SECOND_MS, epoch_ms=4 * SECOND_MS,
            rulesets=(Ruleset(grace_ms=SECOND_MS, operators=(operator_account(KEY),)),),
        )
    )  # fmt: skip
    create_topic(kafka, log)
    workers.start(log)
    deadline = time.monotonic() + 120
    while rows(place, 'SELECT count(DISTINCT "partition") FROM epochs') != [(log.partitions,)]:
        assert time.monotonic() < deadline, "heartbeats end the epochs of a log in which nothing happens yet"
        time.sleep(0.3)
    reports: list[SimulateReport] = []
    options = SimulateOptions(
        machines=12, every="1s", runs_for="9s", payees=PAYEES, faults=("clock", "duplicate", "equivocate", "reset")
    )
    fleet = threading.Thread(target=lambda: reports.append(simulate(place, print, options)))
    fleet.start()
    shown = 0
    while fleet.is_alive():
        (seen,) = rows(place, "SELECT count(*) FROM windows WHERE adjusts IS NULL")[0]
        shown = seen if fleet.is_alive() else shown
        time.sleep(0.3)
    fleet.join()
    stopped_ms = time.time_ns() // 1_000_000
    assert shown > 0
    assert len(reports) == 1
    report = reports[0]
    assert {"clock", "duplicate", "equivocate"} <= set(report.faults)
    ended = (
        'SELECT count(*) FROM (SELECT max("end") AS "end" FROM epochs GROUP BY "partition") WHERE epoch_ms("end") > ?'
    )
    deadline = time.monotonic() + 60
    while rows(place, ended.replace("?", str(stopped_ms))) != [(log.partitions,)]:
        assert time.monotonic() < deadline, "heartbeats end the epochs of a fleet that has stopped"
        time.sleep(0.3)
    assert Counter(dict(rows(place, "SELECT reason, count(*) FROM rejects GROUP BY 1"))) == report.expected_rejects
    assert rows(place, "SELECT sum(duplicate) FROM epochs") == [(report.expected_duplicates,)]


def test_a_backfill_that_was_stopped_is_taken_up(kafka: str, tmp_path: Path) -> None:
    options = SimulateOptions(machines=6, days=1, every="5m", faults=("duplicate", "glitch"), payees=PAYEES)
    whole = a_place(kafka, tmp_path / "whole", "simulate-whole")
    report = simulate(whole, print, options)
    stopped = a_place(kafka, tmp_path / "stopped", "simulate-stopped")

    def stopping(text: str) -> None:
        """Ctrl-C at the first progress."""
        if "readings, up to" in text:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.simulate.run.PROGRESS_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            simulate(stopped, stopping, options)
    with pytest.raises(InvalidInput, match="another fleet is in this log"):
        simulate(stopped, print, SimulateOptions(machines=6, days=1, every="5m", payees=PAYEES))
    rest = simulate(stopped, print, options)
    assert 0 < rest.records < report.records
    assert rest.expected_rejects == report.expected_rejects
    assert contents(kafka, stopped) == contents(kafka, whole)
    again = simulate(stopped, print, options)
    assert (again.records, again.expected_duplicates) == (0, report.expected_duplicates)


def contents(kafka: str, place: DataFolder) -> list[tuple[int, int, bytes | None, bytes | None]]:
    log = place.log()
    reader = KafkaLogReader(kafka, log.topic)
    try:
        return [
            (partition, record.timestamp, record.key, record.value)
            for partition in range(log.partitions)
            for record in reader.read(partition, *reader.range(partition))
        ]
    finally:
        reader.close()
