"""`tallyroot attack`: named cheats, each run for real on a copy, and a table of what caught them.

Nothing in the caller's folder is changed: gateways cheat in memory or on a broker of the run's own, operators and
posters in a temporary copy of some epochs, against an EVM node of the run's own.
"""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from msgspec import Struct

from deploy.attack.by_brokers import broker_cheats
from deploy.attack.by_control_records import control_cheats
from deploy.attack.by_gateways import gateway_cheats
from deploy.attack.by_hosts import host_cheats
from deploy.attack.by_neighbours import neighbour_cheats, signer_cheats
from deploy.attack.by_nodes import node_cheats
from deploy.attack.by_operators import operator_cheats
from deploy.attack.by_orders import order_cheats
from deploy.attack.by_payments import payment_cheats
from deploy.attack.by_posters import claim_cheats, poster_cheats
from deploy.attack.by_skipping import skipping_cheats
from deploy.attack.by_tills import till_cheats, till_copy
from deploy.attack.cheat import Cheat, Row
from deploy.attack.ledger_copy import court
from deploy.attack.log_copy import log_copy
from deploy.attack.partition_copy import PartitionCopy
from deploy.data_folder import LOG_FILE, DataFolder
from deploy.explain.archive_source import archived_records
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import epoch_folder
from settlement.chain.job import SettleOptions, choose_run
from settlement.post import PostStanding
from settlement.storage.published_epochs import EpochReader
from streams.core.records import LogRecord

EPOCHS = 2
"""Epochs in which something is owed that are copied, with all before them."""

RECORDS = 50_000
"""The most records of a partition that are judged before a gateway cheats."""

RECORDS_SENT = 200
"""The most records of a partition that are sent to a broker of the run's own."""


class Attacked(Struct, frozen=True):
    """The results of all cheats: `ok` where every one that can be caught was caught, by the rules that hold for all."""

    ok: bool
    caught: int
    not_caught: int
    rows: tuple[Row, ...]


def attack(data: DataFolder, step: Callable[[str], None]) -> Attacked:
    """Runs every cheat. Raises InvalidInput where the folder has no archive to cheat in."""
    log = data.log()
    with _interruptible(), tempfile.TemporaryDirectory(prefix="tallyroot-attack-") as folder:
        copy = Path(folder) / "copy"
        copy_epochs(data.data_dir, copy, log)
        rows = [*_run(step, _gateways(step, data.data_dir, log)), *_run(step, signer_cheats())]
        step("starting a broker and a worker of this run's own, with the log's first records")
        records = _first_records(data.data_dir, log)
        with ThreadPoolExecutor(1) as beside, log_copy(Path(folder) / "broker", log, records) as place:
            waiting = beside.submit(lambda: [*_run(step, chain(broker_cheats(place), neighbour_cheats(place)))])
            step("starting an EVM node of this run's own, with a ledger")
            with court(copy, log, Path(folder) / "evm") as bench:
                step("posters, claimants and operators cheat; a watcher and an auditor look")
                before_settling = (skipping_cheats, payment_cheats, poster_cheats)
                for group in (*before_settling, operator_cheats, host_cheats, node_cheats, claim_cheats):
                    rows += _run(step, group(bench))
                rows += waiting.result()
                with till_copy(bench, place, Path(folder) / "till") as till:
                    step("buyers cheat at a till of this run's own")
                    rows += _run(step, till_cheats(till))
    return Attacked(
        ok=all(row.as_expected for row in rows),
        caught=sum(not row.helps and row.as_expected for row in rows),
        not_caught=sum(row.helps != "" for row in rows),
        rows=tuple(rows),
    )


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


def _gateways(step: Callable[[str], None], data_dir: Path, log: Log) -> list[Cheat]:
    partition = max(range(log.partitions), key=lambda number: _archived(data_dir, number))
    bed = PartitionCopy(log, partition, islice(archived_records(data_dir, partition), RECORDS))
    step(f"gateways, operators and suppliers cheat on top of {bed.archived:,} records of partition {partition}")
    return [*gateway_cheats(bed), *control_cheats(bed), *order_cheats(bed)]


def _first_records(data_dir: Path, log: Log) -> dict[int, list[LogRecord]]:
    partitions = range(log.partitions)
    return {number: [*islice(archived_records(data_dir, number), RECORDS_SENT)] for number in partitions}


def _archived(data_dir: Path, partition: int) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (data_dir / "log").glob(f"*/{partition}.parquet"))


def _run(step: Callable[[str], None], cheats: Iterable[Cheat]) -> Iterator[Row]:
    for cheat in cheats:
        row = Row.of(cheat, cheat.run())
        if not row.as_expected:
            step(f"  NOT as expected: {row.cheat}: {row.said}")
        yield row
