"""The log root: any record can be proven to have been in the log, and nothing can be moved, changed or left out."""

import hashlib
import random

import numpy as np
import pytest

from schemas.errors import InvalidInput, InvariantBroken
from streams.core.kernel.archived import write_canonical
from streams.core.kernel.entries import EntryRecords
from streams.core.log_digest import ROOM, Leaf, LogDigest
from streams.core.log_root import (
    DOMAIN,
    EMPTY_ROOT,
    ChunkProof,
    audit_path,
    chunk_bytes,
    leaf_of,
    merkle_root,
    records_of,
    root_from,
)
from streams.core.records import Record

RECORDS = [
    Record(5, 1_000, b"key", b"value", [("ce_type", b"reading"), ("zürich", None)]),
    Record(6, 999, None, b"", []),
    Record(9, 2**41, b"", None, [("", b"\x00")]),
]


def many(count: int, seed: int = 1) -> list[Record]:
    chance = random.Random(seed)
    offsets = sorted(chance.sample(range(count * 2), count))
    return [Record(offset, offset * 3, b"k%d" % offset, chance.randbytes(offset % 7), []) for offset in offsets]


def test_canonical_bytes_have_one_fixed_form() -> None:
    expected = (
        b"tallyroot log chunk 2\n"
        + bytes.fromhex("0000000000000005 00000000000003e8 00000003 00000005 00000002") + b"keyvalue"
        + bytes.fromhex("00000007 00000007") + b"ce_typereading"
        + bytes.fromhex("00000007 ffffffff") + "zürich".encode()
        + bytes.fromhex("0000000000000006 00000000000003e7 ffffffff 00000000 00000000")
        + bytes.fromhex("0000000000000009 0000020000000000 00000000 ffffffff 00000001")
        + bytes.fromhex("00000000 00000001") + b"\x00"
    )  # fmt: skip
    assert chunk_bytes(RECORDS) == expected
    assert records_of(expected) == RECORDS


def test_the_loop_writes_the_same_bytes() -> None:
    entries = EntryRecords.of([*RECORDS, *many(300)[10:]])
    room = np.empty(1 << 16, np.uint8)
    end, size = write_canonical(entries.entries.buffer, entries.lines, 0, -1, room)
    assert (end, DOMAIN + room[:size].tobytes()) == (len(entries), chunk_bytes(entries))
    end, size = write_canonical(entries.entries.buffer, entries.lines, 1, 5, room[:80])
    assert (end, DOMAIN + room[:size].tobytes()) == (3, chunk_bytes(RECORDS[1:]))


def test_records_that_fill_the_room_are_hashed_in_parts() -> None:
    records = [
        Record(offset, 0, None, bytes(size), []) for offset, size in enumerate((1, ROOM, ROOM - 30, 40, 3 * ROOM))
    ]
    digest = LogDigest()
    digest.add(records)
    assert digest.finish()[1] == [Leaf(0, leaf_of(chunk_bytes(records)))]


def test_bytes_that_are_no_chunk_are_refused() -> None:
    chunk = chunk_bytes(RECORDS)
    for broken in (b"", chunk[:-1], chunk + b"\x00", chunk.replace(b"chunk 2", b"chunk 1"), chunk[:22] + b"\xff" * 40):
        with pytest.raises(InvalidInput):
            records_of(broken)


@pytest.mark.parametrize("size", [1, 7, 1_000, 5_000])
def test_slices_of_any_size_give_the_same_leaves(size: int) -> None:
    records = many(5_000)
    whole, sliced = LogDigest(), LogDigest()
    whole.add(records)
    for place in range(0, len(records), size):
        sliced.add(records[place : place + size])
    assert sliced.finish() == whole.finish()


def test_what_a_chunk_holds_so_far_can_be_asked_for_between_slices() -> None:
    records = many(700)
    digest = LogDigest()
    assert digest.tail is None
    for record in records:
        digest.add([record])
        chunk = record.offset // 1_024
        held = [other for other in records if other.offset // 1_024 == chunk and other.offset <= record.offset]
        assert digest.tail == Leaf(chunk, leaf_of(chunk_bytes(held)))
    assert [leaf.chunk for leaf in digest.take()] == [0]
    assert digest.take() == []


def test_leaves_follow_the_grid_of_absolute_offsets() -> None:
    digest = LogDigest()
    records = [Record(offset, 0, None, b"x", []) for offset in (1_000, 1_023, 1_024, 5_000)]
    digest.add(records)
    root, leaves = digest.finish()
    groups = ((0, records[:2]), (1, records[2:3]), (4, records[3:]))
    assert leaves == [Leaf(chunk, leaf_of(chunk_bytes(group))) for chunk, group in groups]
    assert root == merkle_root([leaf.digest for leaf in leaves])


def test_a_range_without_records_has_the_root_of_nothing() -> None:
    assert LogDigest().finish()[0] == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_offsets_must_ascend() -> None:
    digest = LogDigest()
    digest.add(RECORDS)
    with pytest.raises(InvariantBroken):
        digest.add(RECORDS[2:])
    with pytest.raises(InvariantBroken):
        LogDigest().add([RECORDS[1], RECORDS[0]])


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


@pytest.mark.parametrize("count", range(1, 34))
def test_every_leaf_of_every_tree_is_proven_by_its_path_alone(count: int) -> None:
    leaves = [leaf_of(b"%d" % number) for number in range(count)]
    root = merkle_root(leaves)
    assert root == slow_root(leaves)
    for index, leaf in enumerate(leaves):
        path = audit_path(leaves, index)
        assert root_from(leaf, index, count, path) == root
        assert root_from(leaf_of(b"other"), index, count, path) != root
        with pytest.raises(InvalidInput):
            root_from(leaf, index, count, (*path, leaf))
        if path:
            with pytest.raises(InvalidInput):
                root_from(leaf, index, count, path[:-1])


def test_a_receipt_proves_its_records() -> None:
    digest = LogDigest()
    records = many(3_000)
    digest.add(records)
    root, made = digest.finish()
    leaves = [leaf.digest for leaf in made]
    held = [record for record in records if record.offset // 1_024 == 2]
    path = audit_path(leaves, 2)
    receipt = ChunkProof(chunk=chunk_bytes(held), index=2, leaves=len(leaves), path=path)
    assert receipt.root() == root
    assert receipt.records() == held
