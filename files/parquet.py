"""Parquet files: written whole, and read with bounded rows and a schema known beforehand."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from files.format import FORMAT, METADATA, check_metadata
from files.read import open_regular
from files.write import Temporary, sync_folder
from schemas.errors import InvalidInput

ROW_GROUP = 65_536
"""Rows in a group of a Parquet file: fixed, so that the same rows make the same bytes."""

BATCH_ROWS = 16_384
BATCH_BYTES = 8 << 20
"""What is unpacked at once, as far as a file's own figures are true."""

ROWS_MAX = 1 << 28
BYTES_MAX = 64 << 30
"""The largest Parquet file that is read where the caller states no other bounds; bytes also as uncompressed."""


METADATA_OF = {METADATA: str(FORMAT).encode()}
"""What every Parquet file of ours has in its schema's metadata."""


def write_table(file: Temporary, table: pa.Table, *, is_cache: bool = False) -> Temporary:
    """Writes a table as Parquet to `file` and returns it; equal rows make equal bytes under one version of Arrow.

    A cache, which is soon written again, takes a third of the time, and is at most a quarter larger.
    """
    whole = table.combine_chunks().replace_schema_metadata(METADATA_OF)
    texts = [field.name for field in whole.schema if pa.types.is_string(field.type)]
    packing, dictionaries = ("lz4", texts) if is_cache else ("zstd", True)
    pq.write_table(whole, file.temporary, row_group_size=ROW_GROUP, compression=packing, use_dictionary=dictionaries)
    return file


def publish_table(file: Temporary, table: pa.Table) -> None:
    """Writes a table as Parquet in one step, durably."""
    write_table(file, table).publish()
    sync_folder(file.path.parent)


def read_table(
    path: Path, schema: pa.Schema, *, remedy: str, max_rows: int = ROWS_MAX, max_bytes: int = BYTES_MAX
) -> pa.Table:
    """The columns of `schema` from a Parquet file that others may have written; its other columns are not read.

    Raises what `read_batches` does.
    """
    return pa.Table.from_batches(
        read_batches(path, schema, remedy=remedy, max_rows=max_rows, max_bytes=max_bytes), schema
    )


def read_batches(
    path: Path, schema: pa.Schema, *, remedy: str, max_rows: int = ROWS_MAX, max_bytes: int = BYTES_MAX,
    within: Path | None = None, first_row: int = 0,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """The same a bounded number of rows at a time, from `first_row` on.

    Raises what `open_regular` does, and InvalidInput where it is not Parquet, has more rows or bytes than allowed
    (before any are unpacked), or lacks a column of the schema in its type.
    """
    with open_regular(path, remedy=remedy, max_bytes=max_bytes, within=within) as source:
        try:
            file = pq.ParquetFile(source, buffer_size=1 << 20)
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if file.metadata.num_rows > max_rows or size > max_bytes:
                raise InvalidInput(f"{path} holds more than {max_rows:,} rows or {max_bytes:,} bytes: {remedy}")
            found = file.schema_arrow
            check_metadata(found.metadata, path)
            for field in schema:
                if field.name not in found.names or found.field(field.name).type != field.type:
                    raise InvalidInput(f"{path} has no column {field.name} of the type {field.type}: {remedy}")
            rows = min(BATCH_ROWS, BATCH_BYTES * file.metadata.num_rows // max(1, size) + 1)
            ends = list(accumulate(group.num_rows for group in groups))
            left = [number for number, end in enumerate(ends) if end > first_row]
            skip = first_row - (ends[left[0]] - groups[left[0]].num_rows) if left else 0
            for batch in file.iter_batches(rows, row_groups=left, columns=schema.names, use_threads=False):
                if skip < batch.num_rows:
                    columns = [batch.column(field.name)[skip:] for field in schema]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)
                skip = max(0, skip - batch.num_rows)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidInput(f"{path} is not a Parquet file that can be read ({line}): {remedy}") from None
