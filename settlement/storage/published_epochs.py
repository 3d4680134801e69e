"""Reads the epochs that the stream has published: manifests, and the columns of windows that settlement needs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from files.parquet import read_table
from files.read import read_json
from files.write import file_digest
from schemas.arrow import AGREEMENTS, DUES, WINDOWS, agreements_from, dues_from
from schemas.canonical import chain_digest
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.manifest import EpochFiles, EpochManifest, SkippedRange, epoch_folder
from schemas.post import PostManifest
from settlement.accrual import Earning, Terms, terms_of
from settlement.post import PartitionEpoch

COLUMNS = pa.schema(
    WINDOWS.field(name)
    for name in ("machine", "start_ms", "end_ms", "adjusts_ms", "net_micros", "trust", "digest", "agreement")
)
"""What settlement needs of the schema WINDOWS."""

RESTORE = "restore it, or rebuild it from the log"
MANIFEST_NAME = re.compile(r"(\d+)\.manifest\.json")


def last_epoch(data_dir: Path, partition: int) -> int | None:
    """The number of the last epoch of a partition that is published here. Raises InvalidInput if it is damaged."""
    newest = max(
        (data_dir / "epochs").glob(f"*/{partition}.manifest.json"), default=None, key=lambda at: at.parent.name
    )
    if newest is None:
        return None
    return read_json(newest, EpochFiles, what="a manifest", remedy=RESTORE).manifest.epoch


class EpochReader:
    """The folder `epochs/` of a data folder. An epoch of a partition exists when its manifest does."""

    def __init__(self, data_dir: Path, log: Log) -> None:
        self._data_dir = data_dir
        self._log = log
        self._terms: dict[str, Terms] = {}

    def first_epochs(self) -> dict[int, int]:
        """The first epoch that each partition has published; partitions without any are absent."""
        firsts: dict[int, int] = {}
        for folder in sorted((self._data_dir / "epochs").glob("*")):
            if len(firsts) == self._log.partitions:
                break
            for path in folder.glob("*.manifest.json"):
                found = MANIFEST_NAME.fullmatch(path.name)
                if found and int(found[1]) not in firsts:
                    firsts[int(found[1])] = self._manifest_at(path).manifest.epoch
        return firsts

    def manifest(self, partition: int, epoch: int) -> EpochManifest | None:
        """The manifest of an epoch of a partition; None if it is not published yet.

        Raises InvalidInput for a manifest that is damaged or of another log.
        """
        files = self._files(partition, epoch)
        return None if files is None else files.manifest

    def read(self, partition: int, epoch: int) -> PartitionEpoch:
        """An epoch of a partition with its windows in sealing order.

        Raises InvalidInput if a file is missing, or its digest, windows or sums are not those of the manifest.
        """
        files = self._files(partition, epoch)
        if files is None:
            raise InvalidInput(
                f"epoch {epoch} of partition {partition} is not published yet: let `tallyroot stream` catch up"
            )
        manifest = files.manifest
        earnings = self._earnings(
            self._table(files, partition, epoch, "windows", COLUMNS),
            self._table(files, partition, epoch, "agreements", AGREEMENTS),
            self._table(files, partition, epoch, "dues", DUES),
        )
        digest = chain_digest("windows 1", (earning.digest for earning in earnings)).hex()
        net = str(sum(earning.net_micros for earning in earnings))
        expenses = str(sum(due.micros for one in earnings for due in one.dues if due.kind == "expense"))
        stated = (manifest.windows_digest, manifest.net_micros, manifest.expenses_micros)
        if (digest, net, expenses) != stated:
            path = self._folder(epoch) / f"{partition}.windows.parquet"
            raise InvalidInput(f"the windows in {path} are not those of its manifest: restore or rebuild it")
        return PartitionEpoch(manifest, earnings)

    def skipped(self, post: PostManifest) -> Iterator[SkippedRange]:
        """The ranges of offsets that a post leaves out. Raises InvalidInput where the manifest of one is missing."""
        for part in post.partitions:
            for ref in (ref for ref in part.epochs if ref.skipped_ranges):
                manifest = self.manifest(part.partition, ref.epoch)
                if manifest is None:
                    raise InvalidInput(f"epoch {ref.epoch} of partition {part.partition} is missing: {RESTORE}")
                yield from manifest.skipped_ranges

    def _folder(self, epoch: int) -> Path:
        return self._data_dir / "epochs" / epoch_folder(self._log.epoch_span(epoch)[0])

    def _files(self, partition: int, epoch: int) -> EpochFiles | None:
        path = self._folder(epoch) / f"{partition}.manifest.json"
        if not path.exists():
            return None
        files = self._manifest_at(path)
        if (files.manifest.partition, files.manifest.epoch) != (partition, epoch):
            raise InvalidInput(f"{path} is the manifest of another partition or epoch: restore it")
        return files

    def _manifest_at(self, path: Path) -> EpochFiles:
        files = read_json(path, EpochFiles, what="a manifest", remedy=RESTORE)
        manifest = files.manifest
        if not files.is_whole:
            raise InvalidInput(f"{path} does not have the digest that it states: {RESTORE}")
        if (manifest.log_id, manifest.currency) != (self._log.log_id, self._log.currency):
            raise InvalidInput(
                f"{path} belongs to the log {manifest.log_id}, not to {self._log.log_id}: restore the folder's own"
            )
        return files

    def _table(self, files: EpochFiles, partition: int, epoch: int, name: str, schema: pa.Schema) -> pa.Table:
        """The columns of `schema` of a table of an epoch; one that the manifest doesn't list has no rows."""
        path = self._folder(epoch) / f"{partition}.{name}.parquet"
        expected = files.files.get(path.relative_to(self._data_dir).as_posix())
        if expected is None:
            return schema.empty_table()
        if path.exists() and file_digest(path) != expected:
            raise InvalidInput(f"{path} is not the file that its manifest names: {RESTORE}")
        return read_table(path, schema, remedy=RESTORE)

    def _earnings(self, windows: pa.Table, agreements: pa.Table, dues: pa.Table) -> list[Earning]:
        """The windows in sealing order."""
        owed = dues_from(dues)
        for digest, agreement in agreements_from(agreements).items():
            if digest not in self._terms:
                self._terms[digest] = terms_of(agreement)
        columns: list[list[Any]] = [column.to_pylist() for column in windows.columns]
        earnings = [
            Earning(
                machine, start, end, adjusts or 0, net, trust, digest, self._terms[agreement],
                owed.get((machine, start, adjusts), ()),
            )
            for machine, start, end, adjusts, net, trust, digest, agreement in zip(*columns, strict=True)
        ]  # fmt: skip
        return sorted(earnings, key=lambda one: (one.start_ms, one.machine.encode(), one.adjusts_ms))
