"""Records as Arrow IPC streams: the extra `tallyroot-gateway[arrow]`, imported only for `format="arrow"`."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

_COLUMNS = pa.schema(
    [("machine", pa.string()), ("meter", pa.string())]
    + [(name, pa.int64()) for name in ("boot", "seq", "observed_at", "register", "quantity", "level")]
    + [("session", pa.string()), ("session_started_at", pa.int64())]
    + [(name, pa.bool_()) for name in ("session_start", "session_end", "reconstructed")]
    + [("evidence", pa.string())]
)


def arrow_value(rows: Sequence[bytes]) -> bytes:
    """Rows in JSON as an Arrow IPC stream of one batch, uncompressed; columns that no row has are left out."""
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
