# ruff: noqa: S608 - every name put into a statement is a constant of ours
"""The refused records in a checkpoint: of epochs that aren't final, and those not yet acknowledged by the broker."""

from pathlib import Path

import duckdb
import pyarrow as pa

from files.format import FORMAT, METADATA
from schemas.arrow import RECORD_TABLES, REJECTED_RECORDS
from schemas.reject import KEPT_BYTES
from streams.kafka.outbox_topic import RejectedMessage

BATCH_RECORDS = 10_000
BATCH_BYTES = 8 << 20
"""A batch ends with the record that reaches one of these bounds."""

ENTRY_BYTES = 64
"""About the memory of an entry's reason."""

LIVE_REJECTS = pa.schema(
    [
        ("start_ms", pa.int64()),
        *REJECTED_RECORDS,
        ("entries", pa.list_(pa.struct([("row", pa.int64()), ("reason", pa.string())]))),
    ]
)
"""A live file of rejects: the start of the epoch, each record once, its refused entries."""

_LAST = """
    WITH following AS (
        SELECT "offset", least(value_size, $kept) + coalesce(octet_length("key"), 0) AS size
        FROM rejected_records WHERE "offset" > $after ORDER BY "offset" LIMIT $records
    ), sized AS (
        SELECT following."offset", any_value(size) + count(*) * $entry AS size
        FROM following JOIN rejects USING ("offset")
        WHERE rejects."offset" > $after AND rejects."offset" <= (SELECT max("offset") FROM following)
        GROUP BY following."offset"
    ), summed AS (SELECT "offset", sum(size) OVER (ORDER BY "offset") - size AS before FROM sized)
    SELECT max("offset") FROM summed WHERE before < $bytes
"""
_BATCH = """
    SELECT records."offset", timestamp_ms, "key", "value",
           '{"offset":' || records."offset" || ',"timestamp":' || timestamp_ms || ',"epoch":' || epoch
           || ',"value_size":' || value_size || ',"value_sha256":"' || lower(hex(value_sha256))
           || '","reasons":[' || reasons || ']}'
    FROM rejected_records AS records JOIN (
        SELECT "offset", array_to_string(list_transform(
            list_sort(list({'row': "row", 'reason': reason})), lambda it: '[' || it.row || ',"' || it.reason || '"]'
        ), ',') AS reasons
        FROM rejects WHERE "offset" > $after AND "offset" <= $last GROUP BY "offset"
    ) USING ("offset")
    WHERE records."offset" > $after AND records."offset" <= $last ORDER BY records."offset"
"""
_FINAL = "epoch IN (SELECT epoch FROM cuts WHERE manifest_digest IS NOT NULL)"
# Most records have one refused entry, and gathering lists costs more than all the rest. Sorting them costs half of what
# an ordered aggregate does. Row groups are small because DuckDB holds one of them whole, and a value may have 64 KiB.
_COPY = """
    COPY (WITH own AS MATERIALIZED (SELECT "offset", "row", reason FROM rejects WHERE epoch = {epoch:d}),
          several AS MATERIALIZED (SELECT "offset" FROM own GROUP BY "offset" HAVING count(*) > 1)
          SELECT {start_ms:d}::BIGINT AS start_ms, records.* EXCLUDE epoch, entries
          FROM rejected_records AS records JOIN (
              SELECT "offset", [{{'row': "row", 'reason': reason}}] AS entries
              FROM own ANTI JOIN several USING ("offset")
              UNION ALL
              SELECT "offset", list_sort(list({{'row': "row", 'reason': reason}}))
              FROM own SEMI JOIN several USING ("offset") GROUP BY "offset"
          ) USING ("offset")
          WHERE epoch = {epoch:d})
    TO '{path}' (FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 2048, KV_METADATA {{{metadata}}})
"""


class CheckpointRejects:
    """The tables `rejects` and `rejected_records` of a checkpoint, through one connection."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        """One thread at a time."""
        self._db = db

    def next_batch(self, after: int) -> list[RejectedMessage]:
        """The refused records after the offset `after`, by offset, bounded in bytes and entries."""
        bounds = {"after": after, "kept": KEPT_BYTES, "records": BATCH_RECORDS, "entry": ENTRY_BYTES}
        ((last,),) = self._db.execute(_LAST, bounds | {"bytes": BATCH_BYTES}).fetchall()
        rows = [] if last is None else self._db.execute(_BATCH, {"after": after, "last": last}).fetchall()
        return [RejectedMessage(*row) for row in rows]

    def unfinished_epochs(self) -> set[int]:
        """The epochs without a manifest that have refused records, orders or payments."""
        tables = ("rejected_records", *RECORD_TABLES)
        text = " UNION ".join(f"SELECT epoch FROM {name} WHERE NOT {_FINAL}" for name in tables)
        return {row[0] for row in self._db.execute(text).fetchall()}

    def write(self, epoch: int, start_ms: int, path: Path) -> None:
        """Writes the rejects of an epoch that starts at `start_ms` to a Parquet file: schema LIVE_REJECTS."""
        target = str(path).replace("'", "''")
        metadata = f"'{METADATA.decode()}': '{FORMAT}'"
        self._db.execute(_COPY.format(epoch=epoch, start_ms=start_ms, path=target, metadata=metadata))

    def drop_sent(self, sent: int) -> int | None:
        """Drops the rejects of final epochs up to the offset `sent`; returns the last offset of those of final epochs
        that remain, None if none.
        """
        self._db.execute("BEGIN")
        for name in ("rejects", "rejected_records"):
            self._db.execute(f'DELETE FROM {name} WHERE "offset" <= ? AND {_FINAL}', [sent])
        self._db.execute("COMMIT")
        ((left,),) = self._db.execute(f'SELECT max("offset") FROM rejected_records WHERE {_FINAL}').fetchall()
        return None if left is None else int(left)

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()
