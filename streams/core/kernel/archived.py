"""Records between their columns here and the archive's Arrow batches, and their canonical bytes under the log root,
without an object each.

An Arrow column of texts is its bytes one after the other, and where each ends; so is `Texts`.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.errors import InvariantBroken
from streams.core.kernel import columns as c
from streams.core.kernel.batches import WHOLE, read_headers, text_size
from streams.core.kernel.columns import NONE, Bytes, Ints, Matrix
from streams.core.kernel.compiled import compiled
from streams.core.kernel.entries import Entries, EntryRecords
from streams.core.kernel.texts import ends_of, texts_array
from streams.core.kernel.words import copy
from streams.core.log_root import CHUNK_OFFSETS, HEADER, RECORDS

VARINT_MAX = 5
"""The most bytes that the length of a text takes."""

RECORD_BYTES, HEADER_BYTES = 28, 8
"""What a record takes under the log root beside its texts, and each of its headers."""


class Texts(NamedTuple):
    """Texts one after the other: text k is content[ends[k] : ends[k + 1]]; `is_null` is 1 for a null, else 0."""

    ends: Ints
    content: Bytes
    is_null: Bytes


@compiled
def write_length(out: Bytes, p: int, size: int) -> int:
    """A length, or NONE, as a zigzag varint at `p`; returns the position behind it."""
    raw = 1 if size == NONE else size << 1
    while raw > 0x7F:
        out[p] = 0x80 | raw & 0x7F
        raw >>= 7
        p += 1
    out[p] = raw
    return p + 1


@compiled
def write_text(ends: Ints, content: Bytes, is_null: Bytes, k: int, out: Bytes, p: int) -> int:
    """A text with its length at `p`; returns the position behind it."""
    if is_null[k]:
        return write_length(out, p, NONE)
    size = ends[k + 1] - ends[k]
    return copy(content, ends[k], size, out, write_length(out, p, size))


@compiled
def write_headers(
    counts: Ints, name_ends: Ints, names: Bytes, value_ends: Ints, values: Bytes, is_null: Bytes, is_never: Bytes,
    out: Bytes, p: int, records: Matrix, first: int,
) -> int:  # fmt: skip
    """The headers of the records from the line `first` on into `out`, as Kafka spells them, and what they mean.

    `counts` are the headers of each record, `is_never` is 0 for each name. Returns the position behind them.
    """
    header = 0
    for k in range(len(counts)):
        line, begun = first + k, p
        for _ in range(counts[k]):
            p = write_text(name_ends, names, is_never, header, out, p)
            p = write_text(value_ends, values, is_null, header, out, p)
            header += 1
        records[line, c.HEADERS_AT], records[line, c.HEADERS_LEN], records[line, c.HEADERS] = (
            begun,
            p - begun,
            counts[k],
        )
        if read_headers(out, begun, p, records, line) != WHOLE:
            return NONE
    return p


@compiled
def find_headers(buffer: Bytes, records: Matrix, found: Matrix) -> None:
    """Position and length of each header's name and value, a line each, in the order of the records."""
    header = 0
    for k in range(len(records)):
        p, stop = records[k, c.HEADERS_AT], records[k, c.HEADERS_AT] + records[k, c.HEADERS_LEN]
        for _ in range(records[k, c.HEADERS]):
            for part in range(0, 4, 2):
                size, p = text_size(buffer, p, stop)
                found[header, part], found[header, part + 1] = p, size
                p += max(size, 0)
            header += 1


@compiled
def put(out: Bytes, p: int, value: int, size: int) -> int:
    """An integer of so many bytes at `p`, big-endian; returns the position behind it."""
    for k in range(size):
        out[p + k] = (value >> 8 * (size - 1 - k)) & 0xFF
    return p + size


@compiled
def canonical_room(records: Matrix, k: int) -> int:
    """How many bytes `write_canonical` takes at most for a record."""
    room = RECORD_BYTES + max(records[k, c.KEY_LEN], 0) + max(records[k, c.VALUE_LEN], 0)
    return room + records[k, c.HEADERS_LEN] + HEADER_BYTES * records[k, c.HEADERS]


