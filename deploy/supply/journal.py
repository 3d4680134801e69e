"""What a supplier has taken, delivered and invoiced: one SQLite file, synced at each commit, of one process at a time.

(1) orders, and where the topic was read to   (2) an order's invoice and signature, before it is sent
(3) the log has acknowledged it
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from files.format import FORMAT, check_format
from files.lock import FileLock
from schemas.errors import InvalidInput
from schemas.order import Order

State = Literal["ordered", "signed", "invoiced", "declined"]

_TABLES = """
    CREATE TABLE IF NOT EXISTS journal (log_id TEXT, account TEXT);
    CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, next_offset INTEGER);
    CREATE TABLE IF NOT EXISTS supplied (
        place INTEGER PRIMARY KEY, machine TEXT, item TEXT, number INTEGER, route TEXT, terms BLOB, price INTEGER,
        due_ms INTEGER, state TEXT, invoice BLOB, signature BLOB, UNIQUE (machine, item, number)
    );
"""


class Supplied(Struct, frozen=True, kw_only=True):
    """An order that was taken, and the price (micros) of a piece then. `due_ms` is when it counts as delivered;
    `invoice` are the bytes of its record.
    """

    order: Order
    route: str
    price_micros: int
    due_ms: int
    state: State
    invoice: bytes = b""
    signature: bytes = b""


class SupplyJournal:
    """The open file."""

    def __init__(self, path: Path, log_id: str, account: str) -> None:
        """Raises InvalidInput if it is of another log or account, damaged, of a later version, or open elsewhere."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock.acquire(path.with_suffix(".lock"))
        except OSError as error:
            raise InvalidInput(f"{path} can't be written ({error.strerror}): check --data-dir") from None
        if lock is None:
            raise InvalidInput(f"another process supplies for {account} in this data folder: end it first")
        self._lock = lock
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("PRAGMA synchronous = FULL")
            ((found,),) = self._db.execute("PRAGMA user_version").fetchall()
            check_format(found, path)
            self._db.executescript(_TABLES)
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            rows = self._db.execute("SELECT log_id, account FROM journal").fetchall()
            if not rows:
                self._db.execute("INSERT INTO journal VALUES (?, ?)", (log_id, account))
            elif rows != [(log_id, account)]:
                raise InvalidInput(f"{path} is the journal of {rows[0][1]} in the log {rows[0][0]}: move it away")
        except sqlite3.Error as error:
            self.close()
            raise InvalidInput(f"{path} is damaged ({error}): restore it from a copy") from None
        except InvalidInput:
            self.close()
            raise

    def positions(self) -> dict[int, int]:
        """The offset to read on from, by partition of the topic."""
        return dict(self._db.execute("SELECT partition, next_offset FROM positions").fetchall())

    def take(self, positions: Mapping[int, int], taken: Sequence[Supplied]) -> None:
        """(1) Keeps what was read, in one transaction. An order that is there already stays as it is."""
        with self._transaction():
            for each in taken:
                order = each.order
                self._db.execute(
                    "INSERT OR IGNORE INTO supplied (machine, item, number, route, terms, price, due_ms, state)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (order.machine, order.item, order.number, each.route, msgspec.json.encode(order),
                     each.price_micros, each.due_ms, each.state),
                )  # fmt: skip
            self._db.executemany("REPLACE INTO positions VALUES (?, ?)", positions.items())

    def sign(self, order: Order, invoice: bytes, signature: bytes) -> None:
        """(2) Keeps an invoice before it is sent."""
        self._change(order, "state = 'signed', invoice = ?, signature = ?", invoice, signature)

    def acknowledge(self, order: Order) -> None:
        """(3) Notes that the log has the invoice."""
        self._change(order, "state = 'invoiced'")

    def supplied(self, state: State | None = None) -> list[Supplied]:
        """The orders (in a state), as they were taken."""
        rows = self._db.execute(
            "SELECT terms, route, price, due_ms, state, coalesce(invoice, x''), coalesce(signature, x'') FROM supplied"
            " WHERE ?1 IS NULL OR state = ?1 ORDER BY place",
            (state,),
        ).fetchall()
        return [
            Supplied(
                order=msgspec.json.decode(row[0], type=Order), route=row[1], price_micros=row[2], due_ms=row[3],
                state=row[4], invoice=row[5], signature=row[6],
            )
            for row in rows
        ]  # fmt: skip

    def close(self) -> None:
        """Closes the file and lets another process have it."""
        self._db.close()
        self._lock.release()

    def _change(self, order: Order, words: str, *values: bytes) -> None:
        self._db.execute(
            f"UPDATE supplied SET {words} WHERE machine = ? AND item = ? AND number = ?",  # noqa: S608 - ours
            (*values, order.machine, order.item, order.number),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
