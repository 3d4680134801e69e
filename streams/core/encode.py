"""Readings as a record's bytes and headers: the one encoder of replays and gateways.

A reading's JSON bytes are made once; a record's value is those bytes, joined. So a resend after a crash holds the same
rows, however they are batched.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import pyarrow as pa

from schemas.reading import Reading
from streams.core.records import ARROW, JSON

Format = Literal["json", "arrow"]

CONTENT_TYPES: dict[Format, str] = {"json": JSON, "arrow": ARROW}

Headers = tuple[tuple[str, bytes], ...]

_COLUMNS = pa.schema(
    [("machine", pa.string()), ("meter", pa.string())]
    + [(name, pa.int64()) for name in ("boot", "seq", "observed_at", "register", "quantity", "level")]
    + [("session", pa.string()), ("session_started_at", pa.int64())]
    + [(name, pa.bool_()) for name in ("session_start", "session_end", "reconstructed")]
    + [("evidence", pa.string())]
)


def json_row(reading: Reading) -> bytes:
    """One reading as JSON, without what is absent or false."""
    return msgspec.json.encode(reading)


def json_value(rows: Sequence[bytes]) -> bytes:
    """The value of a record of rows that are JSON already: an object for one, an array for more."""
    return rows[0] if len(rows) == 1 else b"[" + b",".join(rows) + b"]"


def arrow_value(rows: Sequence[bytes]) -> bytes:
    """The same rows as an Arrow IPC stream of one batch, uncompressed; columns that no row has are left out."""
    objects: list[dict[str, Any]] = [msgspec.json.decode(row) for row in rows]
    columns = {
        field: [item.get(field.name) for item in objects]
        for field in _COLUMNS
        if any(field.name in item for item in objects)
    }
    arrays = [pa.array(cells, field.type) for field, cells in columns.items()]
    batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(columns)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    value: bytes = sink.getvalue().to_pybytes()
    return value


def value_of(rows: Sequence[bytes], form: Format) -> bytes:
    """The value of a record of rows that are JSON already, in the given format."""
    return json_value(rows) if form == "json" else arrow_value(rows)


def signed_headers(content_type: str, key_id: str, signature: bytes) -> Headers:
    """The headers of a signed record except its type: the content type is signed too, so it is always present."""
    return (("content-type", content_type.encode()), ("signature", signature), ("key-id", key_id.encode()))
