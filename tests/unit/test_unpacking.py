"""A batch is unpacked as aiokafka does it, but never to more than the bound, whatever its few bytes promise."""

import gzip
import struct

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from schemas.errors import InvalidInput
from streams.kafka import unpacking
from streams.kafka.raw_batches import BATCH_RECORDS_MAX, RawBatches
from streams.kafka.unpacking import GZIP, LZ4, SNAPPY, UNPACKED_MAX, ZSTD, unpack

PACK = {
    GZIP: codec.gzip_encode,
    SNAPPY: codec.snappy_encode,
    LZ4: codec.lz4_encode,
    ZSTD: codec.zstd_encode,
}
MIX = b"".join(b"%d;" % (number * number) for number in range(40_000))


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("size", [0, 1, 4_000, 200_000])
def test_what_aiokafka_packs_comes_back(packing: int, size: int) -> None:
    for plain in (MIX[:size], bytes(size)):
        assert bytes(unpack(packing, memoryview(PACK[packing](plain)))) == plain


def test_snappy_without_frames_and_gzip_of_two_members() -> None:
    assert bytes(unpack(SNAPPY, memoryview(bytes(cramjam.snappy.compress_raw(MIX))))) == MIX
    assert bytes(unpack(GZIP, memoryview(gzip.compress(b"one") + gzip.compress(b"two")))) == b"onetwo"


@pytest.mark.parametrize("packing", PACK)
def test_the_bound_is_exact(packing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "UNPACKED_MAX", 100_000)
    assert len(unpack(packing, memoryview(PACK[packing](bytes(100_000))))) == 100_000
    with pytest.raises(InvalidInput, match="can't be unpacked"):
        unpack(packing, memoryview(PACK[packing](bytes(100_001))))


@pytest.mark.parametrize("packing", PACK)
def test_a_bomb_and_a_damaged_batch_end_as_an_error(packing: int) -> None:
    bomb = PACK[packing](bytes(UNPACKED_MAX + 1))
    assert len(bomb) < 4 << 20
    with pytest.raises(InvalidInput, match="64 MiB"):
        unpack(packing, memoryview(bomb))
    packed = PACK[packing](MIX)
    for damaged in (packed[:-30], packed[10:], b"\xff" * 100):
        with pytest.raises(InvalidInput, match="can't be unpacked"):
            unpack(packing, memoryview(damaged))
    with pytest.raises(InvalidInput, match="number 7"):
        unpack(7, memoryview(packed))


def test_batches_of_a_fetch_are_split_and_say_what_they_hold() -> None:
    fetched = b""
    for first, packing in enumerate((0, GZIP, SNAPPY, LZ4, ZSTD)):
        builder = Builder(2, packing, 0, -1, -1, -1, 1_000_000)
        for number in range(3):
            builder.append(number, 1_000 + number, b"key", b"value" * 100, [("name", b"x"), ("null", None)])
        batch = bytearray(builder.build())
        batch[0:8] = (first * 3).to_bytes(8, "big")
        fetched += batch
    batches = RawBatches(fetched + fetched[:50])
    offsets = []
    while batches.has_next():
        batch = batches.next_batch()
        assert batch is not None
        assert batch.validate_crc() and not batch.is_control_batch and not batch.is_transactional
        assert (batch.count, batch.next_offset) == (3, batch.base_offset + 3)
        offsets += [(record.offset, record.timestamp) for record in batch]
    assert offsets == [(number, 1_000 + number % 3) for number in range(15)]
    assert batches.next_batch() is None


def test_a_batch_of_too_many_records_is_not_unpacked() -> None:
    builder = Builder(2, 0, 0, -1, -1, -1, 1_000)
    builder.append(0, 1, b"k", b"v", [])
    many = bytearray(builder.build())
    many[57:61] = (BATCH_RECORDS_MAX + 1).to_bytes(4, "big")
    batch = RawBatches(bytes(many)).next_batch()
    assert batch is not None
    with pytest.raises(InvalidInput, match="262,145 records in one batch"):
        list(batch)


def test_an_old_message_format_is_named_with_its_offset() -> None:
    builder = Builder(2, 0, 0, -1, -1, -1, 1_000)
    builder.append(0, 1, b"k", b"v", [])
    old = bytearray(builder.build())
    old[0:8], old[16] = (77).to_bytes(8, "big"), 1
    with pytest.raises(InvalidInput, match="offset 77"):
        RawBatches(bytes(old)).next_batch()


@pytest.mark.parametrize("length", [-1, -12, -19, -(2**31), 0, 48])
def test_a_batch_whose_length_can_t_be_ends_as_an_error(length: int) -> None:
    """One below zero led back to where it was read before, for ever."""
    raw = struct.pack(">qi", 7, length) + bytes(60)
    batches = RawBatches(bytes(Builder(2, 0, False, 0, 0, 0, 1 << 20).build()) + raw)
    batches.next_batch()
    assert batches.has_next()
    with pytest.raises(InvalidInput, match="at the offset 7 begins"):
        batches.next_batch()
