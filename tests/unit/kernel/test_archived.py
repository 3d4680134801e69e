"""Records go to the archive's batches and come back as they were, headers and all."""

import random

import pytest

from streams.core.kernel import columns as c
from streams.core.kernel.archived import add_archived, archived_batch
from streams.core.kernel.entries import Entries, EntryRecords, Written
from streams.core.log_root import RECORDS, records_from
from streams.core.records import Record

TEXTS = (None, b"", b"x", b"key" * 50, b"\xff\x00" * 40_000)
NAMES = ("", "ce_type", "content-type", "signature", "ключ", "n" * 300)


def odd_records(count: int, seed: int) -> list[Record]:
    draw = random.Random(seed)

    def headers() -> list[tuple[str, bytes | None]]:
        values = (*TEXTS, b"heartbeat", b"application/json")
        return [(draw.choice(NAMES), draw.choice(values)) for _ in range(draw.choice((0, 0, 1, 3)))]

    return [
        Record(7 + 3 * number, draw.randrange(2**45), draw.choice(TEXTS), draw.choice(TEXTS), headers())
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("seed", [1, 2])
def test_there_and_back(count: int, seed: int) -> None:
    records = odd_records(count, seed)
    lines = EntryRecords.of(records)
    entries, batch = lines.entries, archived_batch(lines)
    assert batch.schema == RECORDS
    assert records_from(batch) == records
    back = Entries()
    add_archived(back, batch)
    assert [back.record(line) for line in range(count)] == records
    means = [c.OFFSET, c.TIMESTAMP, c.KEY_LEN, c.VALUE_LEN, c.HEADERS_LEN, *range(c.HEADERS, c.ROWS + 1)]
    assert (back.records[:, means] == entries.records[:, means]).all()
    assert archived_batch(EntryRecords(back, 0, count)).equals(batch)


def test_a_part_of_a_batch_behind_other_records() -> None:
    records = odd_records(90, 3)
    batch = archived_batch(EntryRecords.of(records))
    entries = Entries()
    entries.add(Written(records[:10]))
    for first in (10, 40):
        add_archived(entries, batch.slice(first, 30))
    assert [entries.record(line) for line in range(len(entries.records))] == records[:70]
    assert records_from(archived_batch(EntryRecords(entries, 5, 70))) == records[5:70]
