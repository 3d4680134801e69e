"""The log root: one digest over the raw records of a range of offsets, from which any record can be proven.

Records are cut into chunks by a grid of 1,024 absolute offsets (offset // 1024), clipped to the range; a cell of the
grid without a record has no chunk. A chunk's canonical bytes hold its records by columns, so that they are written and
read without a step per record:

    "tallyroot log chunk 1\\n"   count u32   offsets count × i64   timestamps (ms) count × i64
    keys   values   headers a record: count × u32   header names   header values

Integers are big-endian. A column of bytes is `count × i32` lengths (-1: null), then all its bytes in their order.

A chunk's leaf is SHA-256(0x00 + its bytes). The root is the Merkle tree hash of RFC 9162 section 2.1 over the leaves by
ascending offset: a node is SHA-256(0x01 + left + right), the left part the largest power of two below the count. The
root of a range without records is, as there, SHA-256 of nothing (EMPTY_ROOT).
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from schemas.errors import InvalidInput, InvariantBroken
from streams.core.records import LogRecord, Record

CHUNK_OFFSETS = 1_024
EMPTY_ROOT = hashlib.sha256().digest()
HEADER = pa.struct([pa.field("name", pa.string(), nullable=False), ("value", pa.binary())])
RECORDS = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        ("key", pa.binary()),
        pa.field("headers", pa.list_(pa.field("item", HEADER, nullable=False)), nullable=False),
        ("value", pa.binary()),
    ]
)
"""The raw records of the log, as the archive keeps them."""

_DOMAIN = b"tallyroot log chunk 1\n"


class ChunkProof(Struct, frozen=True, kw_only=True):
    """Proof that a chunk's records were in the log: its canonical bytes, its index among the leaves, the audit path."""

    chunk: bytes
    index: int
    leaves: int
    path: tuple[bytes, ...]

    def root(self) -> bytes:
        """The log root that this proof leads to: 32 bytes, to be compared with a manifest's."""
        return root_from(leaf_of(self.chunk), self.index, self.leaves, self.path)

    def records(self) -> list[Record]:
        """The chunk's records. Raises InvalidInput if its bytes are not a chunk."""
        return records_of(self.chunk)


class LogDigest:
    """Collects the leaves of one range from its records, which may come in slices of any size."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self._pending: list[pa.RecordBatch] = []
        self._chunk: int | None = None
        self._last_offset = -1

    def add(self, records: Sequence[LogRecord]) -> None:
        """Adds the next records of the range. Raises InvariantBroken if their offsets don't ascend."""
        if records:
            self.add_batch(records_batch(records))

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Adds the next records as a batch of the schema RECORDS. Raises InvariantBroken as `add`."""
        if not batch.num_rows:
            return
        offsets = np.asarray(batch.column(0))
        if offsets[0] <= self._last_offset or np.any(offsets[1:] <= offsets[:-1]):
            raise InvariantBroken(f"offsets of the log don't ascend near {self._last_offset}")
        self._last_offset = int(offsets[-1])
        for first, end, chunk in _chunk_spans(offsets):
            if chunk != self._chunk:
                self._close()
                self._chunk = chunk
            self._pending.append(batch.slice(first, end - first))

    def finish(self) -> bytes:
        """The log root (32 bytes) of all records added; `leaves` is complete then."""
        self._close()
        return merkle_root(self.leaves)

    def _close(self) -> None:
        if self._pending:
            whole = self._pending[0] if len(self._pending) == 1 else pa.concat_batches(self._pending)
            self.leaves.append(leaf_of(chunk_bytes(whole)))
            self._pending = []


def records_batch(records: Sequence[LogRecord]) -> pa.RecordBatch:
    """Records as one batch of the schema RECORDS. The values must be less than 2 GiB together."""
    headers = [record.headers or () for record in records]
    names = pa.array([name for entry in headers for name, _ in entry], pa.string())
    values = pa.array([value for entry in headers for _, value in entry], pa.binary())
    ends = pa.array(list(accumulate(map(len, headers), initial=0)), pa.int32())
    entries = pa.StructArray.from_arrays([names, values], fields=list(HEADER))
    columns = [
        pa.array([record.offset for record in records], pa.int64()),
        pa.array([record.timestamp for record in records], pa.int64()),
        pa.array([record.key for record in records], pa.binary()),
        pa.ListArray.from_arrays(ends, entries, type=RECORDS.field("headers").type),
        pa.array([record.value for record in records], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS)


def records_from(batch: pa.RecordBatch) -> list[Record]:
    """The records of a batch of the schema RECORDS: the inverse of `records_batch`."""
    headers = [[(entry["name"], entry["value"]) for entry in row] for row in batch.column(3).to_pylist()]
    columns = [batch.column(number).to_pylist() for number in (0, 1, 2, 4)]
    return [
        Record(offset=offset, timestamp=timestamp, key=key, value=value, headers=entries)
        for offset, timestamp, key, value, entries in zip(*columns, headers, strict=True)
    ]


def chunk_bytes(batch: pa.RecordBatch) -> bytes:
    """The canonical bytes of one chunk, from a batch of the schema RECORDS that holds exactly its records."""
    headers = batch.column(3)
    entries = headers.flatten()
    names, values = entries.flatten()
    counts = np.asarray(headers.value_lengths())
    return b"".join(
        [
            _DOMAIN,
            batch.num_rows.to_bytes(4, "big"),
            np.asarray(batch.column(0)).astype(">i8").tobytes(),
            np.asarray(batch.column(1)).astype(">i8").tobytes(),
            *_column(batch.column(2)),
            *_column(batch.column(4)),
            counts.astype(">u4").tobytes(),
            *_column(names.cast(pa.binary())),
            *_column(values),
        ]
    )


def records_of(chunk: bytes) -> list[Record]:
    """The records in a chunk's canonical bytes. Raises InvalidInput if they are not the canonical bytes of a chunk."""
    try:
        records = _decode(chunk)
        whole = bool(records) and chunk_bytes(records_batch(records)) == chunk
    except (ValueError, IndexError, OverflowError):
        whole = False
    if not whole:
        raise InvalidInput("these bytes are not a chunk of a log: take those of a proof made from the archive")
    return records


