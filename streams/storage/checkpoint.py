# ruff: noqa: S608 - every name put into a statement is a constant of ours
"""One partition's checkpoint: its state, its next offset and what it has sealed, in one DuckDB file.

Everything that one slice of the log changes is committed in one transaction, or not at all. Sealed rows and rejects of
an epoch stay in the file until the epoch's own files are final. Tables have no keys and no indexes: a changed row is
deleted and inserted again. No other process opens the file; a snapshot holds its state, taken at a cut.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrow import ORDER, TABLES, WINDOW_TABLES, Tables
from schemas.errors import InvalidInput, InvariantBroken
from schemas.log import Log
from schemas.manifest import Counts, EpochManifest
from streams.core.log_digest import Leaf
from streams.core.state import State
from streams.core.tables import Changes
from streams.kafka.outbox_topic import OrderMessage
from streams.storage.checkpoint_identity import CheckpointIdentity
from streams.storage.checkpoint_orders import CheckpointOrders
from streams.storage.checkpoint_rejects import CheckpointRejects
from streams.storage.state_store import StateStore

REJECTED = {"rejects", "rejected_records"}
"""The tables whose rows may stay longer: until the broker has acknowledged them."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far the partition is. `epoch` is the one not yet cut; `first_offset` and `counts` are its own.

    `tail` is the leaf of the log root's open chunk, of its records so far: what the log must still hold.
    """

    next_offset: int | None = None
    stream_time_ms: int | None = None
    epoch: int | None = None
    first_offset: int = 0
    counts: Counts = Counts()
    tail: Leaf | None = None


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that has ended: what its manifest needs, independent of later commits."""

    epoch: int
    first_offset: int
    next_offset: int
    counts: Counts
    stream_time_ms: int
    deposits_micros: int
    state_digest: bytes


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one transaction: the slice [start, position.next_offset), all of it in one epoch.

    `tables` are those of schemas.arrow.TABLES, all of them, `leaves` those of the log root that it closed.
    `unsent` are its orders as messages, if they are sent to a topic. `live_ms` names the live files of the piece's
    windows: the start of the first (epoch ms).
    """

    start: int
    epoch: int
    changes: dict[str, Changes]
    position: Position
    tables: Tables
    leaves: list[Leaf]
    cut: Cut | None
    unsent: Sequence[OrderMessage] = ()

    @property
    def live_ms(self) -> int | None:
        first = pc.min(self.tables["windows"].column("start_ms")).as_py()
        return None if first is None else int(first)


class Checkpoint:
    """The open file. One thread at a time."""

    def __init__(self, path: Path, identity: CheckpointIdentity) -> None:
        """Opens or creates the file at `path`.

        Raises InvalidInput if it belongs to another topic, log or partition, if the log's rules contradict those of an
        epoch that it has judged, or if another program has it open.
        """
        with readable(path):
            self._db = duckdb.connect(str(path), config={"threads": 1})
        self.path = path
        self._state = StateStore(self._db)
        self.refused = CheckpointRejects(self._db)
        """The refused records of all epochs in the file."""
        self.placed = CheckpointOrders(self._db)
        """The orders that their topic lacks."""
        try:
            with readable(path), self._transaction():
                self._prepare(path, identity)
        except BaseException:
            self._db.close()
            raise

    @property
    def position(self) -> Position:
        """How far the partition is."""
        (row,) = self._db.execute("SELECT * FROM position").fetchall()
        return Position(
            stream_time_ms=row[0],
            epoch=row[1],
            first_offset=row[2],
            next_offset=row[3],
            tail=None if row[4] is None else Leaf(row[4], row[5]),
            counts=Counts(*row[6:]),
        )

    def state(self, log: Log, partition: int) -> State:
        """The state to continue from; a new one if nothing was ever committed."""
        if self.position.next_offset is None:
            return State.new(log, partition)
        with self._transaction():
            tables = self._state.load()
        return State.load(log, partition, tables)

    def restore(self, manifest: EpochManifest, tables: Mapping[str, pa.Table]) -> None:
        """Replaces the file's content by the state at the cut of an epoch whose files are final."""
        offsets = (manifest.first_offset, manifest.next_offset)
        times = [manifest.stream_time_ms, int(manifest.deposits_micros)]
        row = [manifest.epoch, *offsets, *_counts(manifest.counts), *times]
        digests = [bytes.fromhex(manifest.state_digest), manifest.digest()]
        with self._transaction():
            for name in (*TABLES, "leaves", "cuts", "position", "unsent_orders"):
                self._db.execute(f"DELETE FROM {name}")
            self._state.write(tables)
            self._db.execute(f"INSERT INTO cuts VALUES ({', '.join('?' * 11)})", [*row, *digests])
            self._db.execute(
                "INSERT INTO position VALUES (?, ?, ?, ?, NULL, NULL, 0, 0, 0, 0)",
                [manifest.stream_time_ms, manifest.epoch + 1, manifest.next_offset, manifest.next_offset],
            )

    def commit(self, piece: Piece) -> None:
        """Commits a piece in one transaction.

        Raises InvariantBroken if the piece doesn't start where the file ends; then nothing is committed.
        """
        with self._transaction():
            self._move(piece)
            self._state.append(piece.changes)
            for name, table in piece.tables.items():
                self._insert(name, table, piece)
            self.placed.add(piece.epoch, piece.unsent)
            if piece.leaves:
                rows = [msgspec.structs.asdict(leaf) for leaf in piece.leaves]
                self._add_leaves(piece.epoch, pa.Table.from_pylist(rows))
            if piece.cut is not None:
                cut = piece.cut
                offsets = (cut.first_offset, cut.next_offset)
                times = [cut.stream_time_ms, cut.deposits_micros]
                row = [cut.epoch, *offsets, *_counts(cut.counts), *times, cut.state_digest]
                self._db.execute(f"INSERT INTO cuts VALUES ({', '.join('?' * 10)}, NULL)", row)

    @property
    def is_state_due(self) -> bool:
        """Whether the whole state should be written: what commits have changed outweighs it."""
        return self._state.is_due

    def write_state(self, tables: Mapping[str, pa.Table]) -> None:
        """Writes the whole state as it is after the last commit."""
        with self._transaction():
            self._state.write(tables)

    def pending(self) -> list[Cut]:
        """The epochs that have ended and whose files are not final, in their order."""
        rows = self._db.execute("SELECT * FROM cuts WHERE manifest_digest IS NULL ORDER BY epoch").fetchall()
        return [
            Cut(
                epoch=row[0],
                first_offset=row[1],
                next_offset=row[2],
                counts=Counts(*row[3:7]),
                stream_time_ms=row[7],
                deposits_micros=int(row[8]),
                state_digest=row[9],
            )
            for row in rows
        ]

    def last_published(self) -> int | None:
        """The number of the last epoch whose files are final, None if there is none."""
        ((epoch,),) = self._db.execute("SELECT max(epoch) FROM cuts WHERE manifest_digest IS NOT NULL").fetchall()
        return None if epoch is None else int(epoch)

    def tables(self, epoch: int) -> dict[str, pa.Table]:
        """All rows of an epoch: the tables TABLES, sorted by ORDER."""
        return {name: self._rows(name, f"epoch = {epoch:d}") for name in TABLES}

    def leaves(self, epoch: int) -> list[Leaf]:
        """The leaves of the log root over what was judged in an epoch that has ended, by their chunks."""
        rows = self._db.execute("SELECT chunk, leaf FROM leaves WHERE epoch = ? ORDER BY chunk", [epoch]).fetchall()
        return [Leaf(chunk, digest) for chunk, digest in rows]

    def rows_of(self, name: str, epoch: int) -> pa.Table:
        """The rows of one of RECORD_TABLES in an epoch so far."""
        return self._rows(name, f"epoch = {epoch:d}")

    def last_refused(self, epoch: int) -> int | None:
        """The last offset of the refused records of an epoch and those before it that the file still holds."""
        query = 'SELECT max("offset") FROM rejected_records WHERE epoch <= ?'
        ((offset,),) = self._db.execute(query, [epoch]).fetchall()
        return None if offset is None else int(offset)

    def live_starts(self) -> list[int]:
        """The names (epoch ms) of all live files whose rows the file holds."""
        rows = self._db.execute("SELECT DISTINCT live_ms FROM windows ORDER BY live_ms").fetchall()
        return [row[0] for row in rows]

    def live_tables(self, live_ms: int) -> dict[str, pa.Table]:
        """The rows of the live files of one commit: the tables WINDOW_TABLES."""
        return {name: self._rows(name, f"live_ms = {live_ms:d}") for name in WINDOW_TABLES}

    def drop(self, epoch: int, manifest_digest: bytes, *, with_rejects: bool = True) -> None:
        """Drops the rows of an epoch whose files are final, in one transaction; without `with_rejects` keeps its
        rejects.
        """
        with self._transaction():
            for name in TABLES if with_rejects else TABLES.keys() - REJECTED:
                self._db.execute(f"DELETE FROM {name} WHERE epoch = ?", [epoch])
            self._db.execute("DELETE FROM leaves WHERE epoch = ?", [epoch])
            self._db.execute("UPDATE cuts SET manifest_digest = ? WHERE epoch = ?", [manifest_digest, epoch])

    def reader(self) -> "Checkpoint":
        """The same file through another connection, for one other thread that only reads."""
        other = object.__new__(Checkpoint)
        other._db = self._db.cursor()
        other.placed = CheckpointOrders(other._db)
        return other

    def refused_reader(self) -> CheckpointRejects:
        """The refused records through another connection, for one other thread."""
        return CheckpointRejects(self._db.cursor())

    def placed_reader(self) -> CheckpointOrders:
        """The orders that their topic lacks through another connection, for one other thread."""
        return CheckpointOrders(self._db.cursor())

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _prepare(self, path: Path, identity: CheckpointIdentity) -> None:
        tables = {name for (name,) in self._db.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        if not tables:
            self._create()
        elif "identity" not in tables:
            raise InvalidInput(
                f"{path} is of another version: use that one, or remove it to have it rebuilt from the log"
            )
        else:
            ((content,),) = self._db.execute("SELECT content FROM identity").fetchall()
            msgspec.json.decode(content, type=CheckpointIdentity).compare(path, identity, self.position.epoch)
        self.placed.create()
        self._db.execute("DELETE FROM identity")
        self._db.execute("INSERT INTO identity VALUES (?)", [msgspec.json.encode(identity).decode()])

    def _create(self) -> None:
        offsets = "first_offset BIGINT, next_offset BIGINT"
        counts = "entries BIGINT, accepted BIGINT, duplicate BIGINT, rejected BIGINT"
        self._db.execute("CREATE TABLE identity (content VARCHAR)")
        self._db.execute(
            f"CREATE TABLE position (stream_time_ms BIGINT, epoch BIGINT, {offsets},"
            f" tail_chunk BIGINT, tail BLOB, {counts})"
        )
        self._db.execute("INSERT INTO position VALUES (NULL, NULL, 0, NULL, NULL, NULL, 0, 0, 0, 0)")
        self._db.execute("CREATE TABLE leaves (epoch BIGINT, chunk BIGINT, leaf BLOB)")
        self._db.execute(
            f"CREATE TABLE cuts (epoch BIGINT, {offsets}, {counts},"
            " stream_time_ms BIGINT, deposits_micros HUGEINT, state_digest BLOB, manifest_digest BLOB)"
        )
        for name, schema in TABLES.items():
            self._like(name, _placed(name, 0, 0), schema.empty_table())
        self._state.create()

    # `incoming` in a statement is the table of that name here, as in StateStore.

    def _like(self, name: str, columns: str, incoming: pa.Table) -> None:
        self._db.execute(f"CREATE TABLE {name} AS SELECT {columns} FROM incoming")

    def _insert(self, name: str, incoming: pa.Table, piece: Piece) -> None:
        if incoming.num_rows:
            self._db.execute(f"INSERT INTO {name} SELECT {_placed(name, piece.epoch, piece.live_ms)} FROM incoming")

    def _add_leaves(self, epoch: int, incoming: pa.Table) -> None:
        self._db.execute(f"INSERT INTO leaves SELECT {epoch:d}, chunk, digest FROM incoming")

    def _move(self, piece: Piece) -> None:
        """Moves the position if the piece starts there."""
        position = piece.position
        moved = self._db.execute(
            "UPDATE position SET next_offset = ?, stream_time_ms = ?, epoch = ?, first_offset = ?,"
            " tail_chunk = ?, tail = ?, entries = ?, accepted = ?, duplicate = ?, rejected = ?"
            " WHERE coalesce(next_offset, 0) = ?",
            [
                position.next_offset,
                position.stream_time_ms,
                position.epoch,
                position.first_offset,
                *((None, None) if position.tail is None else (position.tail.chunk, position.tail.digest)),
                *_counts(position.counts),
                piece.start,
            ],
        ).fetchall()
        if moved != [(1,)]:
            stored = self.position.next_offset or 0
            raise InvariantBroken(f"the checkpoint is at offset {stored}, the slice starts at {piece.start}")

    def _rows(self, name: str, condition: str) -> pa.Table:
        """The rows of a table that a condition holds for. What two commits both hold of an agreement is one row."""
        schema = TABLES[name]
        distinct = "DISTINCT" if name == "agreements" else ""
        query = f"SELECT {distinct} {_names(schema.names)} FROM {name} WHERE {condition} ORDER BY {_sorted_by(name)}"
        table: pa.Table = self._db.sql(query).to_arrow_table()
        return table.cast(schema)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """All or nothing."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN")

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _counts(counts: Counts) -> list[int]:
    return [counts.entries, counts.accepted, counts.duplicate, counts.rejected]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _sorted_by(name: str) -> str:
    return ", ".join(f'"{column}" NULLS FIRST' for column in ORDER[name])


def _placed(name: str, epoch: int, live_ms: int | None) -> str:
    """The columns of a stored table: where the rows belong, then their own."""
    live = f", {live_ms or 0:d}::BIGINT AS live_ms" if name in WINDOW_TABLES else ""
    return f"{epoch:d}::BIGINT AS epoch{live}, *"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns DuckDB's errors over a file that is opened and read into one line that says what to do (InvalidInput)."""
    try:
        yield
    except duckdb.Error as error:
        line = str(error).splitlines()[0]
        if "Could not set lock" in line:
            raise InvalidInput(f"{path} can't be opened: end the program that has it open ({line})") from None
        raise InvalidInput(
            f"{path} is damaged ({line}): restore it, or remove it to have it rebuilt from the log"
        ) from None
