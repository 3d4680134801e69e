"""From the body of a request to readings: exact, whole or not at all, and each fault with its row."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import LogOptions
from tallyroot_gateway.field.units import decode_json
from tallyroot_gateway.http.bodies import EVENT, EVENTS, JSON, LINES, events_of, items_of, media_type_of, moment_ms
from tallyroot_gateway.http.config import (
    HttpConfig,
    HttpOptions,
    MachineOptions,
    MeterOptions,
    TokenOptions,
    check_file,
)
from tallyroot_gateway.http.openapi import document
from tallyroot_gateway.http.problems import Problem
from tallyroot_gateway.http.readings import rows_of
from tallyroot_gateway.http.tokens import Bucket, find, hash_of

NOW = 1_767_268_800_000
OPENAPI = Path(__file__).parents[2] / "docs" / "openapi-http-gateway.json"
MACHINES = {
    "charger-1": MachineOptions(
        id="charger-1",
        route="depot-1",
        meters={
            "energy": MeterOptions(counts="register", unit="Wh"),
            "trips": MeterOptions(counts="quantity", unit="count"),
            "charge": MeterOptions(counts="level", unit="permille"),
        },
    ),
    "free-1": MachineOptions(id="free-1"),
}


def row(**fields: Any) -> dict[str, Any]:
    return {"machine": "charger-1", "meter": "energy", "observed_at": NOW} | fields


def refused(*rows: Any, now: int = NOW) -> Problem:
    with pytest.raises(Problem) as caught:
        rows_of(rows, MACHINES, now)
    return caught.value


def test_rows_become_readings_of_a_route() -> None:
    rows = rows_of(
        [row(register=5), row(meter="trips", value="2"), row(meter="charge", value=Decimal("50.55"), unit="Percent")],
        MACHINES,
        NOW,
    )
    assert rows.route == "depot-1"
    assert (rows.readings[0].register, rows.readings[0].may_fall, rows.readings[1].may_fall) == (5, True, False)
    assert rows.readings[1].quantity == 2
    assert rows.readings[2].level == 505


@given(st.decimals(0, 10**9, places=6, allow_nan=False))
def test_a_value_is_exact_from_its_text(number: Decimal) -> None:
    for value in (str(number), decode_json(json.dumps({"v": 0}).replace("0", f"{number:f}"))["v"]):
        (one,) = rows_of([row(value=value, unit="kWh")], MACHINES, NOW).readings
        assert one.register == int(Fraction(str(number)) * 1000)


def test_whole_numbers_may_have_a_point_and_the_time_may_be_left_out() -> None:
    (one,) = rows_of(decode_json('[{"machine": "free-1", "meter": "m", "register": 1.0e3}]'), MACHINES, NOW).readings
    assert (one.register, one.observed_at) == (1_000, NOW)


@pytest.mark.parametrize(
    "wrong, status, said",
    [
        (row(), 422, "give exactly one of register, quantity, level and value"),
        (row(register=1, level=2), 422, "give exactly one"),
        (row(register=1, unit="kWh"), 422, "unit goes with value"),
        (row(register=-1), 422, "Expected int >= 0"),
        (row(register=2**53 + 1), 422, "Expected int <="),
        (row(register=True), 422, "Expected int, got bool"),
        (row(register=Decimal("1.5")), 422, "Expected int"),
        (row(register=Decimal("1e999999999")), 422, "Expected int"),
        (row(register="1"), 422, "Expected int, got str"),
        (row(register=1, more=2), 422, "unknown field more"),
        (row(register=1, observed_at=1_767_268_800), 422, "observed_at"),
        (row(register=1, observed_at=NOW + 241_000), 422, "ahead of this gateway's clock"),
        (row(register=1, session="s"), 422, "give session and session_started_at together"),
        (row(register=1, session="s", session_started_at=NOW + 1), 422, "not after observed_at"),
        (row(register=1, evidence="\ud800"), 422, "half of a surrogate pair"),
        (row(register=1, evidence="é" * 5_000), 422, "more than 8192"),
        (row(meter="nothing", register=1), 422, "charger-1 has no meter nothing: it has charge, energy, trips"),
        (row(meter="trips", value="1.5"), 422, "is not whole"),
        (row(level=1), 422, "charger-1's meter energy is a register"),
        (row(value="1", unit="m"), 422, "m is no Wh"),
        (row(value="1", unit="furlong"), 422, "unknown unit 'furlong'"),
        (row(value="1e300"), 422, "not a number of this world"),
        (row(value="12,5"), 422, "not a number"),
        (row(value=None), 422, "not a number"),
        (row(value=[]), 422, "not a number"),
        ({"machine": "free-1", "meter": "m", "value": "1"}, 422, "has no meter m of free-1"),
        ({"machine": "other-1", "meter": "m", "level": 1}, 403, "doesn't speak for other-1"),
        ({"machine": "free-1", "meter": "m", "level": 1}, 422, "send one site at once"),
        ([], 422, "Expected object, got array"),
        (5, 422, "Expected object"),
        (None, 422, "Expected object"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_and_nothing_is_taken(wrong: Any, status: int, said: str) -> None:
    problem = refused(row(register=1), wrong)
    assert (problem.status, problem.row) == (status, 2)
    assert said in problem.detail
    assert "\n" not in problem.detail


def test_a_request_has_some_readings_and_not_too_many() -> None:
    assert refused().status == 422
    assert refused(*[row(register=1)] * 10_001).status == 413


def test_lines_are_one_reading_each() -> None:
    assert items_of(LINES, b'{"a": 1}\r\n\n{"a": 2}\n') == [{"a": 1}, {"a": 2}]
    for body, number in ((b'{"a": 1}\n{"a": 1}{"a": 2}\n', 2), (b'{"a": 1', 1), (b"{}\n{}\n\xff\n", 3)):
        with pytest.raises(Problem) as caught:
            items_of(LINES, body)
        assert (caught.value.status, caught.value.row) == (400, number)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'[{"a": 1}', b"NaN", b"\xff\xfe{}", b"[" * 100_000, b"1" * 5_000, b'{"a": 1, "a": 2}', b"[1e]",
        b'{"a": {"b": 1, "b": 1}}', b"\xed\xa0\x80",
    ],
)  # fmt: skip
def test_what_is_no_json_is_said(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        items_of(JSON, body)
    assert caught.value.status == 400


EVENT_1 = {
    "specversion": "1.0", "id": "1", "source": "/charger-1", "type": "reading", "time": "2026-01-01T12:00:00.5Z",
    "data": {"machine": "charger-1", "meter": "energy", "register": 5},
}  # fmt: skip


def test_an_event_is_read_in_three_ways() -> None:
    body = json.dumps(EVENT_1).encode()
    data = json.dumps(EVENT_1["data"]).encode()
    headers = {f"ce-{name}": str(EVENT_1[name]) for name in ("specversion", "id", "source", "type", "time")}
    one = events_of(EVENT, {}, body)
    assert one == events_of(EVENTS, {}, b"[" + body + b"]") == events_of(JSON, headers, data)
    assert one is not None
    assert one[0].at_ms == NOW + 500
    assert events_of(JSON, {}, data) is None
    assert events_of(EVENTS, {}, b"[]") == []


@pytest.mark.parametrize(
    "change, said",
    [
        ({"id": ""}, "id: an event has one"), ({"source": None}, "source: an event has one"), ({"id": 5}, "id: "),
        ({"specversion": "0.3"}, "send events of 1.0"), ({"time": "yesterday"}, "time: write it as"),
        ({"time": 5}, "time: write it as text"), ({"type": "a\nb"}, "type: "), ({"id": "x" * 2_000}, "id: "),
        ({"time": "2026-02-30T00:00:00Z"}, "time: write it as"),
    ],
)  # fmt: skip
def test_an_event_that_is_none_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Problem, match=said) as caught:
        events_of(EVENTS, {}, json.dumps([EVENT_1, EVENT_1 | {"id": "2"} | change]).encode())
    assert (caught.value.status, caught.value.row) == (422, 2)


def test_an_event_stands_once_in_a_batch() -> None:
    with pytest.raises(Problem, match="stands twice in the batch"):
        events_of(EVENTS, {}, json.dumps([EVENT_1, EVENT_1]).encode())
    with pytest.raises(Problem, match="more than 1,000"):
        events_of(EVENTS, {}, json.dumps([EVENT_1] * 1_001).encode())
    for wrong in (b"{}", b"5"):
        with pytest.raises(Problem, match="a batch is a list"):
            events_of(EVENTS, {}, wrong)


def test_times_are_those_of_rfc_3339() -> None:
    assert moment_ms("2026-01-01T13:00:00.123456789+01:00") == NOW + 123
    assert moment_ms("2026-01-01t12:00:00z") == NOW
    for wrong in ("2026-01-01T12:00:00", "2026-01-01", "2026-W01-1T00:00:00Z", "２026-01-01T12:00:00Z", ""):
        with pytest.raises(InvalidInput):
            moment_ms(wrong)


def test_the_content_type_is_one_of_four() -> None:
    assert media_type_of({"content-type": "Application/JSON; charset=UTF-8"}) == JSON
    for headers in (
        {}, {"content-type": "text/plain"}, {"content-type": "application/json; charset=latin1"},
        {"content-type": JSON, "content-encoding": "gzip"},
    ):  # fmt: skip
        with pytest.raises(Problem) as caught:
            media_type_of(headers)
        assert caught.value.status == 415


def test_a_token_is_found_by_its_hash() -> None:
    tokens = [TokenOptions(name=name, sha256=hash_of(f"tr_{name}"), machines=["m"]) for name in ("a", "b")]
    assert find(tokens, "Bearer tr_b") is tokens[1]
    assert find(tokens, "bearer  tr_a ") is tokens[0]
    for wrong in (None, "", "Bearer", "Bearer tr_c", "Basic tr_a", "tr_a", "Bearer \udcff"):
        assert find(tokens, wrong) is None


def test_a_bucket_has_a_burst_and_a_rate() -> None:
    now = 0.0
    bucket = Bucket(60, lambda: now)
    assert [bucket.take() for _ in range(10)] == [0.0] * 10
    assert bucket.take() == 1.0
    now = 2.5
    assert [bucket.take(), bucket.take(), bucket.take()] == [0.0, 0.0, 0.5]


def config(tokens: list[TokenOptions], *machines: MachineOptions, **http: Any) -> HttpConfig:
    log = LogOptions(bootstrap_servers="k:9092", log_id="l")
    return HttpConfig(log=log, tokens=tokens, machines=list(machines), http=HttpOptions(**http))


def test_a_file_that_can_t_be_right_is_said() -> None:
    one, machine = TokenOptions(name="a", sha256="0" * 64, machines=["m"]), MachineOptions(id="m", route="s")
    other = TokenOptions(name="b", sha256="1" * 64, sites=["s"])
    check_file(config([one, other], machine))
    assert set(config([other], machine).machines_of(other)) == {"m"}
    for wrong, said in (
        (config([one, one], machine), "the token a stands twice"),
        (config([one], machine, machine), "the machine m stands twice"),
        (config([one], MachineOptions(id="n")), "names m, which no"),
        (config([TokenOptions(name="c", sha256="1" * 64)], machine), "speaks for nothing"),
        (config([one], machine, key_file="k"), "certificate_file and key_file together"),
    ):
        with pytest.raises(InvalidInput, match=said):
            check_file(wrong)


def test_the_document_is_the_committed_one() -> None:
    """`document()` says what the structs say; docs/openapi-http-gateway.json is written from it."""
    assert json.loads(OPENAPI.read_text()) == document()
