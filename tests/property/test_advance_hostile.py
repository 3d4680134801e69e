"""A partition full of whatever strangers write: no exception, no entry lost, nothing kept, honest work paid."""

from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.log import Log
from schemas.manifest import Counts
from schemas.order import OrderInvoiced
from schemas.payment import PaymentReceived
from schemas.reading import Reading
from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.advance import Advanced
from streams.core.arrow_rows import decode_arrow
from streams.core.records import ARROW, JSON, Record, decode_plainly, decode_readings
from streams.core.replay import advance_through
from streams.core.state import State

LOG = Log(log_id="hostile", partitions=1, epoch_ms=400 * DAY_MS)
NOW_MS = 19_000 * DAY_MS
PRICE = {"meter": "energy", "price": 300_000, "per": 1_000}

EDGES = st.sampled_from(
    (-(2**63), -1, 0, 1, 2**31, COUNT_MAX - 1, COUNT_MAX, COUNT_MAX + 1, 2**63 - 1, 2**64, 2**70, 1.0, 0.5)
)
IDS = st.sampled_from(("m", "ghost", "", "a" * 64, "a" * 65, "é", "a\n", "energy", "\x00", "-.:_", 1, None, True, []))
MOMENTS = st.sampled_from((NOW_MS, NOW_MS - 40 * DAY_MS, NOW_MS + 5 * MINUTE_MS, 0, COUNT_MAX, -1))
NAMES = st.sampled_from(("m", "ghost", "", "é"))
CELLS = st.one_of(EDGES, IDS, MOMENTS, st.booleans(), st.none(), st.text(max_size=3), st.dictionaries(NAMES, EDGES))
FIELDS = st.sampled_from(
    (
        *Reading.__struct_fields__,
        *PaymentReceived.__struct_fields__,
        *OrderInvoiced.__struct_fields__,
        "route",
        "kind",
        "meters",
        "tariff",
        "agreement",
        "orders",
        "reason",
        "extra",
    )
)
HOSTILE_ROWS = st.dictionaries(FIELDS, CELLS, max_size=12)
NEARLY_ROWS = st.fixed_dictionaries(
    {
        "machine": st.sampled_from(("m", "ghost")),
        "meter": st.sampled_from(("energy", "other")),
        "boot": st.one_of(EDGES, st.integers(0, 3)),
        "seq": st.one_of(EDGES, st.integers(0, 50)),
        "observed_at": MOMENTS,
    },
    optional=dict.fromkeys(Reading.__struct_fields__[5:], CELLS),
)
OBJECTS = st.one_of(HOSTILE_ROWS, NEARLY_ROWS, st.lists(st.one_of(HOSTILE_ROWS, NEARLY_ROWS, CELLS), max_size=5), CELLS)


def as_json(value: Any) -> bytes:
    return msgspec.json.encode(value)


VALUES = st.one_of(
    st.none(),
    st.binary(max_size=60),
    OBJECTS.map(as_json),
    OBJECTS.map(as_json).map(lambda value: value[:-1]),
    st.text('[]{}",:0123456789.eE-+ntf\\u', max_size=40).map(str.encode),
    st.integers(1, 5_000).map(lambda depth: b"[" * depth + b"]" * depth),
)
TIMESTAMPS = st.sampled_from((-(2**63), -1, 0, NOW_MS - DAY_MS, NOW_MS, NOW_MS + HOUR_MS, 2**53, 2**62, 2**63 - 1))
KINDS = st.sampled_from(
    (b"reading", b"machine.registered", b"usage.corrected", b"goods.received", b"order.invoiced", b"order.cancelled",
     b"payment.received", b"heartbeat", b"\xff", b"", None)
)  # fmt: skip
MEDIA = st.sampled_from((JSON.encode(), ARROW.encode(), b"Application/JSON; charset=utf-8", b"\xff", None))
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.just("ce_type"), KINDS),
        st.tuples(st.just("content-type"), MEDIA),
        st.tuples(st.text(max_size=3), st.binary(max_size=3)),
    ),
    max_size=3,
)
RECORDS = st.lists(st.tuples(TIMESTAMPS, st.one_of(st.none(), st.binary(max_size=3)), VALUES, HEADERS), max_size=25)


def records_of(parts: list[tuple[int, bytes | None, bytes | None, Any]], first: int = 0) -> list[Record]:
    return [Record(first + 2 * place, *part) for place, part in enumerate(parts)]


def counts_of(parts: list[Advanced]) -> Counts:
    return sum((part.counts for part in parts), Counts())


