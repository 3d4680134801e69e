"""The vectors: random logs, clean to hostile, with what the rules make of each. Any encoding, any cutting, the same."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.reading import READING, Reading
from streams.core.advance import Advanced, advance
from streams.core.records import ARROW, Record
from streams.core.replay import advance_through
from streams.core.state import State
from streams.reference.vectors import (
    Document,
    main,
    new_state,
    read_document,
    records_of,
    recounted,
    replay,
    result_of,
)

FILES = sorted((Path(__file__).parent / "vectors").glob("*.json.gz"))

COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("machine", "meter", "session")]
    + [(name, pa.int64()) for name in ("boot", "seq", "observed_at", "register", "quantity", "level")]
    + [("session_started_at", pa.int64())]
    + [(name, pa.bool_()) for name in ("session_start", "session_end", "reconstructed")]
)


@pytest.fixture(params=FILES, ids=lambda path: path.name.removesuffix(".json.gz"))
def document(request: pytest.FixtureRequest) -> Document:
    return read_document(request.param)


def test_there_are_vectors() -> None:
    assert len(FILES) == 64


def test_replay_gives_what_is_expected(document: Document) -> None:
    assert replay(document) == document["expected"]


def test_readings_as_arrow_give_the_same(document: Document) -> None:
    records = records_of(document)
    for place, entry in enumerate(document["log"]):
        if entry["type"] == READING and (value := as_arrow(entry["value"])) is not None:
            records[place] = arrow_record(records[place], value)
    assert any(record.headers[-1][0] == "content-type" for record in records)
    # As Arrow a single object is an array of one row, and both are row 0.
    assert outcome(document, records) == document["expected"]


def test_the_slow_text_gives_what_is_expected(document: Document) -> None:
    assert recounted(document) == document["expected"]


@pytest.mark.parametrize("arguments", [[], ["--core"]], ids=["slow", "core"])
def test_the_command_prints_what_is_expected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, str(FILES[-1])]) == 0
    assert json.loads(capsys.readouterr().out) == read_document(FILES[-1])["expected"]


@pytest.mark.parametrize("path", FILES[1::2], ids=lambda path: path.name.removesuffix(".json.gz"))
def test_any_cutting_with_a_restart_at_each_cut_gives_the_same(path: Path) -> None:
    check_cutting(read_document(path), 80)


@pytest.mark.parametrize("path", FILES[::16], ids=lambda path: path.name.removesuffix(".json.gz"))
def test_a_restart_at_each_record_gives_the_same(path: Path) -> None:
    check_cutting(read_document(path), 1)


def check_cutting(document: Document, longest: int) -> None:
    """Slices of up to `longest` records, each from a state loaded from the tables that the slice before left."""
    records = records_of(document)
    whole = new_state(document)
    advance_through(whole, records)
    draw = random.Random(len(records))
    state = new_state(document)
    parts: list[Advanced] = []
    left = list(records)
    while left:
        parts.append(advance(state, left[: draw.randint(1, longest)]))
        left = left[parts[-1].consumed :]
        state = State.load(state.log, state.partition, state.tables(), state.signatures)
    assert result_of(state, parts) == document["expected"]
    assert state.digest() == whole.digest()


def outcome(document: Document, records: list[Record]) -> Document:
    state = new_state(document)
    return result_of(state, advance_through(state, records))


def arrow_record(record: Record, value: bytes) -> Record:
    return record._replace(value=value, headers=[*record.headers, ("content-type", ARROW.encode())])


def as_arrow(value: Any) -> bytes | None:
    """The rows as an Arrow stream, or None where they have no such form."""
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    if any(cell is None for row in rows for cell in row.values()):
        return None  # A null is malformed in JSON and an absence in Arrow.
    known = [{name: cell for name, cell in row.items() if name in Reading.__struct_fields__} for row in rows]
    try:
        table = pa.Table.from_pylist(known, schema=COLUMNS)
    except (pa.ArrowException, TypeError, OverflowError):
        return None
    if [{name: cell for name, cell in row.items() if cell is not None} for row in table.to_pylist()] != known:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
