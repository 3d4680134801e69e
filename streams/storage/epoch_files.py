"""The final files of one epoch of one partition. It exists once its manifest does, and never changes again.

A table without rows has no file: which files there are stands beside the manifest.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from files.format import check_metadata
from files.parquet import write_table
from files.read import FileMissing, read_json
from files.write import Step, Temporary, file_digest, json_bytes, make_folder, sync_folder
from schemas.arrow import TABLES, WINDOW_TABLES, Tables, orders_from, windows_from
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.manifest import EpochFiles, EpochManifest, SkippedRange, epoch_folder
from schemas.window import Window
from streams.core.log_digest import Leaf
from streams.core.log_root import CHUNK_OFFSETS
from streams.core.manifest import build_manifest
from streams.core.skipped_ranges import SkippedBatch, named, without_evidence
from streams.storage.archive import write_archive
from streams.storage.checkpoint import Checkpoint, Cut
from streams.storage.log_reader import LogReader
from streams.storage.pruned import read_pruned
from streams.storage.skipped_ranges_file import read_skipped_ranges

REWRITTEN = (
    "it has lost its tail and grown again, or it is another log; restore it, or remove the partition's checkpoint"
    " to have everything that isn't final judged again"
)
"""What to do about a log that no longer holds what was judged."""


class EpochPaths(msgspec.Struct, frozen=True):
    """Where the files of an epoch of a partition are."""

    data_dir: Path
    folder: str
    partition: int

    def table(self, name: str) -> Path:
        """The file of a table of schemas.arrow.TABLES."""
        return self.data_dir / "epochs" / self.folder / f"{self.partition}.{name}.parquet"

    @property
    def manifest(self) -> Path:
        return self.data_dir / "epochs" / self.folder / f"{self.partition}.manifest.json"

    @property
    def archive(self) -> Path:
        return self.data_dir / "log" / self.folder / f"{self.partition}.parquet"

    def all(self) -> list[Path]:
        """Every file that may stand beside the manifest."""
        return [*map(self.table, TABLES), self.archive, *map(self.archive.with_suffix, (".leaves", ".skipped"))]


def epoch_paths(data_dir: Path, log: Log, epoch: int, partition: int) -> EpochPaths:
    """The paths of an epoch (its number) of a partition."""
    return EpochPaths(data_dir, epoch_folder(log.epoch_span(epoch)[0]), partition)


def read_manifest(path: Path) -> EpochFiles | None:
    """The manifest at `path` with the digests of its files, or None if the epoch doesn't exist.

    Raises InvalidInput if the file is not a manifest.
    """
    try:
        return read_json(path, EpochFiles, what="a manifest", remedy="restore it, or remove it to have it rebuilt")
    except FileMissing:
        return None


def existing_manifest(path: Path) -> EpochFiles:
    """The manifest of an epoch that exists. Raises InvalidInput where the file is missing or no manifest."""
    return read_json(path, EpochFiles, what="a manifest", remedy="restore it from a backup")


def read_windows(paths: EpochPaths, machine: str | None = None) -> list[Window]:
    """The sealed windows of an epoch in sealing order, of one machine or of all; none where it has no files.

    Raises InvalidInput where a file is damaged or missing.
    """
    try:
        return windows_from({name: _read(paths.table(name), name, machine) for name in WINDOW_TABLES})
    except (pa.ArrowException, OSError, KeyError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise InvalidInput(
            f"{paths.table('windows')} or a table beside it can't be read ({line}): restore it"
        ) from None


def _read(path: Path, name: str, machine: str | None) -> pa.Table:
    if not path.is_file():
        return TABLES[name].empty_table()
    filters = [("machine", "==", machine)] if machine is not None and name != "agreements" else None
    table = pq.read_table(path, filters=filters)
    check_metadata(table.schema.metadata, path)
    return table.cast(TABLES[name])


def last_manifest(data_dir: Path, partition: int) -> int | None:
    """The number of the last epoch of a partition that has a manifest here."""
    paths = (data_dir / "epochs").glob(f"*/{partition}.manifest.json")
    newest = max(paths, default=None, key=lambda path: path.parent.name)
    found = None if newest is None else read_manifest(newest)
    return None if found is None else found.manifest.epoch


def publish_epoch(
    data_dir: Path,
    log: Log,
    partition: int,
    cut: Cut,
    checkpoint: Checkpoint,
    reader: LogReader,
    step: Step,
    stopped: Callable[[], bool],
) -> bytes | None:
    """Steps 3 and 4 of a cut (see Partition): writes what isn't final yet and returns the manifest's digest.

    Returns None once `stopped()`. Repeating it changes nothing: an existing manifest is only compared with what the
    checkpoint and the log make now. Raises InvariantBroken if they differ.
    """
    paths = epoch_paths(data_dir, log, cut.epoch, partition)
    existing = read_manifest(paths.manifest)
    tables = checkpoint.tables(cut.epoch)
    # (3) The sealed rows, the orders and the rejects.
    if existing is None:
        make_folder(paths.manifest.parent)
        for name, table in tables.items():
            if table.num_rows:
                write_table(Temporary(paths.table(name)), table).publish()
                step(f"3 {name}")
            else:
                paths.table(name).unlink(missing_ok=True)
        sync_folder(paths.manifest.parent)
    # (4) The archive, then the manifest.
    archive = write_archive(paths.archive, reader, partition, cut.first_offset, cut.next_offset, stopped)
    if archive is None:
        return None
    step("4 archive written")
    _hold_leaves(partition, cut, checkpoint.leaves(cut.epoch), archive.leaves)
    manifest = _manifest(log, partition, cut, tables, archive.root, read_skipped_ranges(data_dir, log))
    _hold_skipped(manifest, archive.skipped)
    if existing is not None:
        _hold_against(data_dir, paths, existing, manifest)
        archive.drop()
        return manifest.digest()
    archive.publish()
    sync_folder(paths.archive.parent)
    step("4 archive published")
    Temporary(paths.manifest).write(_document(data_dir, paths, manifest)).publish()
    sync_folder(paths.manifest.parent)
    return manifest.digest()


def _hold_leaves(partition: int, cut: Cut, judged: Sequence[Leaf], archived: Sequence[Leaf]) -> None:
    if judged != archived:
        differing = {(leaf.chunk, leaf.digest) for leaf in judged} ^ {(leaf.chunk, leaf.digest) for leaf in archived}
        first = max(cut.first_offset, min(differing)[0] * CHUNK_OFFSETS)
        raise InvariantBroken(
            f"partition {partition}: from offset {first} on the log holds other records than those that were judged:"
            f" {REWRITTEN}"
        )


def _hold_skipped(manifest: EpochManifest, batches: Sequence[SkippedBatch]) -> None:
    for each in manifest.skipped_ranges:
        if (offset := without_evidence(each, batches)) is not None:
            raise InvalidInput(
                f"{named(each)} names the offset {offset}, where no batch is that can't be read: take the range out of"
                " skipped_ranges.json, and sign exactly what the worker names"
            )


def _manifest(
    log: Log,
    partition: int,
    cut: Cut,
    tables: Tables,
    log_root: bytes,
    skipped_ranges: Sequence[SkippedRange],
) -> EpochManifest:
    return build_manifest(
        log=log,
        partition=partition,
        epoch=cut.epoch,
        first_offset=cut.first_offset,
        next_offset=cut.next_offset,
        stream_time_ms=cut.stream_time_ms,
        counts=cut.counts,
        tables=tables,
        orders=orders_from(tables["orders"]),
        deposits_micros=cut.deposits_micros,
        log_root=log_root,
        state_digest=cut.state_digest,
        skipped_ranges=skipped_ranges,
    )


def _document(data_dir: Path, paths: EpochPaths, manifest: EpochManifest) -> bytes:
    whole = EpochFiles(
        manifest=manifest,
        manifest_digest=manifest.digest().hex(),
        files={path.relative_to(data_dir).as_posix(): file_digest(path) for path in paths.all() if path.exists()},
    )
    return json_bytes(whole, indent=1)


def _hold_against(data_dir: Path, paths: EpochPaths, existing: EpochFiles, manifest: EpochManifest) -> None:
    if existing.manifest.digest() != manifest.digest():
        names = [
            name
            for name in EpochManifest.__struct_fields__
            if getattr(existing.manifest, name) != getattr(manifest, name)
        ]
        raise InvariantBroken(f"{paths.manifest} is final, and the log now has another {', '.join(names)}")
    pruned = read_pruned(data_dir)
    for name, digest in existing.files.items():
        path = data_dir / name
        if name in pruned and not path.exists():
            continue  # its records have the manifest's log root
        if not path.is_file() or file_digest(path) != digest:
            raise InvariantBroken(f"{path} isn't the file that {paths.manifest} names")