def registration(machine: str = "m") -> Record:
    plain = {
        "machine": machine, "route": machine, "version": 1, "kind": "charger", "effective_from": 0,
        "meters": [{"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 10_000}],
        "tariff": {"elements": [{"components": [PRICE]}], "offsets": [[0, 0]]},
        "agreement": {"payees": {"owner": 10_000}},
    }  # fmt: skip
    return Record(10_000, NOW_MS, machine.encode(), as_json(plain), [("ce_type", b"machine.registered")])


def honest_day(machine: str, first_offset: int) -> list[Record]:
    """A register that grows by 1,000 Wh each quarter of an hour, from tomorrow on, and a heartbeat at the end."""
    start_ms = NOW_MS + 2 * DAY_MS
    rows = [
        {"machine": machine, "meter": "energy", "boot": 9, "seq": seq, "observed_at": start_ms + seq * 15 * MINUTE_MS,
         "register": 1_000 * seq}
        for seq in range(9)
    ]  # fmt: skip
    sent = [(row["observed_at"], b"", as_json(row), []) for row in rows]
    return records_of([*sent, (start_ms + DAY_MS, None, b"", [("ce_type", b"heartbeat")])], first_offset)


@settings(max_examples=60)
@given(RECORDS)
def test_strangers_leave_no_trace_and_harm_nobody(parts: list[tuple[int, bytes | None, bytes | None, Any]]) -> None:
    state = State.new(LOG, 0)
    records = records_of(parts)
    done = advance_through(state, records)
    counts = counts_of(done)
    assert counts.accepted + counts.duplicate + counts.rejected == counts.entries >= len(records)
    assert {name for name, table in state.tables().items() if table.num_rows} <= {"clock"}
    earned = advance_through(state, [registration("x"), *honest_day("x", 20_000)])
    assert counts_of(earned).rejected == 0
    assert sum(window.gross_micros for part in earned for window in part.windows) == 8 * 300_000
    assert all(len(state.digest()) == 32 for _ in range(2))


@settings(max_examples=60)
@given(RECORDS)
def test_strangers_can_write_for_a_machine_but_grow_nothing(
    parts: list[tuple[int, bytes | None, bytes | None, Any]],
) -> None:
    """Rows without signatures may well count; the state stays one machine with one meter, and its windows."""
    state = State.new(LOG, 0)
    advance_through(state, [registration()])
    done = advance_through(state, records_of(parts, 20_000))
    counts = counts_of(done)
    assert counts.accepted + counts.duplicate + counts.rejected == counts.entries >= len(parts)
    tables = state.tables()
    assert [tables[name].num_rows for name in ("machines", "meters", "versions")] == [1, 1, 1]
    assert State.load(LOG, 0, tables).digest() == state.digest()


@settings(max_examples=150)
@given(VALUES)
def test_the_short_cut_decodes_as_the_definition(value: bytes | None) -> None:
    if value is None:
        assert decode_readings(value) == "undecodable"
        return
    short, long = decode_readings(value), decode_plainly(value)
    assert plain(short) == plain(long)


def plain(rows: Any) -> Any:
    return rows if isinstance(rows, str) else [None if row is None else msgspec.to_builtins(row) for row in rows]


def arrow_stream(**options: Any) -> bytes:
    columns = {
        "machine": ["a", "b", None], "meter": ["energy"] * 3, "boot": [1, 2, 3], "seq": [0, None, 2],
        "observed_at": [5, 6, 7], "register": [1, 2, 3], "extra": [b"x", None, b"z"],
    }  # fmt: skip
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


STREAM = arrow_stream()


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, len(STREAM) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(STREAM))
)
def test_a_bent_arrow_stream_gives_rows_or_a_reason(changes: list[tuple[int, int]], size: int) -> None:
    bent = bytearray(STREAM)
    for place, byte in changes:
        bent[place] = byte
    for value in (bytes(bent), bytes(bent[:size])):
        rows = decode_arrow(value)
        assert isinstance(rows, str) or 0 < len(rows) <= 10_000
        state = State.new(LOG, 0)
        done = advance_through(state, [Record(0, NOW_MS, None, value, [("content-type", ARROW.encode())])])
        assert counts_of(done).rejected == counts_of(done).entries >= 1


@pytest.mark.parametrize("kind", [pa.null(), pa.bool_()])
def test_refused_rows_are_no_more_than_the_bytes_of_their_record(kind: pa.DataType) -> None:
    """Nulls and flags take less than a byte: a stream of 300 bytes could hold 10,000 rows, each to be refused."""
    sink = pa.BufferOutputStream()
    rows = pa.table({"extra": pa.nulls(10_000, kind)})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    assert decode_arrow(bytes(sink.getvalue().to_pybytes())) == "undecodable"
