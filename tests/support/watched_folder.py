"""A data folder that a watcher looks at, and what somebody with the poster's key may make of its epochs."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec import structs
from typer.testing import CliRunner, Result

from deploy.cli import app as cli
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain import audit
from deploy.explain import audit_sources as evidence
from deploy.money.treasury import Treasury
from files.foreign import PlainFiles
from settlement import service
from settlement.accrual import Terms
from settlement.audit.sources import Sources
from settlement.chain.job import SettleOptions, choose_run
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.chain.watcher import Look, look
from settlement.head import PostHeader
from settlement.post import PartitionEpoch, Run, assemble
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader
from streams.core.records import LogRecord
from streams.storage.log_reader import LogReader
from tests.support.archived_log import LOG, MACHINES, records_of

DELAY_S = 3_600
THIEF = "0x" + "d4" * 20
Change = Callable[[Any], Any]


class WatchedFolder:
    """A data folder with three epochs, a funded ledger, and a poster."""

    def __init__(self, folder: Path, node: Chain) -> None:
        self.folder, self.node, self.keys = folder, node, Keys({}, node.chain_id)
        self.ledger = Ledger.open(folder, node)
        self.store = Store(folder)

    def settle(self, epochs: int | None = None) -> None:
        """Posts as it should be."""
        service.settle(self.folder, self.node, LOG, self.keys, SettleOptions(max_epochs=epochs, max_posts=1))

    def post(self, change_run: Change = lambda run: run, change: Change = lambda header: header, **since: Any) -> None:
        """Posts what somebody with the poster's key makes of the first epochs, with files that fit to it."""
        sequence = len(self.ledger.history().live)
        before = structs.replace(self.store.standing(sequence, self.ledger.deployment.initial), **since)
        run, _ = choose_run(EpochReader(self.folder, LOG), before, LOG, SettleOptions(max_epochs=2))
        made = assemble(before, change_run(run), self.ledger.deployment.decimals)
        assert made is not None
        header: PostHeader = change(made.header(self.ledger.head(), self.ledger.deployment.decimals))
        self.store.save(made, header, 1, self.ledger.deployment.decimals)
        self.node.transact(self.keys.of("poster"), self.ledger.post(header))

    def watch(self) -> Result:
        """`tallyroot watch --once`, from the archive."""
        return CliRunner().invoke(
            cli.app, ["watch", "--once", "--from-archive", "--json", "--data-dir", str(self.folder)]
        )

    def events(self) -> list[tuple[str, int]]:
        """What a watcher says it did."""
        return [(row["event"], row["sequence"]) for row in map(json.loads, self.watch().stdout.splitlines())]

    def look(self, keys: Keys | None = None, logs: Sequence[LogReader] = ()) -> Look:
        """One look with other keys, or at the logs of both partitions instead of their archives."""

        sources = evidence.archived(LOG, PlainFiles(self.folder))
        if logs:
            sources = Sources(lambda partition: evidence.from_log(LOG, logs[partition], partition, (), {}))
        return look(self.folder, self.node, LOG, keys or self.keys, sources)

    def audited(self, *, from_archive: bool) -> list[str]:
        """What an audit finds, from the archive or from a log of the same records."""
        treasury = Treasury(DataFolder(self.folder, load_settings()), trusts_folder=False)
        with pytest.MonkeyPatch.context() as patch:
            if not from_archive:
                patch.setattr(audit, "KafkaLogReader", lambda *_, **__: Both())
            found = audit.audit(treasury, from_archive=from_archive)
        return [finding.text for finding in found.findings]

    @property
    def live(self) -> int:
        return len(self.ledger.history().live)


class Both(LogReader):
    """The log of which the folder was made."""

    def __init__(self) -> None:
        self._logs = [records_of(machine, 3) for machine in MACHINES]

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        return self._logs[partition].read(partition, first, next)

    def range(self, partition: int) -> tuple[int, int]:
        return self._logs[partition].range(partition)

    def topic_id(self) -> str:
        return "topic-1"

    def close(self) -> None:
        pass


def ask(node: Chain, method: str, *parameters: object) -> object:
    """A method that only the development node has."""
    session = requests.Session()
    session.trust_env = False
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    return session.post(node.rpc_url, json=body, timeout=60).json()["result"]


def changed_epoch(run: Run, change: Change) -> Run:
    """The run with the first epoch of partition 0 changed."""
    (first, *rest) = run.epochs[0]
    return structs.replace(run, epochs={**run.epochs, 0: [change(first), *rest]})


def test_a_partition_that_was_left_out_is_right_and_enters_later(place: WatchedFolder) -> None:
    for without in ({1}, set()):
        options = SettleOptions(max_posts=1, max_epochs=1 if without else None, without=without)
        assert service.settle(place.folder, place.node, LOG, place.keys, options).posts
    assert place.events() == [("attested", 2)]


def one_window(run: Run, **changes: object) -> Run:
    """The run with one window changed, or left out."""

    def change(epoch: PartitionEpoch) -> PartitionEpoch:
        earnings = [*epoch.earnings]
        earnings[1:2] = [structs.replace(earnings[1], **changes)] if changes else []
        return PartitionEpoch(epoch.manifest, earnings)

    return changed_epoch(run, change)


def other_payee(run: Run) -> Run:
    """One window pays somebody who was not registered."""
    terms = Terms(((THIEF, 10_000),), frozenset(), 0, run.epochs[0][0].earnings[1].terms.digest)
    return one_window(run, terms=terms)


def other_root(run: Run) -> Run:
    """A log root of which there are no records."""
    return changed_epoch(
        run, lambda epoch: PartitionEpoch(structs.replace(epoch.manifest, log_root="00" * 32), epoch.earnings)
    )


def later(header: PostHeader) -> PostHeader:
    return structs.replace(header, epoch_start_s=header.epoch_start_s + 7_200, epoch_end_s=header.epoch_end_s + 7_200)
