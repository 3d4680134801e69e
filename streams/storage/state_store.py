# ruff: noqa: S608 - every name put into a statement is a constant of ours
"""The state's tables in DuckDB: each commit appends its changes as one row of bytes; rows fold into the tables later.

A commit that touched seven tables would be fourteen statements, and a statement costs more than what it changes. So
a commit is one row, and folding, once a second or so, costs the fourteen. A folded table holds no key twice.
"""

from collections.abc import Mapping

import duckdb
import msgspec
import pyarrow as pa

from streams.core.state_tables import TABLES
from streams.core.tables import Changes

FOLD_COMMITS = 64
FOLD_BYTES = 64 * 1_024 * 1_024
"""Unfolded rows stay below both bounds."""


class StateStore:
    """The tables `state_<name>` and `deltas` of one checkpoint. Transactions are the caller's."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._commits = 0
        self._bytes = 0

    def create(self) -> None:
        """Creates the tables."""
        self._db.execute("CREATE TABLE deltas (number BIGINT, content BLOB)")
        for name, spec in TABLES.items():
            self._create(name, spec.schema.empty_table())

    def restore(self, tables: Mapping[str, pa.Table]) -> None:
        """Replaces the whole state."""
        self._db.execute("DELETE FROM deltas")
        for name in TABLES:
            self._db.execute(f"DELETE FROM state_{name}")
            self._insert(name, tables[name])
        self._commits = self._bytes = 0

    def append(self, changes: dict[str, Changes]) -> None:
        """Appends the changes of one commit."""
        content = msgspec.msgpack.encode(
            {
                name: (_to_bytes(change.upserts), _to_bytes(change.deletes))
                for name, change in changes.items()
                if change.upserts.num_rows or change.deletes.num_rows
            }
        )
        self._db.execute("INSERT INTO deltas VALUES (?, ?)", [self._commits, content])
        self._commits += 1
        self._bytes += len(content)

    @property
    def is_fold_due(self) -> bool:
        """Whether enough was appended that it should be folded."""
        return self._commits >= FOLD_COMMITS or self._bytes >= FOLD_BYTES

    def fold(self) -> None:
        """Applies all appended changes to the tables: for each key, those of the last commit that names it."""
        rows = self._db.execute("SELECT content FROM deltas ORDER BY number").fetchall()
        if not rows:
            return
        upserts: dict[str, list[pa.Table]] = {}
        deletes: dict[str, list[pa.Table]] = {}
        for number, (content,) in enumerate(rows):
            for name, (upserted, deleted) in msgspec.msgpack.decode(
                content, type=dict[str, tuple[bytes, bytes]]
            ).items():
                upserts.setdefault(name, []).append(_with_commit_number(_from_bytes(upserted), number))
                deletes.setdefault(name, []).append(_with_commit_number(_from_bytes(deleted), number))
        for name, tables in upserts.items():
            self._replace(name, pa.concat_tables(tables), pa.concat_tables(deletes[name]))
        self._db.execute("DELETE FROM deltas")
        self._commits = self._bytes = 0

    def load(self) -> dict[str, pa.Table]:
        """The whole state by table, after a fold."""
        self.fold()
        return {
            name: self._db.sql(f"SELECT * FROM state_{name}").to_arrow_table().cast(spec.schema)
            for name, spec in TABLES.items()
        }

    # `incoming`, `upserts` and `deletes` in a statement are the tables of that name here: DuckDB looks names up among
    # the variables of its caller, which takes half the time of registering them.

    def _create(self, name: str, incoming: pa.Table) -> None:
        self._db.execute(f"CREATE TABLE state_{name} AS SELECT * FROM incoming")

    def _insert(self, name: str, incoming: pa.Table) -> None:
        self._db.execute(f"INSERT INTO state_{name} SELECT * FROM incoming")

    def _replace(self, name: str, upserts: pa.Table, deletes: pa.Table) -> None:
        keys = ", ".join(f'"{column}"' for column in TABLES[name].key)
        columns = ", ".join(f'"{column}"' for column in TABLES[name].schema.names)
        same = " AND ".join(f'kept."{column}" = gone."{column}"' for column in TABLES[name].key)
        self._db.execute(
            f"DELETE FROM state_{name} AS kept USING"
            f" (SELECT {keys} FROM upserts UNION SELECT {keys} FROM deletes) AS gone WHERE {same}"
        )
        # A commit never names a key on both sides, so the numbers alone say which came last.
        self._db.execute(
            f"INSERT INTO state_{name} SELECT {columns} FROM"
            f" (SELECT *, true AS is_there FROM upserts UNION ALL BY NAME SELECT *, false AS is_there FROM deletes)"
            f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY commit_number DESC) = 1 AND is_there"
        )


def _with_commit_number(table: pa.Table, number: int) -> pa.Table:
    return table.append_column("commit_number", pa.array([number] * table.num_rows, pa.int64()))


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _from_bytes(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()
