"""The archive: the raw records of one epoch of one partition as Parquet, and the leaves under its log root.

It is read from the log again, never copied from the worker's slices: so it also shows whether the two were the same.
`log/<epoch>/<n>.parquet` holds records of the schema core.log_root.RECORDS by offset, `<n>.leaves` the leaves of
their chunks, 32 bytes each.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from files.write import Temporary
from schemas.errors import InvalidInput, InvariantBroken
from streams.core.log_root import (
    CHUNK_OFFSETS,
    RECORDS,
    ChunkProof,
    LogDigest,
    audit_path,
    chunk_bytes,
    merkle_root,
    records_batch,
    records_from,
)
from streams.core.records import LogRecord, Record
from streams.storage.log_reader import LogReader

BATCH_RECORDS = 16_384
BATCH_BYTES = 64 * 1_024 * 1_024
"""A row group ends at either bound. Both depend on the records alone, so the same range makes the same file."""


class Archive(Struct, frozen=True):
    """A written archive, not yet published."""

    records: Temporary
    leaves: Temporary
    root: bytes
    count: int


def write_archive(
    path: Path, reader: LogReader, partition: int, first: int, next: int, stopped: Callable[[], bool]
) -> Archive | None:
    """Reads the offsets [first, next) from the log and writes them beside `path`, under temporary names.

    Returns None once `stopped()`: an exception would keep the reader's generator, and with it the reader, in its
    traceback. Raises InvariantBroken if the log returns offsets outside of the range or not ascending.
    """
    archive, leaves = Temporary(path), Temporary(path.with_suffix(".leaves"))
    digest = LogDigest()
    count = 0
    with pq.ParquetWriter(archive.temporary, RECORDS, compression="zstd") as writer:
        for batch in _batches(reader.read(partition, first, next) if first < next else ()):
            if stopped():
                return None
            offsets = batch.column(0)
            if offsets[0].as_py() < first or offsets[-1].as_py() >= next:
                raise InvariantBroken(f"the log returned offsets outside of [{first}, {next}) of partition {partition}")
            digest.add_batch(batch)
            writer.write_batch(batch, row_group_size=BATCH_RECORDS)
            count += batch.num_rows
    root = digest.finish()
    return Archive(archive, leaves.write(b"".join(digest.leaves)), root, count)


def read_archive(path: Path) -> Iterator[Record]:
    """The records of an archive by ascending offset."""
    for batch in archived_batches(path):
        yield from records_from(batch)


def archived_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The same as batches of the schema RECORDS."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_RECORDS):
            yield _plain(batch)


def archive_digest(path: Path) -> LogDigest:
    """The leaves of an archive, recomputed from its records; `finish()` returns the log root."""
    digest = LogDigest()
    for batch in archived_batches(path):
        digest.add_batch(batch)
    return digest


def chunk_proof(path: Path, offset: int) -> ChunkProof:
    """The proof that the record at `offset` was in the log: its chunk and the path to the log root.

    Raises InvalidInput if the archive at `path` holds no such record, or its leaves don't fit its records.
    """
    leaves = read_leaves(path)
    offsets = pq.read_table(path, columns=["offset"]).column(0).to_numpy()
    chunks = np.unique(offsets // CHUNK_OFFSETS)
    index = int(np.searchsorted(chunks, offset // CHUNK_OFFSETS))
    if offset not in offsets or len(chunks) != len(leaves):
        raise InvalidInput(f"{path} holds no record at offset {offset}: look for it in the archive of another epoch")
    first = offset // CHUNK_OFFSETS * CHUNK_OFFSETS
    within = (pc.field("offset") >= first) & (pc.field("offset") < first + CHUNK_OFFSETS)
    (batch,) = pq.read_table(path, filters=within).cast(RECORDS).combine_chunks().to_batches()
    found = ChunkProof(chunk=chunk_bytes(batch), index=index, leaves=len(leaves), path=audit_path(leaves, index))
    if found.root() != merkle_root(leaves):
        raise InvalidInput(f"{path} was changed: its records don't have the leaves beside it: restore it from a copy")
    return found


def read_leaves(path: Path) -> list[bytes]:
    """The leaves (32 bytes each) in the file beside an archive."""
    content = path.with_suffix(".leaves").read_bytes()
    return [content[at : at + 32] for at in range(0, len(content), 32)]


def _batches(records: Iterable[LogRecord]) -> Iterator[pa.RecordBatch]:
    held: list[LogRecord] = []
    size = 0
    for record in records:
        held.append(record)
        size += len(record.value or b"")
        if len(held) == BATCH_RECORDS or size >= BATCH_BYTES:
            yield records_batch(held)
            held, size = [], 0
    if held:
        yield records_batch(held)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch as read from Parquet, with the schema RECORDS exactly."""
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(batch.columns, RECORDS, strict=True)], schema=RECORDS
    )
