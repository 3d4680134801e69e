"""`tallyroot attack`: named cheats, each run for real on a copy, and a table of what caught them.

Nothing in the caller's folder is changed: gateways cheat in memory, operators and posters in a temporary copy of some
epochs, against an EVM node of the run's own.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy import evidence
from deploy.attack_bed import Bed
from deploy.attack_cheat import Cheat, Row
from deploy.attack_control import control_cheats
from deploy.attack_court import court
from deploy.attack_gateway import gateway_cheats
from deploy.attack_operator import operator_cheats
from deploy.attack_poster import claim_cheats, poster_cheats
from deploy.terminal import Terminal
from deploy.workplace import LOG_FILE, Workplace
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import epoch_folder
from settlement.adapters.epochs import EpochReader
from settlement.adapters.job import SettleOptions, choose_run
from settlement.post import Standing

EPOCHS = 2
"""So many epochs in which something is owed are copied, and all before them."""


class Attacked(Struct, frozen=True):
    """What came of all cheats: `ok` where every one that can be caught was, by the rules that hold for everybody."""

    ok: bool
    caught: int
    not_caught: int
    rows: tuple[Row, ...]


def attack(place: Workplace, terminal: Terminal) -> Attacked:
    """Runs every cheat, and shows the table. Raises InvalidInput where the folder has no archive to cheat in."""
    log = place.log()
    with tempfile.TemporaryDirectory(prefix="tallyroot-attack-") as folder:
        copy = Path(folder) / "copy"
        copy_epochs(place.data_dir, copy, log)
        rows = [*_run(terminal, _gateways(terminal, copy, log))]
        terminal.step("starting an EVM node of this run's own, with a ledger")
        with court(copy, log, Path(folder) / "evm") as bench:
            terminal.step("posters, claimants and operators cheat; a watcher and an auditor look")
            for group in (poster_cheats, claim_cheats, operator_cheats):
                rows += _run(terminal, group(bench))
    report = Attacked(
        ok=all(row.as_expected for row in rows),
        caught=sum(row.is_catchable and row.as_expected for row in rows),
        not_caught=sum(not row.is_catchable for row in rows),
        rows=tuple(rows),
    )
    _show(terminal, report)
    terminal.result(report)
    return report


def copy_epochs(data_dir: Path, copy: Path, log: Log) -> None:
    """The log's description, and the epochs and archives of its beginning in which something is owed."""
    run, waiting = choose_run(EpochReader(data_dir, log), Standing.initial(), log, SettleOptions(max_epochs=EPOCHS))
    if run is None:
        raise InvalidInput(f"{data_dir} has nothing to cheat with yet, {waiting} is missing: stream some epochs first")
    copy.mkdir(parents=True)
    (copy / LOG_FILE).write_bytes(msgspec.json.encode(log))
    last = max(item.manifest.start_ms for items in run.epochs.values() for item in items)
    for name in ("epochs", "log"):
        for path in sorted((data_dir / name).iterdir()):
            if path.name <= epoch_folder(last):
                shutil.copytree(path, copy / name / path.name)


def _gateways(terminal: Terminal, copy: Path, log: Log) -> list[Cheat]:
    partition = max(range(log.partitions), key=lambda number: _archived_bytes(copy, number))
    bed = Bed(log, partition, evidence.archived_records(copy, partition))
    terminal.step(f"gateways cheat on top of {bed.archived:,} records of partition {partition}")
    return [*gateway_cheats(bed), *control_cheats(bed)]


def _archived_bytes(copy: Path, partition: int) -> int:
    return sum(path.stat().st_size for path in (copy / "log").glob(f"*/{partition}.parquet"))


def _run(terminal: Terminal, cheats: Iterable[Cheat]) -> Iterable[Row]:
    for cheat in cheats:
        row = Row.of(cheat, cheat.run())
        if not row.as_expected:
            terminal.step(f"  NOT as expected: {row.cheat}: {row.said}")
        yield row


def _show(terminal: Terminal, report: Attacked) -> None:
    terminal.table(
        "",
        ("cheat", "by the", "caught by", "its words", "ms", "who would lose"),
        ((row.cheat, row.who, row.caught_by, row.said, _ms(row.took_us), row.loses) for row in report.rows),
    )
    terminal.say("")
    terminal.say(f"{report.caught} cheats caught; {report.not_caught} that nobody can catch, named as such")
    if not report.ok:
        terminal.say("NOT all were caught that should be")


def _ms(took_us: int) -> str:
    return f"{took_us // 1_000}.{took_us % 1_000 // 100}"
