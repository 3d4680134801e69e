"""What a record batch's records unpack to, with a bound: a few thousand bytes in a batch could mean gigabytes.

Kafka names four packings: gzip, snappy (one raw block, or the blocks that snappy-java frames), lz4 and zstd frames.
"""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
import numpy as np

from schemas.errors import InvalidInput

UNPACKED_MAX = 64 << 20
"""The most bytes that one batch may unpack to."""

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
"""Packings, as the lowest three bits of a batch's attributes number them."""

USUAL_MAX, USUAL_RATIO = 1 << 20, 16
"""Most batches unpack to less than the sum of this much and so many times their size; others need a second attempt."""

SNAPPY_JAVA = b"\x82SNAPPY\0"
_SNAPPY_JAVA_HEADER = 16


def unpack(packing: int, packed: memoryview) -> memoryview:
    """The unpacked bytes. Raises InvalidInput if they are more than UNPACKED_MAX, or nothing can unpack them."""
    if packing == NONE:
        return packed
    try:
        if packing == GZIP:
            return memoryview(_gunzip(packed))
        if packing == SNAPPY:
            return memoryview(_unsnap(packed))
        if packing == LZ4:
            return _into_room(cramjam.lz4.decompress_into, packed)
        if packing == ZSTD:
            return _into_room(cramjam.zstd.decompress_into, packed)
    except (cramjam.DecompressionError, zlib.error, struct.error, OSError, EOFError, ValueError) as error:
        raise InvalidInput(f"records that can't be unpacked into {UNPACKED_MAX >> 20} MiB ({error})") from None
    raise InvalidInput(f"records in a packing that Kafka doesn't have (number {packing})")


def _into_room(decompress_into: Callable[[Any, Any], int], packed: memoryview) -> memoryview:
    """Unpacks into a buffer of a fixed size, which cramjam never outgrows."""
    for size in (min(UNPACKED_MAX, USUAL_MAX + USUAL_RATIO * len(packed)), UNPACKED_MAX):
        room: Any = np.empty(size, np.uint8)  # unlike bytearray, takes no memory until it is written
        try:
            return memoryview(room)[: decompress_into(packed, room)]
        except cramjam.DecompressionError:
            if size == UNPACKED_MAX:
                raise
    raise ValueError("no room")


def _gunzip(packed: memoryview) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        unpacked = file.read(UNPACKED_MAX + 1)
    if len(unpacked) > UNPACKED_MAX:
        raise ValueError("too much")
    return unpacked


def _unsnap(packed: memoryview) -> bytes:
    if bytes(packed[: len(SNAPPY_JAVA)]) != SNAPPY_JAVA:
        return _unsnap_block(packed, UNPACKED_MAX)
    blocks, room, at = [], UNPACKED_MAX, _SNAPPY_JAVA_HEADER
    while at < len(packed):
        (size,) = struct.unpack_from(">i", packed, at)
        at += 4
        if not 0 < size <= len(packed) - at:
            raise ValueError("a block of snappy-java is cut short")
        blocks.append(_unsnap_block(packed[at : at + size], room))
        room -= len(blocks[-1])
        at += size
    return b"".join(blocks)


def _unsnap_block(packed: memoryview, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > room:
        raise ValueError("too much")
    return bytes(cramjam.snappy.decompress_raw(packed))
