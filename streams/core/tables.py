"""The dumped form of a state: tables of plain columns, and canonical bytes for each."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa


class TableSpec(NamedTuple):
    """A table of the dumped state: its columns, and those that name a row. No column has nulls."""

    schema: pa.Schema
    key: tuple[str, ...]

    @property
    def key_schema(self) -> pa.Schema:
        """The columns of the key alone."""
        return pa.schema([self.schema.field(name) for name in self.key])


class Changes(NamedTuple):
    """Changes to a table: rows to insert or replace by key, and keys to remove. No key is in both."""

    upserts: pa.Table
    deletes: pa.Table


def table_of(schema: pa.Schema, rows: Sequence[Sequence[object]]) -> pa.Table:
    """Rows as a table of a schema, in the order given."""
    columns: Iterable[Sequence[object]] = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def tables_digest(tables: Mapping[str, pa.Table]) -> bytes:
    """SHA-256 (32 bytes) over tables by name: their rows in the order given, column by column.

    An integer is 8 bytes, little-endian. A string, binary or list column is its lengths, then its contents.
    """
    state = hashlib.sha256(b"tallyroot state 1\n")
    for name in sorted(tables):
        table = tables[name].combine_chunks()
        state.update(f"{name} {table.num_rows}\n".encode())
        for column in table.columns:
            for part in _column_bytes(_whole(column)):
                state.update(part)
    return state.digest()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _column_bytes(array: pa.Array) -> Iterable[bytes | memoryview]:
    if pa.types.is_int64(array.type):
        yield _int_bytes(array)
        return
    if pa.types.is_list(array.type):
        yield _int_bytes(array.value_lengths())
        yield _int_bytes(array.flatten())
        return
    if not len(array):
        return
    _, ends, content = array.buffers()
    places = np.frombuffer(ends, "<i4")[array.offset : array.offset + len(array) + 1]
    yield np.diff(places).astype("<i8").tobytes()
    if content is not None:
        yield memoryview(content)[places[0] : places[-1]]


def _int_bytes(array: pa.Array) -> bytes:
    return np.asarray(array).astype("<i8").tobytes()
