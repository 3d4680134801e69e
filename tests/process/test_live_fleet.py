"""A live fleet settles by itself on the embedded servers: two short epochs are posted, attested and paid."""

import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pytest

from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.stack.processes import wait_until
from settlement.chain.node import Chain
from tests.support.commands import tallyroot

pytestmark = [pytest.mark.kafka, pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(400)]

WHERE = ("--data-dir", "data")
FLEET = ("--live", "--machines", "40", "--speed", "60", "--every", "1s", "--partitions", "2", "--seed", "1")
TIMES = ("--window", "10s", "--epoch", "20s", "--grace", "2s")
EPOCHS = 2
PATIENCE_S = 180.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A working folder; what runs for its data folder is ended."""
    yield tmp_path
    tallyroot("down", *WHERE, cwd=tmp_path)


@pytest.fixture
def background(place: Path) -> Iterator[ExitStack]:
    """Ends commands that run in the background."""
    with ExitStack() as stack:
        yield stack


def run(background: ExitStack, place: Path, *words: str) -> Path:
    """A command in the background, its output in a file."""
    said = place / f"{words[0]}.out"
    with said.open("wb") as output:
        process = background.enter_context(
            subprocess.Popen([sys.executable, "-m", "deploy", *words, *WHERE], cwd=place, stdout=output, stderr=output)
        )
    background.callback(process.kill)
    return said


def metrics(said: str) -> "Counter[str]":
    """Value by series, added up over the processes that say where they serve them."""
    found = Counter[str]()
    for url in re.findall(r"http://\S+(?=/health)", said):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found.update(
            {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
        )
    return found


def test_two_epochs_are_posted_attested_and_paid(place: Path, background: ExitStack) -> None:
    fleet = run(background, place, "simulate", *FLEET, *TIMES)
    assert wait_until((place / "data" / "log.json").exists, PATIENCE_S), fleet.read_text()
    started = tallyroot("up", "--workers", "2", *WHERE, cwd=place).stdout
    with duckdb.connect(place / "data" / "analytics.duckdb", read_only=True) as views:  # from their first second on
        assert len(views.sql("SELECT count(*) FROM windows").fetchall()) == 1

    follower = run(background, place, "settle", "--follow", "--metrics-port", "0")
    posted = lambda: len(re.findall(r"(?m)^posted ", follower.read_text()))  # noqa: E731
    assert wait_until(lambda: posted() >= EPOCHS, PATIENCE_S), follower.read_text() + fleet.read_text()
    assert "warning" not in follower.read_text()

    watcher = run(background, place, "watch", "--every", "0.5", "--metrics-port", "0")
    attested = lambda: metrics(watcher.read_text())["tallyroot_ledger_attested_posts"]  # noqa: E731
    assert wait_until(lambda: attested() >= EPOCHS, PATIENCE_S), watcher.read_text()
    seen, money, workers = (metrics(said) for said in (watcher.read_text(), follower.read_text(), started))
    for what in ("fetch", "commit", "seal_to_query"):
        assert workers[f"tallyroot_{what}_duration_seconds_count"] > 0, what
    assert sum(workers[f'tallyroot_partition_machines{{partition="{number}"}}'] for number in (0, 1)) == 40
    assert seen["tallyroot_healthy"] == money["tallyroot_healthy"] == 1
    assert seen['tallyroot_watch_posts{verdict="right"}'] >= EPOCHS
    assert seen['tallyroot_watch_posts{verdict="wrong"}'] == 0
    assert money["tallyroot_ledger_posts"] >= EPOCHS
    assert min(money[f"tallyroot_ledger_{name}_tokens"] for name in ("earned", "funded")) > 0
    assert money["tallyroot_ledger_collected_tokens"] == 0, "nobody has prepaid"
    assert sum(value for series, value in money.items() if series.startswith("tallyroot_rpc_requests_total")) > 0
    Chain(DataFolder(place / "data", Settings()).chain_rpc_url()).pass_time(120)  # the delay
    tallyroot("claim", "--all", *WHERE, cwd=place)
    rows = re.findall(r"(?m)^0x\w{40} +([\d.,]+) +([\d.,]+)", tallyroot("payouts", *WHERE, cwd=place).stdout)
    assert len(rows) == 3
    assert all(claimed != "0.000000" for _, claimed in rows)
