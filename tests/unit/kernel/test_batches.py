"""A record batch is split as aiokafka's parser splits it, and what that can't read is an error, never a crash."""

import random
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from schemas.errors import InvalidInput
from streams.core import records as definition
from streams.core.kernel import columns as c
from streams.core.kernel.batches import BATCH_HEADERS_MAX, is_utf8
from streams.core.kernel.entries import Entries, Written
from streams.core.records import Record
from streams.kafka.raw_batches import RawBatches

HEADER = 61
ODD = [
    Record(5, 1_000, None, None, []),
    Record(6, 999, b"", b"", [("", b""), ("", None)]),
    Record(9, 2_000, b"key", b"value" * 100, [("ce_type", b"heartbeat"), ("näme", b"\xff"), ("x" * 200, None)]),
    Record(12, 0, b"k", b"v", [("signature", b"s" * 64), ("key-id", b"k")]),
]


def batch_of(records: list[Record], packing: int = 0) -> bytes:
    builder = Builder(2, packing, 0, -1, -1, -1, 1_000_000)
    for record in records:
        key, value, headers = record.key, record.value, list(record.headers)
        builder.append(record.offset - records[0].offset, record.timestamp, key, value, headers)
    batch = bytearray(builder.build())
    batch[:8] = records[0].offset.to_bytes(8, "big")
    return bytes(batch)


def split(batch: bytes) -> list[Record]:
    parsed = RawBatches(batch).next_batch()
    assert parsed is not None
    entries = Entries()
    entries.add(parsed)
    return [entries.record(line) for line in range(len(entries.records))]


def by_aiokafka(batch: bytes) -> list[Record]:
    return [
        Record(found.offset, found.timestamp, found.key, found.value, found.headers)
        for found in DefaultRecordBatch(bytearray(batch))
    ]


@pytest.mark.parametrize("packing", range(5))
def test_odd_records_are_those_of_aiokafka(packing: int) -> None:
    assert split(batch_of(ODD, packing)) == by_aiokafka(batch_of(ODD, packing)) == ODD


def test_written_records_come_back() -> None:
    entries = Entries()
    entries.add(Written(ODD[:2]))
    entries.add(Written(ODD[2:]))
    entries.add(Written([]))
    assert [entries.record(line) for line in range(4)] == ODD
    entries.keep(entries.records[:, c.OFFSET] % 3 == 0)
    assert [entries.record(line) for line in range(len(entries.records))] == ODD[1:]


def test_the_broker_s_time_stands_for_all_records() -> None:
    batch = bytearray(batch_of(ODD))
    batch[22] |= 0x08
    assert [record.timestamp for record in split(bytes(batch))] == [2_000] * 4
    assert split(bytes(batch)) == by_aiokafka(bytes(batch))


def test_a_batch_cut_at_every_byte_is_an_error_and_adds_nothing() -> None:
    batch = batch_of(ODD)
    entries = Entries()
    entries.add(Written(ODD))
    for size in range(HEADER, len(batch)):
        cut = bytearray(batch[:size])
        cut[8:12] = (size - 12).to_bytes(4, "big")
        parsed = RawBatches(bytes(cut)).next_batch()
        assert parsed is not None
        with pytest.raises(InvalidInput):
            entries.add(parsed)
    assert len(entries.records) == len(ODD)


