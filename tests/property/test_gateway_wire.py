"""The gateway's own wire facts are the log's: partitions, rows, values, headers and signed messages are equal."""

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from msgspec import UNSET

from schemas import reading as ours
from schemas import units
from streams.core import encode, murmur2, records, signature
from tallyroot_gateway import InvalidInput, wire
from tallyroot_gateway import reading as theirs
from tests.unit.test_murmur2 import KAFKA_VECTORS

GOOD_IDS = st.from_regex(r"[A-Za-z0-9._:*-]{1,64}", fullmatch=True)
IDS = st.one_of(GOOD_IDS, st.sampled_from(["", "a b", "é", "a\n", "x" * 65]))
TIMES = st.integers(theirs.OLDEST_MS, theirs.NEWEST_MS - 1)
COUNTS = st.one_of(
    st.integers(0, units.COUNT_MAX),
    st.sampled_from([-1, units.COUNT_MAX, units.COUNT_MAX + 1, 2**64, 1.0, True, "5", None]),
)
ITEMS = st.fixed_dictionaries(
    {"machine": IDS, "meter": IDS, "boot": COUNTS, "seq": COUNTS, "observed_at": TIMES},
    optional={
        "register": COUNTS, "quantity": COUNTS, "level": COUNTS, "session": IDS, "session_started_at": TIMES,
        "session_start": st.sampled_from([True, False, 0, None]), "reconstructed": st.booleans(),
    },
)  # fmt: skip
GOOD = st.builds(
    lambda ids, numbers, value, session, flags: {
        "machine": ids[0], "meter": ids[1], "boot": numbers[0], "seq": numbers[1], "observed_at": numbers[2],
        value[0]: value[1], "reconstructed": flags[0],
    } | ({} if session is None else {
        "session": session[0], "session_started_at": max(theirs.OLDEST_MS, numbers[2] - session[1]),
        "session_start": flags[1],
    }),
    st.tuples(GOOD_IDS, GOOD_IDS),
    st.tuples(st.integers(0, units.COUNT_MAX), st.integers(0, units.COUNT_MAX), TIMES),
    st.tuples(st.sampled_from(["register", "quantity", "level"]), st.integers(0, units.COUNT_MAX)),
    st.none() | st.tuples(GOOD_IDS, st.integers(0, units.ELAPSED_MAX_MS)),
    st.tuples(st.booleans(), st.booleans()),
)  # fmt: skip


def is_valid(item: dict[str, Any]) -> bool:
    """Whether the log's own definition takes a row."""
    try:
        return msgspec.convert(item, ours.Reading).is_valid()
    except msgspec.ValidationError:
        return False


def test_the_fields_are_the_log_s_in_its_order() -> None:
    assert theirs.Reading.__struct_fields__ == ours.Reading.__struct_fields__
    assert theirs.Reading.__struct_defaults__ == ours.Reading.__struct_defaults__
    assert ours.Reading.__struct_config__.omit_defaults
    assert theirs.Reading.__struct_config__.omit_defaults


def test_the_limits_and_words_are_the_log_s() -> None:
    assert theirs.COUNT_MAX == units.COUNT_MAX
    assert wire.ROWS_MAX == ours.ROWS_MAX
    assert wire.CONTENT_TYPES == {"json": records.JSON, "arrow": records.ARROW}
    assert [name for name, _ in wire.signed_headers("k", bytes(32), "l", b"r", "json", b"{}")] == [
        "content-type", records.SIGNATURE, records.KEY_ID,
    ]  # fmt: skip


@given(ITEMS)
def test_what_the_log_would_refuse_the_gateway_refuses_and_only_that(item: dict[str, Any]) -> None:
    assert (theirs.fault_of(item) is None) == is_valid(item)


@given(GOOD)
def test_a_reading_is_taken_and_encoded_as_the_log_s(item: dict[str, Any]) -> None:
    row = wire.json_row(theirs.reading_of(item))
    reading = msgspec.convert(item, ours.Reading)
    assert row == encode.json_row(reading)
    assert records.decode_plainly(row) == [reading]


@given(st.lists(GOOD, min_size=1, max_size=5))
def test_values_are_the_log_s(items: list[dict[str, Any]]) -> None:
    rows = [wire.json_row(theirs.reading_of(item)) for item in items]
    assert wire.value_of(rows, "json") == encode.value_of(rows, "json")
    assert wire.value_of(rows, "arrow") == encode.value_of(rows, "arrow")


@given(st.binary(max_size=80), st.integers(1, wire.PARTITIONS_MAX))
def test_partitions_are_the_log_s(key: bytes, partitions: int) -> None:
    assert wire.murmur2(key) == murmur2.murmur2(key)
    assert wire.partition_of(key, partitions) == murmur2.partition_of(key, partitions)


@pytest.mark.parametrize("data", KAFKA_VECTORS)
def test_the_hash_is_kafka_s(data: bytes) -> None:
    assert wire.murmur2(data) == KAFKA_VECTORS[data] % 2**32


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20), st.text(max_size=20), st.binary(max_size=200))
def test_headers_messages_and_keys_are_the_log_s(private_key: bytes, log_id: str, route: str, value: bytes) -> None:
    key = route.encode(errors="replace")
    log_id = log_id.encode(errors="replace").decode()
    signed = signature.sign_reading(private_key, log_id, key, ours.READING, records.JSON, value)
    message = signature.reading_message(log_id, key, ours.READING, records.JSON, value)
    assert wire.reading_message(log_id, key, records.JSON, value) == message
    assert wire.signed_headers("gw-1", private_key, log_id, key, "json", value) == encode.signed_headers(
        records.JSON, "gw-1", signed
    )
    assert wire.public_key_of(private_key) == signature.reading_key(private_key)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give its 32 bytes"):
        wire.public_key_of(b"x" * 31)


def test_absent_fields_are_unset() -> None:
    reading = theirs.Reading("m", "e", 1, 1, theirs.OLDEST_MS, register=1)
    assert (reading.quantity, reading.session) == (UNSET, UNSET)
