"""What must hold of a data folder when all is done: files against the log, recounted by those who wrote none of it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from msgspec import to_builtins

from schemas.arrow import orders_from
from schemas.log import Log
from schemas.manifest import EpochFiles, EpochManifest, epoch_folder
from schemas.order import Order
from schemas.window import Window
from streams.core.recompute import EpochResult, recompute
from streams.core.records import Record
from streams.reference.recount import PartitionRecount, plain_windows
from streams.storage.archive import read_archive
from streams.storage.epoch_files import EpochPaths, read_manifest, read_windows
from streams.storage.log_reader import in_slices


class Published(NamedTuple):
    """An epoch of a partition as its files say."""

    manifest: EpochManifest
    windows: list[Window]
    rejects: list[tuple[int, int, str]]
    orders: list[Order]


def published(root: Path, partition: int) -> list[Published]:
    """The epochs of a partition in their order; every file is the one that its manifest names."""
    found = []
    for path in sorted((root / "epochs").glob(f"*/{partition}.manifest.json")):
        files = read_manifest(path)
        assert files is not None
        check_files(root, files)
        paths = EpochPaths(root, path.parent.name, partition)
        refused, placed = paths.table("rejects"), paths.table("orders")
        rejects = pq.read_table(refused).to_pylist() if refused.exists() else []
        reasons = [(one["offset"], one["row"], one["reason"]) for one in rejects]
        orders = orders_from(pq.read_table(placed)) if placed.exists() else []
        found.append(Published(files.manifest, read_windows(paths), reasons, orders))
    return found


def check_files(root: Path, files: EpochFiles) -> None:
    """The digests beside a manifest are those of the files."""
    assert files.manifest.digest().hex() == files.manifest_digest
    for name, digest in files.files.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest, name


def check_partition(
    root: Path, log: Log, partition: int, records: list[Record]
) -> tuple[PartitionRecount, list[Published]]:
    """One partition. Gives what the auditor counted and what was published."""
    epochs = published(root, partition)
    manifests = [epoch.manifest for epoch in epochs]
    numbers = [manifest.epoch for manifest in manifests]
    assert epochs and numbers == list(range(numbers[0], numbers[0] + len(numbers))), "an epoch is missing"
    ranges = [(manifest.first_offset, manifest.next_offset) for manifest in manifests]
    assert [first for first, _ in ranges] == [0, *(next for _, next in ranges[:-1])], "ranges don't join"
    check_recomputed(log, partition, records, epochs)
    for manifest in manifests:
        held = [record for record in records if manifest.first_offset <= record.offset < manifest.next_offset]
        archive = root / "log" / epoch_folder(manifest.start_ms) / f"{partition}.parquet"
        assert list(map(plain_record, read_archive(archive))) == list(map(plain_record, held))
    return check_counted(log, partition, records, epochs), epochs


def plain_record(record: Record) -> tuple[object, ...]:
    """A record as plain values."""
    return record.offset, record.timestamp, record.key, record.value, [tuple(header) for header in record.headers]


def check_recomputed(log: Log, partition: int, records: list[Record], epochs: list[Published]) -> None:
    """The log alone gives the same, taken one record at a time and all at once."""
    for chunk in (1, len(records)):
        results: list[EpochResult] = list(recompute(log, partition, in_slices(records, chunk)))
        assert [result.manifest for result in results] == [epoch.manifest for epoch in epochs], f"chunk {chunk}"
        assert [result.windows for result in results] == [epoch.windows for epoch in epochs]
        assert [result.orders for result in results] == [epoch.orders for epoch in epochs]
        assert [[(one.offset, one.row, one.reason) for one in result.rejects] for result in results] == [
            epoch.rejects for epoch in epochs
        ]


def check_counted(log: Log, partition: int, records: list[Record], epochs: list[Published]) -> PartitionRecount:
    """The auditor counts the same."""
    end = epochs[-1].manifest.next_offset
    naive = PartitionRecount(log, partition).take([record for record in records if record.offset < end])
    judged = (naive.accepted, naive.duplicate, list(naive.rejects))
    placed = [to_builtins(order) for epoch in epochs for order in epoch.orders]
    assert placed == [order.terms for order in naive.orders.placed]
    naive.take([record for record in records if record.offset == end])  # the record of the last cut seals its windows
    windows = plain_windows([window for epoch in epochs for window in epoch.windows])
    sealed = [{name: part for name, part in one.items() if name != "by"} for one in naive.sealed]
    assert windows == sealed[: len(windows)]
    later = sealed[len(windows) :]  # where sessions closed that nobody used
    assert all(one["start"] >= epochs[-1].manifest.end_ms and not one["readings"] for one in later)
    keys = [(window["machine"], window["start"], window["adjusts"]) for window in windows]
    assert len(keys) == len(set(keys)), "a window was sealed twice"
    counts = [epoch.manifest.counts for epoch in epochs]
    rejected = [one for epoch in epochs for one in epoch.rejects]
    assert (sum(one.accepted for one in counts), sum(one.duplicate for one in counts), rejected) == judged
    assert all(one.accepted + one.duplicate + one.rejected == one.entries for one in counts)
    assert sum(one.rejected for one in counts) == len(rejected)
    assert [int(epoch.manifest.deposits_micros) for epoch in epochs] == naive.deposits_at_cuts[: len(epochs)]
    check_money(naive)
    return naive


def check_money(naive: PartitionRecount) -> None:
    """Gross + carry = sum of usage × price / per, for every machine and agreement, in fractions."""
    assert not naive.open, "something never sealed"
    for key, exact in naive.money.items():
        earned = sum(one["gross"] for one in naive.sealed if (one["machine"], one["payees"]) == key)
        assert earned + naive.carries[key] == exact, key
