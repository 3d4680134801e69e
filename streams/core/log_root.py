"""The log root: one digest over the raw records of a range of offsets, from which any record can be proven.

Records are cut into chunks by a grid of 1,024 absolute offsets (offset // 1024), clipped to the range; a cell of the
grid without a record has no chunk. A chunk's canonical bytes are "tallyroot log chunk 2\n" and its records one after
the other, so that they can be hashed as they come:

    offset i64   timestamp (ms) i64   size of the key i32   size of the value i32   number of headers u32
    key   value   a header: size of the name i32   size of the value i32   name   value

Integers are big-endian; a size of -1 is a null.

A chunk's leaf is SHA-256(0x00 + its bytes). After the chunks come the record batches that nobody could read and that an
operator had skipped, by ascending offset: the canonical bytes of one are "tallyroot skipped batch 1\n" and the batch as
the broker sent it. The root is the Merkle tree hash of RFC 9162 section 2.1 over the leaves in this order: a node is
SHA-256(0x01 + left + right), the left part the largest power of two below the count. The root of a range without
records is, as there, SHA-256 of nothing (EMPTY_ROOT). `log_digest` makes it.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

import pyarrow as pa
from msgspec import Struct

from schemas.errors import InvalidInput
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

DOMAIN = b"tallyroot log chunk 2\n"
_SKIPPED_DOMAIN = b"tallyroot skipped batch 1\n"
_HEAD = struct.Struct(">qqiiI")
_SIZES = struct.Struct(">ii")


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


def records_from(batch: pa.RecordBatch) -> list[Record]:
    """The records of a batch of the schema RECORDS."""
    headers = [[(entry["name"], entry["value"]) for entry in row] for row in batch.column(3).to_pylist()]
    columns = [batch.column(number).to_pylist() for number in (0, 1, 2, 4)]
    return [
        Record(offset=offset, timestamp=timestamp, key=key, value=value, headers=entries)
        for offset, timestamp, key, value, entries in zip(*columns, headers, strict=True)
    ]


def chunk_bytes(records: Iterable[LogRecord]) -> bytes:
    """The canonical bytes of one chunk, from exactly its records."""
    return DOMAIN + b"".join(map(_record_bytes, records))


def records_of(chunk: bytes) -> list[Record]:
    """The records in a chunk's canonical bytes. Raises InvalidInput if they are not the canonical bytes of a chunk."""
    try:
        records = _decode(chunk)
        whole = bool(records) and chunk_bytes(records) == chunk
    except (ValueError, OverflowError, struct.error):
        whole = False
    if not whole:
        raise InvalidInput("these bytes are not a chunk of a log: take those of a proof made from the archive")
    return records


def leaf_of(chunk: bytes) -> bytes:
    """The leaf (32 bytes) of a chunk's canonical bytes."""
    return hashlib.sha256(b"\x00" + chunk).digest()


def skipped_leaf_of(batch: bytes) -> bytes:
    """The leaf (32 bytes) of a skipped batch, from its bytes as the broker sent them."""
    return leaf_of(_SKIPPED_DOMAIN + batch)


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


def _record_bytes(record: LogRecord) -> bytes:
    headers = record.headers or ()
    head = _HEAD.pack(record.offset, record.timestamp, _size(record.key), _size(record.value), len(headers))
    parts = [head, record.key or b"", record.value or b""]
    for name, value in headers:
        written = name.encode()
        parts += [_SIZES.pack(len(written), _size(value)), written, value or b""]
    return b"".join(parts)


def _size(value: bytes | None) -> int:
    return -1 if value is None else len(value)


class _Bytes:
    """Reads a chunk's bytes from the left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_left(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if size < 0 or len(part) != size:
            raise ValueError("the bytes end too early")
        self._at += size
        return part

    def text(self, size: int) -> bytes | None:
        return None if size == -1 else self.take(size)

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))


def _decode(chunk: bytes) -> list[Record]:
    left = _Bytes(chunk)
    if left.take(len(DOMAIN)) != DOMAIN:
        raise ValueError("another domain")
    records = []
    while left.is_left:
        offset, timestamp, key_size, value_size, count = left.numbers(_HEAD)
        key, value = left.text(key_size), left.text(value_size)
        headers = []
        for _ in range(count):
            name_size, part_size = left.numbers(_SIZES)
            headers.append((left.take(name_size).decode(), left.text(part_size)))
        records.append(Record(offset=offset, timestamp=timestamp, key=key, value=value, headers=headers))
    return records
