"""The archive of one partition as a source of an audit: its epochs' manifests and records, as far as they are whole.

Whoever keeps the archive may have written anything, so a file is read by a reader of foreign files, within the bounds
that its manifest gives.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from files.foreign import ForeignFiles, PlainFiles
from files.format import without_format
from files.read import FileMissing, HostFault
from schemas.errors import InvalidInput
from schemas.manifest import EpochFiles, EpochManifest
from schemas.reading import HEARTBEAT
from settlement.audit.sources import ArchiveEnds, SourceMissing
from streams.core.log_root import RECORDS
from streams.core.records import LogRecord, Record
from streams.core.skipped_ranges import SkippedBatches
from streams.storage.archive import skipped_from, slices_of

MANIFEST_BYTES_MAX = 4 << 20
SKIPPED_BYTES_MAX = 64 << 20
"""More than an honest manifest and the skipped batches of an epoch take."""

RESTORE = "restore it, or audit from Kafka"


def archived_records(data_dir: Path, partition: int) -> Iterator[LogRecord]:
    """All archived records of a partition, then the cut of the last epoch. Raises SourceMissing where one lacks."""
    yield from ArchiveSource(PlainFiles(data_dir), partition).whole()


def manifest_at(files: ForeignFiles, path: Path, cure: str) -> EpochFiles:
    """A manifest that has the digest that it states. Raises HostFault where the system here can't read it, and
    InvalidInput, both with the `cure`.
    """
    try:
        content, _ = without_format(b"".join(files.chunks(path, MANIFEST_BYTES_MAX)), path)
        found = msgspec.json.decode(content, type=EpochFiles)
    except (InvalidInput, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        kind = HostFault if isinstance(error, HostFault) else InvalidInput
        raise kind(f"{path} is not a manifest that can be read ({error}): {cure}") from None
    if not found.is_whole:
        raise InvalidInput(f"{path} was changed: {cure}")
    return found


class ArchiveSource:
    """The archived epochs of one partition: `manifests` in their order, up to the first that doesn't follow.

    `gap` is what ends them before the last one that was published: set when the records were read.
    """

    def __init__(self, files: ForeignFiles, partition: int, batches: SkippedBatches | None = None) -> None:
        """The skipped batches of an epoch are added to `batches` before its records are read."""
        self._batches = SkippedBatches() if batches is None else batches
        self._files = files
        self._partition = partition
        self._folders: list[str] = []
        self.manifests: list[EpochManifest] = []
        self.gap: SourceMissing | None = None
        for path in sorted(files.folder.glob(f"epochs/*/{partition}.manifest.json")):
            if not self._follows(path):
                break
        if not self.manifests and self.gap is None:
            text = f"no archive of partition {partition} in {files.folder}: let a worker finish an epoch"
            self.gap = SourceMissing(text, withheld=False)

    @property
    def end(self) -> ArchiveEnds:
        """Why there is nothing after the last epoch: an archive never says that the log ends with it."""
        text = f"the archive of partition {self._partition} ends with the epoch {self._folders[-1]}"
        return ArchiveEnds(f"{text}: restore the rest, or audit from Kafka")

    def whole(self, after: str = "") -> Iterator[LogRecord]:
        """The records of `slices` one by one. Raises SourceMissing where an archive lacks."""
        for records in self.slices(after):
            yield from records
        if self.gap is not None:
            raise self.gap

    def slices(self, after: str = "") -> Iterator[Sequence[LogRecord]]:
        """The records of each epoch whose archive is its manifest's, then the cut of the last; none where there is no
        epoch. With `after`, those of the epochs after that epoch's folder alone.

        The record that made that cut is the first one of an archive that isn't there. Its manifest says its offset and
        what it did to stream time; a heartbeat that does the same stands in for it.
        """
        last: EpochManifest | None = None
        for folder, manifest in zip(self._folders, self.manifests, strict=True):
            if folder <= after:
                continue
            path = self._files.folder / "log" / folder / f"{self._partition}.parquet"
            most = manifest.next_offset - manifest.first_offset
            if (gap := self._gap_of(path, most)) is not None:
                self.gap = gap
                break
            yield from slices_of(self._files.batches(path, RECORDS, most))
            last = manifest
        if last is not None:
            yield [Record(last.next_offset, last.stream_time_ms, None, b"{}", (("ce_type", HEARTBEAT.encode()),))]

    def _gap_of(self, path: Path, most: int) -> SourceMissing | None:
        """Why an archive can't be used. Where no archive is here at all, or the disk fails, nobody withholds it.

        It is read once as a whole, so that its records don't fail in the middle. One that can be read and was changed
        is replayed: the audit names the window that differs.
        """
        try:
            self._files.rows(path, RECORDS, most)
            self._skipped(path.with_suffix(".skipped"))
        except FileMissing:
            text = f"the archive {path} is missing: {RESTORE}"
            return SourceMissing(text, withheld=path.parent.parent.is_dir())
        except HostFault as error:
            return SourceMissing(f"the archive {path} can't be read ({error}): {RESTORE}", withheld=False)
        except InvalidInput as error:
            return SourceMissing(f"the archive {path} can't be read ({error}): {RESTORE}", withheld=True)
        return None

    def _skipped(self, path: Path) -> None:
        try:
            content = b"".join(self._files.chunks(path, SKIPPED_BYTES_MAX))
        except FileMissing:
            return
        self._batches.update({batch.first_offset: batch for batch in skipped_from(content, path)})

    def _follows(self, path: Path) -> bool:
        """Adds the next manifest; False where one is missing before it, or it can't be read."""
        try:
            found = manifest_at(self._files, path, RESTORE)
        except InvalidInput as error:
            self.gap = SourceMissing(str(error), withheld=not isinstance(error, HostFault))
            return False
        epoch, next_offset = found.manifest.epoch, self.manifests[-1].next_offset if self.manifests else 0
        if found.manifest.first_offset != next_offset or (self.manifests and self.manifests[-1].epoch + 1 != epoch):
            text = f"epochs of partition {self._partition} before {path.parent.name} are missing: restore them"
            self.gap = SourceMissing(text, withheld=True)
            return False
        self._folders.append(path.parent.name)
        self.manifests.append(found.manifest)
        return True
