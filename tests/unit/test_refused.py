"""What a slice refused: entries in the order of the log, each record once, and a digest over all of it."""

import hashlib

from schemas.arrow import Tables
from schemas.reject import KEPT_BYTES, Reject
from streams.core.advance import advance
from streams.core.records import Record
from streams.core.refused import rejects_digest
from streams.core.state import State
from tests.support.sim_log import HOURLY, START_MS

LONG = b"x" * 70_000
RECORDS = [
    Record(3, START_MS, None, LONG, []),
    Record(4, START_MS, b"k", b"[1,{},2]", []),
    Record(9, START_MS, b"", None, []),
    Record(10, START_MS, b"", b"", [("ce_type", b"heartbeat")]),
    Record(2**40, START_MS, b"\xff", b"{}", [("ce_type", b"odd")]),
]


def tables_of(records: list[Record]) -> Tables:
    return advance(State.new(HOURLY, 0), records).refused.tables()


def test_entries_are_in_order_and_each_record_is_held_once() -> None:
    refused = advance(State.new(HOURLY, 0), RECORDS).refused
    assert refused.objects() == [
        Reject(3, -1, "undecodable"),
        *(Reject(4, row, "malformed") for row in range(3)),
        Reject(9, -1, "undecodable"),
        Reject(2**40, -1, "unknown_type"),
    ]
    assert len(refused) == 6
    assert refused.by_reason() == {"undecodable": 2, "unknown_type": 1, "malformed": 3}
    records = refused.tables()["rejected_records"].to_pylist()
    assert [(each["offset"], each["key"]) for each in records] == [(3, None), (4, b"k"), (9, b""), (2**40, b"\xff")]
    assert [each["timestamp_ms"] for each in records] == [START_MS] * 4


def test_of_a_value_the_first_bytes_are_kept_and_the_digest_of_all() -> None:
    first, _, without, _ = tables_of(RECORDS)["rejected_records"].to_pylist()
    assert (first["value"], first["value_size"]) == (LONG[:KEPT_BYTES], len(LONG))
    assert first["value_sha256"] == hashlib.sha256(LONG).digest()
    assert (without["value"], without["value_size"], without["value_sha256"]) == (b"", 0, hashlib.sha256().digest())


def test_the_digest_moves_with_everything_that_it_stands_for() -> None:
    base = [Record(3, START_MS, None, b"[1,2]", []), Record(4, START_MS, None, b"x", [])]
    others = [
        [base[0]],
        [base[0], base[1]._replace(offset=5)],
        [base[0], base[1]._replace(value=b"y")],
        [base[0]._replace(value=b"[1]"), base[1]],
        [base[0], base[1]._replace(value=b"{}")],
        [base[0], base[1]._replace(headers=[("ce_type", b"odd")])],
        [],
    ]
    digests = {rejects_digest(tables_of(records)) for records in [base, *others]}
    assert len(digests) == 1 + len(others)
    text = hashlib.sha256(b"tallyroot rejects 1\n")
    for number in (3, 3, 4, 0, 1, -1):
        text.update(number.to_bytes(8, "big", signed=True))
    text.update(b"malformed\nmalformed\nundecodable\n")
    for value in (b"[1,2]", b"[1,2]", b"x"):
        text.update(hashlib.sha256(value).digest())
    assert rejects_digest(tables_of(base)) == text.digest()
