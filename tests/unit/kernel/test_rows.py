"""What the kernel reads in a value is what the definition reads in it, however the value is spelled or spoiled."""

import random

import numpy as np
import pytest

from schemas.reading import ROWS_MAX
from streams.core.encode import arrow_value
from streams.core.kernel import columns as c
from streams.core.kernel.arrow_rows import PLAN_COLUMNS, read_arrow
from streams.core.kernel.entries import Entries, Written
from streams.core.kernel.json_rows import ASK, CUT, read_json
from streams.core.kernel.readings import ROOM, Readings
from streams.core.kernel.words import FIELDS
from streams.core.records import ARROW, JSON, Record, decode_plainly, decode_readings
from tests.support.odd_values import ARROW_VALUES, JSON_VALUES, Compared, compare, json_row, seen

PLAIN = (
    b'{"machine":"m-1","meter":"energy","boot":1,"seq":7,"observed_at":1555232400000,"register":99,'
    b'"session":"s*1","session_started_at":1555232400000,"session_end":true,"volts":231.5}'
)


def entries_of(values: list[bytes | None], content_type: str = JSON) -> Entries:
    entries = Entries()
    headers = [("content-type", content_type.encode())]
    entries.add(Written([Record(offset, 0, None, value, headers) for offset, value in enumerate(values)]))
    return entries


def test_twenty_thousand_odd_values_in_json() -> None:
    compared = compare(20_000, 1, *JSON_VALUES)
    assert not compared.differ, compared.differ[:3]
    assert compared.became["rows"] > 5_000
    assert compared.became["asked"] < 12_000


def test_odd_bodies_in_arrow() -> None:
    compared = compare(4_000, 1, *ARROW_VALUES)
    assert not compared.differ, [found[1:] for found in compared.differ[:3]]
    assert compared.became["rows"] > 800


def test_random_bytes() -> None:
    draw = random.Random(3)
    compared = Compared()
    for content_type in (JSON, ARROW):
        compared.add([draw.randbytes(draw.randrange(200)) for _ in range(2_000)], content_type)
    assert not compared.differ


def test_a_plain_value_is_never_asked_about_and_a_cut_one_is_undecodable_at_every_byte() -> None:
    for value in (PLAIN, b"[" + PLAIN + b" , " + PLAIN + b"]"):
        entries = Entries()
        entries.write(value + PLAIN)  # what follows must not matter
        rows, follows = np.zeros((ROWS_MAX, c.ROW_COLUMNS), np.int64), np.zeros(len(FIELDS) + 1, np.int64)
        for _ in range(2):  # the second time, each name is where it is looked for first
            for size in range(len(value)):
                count, after = read_json(entries.words, entries.buffer, 0, size, follows, rows, 0)
                assert count == 0 and after in (CUT, ASK)
                assert decode_plainly(value[:size]) == "undecodable"
            count, after = read_json(entries.words, entries.buffer, 0, len(value), follows, rows, 0)
            assert after == len(value) and set(rows[:count, c.VERDICT]) == {c.ACCEPTED}


def test_arrow_cut_at_every_byte_is_never_read() -> None:
    rows = [json_row(random.Random(seed)) for seed in (2, 3, 5)]
    value = arrow_value(rows)
    entries = entries_of([value, value], ARROW)
    at, plan = int(entries.records[0, c.VALUE_AT]), np.zeros((len(FIELDS), PLAN_COLUMNS), np.int64)
    lines = np.zeros((ROWS_MAX, c.ROW_COLUMNS), np.int64)
    assert read_arrow(entries.words, entries.buffer, at, at + len(value), lines, 0, plan) == len(rows)
    without_end = len(value) - 8
    assert decode_readings(value[:without_end], ARROW) == decode_readings(value, ARROW)
    for size in range(len(value)):
        count = read_arrow(entries.words, entries.buffer, at, at + size, lines, 0, plan)
        assert count == (len(rows) if size == without_end else ASK)


def test_every_byte_of_an_arrow_body_changed() -> None:
    value = arrow_value([PLAIN, PLAIN.replace(b"m-1", b"m-22")])
    compared = Compared()
    for flipped in (0x01, 0x80, 0xFF):
        values = []
        for at in range(len(value)):
            changed = bytearray(value)
            changed[at] ^= flipped
            values.append(bytes(changed))
        compared.add(values, ARROW)
    assert not compared.differ, [found[1:] for found in compared.differ[:3]]


def test_arrays_at_the_bound_of_rows() -> None:
    most, more = (b"[" + b",".join([b'{"a":1}'] * count) + b"]" for count in (ROWS_MAX, ROWS_MAX + 1))
    entries = entries_of([PLAIN, most, more, b"[]", b"", None, b"{}", b"[{}]", PLAIN])
    readings = Readings(entries)
    next_line, rows = readings.read(0)
    assert next_line == 9 and len(rows) == ROWS_MAX + 4
    assert [c.reason_of(code) if code else "" for code in entries.records[:, c.REFUSED].tolist()] == [
        "", "", "too_many_entries", "malformed", "undecodable", "undecodable", "", "", "",
    ]  # fmt: skip
    assert entries.records[:, c.ROWS].tolist() == [1, ROWS_MAX, 0, 0, 0, 0, 1, 1, 1]
    assert rows[[0, -1], c.VERDICT].tolist() == [c.ACCEPTED, c.ACCEPTED]
    assert set(rows[1:-1, c.VERDICT].tolist()) == {c.MALFORMED}


def test_more_rows_than_a_piece_holds() -> None:
    row = b"[" + b",".join([PLAIN] * 5_000) + b"]"
    entries = entries_of([row] * 20)
    readings, line, pieces = Readings(entries), 0, []
    while line < 20:
        first = line
        line, rows = readings.read(line)
        assert line > first and len(rows) <= ROOM
        assert all(len(seen(entries, rows, k)) == 5_000 for k in (first, line - 1))
        pieces.append(line - first)
    assert sum(pieces) == 20 and max(pieces) == 12


def test_what_the_definition_reads_is_in_the_same_columns() -> None:
    escaped = PLAIN.replace(b'"m-1"', b'"\\u006d-1"')
    entries = entries_of([escaped, PLAIN])
    _, rows = Readings(entries).read(0)
    assert seen(entries, rows, 0) == seen(entries, rows, 1) == decode_plainly(PLAIN)
    assert rows[0, c.MACHINE_AT] > entries.records[1, c.VALUE_AT]


@pytest.mark.parametrize(
    "media",
    ["Application/JSON", " application/json ; charset=utf-8", "application/json\xa0", "\u212a", "text/plain", ""],
)
def test_media_types_in_odd_spellings(media: str) -> None:
    record = Record(0, 0, None, PLAIN, [("content-type", b"x"), ("content-type", media.encode())])
    entries = Entries()
    entries.add(Written([record]))
    _, rows = Readings(entries).read(0)
    known = media not in ("\u212a", "text/plain", "")
    assert seen(entries, rows, 0) == (decode_plainly(PLAIN) if known else "undecodable")
