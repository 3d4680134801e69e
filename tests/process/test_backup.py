"""Each thing of a data folder is lost in turn, with a real log and chain: what brings it back, and nothing differs.

A worker and settlement run while two backups are made: one before the second post, one after it.
"""

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import structs
from typer.testing import CliRunner, Result

from deploy.cli import app as cli
from deploy.stack.servers import Stack
from files.write import write_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.units import HOUR_MS
from settlement import service
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.storage.posts import Store
from streams.kafka.topics import create_topic
from tests.support.archived_log import LOG, MACHINES, OWNER, START_MS, records_of
from tests.support.kafka_log import Outcome, Sender, outcome, without_faust
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.chain]

HOURS = 4
OLD, NEW = 2, 4
"""Hours of the log that are there when the first and the second backup are made."""


class Place(NamedTuple):
    """A folder and what is true of it; `backups` are named `old` and `new`."""

    folder: Path
    backups: Path
    names: list[str]
    log: Log
    kafka: str
    node: Chain
    keys: Keys
    truth: Outcome

    def copy(self, to: Path) -> "Place":
        shutil.copytree(self.folder, to)
        return self._replace(folder=to)

    def run(self, *words: str) -> Result:
        """A command on the folder, in this process."""
        return CliRunner().invoke(cli.app, [*words, "--data-dir", str(self.folder)])

    def command(self, *words: str) -> str:
        """A command that runs a worker, in a process of its own."""
        environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": self.kafka, "CHAIN_RPC_URL": self.node.rpc_url}
        line = [sys.executable, "-m", "deploy", *words, "--data-dir", str(self.folder)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read_log(self) -> Outcome:
        """What a worker that reads the rest of the log makes of the folder."""
        return without_faust(self.kafka, self.log, self.folder)

    def is_right(self) -> bool:
        """Whether all epochs and all posts are those of an undisturbed folder, and nothing is to be posted."""
        settled = service.settle(self.folder, self.node, self.log, self.keys, SettleOptions())
        roots = [Store(self.folder).stored_header(number).header for number in (1, 2)]
        live = Ledger.open(self.folder, self.node).history().live
        same = outcome(self.folder).manifests == self.truth.manifests
        return same and [header.header() for header in roots] == [each.header for each in live] and not settled.posts


@pytest.fixture(scope="module")
def place(kafka: str, evm: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("backup")
    folder, backups, log = root / "data", root / "backups", structs.replace(LOG, log_id="kept", topic="kept")
    node = Chain(evm, poll_s=0.01)
    keys = Keys({}, node.chain_id)
    folder.mkdir()
    write_json(folder / "log.json", log)
    Stack.start(folder, kafka_bootstrap_servers=kafka, chain_rpc_url=evm)
    service.deploy_contracts(folder, node, log, keys)
    service.fund(folder, node, log, keys, 10**9)
    create_topic(kafka, log)
    sender, workers, names = Sender(kafka, log), Workers(kafka, folder, root), []
    sent = [0, 0]
    worker = workers.start(log)
    try:
        for hours in (OLD, NEW):
            for partition, machine in enumerate(MACHINES):
                records = records_of(machine, HOURS).records
                due = [record for record in records if record.timestamp < START_MS + hours * HOUR_MS]
                sender.send(due[sent[partition] :], partition)
                sent[partition] = len(due)
            deadline = time.monotonic() + 60
            while len(list(folder.glob("epochs/*/*.manifest.json"))) < 2 * hours:
                assert time.monotonic() < deadline, worker.said()
                sender.end(START_MS + hours * HOUR_MS + 12 * 60_000)  # a worker finishes epochs as records come
                time.sleep(0.1)
            service.settle(folder, node, log, keys, SettleOptions(max_posts=1))
            done = CliRunner().invoke(cli.app, ["backup", str(backups), "--data-dir", str(folder)])
            assert done.exit_code == 0, done.output
            names.append(max(path.stem for path in (backups / "backups").iterdir()))
        assert worker.stop() == 0
    finally:
        workers.kill()
    truth = without_faust(kafka, log, root / "truth")
    return Place(folder, backups, names, log, kafka, node, keys, truth)


def lose(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def test_the_checkpoints_are_lost(place: Place, tmp_path: Path) -> None:
    copy = place.copy(tmp_path / "data")
    lose(copy.folder, "partitions")
    assert copy.read_log().differences(place.truth) == []
    assert copy.is_right()


def test_what_analysts_read_is_lost(place: Place, tmp_path: Path) -> None:
    copy = place.copy(tmp_path / "data")
    query = ("sql", "-c", "SELECT count(*), sum(net_micros) FROM windows", "--json")
    before = copy.run(*query).stdout
    lose(copy.folder, "live", "analytics.duckdb")  # what isn't final comes back when a worker opens its partition
    assert copy.read_log().differences(place.truth) == []
    assert copy.run(*query).stdout == before
    lose(copy.folder, "epochs", "log", "partitions")  # without its checkpoint a partition is read from its beginning
    assert copy.read_log().differences(place.truth) == []
    assert copy.run(*query).stdout == before and copy.is_right()


def test_journal_and_posts_are_lost(place: Place, tmp_path: Path) -> None:
    copy = place.copy(tmp_path / "data")
    lose(copy.folder, "settlement/journal.sqlite")
    assert copy.is_right()
    lose(copy.folder, "settlement")
    with pytest.raises(InvalidInput, match=r"post 2 is not in .* `tallyroot restore-posts`"):
        copy.is_right()
    assert copy.run("restore-posts").stdout == "rebuilt, as on the chain: 1, 2\n"
    assert copy.is_right()


def test_a_whole_host_is_lost(place: Place, tmp_path: Path) -> None:
    back = place._replace(folder=tmp_path / "data")
    seen = back.run("restore", str(place.backups), "--check")
    assert seen.exit_code == 0 and seen.stdout.endswith("it can be restored\n"), seen.output
    assert list(tmp_path.iterdir()) == []
    assert back.run("restore", str(place.backups)).exit_code == 0
    assert back.read_log().differences(place.truth) == []
    assert back.is_right()
    again = back.run("restore", str(place.backups))
    assert again.exit_code == 1 and "has a log" in str(again.exception)


def test_an_older_copy_is_led_back_to_the_chain(place: Place, tmp_path: Path) -> None:
    back = place._replace(folder=tmp_path / "data")
    assert back.run("restore", str(place.backups), "--backup", place.names[0]).exit_code == 0
    with pytest.raises(InvalidInput, match=r"post 2 is not in .* `tallyroot restore-posts`"):
        back.is_right()
    assert back.command("restore-posts") == "rebuilt, as on the chain: 2\n"
    assert back.is_right()


def test_archives_are_pruned_and_every_proof_stays(place: Place, tmp_path: Path) -> None:
    copy = place.copy(tmp_path / "data")
    manifests = sorted((copy.folder / "epochs").rglob("*"))
    start = datetime.fromtimestamp(START_MS / 1_000, UTC).strftime("%Y-%m-%dT%H:%MZ")
    asked = [
        ("audit",), ("why", OWNER), ("why", OWNER, "--window", MACHINES[0], start), ("proof", OWNER, "--json"),
        ("receipt", MACHINES[1], "energy", "1", "0", "--json"),
    ]  # fmt: skip
    before = [copy.run(*words) for words in asked]
    assert [each.exit_code for each in before] == [0] * len(asked), [str(each.exception) for each in before]
    assert copy.run("prune", "--older-than", "1h").stdout.startswith("deleted 0 archives")
    for kept_in in (str(place.backups), "kafka"):
        words = ("prune", "--older-than", "1h", "--kept-in", kept_in)
        assert copy.run(*words, "--dry-run").stdout.startswith("would delete 6 archives")
        assert copy.run(*words).stdout.startswith("deleted 6 archives")
        assert len(list((copy.folder / "log").rglob("*.parquet"))) == 2
        assert len(list((copy.folder / "log").rglob("*.leaves"))) == 8
        for words, was in zip(asked, before, strict=True):
            assert copy.run(*words).stdout == was.stdout, words
        copy.run("prune", "--undo")
        assert len(list((copy.folder / "log").rglob("*.parquet"))) == 8
    assert copy.run(*("prune", "--older-than", "1h", "--kept-in", "kafka")).exit_code == 0
    lose(copy.folder, "partitions")
    assert copy.read_log().differences(place.truth) == []
    assert sorted((copy.folder / "epochs").rglob("*")) == manifests
    assert copy.is_right()
