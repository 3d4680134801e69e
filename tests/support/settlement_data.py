"""Writes `epochs/` as the stream publishes it, from windows made by hand: what settlement and audits start from."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from schemas.canonical import chain_digest
from schemas.log import Log
from schemas.manifest import Counts, EpochFiles, EpochManifest, epoch_folder
from schemas.registration import Agreement
from schemas.window import Due, Window
from tests.support.window_tables import window_tables

LOG = Log(log_id="acme", currency="USD", partitions=2, epoch_ms=86_400_000)
FIRST_EPOCH = 18_140
SOLAR = "0x" + "a1" * 20
ALICE = "0x" + "b2" * 20
BOB = "0x" + "c3" * 20
THIRDS = Agreement({SOLAR: 5_000, ALICE: 3_333, BOB: 1_667})
OTHER_HALVES = Agreement({SOLAR: 5_000, ALICE: 5_000})

RECORDS_PER_EPOCH = 10


def window(
    machine: str,
    epoch: int,
    net: int,
    *,
    place: int = 0,
    agreement: Agreement = THIRDS,
    adjusts: int | None = None,
    trust: int = 0,
    dues: Sequence[Due] = (),
    log: Log = LOG,
) -> Window:
    """A sealed window: the `place`-th of its epoch; `adjusts` is the start of the window it adjusts, epoch ms."""
    expenses = sum(due.micros for due in dues if due.kind == "expense")
    start = log.epoch_span(epoch)[0] + place * log.window_ms
    return Window(
        machine=machine, start_ms=start, end_ms=start + log.window_ms, adjusts_ms=adjusts, utc_offset_s=0,
        gross_micros=net + expenses, expenses_micros=expenses, uncollected_micros=0, net_micros=net,
        collected_micros=0, lines=(), sessions=(), dues=tuple(dues), carry_in=0, carry_out=0, registration_version=1,
        agreement=agreement, readings=1, first_offset=0, last_offset=0, skipped=0, flags=(), trust=trust,
    ).sealed("00" * 16)  # fmt: skip


def manifest_of(
    partition: int, epoch: int, windows: Sequence[Window], log: Log = LOG, first: int = FIRST_EPOCH, deposits: int = 0
) -> EpochManifest:
    """The manifest of an epoch of a partition, with deposits of customers at its cut; every epoch has ten records."""
    start_ms, end_ms = log.epoch_span(epoch)
    offset = (epoch - first) * RECORDS_PER_EPOCH
    net, gross, expenses = (
        str(sum(getattr(w, name) for w in windows)) for name in ("net_micros", "gross_micros", "expenses_micros")
    )
    return EpochManifest(
        log_id=log.log_id, currency=log.currency, partition=partition, epoch=epoch, start_ms=start_ms, end_ms=end_ms,
        first_offset=offset, next_offset=offset + RECORDS_PER_EPOCH,
        stream_time_ms=end_ms, counts=Counts(10, 10), rejects_by_reason={},
        windows=len(windows), adjustments=0, orders=0, gross_micros=gross, expenses_micros=expenses,
        uncollected_micros="0", net_micros=net, deposits_micros=str(deposits),
        orders_digest=chain_digest("orders 1", ()).hex(),
        windows_digest=chain_digest("windows 1", (w.digest for w in windows)).hex(),
        rejects_digest=chain_digest("rejects 1", ()).hex(), log_root=f"{epoch * 1_000 + partition:064x}",
        ruleset_digest=log.ruleset_digest(epoch).hex(), state_digest="00" * 32,
    )  # fmt: skip


def publish(
    data_dir: Path,
    partition: int,
    epoch: int,
    windows: Iterable[Window] = (),
    log: Log = LOG,
    first: int = FIRST_EPOCH,
    deposits: int = 0,
) -> EpochManifest:
    """Writes an epoch of a partition: Parquet, then the manifest."""
    ordered = sorted(windows, key=lambda w: w.sealing_key)
    folder = data_dir / "epochs" / epoch_folder(log.epoch_span(epoch)[0])
    folder.mkdir(parents=True, exist_ok=True)
    manifest = manifest_of(partition, epoch, ordered, log, first, deposits)
    files = write_windows(data_dir, folder, partition, ordered)
    document = EpochFiles(manifest=manifest, manifest_digest=manifest.digest().hex(), files=files)
    (folder / f"{partition}.manifest.json").write_bytes(msgspec.json.encode(document))
    return manifest


def write_windows(data_dir: Path, folder: Path, partition: int, windows: Iterable[Window]) -> dict[str, str]:
    """Writes the tables of an epoch's windows; returns the files' names with their SHA-256 (hex)."""
    files = {}
    for name, table in window_tables(windows, lambda machine, version: ("machine", machine)).items():
        if table.num_rows:
            path = folder / f"{partition}.{name}.parquet"
            pq.write_table(table, path)
            files[path.relative_to(data_dir).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


def publish_all(data_dir: Path, windows: Mapping[int, Mapping[int, Sequence[Window]]], log: Log = LOG) -> None:
    """Writes {epoch: {partition: windows}}; partitions that are not named publish an empty epoch."""
    first = min(windows)
    for epoch, by_partition in windows.items():
        for partition in range(log.partitions):
            publish(data_dir, partition, epoch, by_partition.get(partition, ()), log, first)
