"""What a gateway's author is told: there is advice for every reason, and each fault of a reading has its words."""

from typing import Any

import pytest

from deploy.explain.advice import ADVICE, fault_in, fault_of
from schemas.reading import Reading
from schemas.reject import REASONS
from streams.core.encode import arrow_value, json_row, json_value
from streams.core.records import ARROW, Record, decode_plainly, decode_readings

GOOD: dict[str, Any] = {"machine": "m", "meter": "e", "boot": 1, "seq": 1, "observed_at": 10**12, "quantity": 1}
ROWS = [
    Reading("m", "e", 1, 1, 10**12, quantity=5),
    Reading("m", "e", 1, 2, 10**12, register=7, session="s", session_started_at=10**12, session_start=True),
    Reading("m", "t", 1, 1, 10**12, level=0, reconstructed=True),
]


def test_there_is_advice_for_every_reason_and_no_other() -> None:
    assert tuple(ADVICE) == REASONS


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"machine": "taxi 1"}, "machine: expected str matching"),
        ({"quantity": 1.0}, "quantity: expected int, got float"),
        ({"quantity": True}, "quantity: expected int, got bool"),
        ({"quantity": None}, "quantity: expected int, got null"),
        ({"quantity": -1}, "quantity: expected int >= 0"),
        ({"register": 1}, "exactly one of register, quantity and level, not register and quantity"),
        ({"session": "s"}, "session and session_started_at come together"),
        ({"session": "s", "session_started_at": 10**12 + 1}, "not lie after observed_at"),
        ({"session_start": True}, "session_start without a session"),
        ({"session_end": True}, "session_end without a session"),
    ],
)
def test_a_fault_is_named(given: dict[str, Any], fault: str) -> None:
    assert fault in (fault_of(GOOD | given) or "")


def test_a_whole_reading_has_no_fault() -> None:
    assert fault_of(GOOD) is None


@pytest.mark.parametrize(
    ("value", "content_type", "row", "fault"),
    [
        (None, "", -1, "no value"),
        (b"{", "", -1, "not JSON"),
        (b"5", "", -1, "neither an object nor an array"),
        (b"[]", "", -1, "neither an object nor an array"),
        (b'{"machine": "m"}', "text/plain", -1, "text/plain is neither"),
        (arrow_value([json_row(ROWS[0])]), "", -1, "looks like Arrow"),
        (arrow_value([json_row(ROWS[0])])[:-9], ARROW, -1, "not a whole Arrow IPC stream"),
        (b'[{"machine": "m"}, 5]', "", 0, "required field meter"),
        (b'[{"machine": "m"}, 5]', "", 1, "it: expected object, got int"),
    ],
)
def test_a_fault_in_a_record_is_found(value: bytes | None, content_type: str, row: int, fault: str) -> None:
    headers = [("content-type", content_type.encode())] if content_type else []
    assert fault in (fault_in(Record(0, 0, None, value, headers), row) or "")


def test_both_forms_say_the_same_rows() -> None:
    rows = [json_row(row) for row in ROWS]
    assert decode_plainly(json_value(rows)) == decode_readings(arrow_value(rows), ARROW) == ROWS
    assert decode_plainly(json_value(rows[:1])) == ROWS[:1]
    assert arrow_value(rows) == arrow_value(rows)
