"""From a payout down to readings: what readings earned adds up to the micro, for every window of dirty logs too."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from deploy.cli import app as cli
from deploy.explain.reading_rows import ReadingName
from deploy.explain.receipt import find_reading
from deploy.explain.why import WINDOW_COMMENTS
from deploy.explain.why_readings import window_readings
from deploy.stack.servers import Stack, start_evm
from schemas.errors import InvalidInput
from schemas.parsing import moment_ms
from schemas.units import CARRY_BASE
from settlement import service
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from streams.storage.epoch_files import EpochPaths, read_windows
from streams.worker.partition import Partition
from tests.support.archived_log import LOG, MACHINES, PRICE, SITE, fill
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.sim_log import SimLog


@pytest.mark.parametrize("seed", [4])
def test_readings_add_up_to_the_net_of_every_window(tmp_path: Path, seed: int) -> None:
    log, records = small_log(), SimLog(dirty_log(seed, 0.2, 180))
    opened = Partition.open(tmp_path, log, 0, records.topic_id(), records)
    assert opened is not None
    opened.process(0, records.end, records.records)
    opened.close()
    folders = sorted(path.parent.name for path in tmp_path.glob("epochs/*/0.manifest.json"))
    windows = [window for folder in folders for window in read_windows(EpochPaths(tmp_path, folder, 0))]
    places = sorted({(window.machine, window.start_ms) for window in windows})[::4]  # each replays the log
    found = [own for place in places for own in window_readings(tmp_path, log, *place)]
    expected = [window.digest for window in windows if (window.machine, window.start_ms) in places]
    assert sorted(own.window.digest for own in found) == sorted(expected)
    assert any(own.window.net_micros for own in found)
    assert any(own.window.adjusts_ms is not None for own in found)
    assert any(reading.kind == "usage.corrected" for own in found for reading in own.readings)
    for own in found:
        assert sum(reading.micros for reading in own.readings) == own.window.net_micros
        exact = sum(Fraction(one.usage * one.price_micros, one.per or 1) for one in own.readings)
        assert exact + Fraction(own.window.carry_in - own.window.carry_out, CARRY_BASE) == own.window.net_micros
        for line in own.window.lines:
            of_line = [
                one for one in own.readings
                if (one.meter, one.registration_version, one.price_micros, one.per)
                == (line.meter, line.version, line.price_micros, line.per)
            ]  # fmt: skip
            assert sum(one.micros for one in of_line) == line.amount_micros
            assert sum(one.usage for one in of_line) == line.usage


@pytest.mark.chain
def test_why_goes_from_a_payout_on_the_chain_down_to_readings(tmp_path: Path) -> None:
    fill(tmp_path)
    node = start_evm(tmp_path / "node")
    try:
        chain = Chain(node.rpc_url, poll_s=0.01)
        keys = Keys({}, chain.chain_id)
        Stack.start(tmp_path, kafka_bootstrap_servers="127.0.0.1:1", chain_rpc_url=node.rpc_url)
        service.deploy_contracts(tmp_path, chain, LOG, keys)
        service.fund(tmp_path, chain, LOG, keys)
        service.settle(tmp_path, chain, LOG, keys)
        explain(tmp_path)
    finally:
        node.stop()


def explain(folder: Path) -> None:
    statement = why(folder)
    owed = Decimal(statement["cumulative"])
    assert sum(Decimal(row["amount"]) for row in statement["rows"]) == owed > 0
    assert sum(Decimal(one["amount"]) for one in statement["sums"]) == owed
    shown = run(folder)
    assert f"why {SITE} is owed" in shown
    for row in statement["rows"][:3]:
        found = why(folder, "--window", row["machine"], row["start"], "--out", str(folder / "r.parquet"))
        earned = [Decimal(one["amount"]) for window in found["windows"] for one in window["readings"]]
        assert sum(earned) == sum(Decimal(part["net"]) for part in found["rows"])
        for window in found["windows"]:
            for one in [one for one in window["readings"] if one["kind"] == "register"]:
                name = ReadingName(row["machine"], one["meter"], one["boot"], one["seq"])
                (place,) = [p for p in find_reading(folder, LOG, name).places if p.verdict == "accepted"]
                assert place.window is not None
                assert (place.offset, place.row) == (one["offset"], one["row"])
                assert [(line.usage, line.price_micros) for line in place.window.billed] == [(one["usage"], PRICE)]
        table = pq.read_table(folder / "r.parquet")
        assert table.num_rows == sum(len(window["readings"]) for window in found["windows"])
        assert table.schema.field("micros").metadata[b"comment"].startswith(b"what the reading earned")
    why(folder, "--out", str(folder / "s.parquet"))
    table = pq.read_table(folder / "s.parquet")
    assert table.column_names == list(WINDOW_COMMENTS)
    assert sum(table.column("amount_micros").to_pylist()) == owed * 1_000_000
    text = run(folder, "--window", MACHINES[0], "2019-04-14 01:05")
    assert "the sum of these" in text
    assert "300007 / 1000" in text
    refused = CliRunner().invoke(cli.app, ["why", SITE, "--window", "ghost", "0", "--data-dir", str(folder)])
    assert isinstance(refused.exception, InvalidInput)
    assert "has no part in a window of ghost" in str(refused.exception)


def why(folder: Path, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(folder, *options, "--json").splitlines()[-1])
    return found


def run(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(cli.app, ["why", SITE, *options, "--data-dir", str(folder)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_moments_are_read_in_utc() -> None:
    moments = (
        "2019-09-01T17:00Z",
        "2019-09-01 17:00",
        "2019-09-01 17:00 UTC",
        "1567357200000",
        "2019-09-01T19:00+02:00",
    )
    assert {moment_ms(text) for text in moments} == {1_567_357_200_000}
    with pytest.raises(InvalidInput, match="is not a time"):
        moment_ms("yesterday")
