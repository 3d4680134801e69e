"""`tallyroot attack`: named cheats, each run for real on a copy, and a table of what caught them.

Nothing in the caller's folder is changed: gateways cheat in memory, operators and posters in a temporary copy of some
epochs, against an EVM node of the run's own.
"""

import re
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from msgspec import Struct

from deploy.attack.by_control_records import control_cheats
from deploy.attack.by_gateways import gateway_cheats
from deploy.attack.by_operators import operator_cheats
from deploy.attack.by_posters import claim_cheats, poster_cheats
from deploy.attack.cheat import NOT_CAUGHT, Cheat, Row
from deploy.attack.ledger_copy import court
from deploy.attack.partition_copy import PartitionCopy
from deploy.cli.terminal import Terminal
from deploy.data_folder import LOG_FILE, DataFolder
from deploy.explain import audit_sources as evidence
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import epoch_folder
from settlement.chain.job import SettleOptions, choose_run
from settlement.post import PostStanding
from settlement.storage.published_epochs import EpochReader

EPOCHS = 2
"""So many epochs in which something is owed are copied, and all before them."""

RECORDS = 50_000
"""At most so many records of a partition are judged before a gateway cheats."""

ADVICE = re.compile(r" \([^)]*\)|: (restore|run|wait|withdraw|post fewer) .*")
ACCOUNT = re.compile("(0x[0-9a-f]{4})[0-9a-f]{36}")


class Attacked(Struct, frozen=True):
    """What came of all cheats: `ok` where every one that can be caught was, by the rules that hold for everybody."""

    ok: bool
    caught: int
    not_caught: int
    rows: tuple[Row, ...]


def attack(data: DataFolder, terminal: Terminal) -> Attacked:
    """Runs every cheat, and shows the table. Raises InvalidInput where the folder has no archive to cheat in."""
    log = data.log()
    with _interruptible(), tempfile.TemporaryDirectory(prefix="tallyroot-attack-") as folder:
        copy = Path(folder) / "copy"
        copy_epochs(data.data_dir, copy, log)
        rows = [*_run(terminal, _gateways(terminal, data.data_dir, log))]
        terminal.step("starting an EVM node of this run's own, with a ledger")
        with court(copy, log, Path(folder) / "evm") as bench:
            terminal.step("posters, claimants and operators cheat; a watcher and an auditor look")
            for group in (poster_cheats, operator_cheats, claim_cheats):
                rows += _run(terminal, group(bench))
    report = Attacked(
        ok=all(row.as_expected for row in rows),
        caught=sum(not row.helps and row.as_expected for row in rows),
        not_caught=sum(row.helps != "" for row in rows),
        rows=tuple(rows),
    )
    show_attack(terminal, report)
    terminal.result(report)
    return report


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: the node ends and the copy goes."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def copy_epochs(data_dir: Path, copy: Path, log: Log) -> None:
    """The log's description, and the epochs and archives of its beginning in which something is owed."""
    run, waiting = choose_run(EpochReader(data_dir, log), PostStanding.initial(), log, SettleOptions(max_epochs=EPOCHS))
    if run is None:
        raise InvalidInput(f"{data_dir} has nothing to cheat with yet, {waiting} is missing: stream some epochs first")
    copy.mkdir(parents=True)
    (copy / LOG_FILE).write_bytes(msgspec.json.encode(log))
    last = max(item.manifest.start_ms for items in run.epochs.values() for item in items)
    for name in ("epochs", "log"):
        for path in sorted((data_dir / name).iterdir()):
            if path.name <= epoch_folder(last):
                shutil.copytree(path, copy / name / path.name)


def _gateways(terminal: Terminal, data_dir: Path, log: Log) -> list[Cheat]:
    partition = max(range(log.partitions), key=lambda number: _archived(data_dir, number))
    bed = PartitionCopy(log, partition, islice(evidence.archived_records(data_dir, partition), RECORDS))
    terminal.step(f"gateways and operators cheat on top of {bed.archived:,} records of partition {partition}")
    return [*gateway_cheats(bed), *control_cheats(bed)]


def _archived(data_dir: Path, partition: int) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (data_dir / "log").glob(f"*/{partition}.parquet"))


def _run(terminal: Terminal, cheats: Iterable[Cheat]) -> Iterator[Row]:
    for cheat in cheats:
        row = Row.of(cheat, cheat.run())
        if not row.as_expected:
            terminal.step(f"  NOT as expected: {row.cheat}: {row.said}")
        yield row


def show_attack(terminal: Terminal, report: Attacked) -> None:
    """What was caught; what nothing here can catch, and what helps; what it comes to."""
    caught = [row for row in report.rows if row.caught_by != NOT_CAUGHT]
    terminal.table(
        "",
        ("cheat", "by the", "caught by", "its words", "ms", "who would lose"),
        ((row.cheat, row.who, row.caught_by, _short(row), _ms(row.took_us), row.loses) for row in caught),
    )
    terminal.say("")
    terminal.table(
        NOT_CAUGHT.upper(),
        ("cheat", "by the", "what happened", "who loses", "what helps"),
        (
            (row.cheat, row.who, _short(row), row.loses, row.helps or "nothing: this is a fault, please report it")
            for row in report.rows
            if row.caught_by == NOT_CAUGHT
        ),
    )
    terminal.say("")
    terminal.say(f"{report.caught} cheats caught, {report.not_caught} that nothing here can catch")
    terminal.say("rules are those of streams/RULES.md; nothing of this touched your folder or your ledger")
    if not report.ok:
        terminal.say("NOT all were caught that should be")


def _short(row: Row) -> str:
    """What was said, without advice and what the table says beside it."""
    return ACCOUNT.sub(r"\1…", ADVICE.sub("", row.said.removeprefix(f"{row.caught_by}: ")))


def _ms(took_us: int) -> str:
    return f"{took_us // 1_000}.{took_us % 1_000 // 100}"