@compiled
def write_canonical(buffer: Bytes, records: Matrix, k: int, before: int, out: Bytes) -> tuple[int, int]:
    """The records from the line `k` on as `streams.core.log_root` writes them under a leaf: (next record, bytes).

    It ends before another chunk, before a record whose offset is not above the one before it (`before` for the
    first), and where `out` may not hold one more.
    """
    p, chunk = 0, records[k, c.OFFSET] // CHUNK_OFFSETS
    while k < len(records):
        offset = records[k, c.OFFSET]
        if offset <= before or offset // CHUNK_OFFSETS != chunk or p + canonical_room(records, k) > len(out):
            break
        before = offset
        p = put(out, p, offset, 8)
        p = put(out, p, records[k, c.TIMESTAMP], 8)
        p = put(out, p, records[k, c.KEY_LEN], 4)
        p = put(out, p, records[k, c.VALUE_LEN], 4)
        p = put(out, p, records[k, c.HEADERS], 4)
        p = copy(buffer, records[k, c.KEY_AT], max(records[k, c.KEY_LEN], 0), out, p)
        p = copy(buffer, records[k, c.VALUE_AT], max(records[k, c.VALUE_LEN], 0), out, p)
        at, stop = records[k, c.HEADERS_AT], records[k, c.HEADERS_AT] + records[k, c.HEADERS_LEN]
        for _ in range(records[k, c.HEADERS]):
            name_size, name_at = text_size(buffer, at, stop)
            value_size, value_at = text_size(buffer, name_at + name_size, stop)
            p = put(out, p, name_size, 4)
            p = put(out, p, value_size, 4)
            p = copy(buffer, name_at, name_size, out, p)
            p = copy(buffer, value_at, max(value_size, 0), out, p)
            at = value_at + max(value_size, 0)
        k += 1
    return k, p


def add_archived(entries: Entries, batch: pa.RecordBatch) -> None:
    """Adds the records of a batch of the schema RECORDS."""
    headers = batch.column(3)
    names, values = headers.flatten().flatten()
    name_texts, value_texts = _texts_of(names), _texts_of(values)
    room = len(name_texts.content) + len(value_texts.content) + 2 * VARINT_MAX * len(names)
    lines = entries.add_lines(batch.num_rows)
    lines[:, c.OFFSET], lines[:, c.TIMESTAMP] = np.asarray(batch.column(0)), np.asarray(batch.column(1))
    for column, at in ((2, c.KEY_AT), (4, c.VALUE_AT)):
        texts = _texts_of(batch.column(column))
        lines[:, at] = entries.write(texts.content) + texts.ends[:-1]
        lines[:, at + 1] = np.where(texts.is_null, NONE, np.diff(texts.ends))
    entries.make_room(room)
    counts = np.asarray(headers.value_lengths()).astype(np.int64)
    end = write_headers(
        counts, name_texts.ends, name_texts.content, value_texts.ends, value_texts.content, value_texts.is_null,
        name_texts.is_null, entries.buffer, entries.size, lines, 0,
    )  # fmt: skip
    if end == NONE:
        raise InvariantBroken("a header that was written can't be read")
    entries.size = end


def archived_batch(records: EntryRecords) -> pa.RecordBatch:
    """The records as a batch of the schema RECORDS: the inverse of `add_archived`."""
    buffer, lines = records.entries.buffer, records.lines
    found = np.zeros((int(lines[:, c.HEADERS].sum()), 4), np.int64)
    find_headers(buffer, lines, found)
    parts = [texts_array(buffer, found[:, 0], found[:, 1], pa.string())]
    parts.append(texts_array(buffer, found[:, 2], found[:, 3], pa.binary()))
    ends = ends_of(lines[:, c.HEADERS]).astype(np.int32)
    headers = pa.StructArray.from_arrays(parts, fields=list(HEADER))
    columns = [
        pa.array(lines[:, c.OFFSET].copy()),
        pa.array(lines[:, c.TIMESTAMP].copy()),
        texts_array(buffer, lines[:, c.KEY_AT], lines[:, c.KEY_LEN], pa.binary()),
        pa.ListArray.from_arrays(pa.array(ends), headers, type=RECORDS.field("headers").type),
        texts_array(buffer, lines[:, c.VALUE_AT], lines[:, c.VALUE_LEN], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def _texts_of(array: Any) -> Texts:
    """An Arrow array of string or binary, without what a slice left out."""
    count = len(array)
    _, offsets, content = array.buffers()
    is_null = np.asarray(array.is_null()).astype(np.uint8)
    if not count:
        return Texts(np.zeros(1, np.int64), np.zeros(0, np.uint8), is_null)
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + count + 1].astype(np.int64)
    whole = np.zeros(0, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    return Texts(ends - ends[0], whole[ends[0] : ends[-1]].copy(), is_null)
