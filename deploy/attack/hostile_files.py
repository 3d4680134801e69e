"""Files that somebody makes to hurt who opens them."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Make = Callable[[Path], None]


def fifo(path: Path) -> None:
    """Who opens it waits for a writer."""
    os.mkfifo(path)


def endless(path: Path) -> None:
    """It has no end."""
    path.symlink_to("/dev/zero")


def link_outside(path: Path) -> None:
    """It shows what is elsewhere on the reader's host."""
    path.symlink_to("/etc/passwd")


def instead_of(path: Path, make: Make) -> None:
    """Puts such a file in the place of another."""
    path.unlink()
    make(path)


def sparse(path: Path) -> None:
    """A terabyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


def bomb_of(schema: pa.Schema, column: str, rows: int = 16_384, size: int = 1 << 16) -> Make:
    """Parquet of some kilobytes in which one long text of `column` stands in every row."""

    def make(path: Path) -> None:
        columns = []
        for field in schema:
            if field.name == column:
                text = pa.array([bytes(size)], pa.binary()).cast(field.type)
                columns.append(pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), text))
            elif pa.types.is_integer(field.type):
                columns.append(pa.array(range(rows), field.type))
            else:
                columns.append(pa.array([_nothing(field.type)] * rows, field.type))
        pq.write_table(
            pa.table(columns, names=schema.names), path, compression="zstd", row_group_size=rows,
            use_dictionary=[column], store_schema=False, write_statistics=False, dictionary_pagesize_limit=1 << 30,
        )  # fmt: skip

    return make


def _nothing(kind: pa.DataType) -> object:
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return []
    return bytes(kind.byte_width) if pa.types.is_fixed_size_binary(kind) else None
