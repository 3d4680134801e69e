"""Items on their way from a file into a log, on disk: memory holds those of one machine at a time.

A spool is one SQLite file in the data folder. It is an index and no record: each run makes its own, and nothing is lost
with it.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from schemas.errors import InvalidInput

T = TypeVar("T")

CACHE_KIB = 16_384
"""How much of the file SQLite keeps in memory."""

AT_ONCE = 1_000
"""Items that are written, or read in order of time, in one call."""


class Spool:
    """The file, while a run needs it; it is removed at the end."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput where the file can't be made."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute("BEGIN")
            self._db.execute("CREATE TABLE items (shelf TEXT, machine TEXT, at_ms INTEGER, item BLOB)")
            self._db.execute("CREATE INDEX place ON items (shelf, machine)")
        except (OSError, sqlite3.Error) as error:
            raise InvalidInput(f"can't write {path} ({error}): make room, or name another --data-dir") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._path.unlink(missing_ok=True)

    def shelf(self, name: str, kind: Any) -> "Shelf[Any]":
        """A shelf of items of a type, as msgspec writes it."""
        return Shelf(self._db, name, kind)


class Shelf(Generic[T]):
    """Items of one type, each of a machine and a moment (epoch ms)."""

    def __init__(self, db: sqlite3.Connection, name: str, kind: Any) -> None:
        self._db, self._name = db, name
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(kind)
        self._new: list[tuple[str, str, int, bytes]] = []

    def add(self, item: T, machine: str, at_ms: int = 0) -> None:
        """Adds an item."""
        self._new.append((self._name, machine, at_ms, self._encode(item)))
        if len(self._new) == AT_ONCE:
            self._write()

    def machines(self) -> list[str]:
        """The machines that have items, sorted."""
        return [name for (name,) in self._ask("SELECT DISTINCT machine FROM items WHERE shelf = ? ORDER BY machine")]

    def of(self, machine: str) -> list[T]:
        """The items of a machine, in the order in which they were added."""
        words = "SELECT item FROM items WHERE shelf = ? AND machine = ? ORDER BY rowid"
        return [self._decoder.decode(item) for (item,) in self._ask(words, machine)]

    def by_machine(self) -> Iterator[T]:
        """All items by machine, then moment, then the order in which they were added."""
        return self._decoded("SELECT item FROM items WHERE shelf = ? ORDER BY machine, at_ms, rowid")

    def by_time(self) -> Iterator[T]:
        """All items by moment, then machine, then the order in which they were added."""
        return self._decoded("SELECT item FROM items WHERE shelf = ? ORDER BY at_ms, machine, rowid")

    def _decoded(self, words: str) -> Iterator[T]:
        found = self._ask(words)
        while items := found.fetchmany(AT_ONCE):
            yield from (self._decoder.decode(item) for (item,) in items)

    def _ask(self, words: str, *more: str) -> sqlite3.Cursor:
        self._write()
        return self._db.execute(words, (self._name, *more))

    def _write(self) -> None:
        try:
            self._db.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", self._new)
        except sqlite3.OperationalError as error:  # the disk is full
            raise InvalidInput(f"can't go on ({error}): make room for the data folder, and run it again") from None
        self._new.clear()
