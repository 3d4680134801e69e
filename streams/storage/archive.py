"""The archive: the raw records of one epoch of one partition as Parquet, and the leaves under its log root.

It is read from the log again, never copied from the worker's slices: so it also shows whether the two were the same.
`log/<epoch>/<n>.parquet` holds records of the schema core.log_root.RECORDS by offset, `<n>.leaves` the leaves of
their chunks and of skipped batches, 32 bytes each. `<n>.skipped` is there where batches were skipped: their bytes as
the broker sent them, one after the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from files.format import check_metadata
from files.parquet import METADATA_OF
from files.write import Temporary
from schemas.errors import InvalidInput, InvariantBroken
from streams.core.log_digest import Leaf, LogDigest
from streams.core.log_root import (
    CHUNK_OFFSETS,
    RECORDS,
    ChunkProof,
    audit_path,
    chunk_bytes,
    merkle_root,
    records_from,
    skipped_leaf_of,
)
from streams.core.records import LogRecord, Record
from streams.core.skipped_ranges import SkippedBatch, SkippedBatches
from streams.kafka.raw_batches import RawBatches
from streams.storage.log_reader import LogReader

if TYPE_CHECKING:
    from streams.core.kernel.entries import EntryRecords

BATCH_RECORDS = 16_384
BATCH_BYTES = 64 * 1_024 * 1_024
PAGE_RECORDS = 16
"""A page of Parquet is closed at the first of these steps that makes it large: who reads it unpacks it whole.

A row group ends at either of the bounds before. All depend on the records alone: the same range makes the same file."""


class Archive(Struct, frozen=True):
    """A written archive, not yet published."""

    files: Sequence[Temporary]
    root: bytes
    leaves: list[Leaf]
    skipped: list[SkippedBatch]

    def publish(self) -> None:
        """Gives all files their names, the records' last."""
        for file in self.files:
            file.publish()

    def drop(self) -> None:
        """Removes all files."""
        for file in self.files:
            file.drop()


def write_archive(
    path: Path, reader: LogReader, partition: int, first: int, next: int, stopped: Callable[[], bool]
) -> Archive | None:
    """Reads the offsets [first, next) from the log and writes them beside `path`, under temporary names.

    Returns None once `stopped()`: an exception would keep the reader's generator, and with it the reader, in its
    traceback. Raises InvariantBroken if the log returns offsets outside of the range or not ascending.
    """
    from streams.core.kernel.entries import EntryRecords

    archive, skipped = Temporary(path), SkippedBatches()
    digest = LogDigest()

    def noted(slices: Iterable[Sequence[LogRecord]]) -> Iterator[EntryRecords]:
        for records in map(EntryRecords.of, slices):
            if records and (records.offsets[0] < first or records.offsets[-1] >= next):
                raise InvariantBroken(f"the log returned offsets outside of [{first}, {next}) of partition {partition}")
            digest.add(records)
            yield records

    schema = RECORDS.with_metadata(METADATA_OF)
    with pq.ParquetWriter(archive.temporary, schema, compression="zstd", write_batch_size=PAGE_RECORDS) as writer:
        for group in _row_groups(noted(reader.slices(partition, first, next, skipped) if first < next else ())):
            if stopped():
                return None
            writer.write_batch(group, row_group_size=BATCH_RECORDS)
    batches = [skipped[at] for at in sorted(skipped) if first <= at < next]
    root, leaves = digest.finish(batches)
    digests = [leaf.digest for leaf in leaves] + [skipped_leaf_of(batch.raw) for batch in batches]
    files = [Temporary(path.with_suffix(".leaves")).write(b"".join(digests))]
    if batches:
        files.append(Temporary(path.with_suffix(".skipped")).write(b"".join(batch.raw for batch in batches)))
    return Archive([*files, archive], root, leaves, batches)


def read_archive(path: Path) -> Iterator[Record]:
    """The records of an archive by ascending offset."""
    for batch in archived_batches(path):
        yield from records_from(batch)


