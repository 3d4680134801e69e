"""What travels: a record's partition, value, headers and signature. The log's own definitions of these are equal.

A device signs with Ed25519 (RFC 8032, not prehashed)

    "tallyroot reading 1\n" (20 bytes of ASCII), then five fields, each its length (8 bytes, big-endian) and bytes:
    log id, record's key, its type ("reading"), content type, and the SHA-256 of the value (32 bytes)

A reading's JSON bytes are made once, and a record's value is those bytes, joined: what is sent again after a crash
holds the same rows, however they are batched.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

import msgspec
from nacl.signing import SigningKey

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.reading import Reading

ROWS_MAX = 10_000
"""The most readings in one record."""

PARTITIONS_MAX = 1_024
"""The most partitions of a log."""

Format = Literal["json", "arrow"]

CONTENT_TYPES: dict[Format, str] = {"json": "application/json", "arrow": "application/vnd.apache.arrow.stream"}

Headers = tuple[tuple[str, bytes], ...]

READING = "reading"
"""The type of a record that names none."""

_DOMAIN = b"tallyroot reading 1\n"
_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 hash of `data`, unsigned."""
    length = len(data)
    whole = length & ~3
    state = _SEED ^ (length & _MASK)
    for at in range(0, whole, 4):
        block = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _MASK
        block = (block ^ block >> 24) * _MULTIPLIER & _MASK
        state = (state * _MULTIPLIER & _MASK) ^ block
    if length > whole:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition (from 0) of a record's key, as Kafka's Java client and librdkafka's `murmur2_random` have it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def json_row(reading: Reading) -> bytes:
    """One reading as JSON, without what is absent or false."""
    return msgspec.json.encode(reading)


def value_of(rows: Sequence[bytes], format: Format) -> bytes:
    """The value of a record of rows in JSON: an object for one, an array for more, or an Arrow IPC stream."""
    if format == "arrow":
        from tallyroot_gateway.arrow import arrow_value  # noqa: PLC0415 - an extra: pyarrow may be absent

        return arrow_value(rows)
    return rows[0] if len(rows) == 1 else b"[" + b",".join(rows) + b"]"


def headers_of(format: Format, record_type: str = READING) -> Headers:
    """The headers of an unsigned record. A record without a type is readings."""
    named = () if record_type == READING else (("ce_type", record_type.encode()),)
    return (*named, ("content-type", CONTENT_TYPES[format].encode()))


def signed_headers(
    key_id: str,
    private_key: bytes,
    log_id: str,
    key: bytes,
    format: Format,
    value: bytes,
    record_type: str = READING,
) -> Headers:
    """The headers of a signed record. Raises InvalidInput where `private_key` is not 32 bytes."""
    message = reading_message(log_id, key, CONTENT_TYPES[format], value, record_type)
    signature = _signing_key(private_key).sign(message).signature
    return (*headers_of(format, record_type), ("signature", signature), ("key-id", key_id.encode()))


def reading_message(log_id: str, key: bytes, content_type: str, value: bytes, record_type: str = READING) -> bytes:
    """The bytes that a device signs."""
    fields = (log_id.encode(), key, record_type.encode(), content_type.encode(), sha256(value).digest())
    return _DOMAIN + b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def public_key_of(private_key: bytes) -> str:
    """The public key (64 hex digits) that a registration names. Raises InvalidInput for what are not 32 bytes."""
    return bytes(_signing_key(private_key).verify_key).hex()


def _signing_key(private_key: bytes) -> SigningKey:
    if len(private_key) != 32:
        raise InvalidInput("private_key is not an Ed25519 private key: give its 32 bytes (bytes.fromhex of 64 digits)")
    return SigningKey(private_key)
