"""The agent's journal: SQLite, every commit flushed to the disk before anything is signed away or sent."""

import sqlite3
from pathlib import Path

import msgspec

from agent.purchase import Purchase, State
from till.journal import fault_of, opened

FORMAT = 1
TABLES = """
CREATE TABLE IF NOT EXISTS purchases (number INTEGER PRIMARY KEY, state TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_state ON purchases (state);
"""


class AgentJournal:
    """Purchases by number. Each method is one durable transaction; all raise InvalidInput where the file fails.

    Only one process at a time opens a journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = opened(path, TABLES, FORMAT, "agent")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def put(self, purchase: Purchase) -> Purchase:
        """Journals a purchase as it is now."""
        try:
            self._db.execute(
                "REPLACE INTO purchases VALUES (?, ?, ?)",
                (purchase.number, purchase.state, msgspec.msgpack.encode(purchase)),
            )
        except sqlite3.Error as error:
            raise fault_of(self._path, error, "agent") from None
        return purchase

    def all(self) -> list[Purchase]:
        """Every purchase, oldest first."""
        return self._ask("", ())

    def in_state(self, *states: State) -> list[Purchase]:
        """The purchases in any of these states, oldest first."""
        return self._ask(f"WHERE state IN ({','.join('?' * len(states))})", states)

    def last(self) -> Purchase | None:
        """The newest purchase."""
        found = self._ask("WHERE number = (SELECT max(number) FROM purchases)", ())
        return found[0] if found else None

    def _ask(self, where: str, values: tuple[str, ...]) -> list[Purchase]:
        try:
            rows = self._db.execute(
                f"SELECT body FROM purchases {where} ORDER BY number",  # noqa: S608 - fixed words
                values,
            ).fetchall()
            return [msgspec.msgpack.decode(body, type=Purchase) for (body,) in rows]
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise fault_of(self._path, error, "agent") from None
