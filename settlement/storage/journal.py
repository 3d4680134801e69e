"""The journal of postings: SQLite, every commit flushed to the disk before anything is sent."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import cast, get_args

import msgspec

from files.format import FORMAT, check_format
from schemas.errors import InvalidInput
from settlement.head import HeaderFile, PostHeader
from settlement.posting import OVER, Attempt, Fees, Posting, PostingState

TABLES = """
CREATE TABLE IF NOT EXISTS posts (
    sequence INTEGER NOT NULL, generation INTEGER NOT NULL, header BLOB NOT NULL, state TEXT NOT NULL,
    mined_block INTEGER, note TEXT NOT NULL DEFAULT '', PRIMARY KEY (sequence, generation)
);
CREATE TABLE IF NOT EXISTS attempts (
    sequence INTEGER NOT NULL, generation INTEGER NOT NULL, place INTEGER NOT NULL, nonce INTEGER NOT NULL,
    hash TEXT NOT NULL UNIQUE, raw BLOB NOT NULL, max_fee TEXT NOT NULL, priority_fee TEXT NOT NULL,
    sent_block INTEGER, PRIMARY KEY (sequence, generation, place)
);
"""


class Journal:
    """Postings by (sequence, generation). Each method is one durable transaction.

    All raise InvalidInput where the file is damaged, or the system can't read or write it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._damage_named():
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            ((found,),) = self._db.execute("PRAGMA user_version").fetchall()
            check_format(found, path)
            self._db.executescript(TABLES)
            self._db.execute(f"PRAGMA user_version = {FORMAT}")
            if (found := self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def postings(self) -> list[Posting]:
        """All postings, ascending by sequence and generation."""
        rows = self._ask(
            "SELECT sequence, generation, header, state, mined_block, note FROM posts ORDER BY sequence, generation"
        ).fetchall()
        with self._damage_named():
            return [
                Posting(
                    msgspec.json.decode(header, type=HeaderFile).header(), generation, _state(state),
                    self._attempts(sequence, generation), mined_block, note,
                )
                for sequence, generation, header, state, mined_block, note in rows
            ]  # fmt: skip

    def open(self) -> list[Posting]:
        """The postings that may still need an action, ascending by sequence and generation."""
        return [posting for posting in self.postings() if posting.state not in OVER]

    def prepare(self, header: PostHeader, generation: int) -> Posting:
        """Inserts a new posting, replacing a prepared or superseded one of the same generation."""
        blob = msgspec.json.encode(HeaderFile.of(header))
        self._ask("BEGIN IMMEDIATE")
        self._ask("DELETE FROM attempts WHERE sequence = ? AND generation = ?", (header.sequence, generation))
        self._ask(
            "INSERT OR REPLACE INTO posts (sequence, generation, header, state) VALUES (?, ?, ?, 'prepared')",
            (header.sequence, generation, blob),
        )
        self._ask("COMMIT")
        return Posting(header, generation, "prepared")

    def sign(self, posting: Posting, attempt: Attempt) -> Posting:
        """Records a signed transaction, before it is sent."""
        key = (posting.header.sequence, posting.generation)
        self._ask("BEGIN IMMEDIATE")
        self._ask(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                *key, len(posting.attempts), attempt.nonce, attempt.hash, attempt.raw, str(attempt.fees.max_fee),
                str(attempt.fees.priority_fee),
            ),
        )  # fmt: skip
        self._ask("UPDATE posts SET state = 'signed' WHERE sequence = ? AND generation = ?", key)
        self._ask("COMMIT")
        return msgspec.structs.replace(posting, state="signed", attempts=(*posting.attempts, attempt))

    def sent(self, posting: Posting, attempt: Attempt, block: int) -> Posting:
        """Records that the node has accepted an attempt, at a block number."""
        key = (posting.header.sequence, posting.generation)
        self._ask("BEGIN IMMEDIATE")
        self._ask("UPDATE attempts SET sent_block = ? WHERE hash = ?", (block, attempt.hash))
        self._ask("UPDATE posts SET state = 'sent' WHERE sequence = ? AND generation = ?", key)
        self._ask("COMMIT")
        noted = tuple(
            msgspec.structs.replace(a, sent_block=block) if a.hash == attempt.hash else a for a in posting.attempts
        )
        return msgspec.structs.replace(posting, state="sent", attempts=noted)

    def mark(self, posting: Posting, state: PostingState, block: int | None, note: str) -> Posting:
        """Records a new state."""
        self._ask(
            "UPDATE posts SET state = ?, mined_block = ?, note = ? WHERE sequence = ? AND generation = ?",
            (state, block, note, posting.header.sequence, posting.generation),
        )
        return msgspec.structs.replace(posting, state=state, mined_block=block, note=note)

    def _attempts(self, sequence: int, generation: int) -> tuple[Attempt, ...]:
        rows = self._ask(
            "SELECT nonce, hash, raw, max_fee, priority_fee, sent_block FROM attempts "
            "WHERE sequence = ? AND generation = ? ORDER BY place",
            (sequence, generation),
        ).fetchall()
        return tuple(
            Attempt(nonce, hash_, raw, Fees(int(max_fee), int(priority_fee)), sent_block)
            for nonce, hash_, raw, max_fee, priority_fee, sent_block in rows
        )

    def _ask(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        with self._damage_named():
            return self._db.execute(statement, values)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            text = f"the journal {self._path} can't be used ({error}): free it, or see to its disk and its rights"
            raise InvalidInput(text) from None
        except (sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, OverflowError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidInput(
                f"the journal {self._path} is damaged ({line}): move it away with its -wal file; the next settlement"
                " finds on the chain what was posted"
            ) from None


def _state(text: str) -> PostingState:
    if text not in get_args(PostingState):
        raise ValueError(f"no state is called {text!r}")
    return cast(PostingState, text)
