"""The till's journal: SQLite, every commit flushed to the disk before anything is sent."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import structs

from schemas.errors import InvalidInput
from till.purchase import Purchase, State

FORMAT = 1

TABLES = """
CREATE TABLE IF NOT EXISTS purchases (
    payer TEXT NOT NULL, nonce TEXT NOT NULL, machine TEXT NOT NULL, session TEXT NOT NULL, state TEXT NOT NULL,
    accepted INTEGER NOT NULL, until INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (payer, nonce)
);
CREATE INDEX IF NOT EXISTS by_session ON purchases (machine, session);
CREATE INDEX IF NOT EXISTS by_end ON purchases (machine, until);
CREATE INDEX IF NOT EXISTS by_state ON purchases (state);
"""


def opened(path: Path, tables: str, format_: int, whose: str) -> sqlite3.Connection:
    """A journal's database, of one process at a time, each commit flushed. Raises InvalidInput."""
    try:
        path.touch(mode=0o600)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        ((found,),) = database.execute("PRAGMA user_version").fetchall()
        if found not in (0, format_):
            raise InvalidInput(f"{path} was written by another release (format {found}): use that one")
        database.executescript(tables)
        database.execute(f"PRAGMA user_version = {format_}")
    except (OSError, sqlite3.Error) as error:
        raise fault_of(path, error, whose) from None
    return database


def fault_of(path: Path, error: Exception, whose: str) -> InvalidInput:
    """What to do about a journal that can't be used."""
    if "locked" in str(error):
        return InvalidInput(f"another {whose} has {path} open: stop it first")
    return InvalidInput(f"can't use the {whose}'s journal {path} ({error}): check the disk, or restore it")


class Journal:
    """Purchases by payer and nonce. Each method is one durable transaction; threads may share it.

    All raise InvalidInput where the file is damaged, or the system can't read or write it. Only one process at a time
    opens a journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._db = opened(path, TABLES, FORMAT, "till")

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def accept(self, purchase: Purchase, admits: Callable[[list[Purchase]], None]) -> Purchase:
        """(1) Journals a new purchase; returns the one that has the same authorisation already, if there is one.

        `admits` is called with the machine's purchases that are open, and raises where there is no room.
        """
        with self._lock:
            known = self.find(purchase.authorization.payer, purchase.authorization.nonce)
            if known is not None:
                return known
            admits(self.open_at(purchase.machine, purchase.accepted_ms))
            self._write(purchase, "INSERT")
            return purchase

    def put(self, purchase: Purchase) -> Purchase:
        """Journals a purchase as it is now; one that was stopped meanwhile stays stopped."""
        with self._lock:
            known = self.find(purchase.authorization.payer, purchase.authorization.nonce)
            if known is not None and known.stopped_ms is not None:
                purchase = structs.replace(purchase, stopped_ms=known.stopped_ms)
            self._write(purchase, "REPLACE")
            return purchase

    def stopped(self, purchase: Purchase, now_ms: int) -> None:
        """Journals that all purchases of a session were stopped (epoch ms)."""
        with self._lock:
            for other in self.of_session(purchase.machine, purchase.session):
                self._write(structs.replace(other, stopped_ms=now_ms), "REPLACE")

    def find(self, payer: str, nonce: str) -> Purchase | None:
        """The purchase of an authorisation."""
        found = self._ask("WHERE payer = ? AND nonce = ?", (payer, nonce))
        return found[0] if found else None

    def open_at(self, machine: str, now_ms: int) -> list[Purchase]:
        """A machine's purchases whose sessions are open at a moment (epoch ms), oldest first."""
        return [found for found in self._ask("WHERE machine = ? AND until > ?", (machine, now_ms)) if found.is_open]

    def of_session(self, machine: str, session: str) -> list[Purchase]:
        """What was paid for a session: what opened it, and top-ups."""
        return self._ask("WHERE machine = ? AND session = ?", (machine, session))

    def begun_at(self, now_ms: int) -> list[Purchase]:
        """The purchases whose sessions were begun and go on at a moment (epoch ms)."""
        found = self._ask("WHERE state = 'started' AND until > ?", (now_ms,))
        return [purchase for purchase in found if purchase.is_open and not purchase.is_top_up]

    def in_state(self, *states: State) -> list[Purchase]:
        """The purchases in any of these states, oldest first."""
        return self._ask(f"WHERE state IN ({','.join('?' * len(states))})", states)

    def _ask(self, where: str, values: tuple[str | int, ...]) -> list[Purchase]:
        with self._lock:
            try:
                rows = self._db.execute(
                    f"SELECT body FROM purchases {where} ORDER BY accepted, payer, nonce",  # noqa: S608 - fixed words
                    values,
                ).fetchall()
                return [msgspec.msgpack.decode(body, type=Purchase) for (body,) in rows]
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                raise self._fault(error) from None

    def _write(self, purchase: Purchase, verb: str) -> None:
        signed = purchase.authorization
        try:
            self._db.execute(
                f"{verb} INTO purchases VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    signed.payer, signed.nonce, purchase.machine, purchase.session, purchase.state,
                    purchase.accepted_ms, purchase.valid_until_ms, msgspec.msgpack.encode(purchase),
                ),
            )  # fmt: skip
        except sqlite3.Error as error:
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> InvalidInput:
        return fault_of(self._path, error, "till")