def leaf_of(chunk: bytes) -> bytes:
    """The leaf (32 bytes) of a chunk's canonical bytes."""
    return hashlib.sha256(b"\x00" + chunk).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash (RFC 9162, 2.1.1) of leaves in their order; EMPTY_ROOT if there are none."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else EMPTY_ROOT


def audit_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The inclusion proof (RFC 9162, 2.1.3) of one leaf, from the bottom up. Raises InvalidInput if there is no such
    leaf.
    """
    if not 0 <= index < len(leaves):
        raise InvalidInput(f"there is no leaf {index} among {len(leaves)}")
    path = []
    level = list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = _above(level)
        index //= 2
    return tuple(path)


def root_from(leaf: bytes, index: int, leaves: int, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to. Raises InvalidInput if the path does not fit that index and number of
    leaves.
    """
    parts = iter(path)
    digest = leaf
    try:
        if not 0 <= index < leaves:
            raise StopIteration
        while leaves > 1:
            if index ^ 1 < leaves:
                part = next(parts)
                digest = _node(part, digest) if index & 1 else _node(digest, part)
            index, leaves = index // 2, (leaves + 1) // 2
    except StopIteration:
        raise InvalidInput("the audit path doesn't fit its index: take index, leaves and path from one proof") from None
    if next(parts, None) is not None:
        raise InvalidInput("the audit path is longer than its tree")
    return digest


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _above(level: list[bytes]) -> list[bytes]:
    # A last node without a sibling rises as it is: the same tree as RFC 9162's split at powers of two.
    above = [_node(level[index], level[index + 1]) for index in range(0, len(level) - 1, 2)]
    return above + level[len(level) - len(level) % 2 :]


def _chunk_spans(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    chunks = offsets // CHUNK_OFFSETS
    starts = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist()]
    for first, end in zip(starts, [*starts[1:], len(offsets)], strict=True):
        yield first, end, int(chunks[first])


def _column(array: pa.Array) -> tuple[bytes, bytes]:
    """Lengths and bytes of a binary column; of a slice of a larger array, only its own part."""
    count = len(array)
    if not count:
        return b"", b""
    _, ends, data = array.buffers()
    bounds = np.frombuffer(ends, np.int32)[array.offset : array.offset + count + 1]
    lengths = np.diff(bounds).astype(">i4")
    if array.null_count:
        lengths[np.asarray(array.is_null(), dtype=bool)] = -1
    own = data.slice(bounds[0], bounds[-1] - bounds[0]).to_pybytes() if data is not None else b""
    return lengths.tobytes(), own


class _Bytes:
    """Reads a chunk's bytes from the left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if size < 0 or len(part) != size:
            raise ValueError("the bytes end too early")
        self._at += size
        return part

    def integers(self, count: int, kind: str) -> list[int]:
        whole = self.take(count * np.dtype(kind).itemsize)
        return [int(number) for number in np.frombuffer(whole, kind)]

    def column(self, count: int) -> list[bytes | None]:
        lengths = self.integers(count, ">i4")
        return [None if length == -1 else self.take(length) for length in lengths]


def _decode(chunk: bytes) -> list[Record]:
    left = _Bytes(chunk)
    if left.take(len(_DOMAIN)) != _DOMAIN:
        raise ValueError("another domain")
    count = int.from_bytes(left.take(4), "big")
    offsets, timestamps = left.integers(count, ">i8"), left.integers(count, ">i8")
    keys, values = left.column(count), left.column(count)
    counts = left.integers(count, ">u4")
    names, parts = left.column(sum(counts)), left.column(sum(counts))
    entries = iter([((name or b"").decode(), part) for name, part in zip(names, parts, strict=True)])
    headers = [[next(entries) for _ in range(size)] for size in counts]
    return [
        Record(offset=offset, timestamp=timestamp, key=key, value=value, headers=own)
        for offset, timestamp, key, value, own in zip(offsets, timestamps, keys, values, headers, strict=True)
    ]
