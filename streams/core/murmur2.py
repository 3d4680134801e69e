"""Which partition a route belongs to: murmur2 as Kafka's Java client computes it, so that any producer agrees."""

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data`, unsigned. Java shows the same bits as a signed integer."""
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
    """The partition (from 0) of a record key among `partitions`: librdkafka calls this `murmur2_random`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