def test_changed_bytes_are_read_as_aiokafka_reads_them_or_not_at_all() -> None:
    draw, batch = random.Random(4), batch_of(ODD)
    became = {"same": 0, "refused": 0}
    for _ in range(20_000):
        changed = bytearray(batch)
        for _ in range(draw.choice((1, 1, 2, 5))):
            at = draw.randrange(HEADER, len(changed))
            changed[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        mine, theirs = _tried(split, bytes(changed)), _tried(by_aiokafka, bytes(changed))
        if isinstance(mine, str):
            became["refused"] += 1
        else:
            assert mine == theirs
            became["same"] += 1
        if theirs in ("CorruptRecordException", "UnicodeDecodeError"):
            assert mine == "InvalidInput"
    assert min(became.values()) > 2_000


def test_hostile_counts_and_lengths_end_as_an_error() -> None:
    whole = batch_of(ODD)
    for count in (-1, 0, 3, 5, 2**31 - 1):
        batch = whole[:57] + count.to_bytes(4, "big", signed=True) + whole[HEADER:]
        assert _tried(split, batch) == "InvalidInput"
    for varint in (
        b"\xff" * 9 + b"\x01",
        b"\xff" * 20,
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80" * 9 + b"\x02",
    ):
        for at in range(HEADER, len(whole)):
            changed = bytearray(whole)
            changed[at:at] = varint
            changed[8:12] = (len(changed) - 12).to_bytes(4, "big")
            mine = _tried(split, bytes(changed))
            assert mine == "InvalidInput" or mine == _tried(by_aiokafka, bytes(changed))


def _tried(parse: Any, batch: bytes) -> list[Record] | str:
    try:
        return parse(batch)  # type: ignore[no-any-return]
    except (InvalidInput, CorruptRecordException, UnicodeDecodeError) as error:
        return type(error).__name__


SIZES = [
    (b"v" * 2**20, [], False),
    (b"v" * (2**20 + 1), [], True),
    (b"", [("a", b"")] * 64, False),
    (b"", [("a", b"")] * 65, True),
    (b"", [("name", b"x" * (2**16 - 4))], False),
    (b"", [("näme", b"x" * (2**16 - 4))], True),
    (b"", [("n" * 2**15, b"x" * 2**15), ("", None)], False),
    (b"", [("n" * 2**15, b"x" * 2**15), ("", b"1")], True),
]


@pytest.mark.parametrize("value, headers, is_large", SIZES)
def test_sizes_of_rule_1(value: bytes, headers: list[tuple[str, bytes | None]], is_large: bool) -> None:
    record = Record(0, 0, None, value, headers)
    entries = Entries()
    entries.add(Written([record]))
    assert definition.is_oversized(record) == is_large
    assert (entries.records[0, c.REFUSED] == c.UNDECODABLE) == is_large


def test_a_batch_of_a_million_headers_is_read_and_one_of_more_is_not() -> None:
    def written(count: int) -> Written:
        return Written([Record(0, 0, None, b"", [("", None)] * count)])

    entries = Entries()
    entries.add(written(BATCH_HEADERS_MAX))
    with pytest.raises(InvalidInput, match="more than 1,048,576 headers"):
        entries.add(written(BATCH_HEADERS_MAX + 1))
    assert entries.records[:, c.REFUSED].tolist() == [c.UNDECODABLE]


def test_headers_mean_what_the_definition_reads_in_them() -> None:
    draw = random.Random(6)
    types = [*c.TYPES, "", "Reading", "reading ", "machine.registered\0", "\ufffd"]
    media = [
        definition.JSON,
        definition.ARROW,
        "APPLICATION/JSON",
        "\t application/json\x1f;a;b",
        "text/x",
        "",
        ";",
        "\x85",
    ]
    for _ in range(3_000):
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(draw.randrange(5)):
            name = draw.choice(("ce_type", "content-type", "signature", "key-id", "ce_typE", "other"))
            words = types if name == "ce_type" else media
            headers.append((name, draw.choice((draw.choice(words).encode(), b"\xff\xfe", None))))
        record = Record(0, 0, None, b"{}", headers)
        entries = Entries()
        entries.add(Written([record]))
        line = entries.records[0].tolist()
        kind = definition.record_type(record)
        assert line[c.TYPE] == (c.TYPES.index(kind) if kind in c.TYPES else c.NONE)
        assert line[c.IS_SIGNED] == definition.has_signature(record)
        given = definition.media_type(record)
        if line[c.MEDIA] != c.ASK:
            assert line[c.MEDIA] == {definition.JSON: c.JSON_MEDIA, definition.ARROW: c.ARROW_MEDIA}.get(
                given, c.OTHER_MEDIA
            )
        else:
            assert not (definition.header(record, "content-type") or b"").isascii()


def test_utf8_is_what_python_decodes() -> None:
    draw = random.Random(8)
    odd = b"\x80\xbf\xc0\xc1\xe0\xed\xf0\xf4\xf5\x9f"
    edges = ["\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
    for _ in range(20_000):
        text = bytearray("".join(draw.choice(edges) for _ in range(draw.randrange(4))).encode())
        for _ in range(draw.randrange(3)):
            if text:
                text[draw.randrange(len(text))] = draw.choice(odd)
        try:
            bytes(text).decode()
            is_right = True
        except UnicodeDecodeError:
            is_right = False
        assert is_utf8(np.frombuffer(bytearray(text + b"\x80"), np.uint8), 0, len(text)) == is_right
