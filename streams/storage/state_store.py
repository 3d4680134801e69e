"""The state in DuckDB, as packed Arrow: whole, and what each commit has changed since.

A commit adds its changes in one statement. Once all changes outweigh the whole state, it is written anew: a restart
reads at most about twice the state, and a machine that does not report costs a commit nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from streams.core.state_tables import TABLES
from streams.core.tables import Changes

CHANGED_BYTES_MIN = 64 * 1_024 * 1_024
"""So much is changed before a small state is written anew. Bytes count unpacked, as they lie in memory."""

COMMIT_BYTES_MIN = 128 * 1_024
"""What a commit counts at least: to read small rows takes time too."""

WHOLE = -1
"""The number of the whole state; commits after it count from 0."""

PACKED = pa.ipc.IpcWriteOptions(compression="lz4")
"""Most columns of what changed hold one value: packed, a commit writes a fifth of it."""


class Part(NamedTuple):
    """A stored part of a table: rows that are there from commit `number` on, or keys of rows that no longer are."""

    number: int
    name: str
    is_there: bool
    rows: pa.Table


class StateStore:
    """The tables `state` and `changes` of one checkpoint. Transactions are the caller's."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._commits = 0
        self._changed = 0
        self._whole = 0

    def create(self) -> None:
        """Creates the tables. Two, because what DuckDB rewrites when rows are added is that table alone."""
        for name in ("state", "changes"):
            self._db.execute(f"CREATE TABLE {name} (number BIGINT, name VARCHAR, is_there BOOLEAN, content BLOB)")

    def append(self, changes: Mapping[str, Changes]) -> None:
        """Appends the changes of one commit."""
        parts = [
            Part(self._commits, name, is_there, rows)
            for name, change in changes.items()
            for is_there, rows in ((True, change.upserts), (False, change.deletes))
            if rows.num_rows
        ]
        self._insert("changes", _packed(parts))
        self._commits += 1
        self._changed += max(_size(parts), COMMIT_BYTES_MIN)

    @property
    def is_due(self) -> bool:
        """Whether the changes outweigh the state, so that it should be written whole."""
        return self._changed > max(self._whole, CHANGED_BYTES_MIN)

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        """Writes the whole state in place of all that is there."""
        parts = [Part(WHOLE, name, True, rows) for name, rows in tables.items()]
        self._db.execute("DELETE FROM changes")
        self._db.execute("DELETE FROM state")
        self._insert("state", _packed(parts))
        self._commits, self._changed, self._whole = 0, 0, _size(parts)

    def load(self) -> dict[str, pa.Table]:
        """The whole state by table, its rows in no order."""
        found = self._db.execute("FROM state UNION ALL FROM changes ORDER BY number").fetchall()
        parts = [
            Part(number, name, is_there, pa.ipc.open_stream(content).read_all())
            for number, name, is_there, content in found
        ]
        self._commits = parts[-1].number + 1 if parts else 0
        self._whole = _size(part for part in parts if part.number == WHOLE)
        self._changed = max(_size(parts) - self._whole, self._commits * COMMIT_BYTES_MIN)
        return {name: self._merged(name, [part for part in parts if part.name == name]) for name in TABLES}

    # `incoming` and `keys` in a statement are the tables of that name here: DuckDB looks names up among the variables
    # of its caller, which takes half the time of registering them.

    def _insert(self, table: str, incoming: pa.Table) -> None:
        self._db.execute(f"INSERT INTO {table} FROM incoming")

    def _merged(self, name: str, parts: Sequence[Part]) -> pa.Table:
        """For each key its row in the last part that names it. No commit names a key twice."""
        rows = pa.concat_tables([TABLES[name].schema.empty_table(), *(part.rows for part in parts if part.is_there)])
        if len(parts) < 2:
            return rows
        place, numbered = 0, []
        for part in parts:
            size = part.rows.num_rows
            places = np.arange(place, place + size) if part.is_there else np.full(size, -1)
            place += size if part.is_there else 0
            named = part.rows.select(TABLES[name].key).append_column("part_number", [np.full(size, part.number)])
            numbered.append(named.append_column("place", [places]))
        return rows.take(self._last_places(TABLES[name].key, pa.concat_tables(numbered)))

    def _last_places(self, key: Sequence[str], keys: pa.Table) -> pa.ChunkedArray:
        """The place of the last row of each key that is there."""
        by_key = ", ".join(f'"{column}"' for column in key)
        last = self._db.sql(
            f"FROM (SELECT arg_max(place, part_number) AS place FROM keys GROUP BY {by_key})"  # noqa: S608 - names of ours
            " WHERE place >= 0 ORDER BY place"
        )
        return last.to_arrow_table().column("place")


def _size(parts: Iterable[Part]) -> int:
    return sum(part.rows.nbytes for part in parts)


def _packed(parts: Sequence[Part]) -> pa.Table:
    """The parts as they are stored: the rows of each as a stream of its own, all in one buffer."""
    sink, ends = pa.BufferOutputStream(), [0]
    for part in parts:
        with pa.ipc.new_stream(sink, part.rows.schema, options=PACKED) as writer:
            writer.write_table(part.rows)
        ends.append(sink.tell())
    places = pa.py_buffer(np.array(ends, np.int64))
    return pa.table(
        {
            "number": pa.array([part.number for part in parts], pa.int64()),
            "name": pa.array([part.name for part in parts], pa.string()),
            "is_there": pa.array([part.is_there for part in parts], pa.bool_()),
            "content": pa.Array.from_buffers(pa.large_binary(), len(parts), [None, places, sink.getvalue()]),
        }
    )