def archived_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The same as batches of the schema RECORDS."""
    with pq.ParquetFile(path) as file:
        check_metadata(file.schema_arrow.metadata, path)
        for batch in file.iter_batches(BATCH_RECORDS):
            yield _plain(batch)


def slices_of(batches: Iterable[pa.RecordBatch]) -> Iterator["EntryRecords"]:
    """Batches of the schema RECORDS in arrays."""
    from streams.core.kernel.archived import add_archived
    from streams.core.kernel.entries import Entries, EntryRecords

    for batch in batches:
        entries = Entries()
        add_archived(entries, batch)
        yield EntryRecords(entries, 0, batch.num_rows)


def archive_leaves(path: Path) -> tuple[bytes, list[Leaf]]:
    """The log root of an archive, and the leaves of its chunks, recomputed from what it holds."""
    digest = LogDigest()
    for records in slices_of(archived_batches(path)):
        digest.add(records)
    return digest.finish(read_skipped(path))


def read_skipped(path: Path) -> list[SkippedBatch]:
    """The skipped batches beside the archive at `path`, by offset. Raises InvalidInput if the file holds others."""
    file = path.with_suffix(".skipped")
    if not file.exists():
        return []
    return skipped_from(file.read_bytes(), file)


def skipped_from(content: bytes, file: Path) -> list[SkippedBatch]:
    """The skipped batches in the content of a file. Raises InvalidInput if it holds others."""
    batches = RawBatches(content)
    found = []
    while (batch := batches.next_batch()) is not None:
        found.append(SkippedBatch(batch.base_offset, batch.next_offset, bytes(batch.raw)))
    if sum(len(batch.raw) for batch in found) != batches.size_in_bytes():
        raise InvalidInput(f"{file} doesn't hold whole batches: restore it from a copy")
    return found


def chunk_proof(path: Path, offset: int) -> ChunkProof:
    """The proof that the record at `offset` was in the log: its chunk and the path to the log root.

    Raises InvalidInput if the archive at `path` holds no such record, or its leaves don't fit its records.
    """
    leaves = read_leaves(path)
    offsets = pq.read_table(path, columns=["offset"]).column(0).to_numpy()
    chunks = np.unique(offsets // CHUNK_OFFSETS)
    index = int(np.searchsorted(chunks, offset // CHUNK_OFFSETS))
    if offset not in offsets or len(chunks) > len(leaves):
        raise InvalidInput(f"{path} holds no record at offset {offset}: look for it in the archive of another epoch")
    first = offset // CHUNK_OFFSETS * CHUNK_OFFSETS
    within = (pc.field("offset") >= first) & (pc.field("offset") < first + CHUNK_OFFSETS)
    batches = pq.read_table(path, filters=within).cast(RECORDS).to_batches()
    chunk = chunk_bytes(record for batch in batches for record in records_from(batch))
    found = ChunkProof(chunk=chunk, index=index, leaves=len(leaves), path=audit_path(leaves, index))
    if found.root() != merkle_root(leaves):
        raise InvalidInput(f"{path} was changed: its records don't have the leaves beside it: restore it from a copy")
    return found


def read_leaves(path: Path) -> list[bytes]:
    """The leaves (32 bytes each) in the file beside an archive."""
    content = path.with_suffix(".leaves").read_bytes()
    return [content[at : at + 32] for at in range(0, len(content), 32)]


def _row_groups(slices: Iterable["EntryRecords"]) -> Iterator[pa.RecordBatch]:
    from streams.core.kernel.archived import archived_batch

    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in map(archived_batch, slices):
        ends = np.cumsum(pc.fill_null(pc.binary_length(batch.column(4)), 0).to_numpy(zero_copy_only=False))
        at = done = 0
        while at < batch.num_rows:
            full = int(np.searchsorted(ends, done + BATCH_BYTES - size)) + 1
            end = min(batch.num_rows, at + BATCH_RECORDS - count, full)
            held.append(batch.slice(at, end - at))
            count, size, at, done = count + end - at, size + int(ends[end - 1]) - done, end, int(ends[end - 1])
            if count == BATCH_RECORDS or size >= BATCH_BYTES:
                yield pa.concat_batches(held)
                held, count, size = [], 0, 0
    if held:
        yield pa.concat_batches(held)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch as read from Parquet, with the schema RECORDS exactly."""
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(batch.columns, RECORDS, strict=True)], schema=RECORDS
    )
