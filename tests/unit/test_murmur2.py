"""The partition of a route is the one that Kafka's Java client would choose."""

import pytest

from streams.core.murmur2 import murmur2, partition_of

KAFKA_VECTORS = {  # UtilsTest.testMurmur2 of Apache Kafka, as signed integers
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("data", KAFKA_VECTORS)
def test_the_hash_is_kafkas(data: bytes) -> None:
    assert murmur2(data) == KAFKA_VECTORS[data] % 2**32


def test_a_partition_is_the_positive_hash_modulo() -> None:
    assert partition_of(b"foobar", 24) == (-790332482 & 0x7FFFFFFF) % 24
    assert {partition_of(bytes([byte]), 1) for byte in range(256)} == {0}
    assert partition_of(b"", 7) in range(7)
