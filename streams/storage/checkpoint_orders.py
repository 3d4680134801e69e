"""The orders in a checkpoint that the broker hasn't acknowledged: the outbox of `machine.orders`.

They stay here whatever becomes of their epoch; the table `orders` is for the epoch's files.
"""

from collections.abc import Sequence

import duckdb

from streams.kafka.outbox_topic import OrderMessage

BATCH_ORDERS = 10_000
"""A batch ends with the record of the log that reaches it. What one record placed is never torn apart."""


class CheckpointOrders:
    """The table `unsent_orders` of a checkpoint, through one connection."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        """One thread at a time."""
        self._db = db

    def create(self) -> None:
        """Makes the table unless it is there: a file of an earlier version has none."""
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS unsent_orders"
            ' (epoch BIGINT, "offset" BIGINT, position BIGINT, timestamp_ms BIGINT, "key" BLOB, "value" BLOB)'
        )

    def add(self, epoch: int, placed: Sequence[OrderMessage]) -> None:
        """Adds orders in the order of placing; the caller's transaction holds them."""
        if placed:
            rows = [
                (epoch, order.offset, place, order.timestamp_ms, order.key, order.value)
                for place, order in enumerate(placed)
            ]
            self._db.executemany("INSERT INTO unsent_orders VALUES (?, ?, ?, ?, ?, ?)", rows)

    def next_batch(self, after: int) -> list[OrderMessage]:
        """The orders placed after the offset `after`, in the order of placing."""
        rows = self._db.execute(
            'SELECT "offset", timestamp_ms, "key", "value" FROM unsent_orders WHERE "offset" > $after'
            ' AND "offset" <= (SELECT max("offset") FROM (SELECT "offset" FROM unsent_orders WHERE "offset" > $after'
            ' ORDER BY "offset" LIMIT $orders)) ORDER BY "offset", position',
            {"after": after, "orders": BATCH_ORDERS},
        ).fetchall()
        return [OrderMessage(*row) for row in rows]

    def last(self, epoch: int | None = None) -> int | None:
        """The last offset of all that is held, or of what was placed in an epoch and those before it; None if none."""
        rows = self._db.execute(
            'SELECT max("offset") FROM unsent_orders WHERE $epoch IS NULL OR epoch <= $epoch', {"epoch": epoch}
        ).fetchall()
        return None if rows[0][0] is None else int(rows[0][0])

    def drop_sent(self, sent: int) -> None:
        """Drops the orders up to the offset `sent`."""
        self._db.execute('DELETE FROM unsent_orders WHERE "offset" <= ?', [sent])

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()
