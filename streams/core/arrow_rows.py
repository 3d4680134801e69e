"""Rows of a value that is an Arrow IPC stream. Any fault in the stream makes the whole value undecodable.

Arrow's own reader would inflate compressed bodies and dictionaries on trust: a stream holds plain record batches only,
so what is decoded is no larger than its bytes. Only columns of a reading's fields are read; a null counts as absent.
"""

import struct
from typing import Any

import pyarrow as pa

from schemas.reading import ROWS_MAX, Reading
from schemas.reject import Reason

FIELDS = Reading.__struct_fields__

_STRINGS = ("machine", "meter", "session", "evidence")
_FLAGS = ("session_start", "session_end", "reconstructed")

_MESSAGE_HEADER_TYPE, _MESSAGE_HEADER = 1, 2
_RECORD_BATCH = 3
_BATCH_COMPRESSION = 3
"""Field numbers in Arrow's Message.fbs."""


def decode_arrow(value: bytes) -> list[dict[str, Any]] | Reason:
    """The rows as plain objects, nulls left out, or the reason why the whole record is refused."""
    batches = decode_batches(value)
    if isinstance(batches, str):
        return batches
    return [
        {name: cell for name, cell in row.items() if cell is not None} for batch in batches for row in batch.to_pylist()
    ]


def decode_batches(value: bytes) -> list[pa.RecordBatch] | Reason:
    """The same rows as checked batches that share a schema, with the columns of known fields only."""
    try:
        return _decode(value)
    except (pa.ArrowException, ValueError, TypeError, KeyError, IndexError, OSError, StopIteration, struct.error):
        return "undecodable"


def _decode(value: bytes) -> list[pa.RecordBatch] | Reason:
    source = pa.BufferReader(value)
    reader = pa.MessageReader.open_stream(source)
    first = reader.read_next_message()
    if first.type != "schema":  # Arrow would read any message as a schema, and crash.
        raise pa.ArrowInvalid("a stream begins with its schema")
    schema = pa.ipc.read_schema(first)
    _check_schema(schema)
    batches: list[pa.RecordBatch] = []
    rows = 0
    for message in reader:
        if message.type != "record batch" or _is_compressed(message.metadata):
            raise pa.ArrowInvalid("only plain record batches can follow the schema")
        batch = pa.ipc.read_record_batch(message, schema)
        batches.append(batch)
        rows += batch.num_rows
    if source.tell() != len(value):
        raise pa.ArrowInvalid("bytes follow the end of the stream")
    for batch in batches:
        _check_batch(batch)
    if not rows:
        return "malformed"
    if rows > ROWS_MAX:
        return "too_many_entries"
    if rows > len(value):  # Nulls and flags take less than a byte, and refused rows would outgrow their record.
        raise pa.ArrowInvalid("more rows than bytes")
    known = [name for name in FIELDS if name in schema.names]
    return [batch.select(known) for batch in batches]


def _check_schema(schema: pa.Schema) -> None:
    """Each field of a reading at most once, in its type; other columns are ignored, but flat."""
    if len(set(schema.names)) != len(schema.names):
        raise pa.ArrowInvalid("a column occurs twice")
    for field in schema:
        if field.type.num_fields:
            raise pa.ArrowInvalid(f"column {field.name} isn't flat")
    for name in FIELDS:
        if name in schema.names and not _is_fit(name, schema.field(name).type):
            raise pa.ArrowInvalid(f"column {name} has another type")


def _is_fit(name: str, kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    if name in _STRINGS:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return bool(pa.types.is_boolean(kind) if name in _FLAGS else pa.types.is_integer(kind))


def _check_batch(batch: pa.RecordBatch) -> None:
    """Raises ArrowInvalid unless lengths, offsets and UTF-8 are valid and only nullable fields have nulls."""
    batch.validate(full=True)
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not field.nullable and column.null_count:
            raise pa.ArrowInvalid(f"column {field.name} has nulls")


def _is_compressed(metadata: pa.Buffer) -> bool:
    """Whether a message's record batch names a compression, read from its FlatBuffer: Arrow has no call for it."""
    data = metadata.to_pybytes()
    message = _u32(data, 0)
    kind = _field(data, message, _MESSAGE_HEADER_TYPE)
    header = _field(data, message, _MESSAGE_HEADER)
    if kind is None or header is None or data[kind] != _RECORD_BATCH:
        raise pa.ArrowInvalid("not a record batch")
    return _field(data, header + _u32(data, header), _BATCH_COMPRESSION) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """The offset of a field of a FlatBuffer table, or None if it is left out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    entry = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + entry)[0] if entry < size else 0
    return table + int(offset) if offset else None


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
