"""The columns give what the plain loop gives, in any encoding and any cutting; and they are really used."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.log import Log
from schemas.manifest import Counts
from schemas.reading import READING
from streams.core.advance import RUN_MIN, Advanced, Tally, advance_in_runs, advance_plainly
from streams.core.arrow_columns import arrow_parts
from streams.core.columns import Refused, columns_of
from streams.core.records import ARROW, Record, decode_readings, plain_object, record_type
from streams.core.replay import advance_through
from streams.core.state import State
from tests.support import fleet_logs
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.fleet_logs import as_arrow, fleet_log
from tests.support.signed_logs import SignedLog, key_of, signed

SEEDS = st.integers(0, 10**6)
DIRT = st.sampled_from((0.0, 0.1, 0.5, 1.0))


class Outcome:
    """A log taken one way or the other."""

    def __init__(self, log: Log) -> None:
        self.state = State.new(log, 0)
        self.parts: list[Advanced] = []
        self.tallies: list[Tally] = []

    def plainly(self, records: Sequence[Record]) -> "Outcome":
        """All of it by the plain loop."""
        self.parts += advance_through(self.state, records, advance_plainly)
        return self

    def in_columns(self, records: Sequence[Record], draw: random.Random, longest: int, run_min: int) -> "Outcome":
        """In slices of up to `longest` records, with a restart after some of them."""
        while records:
            self.tallies.append(Tally())
            piece = records[: draw.randint(1, longest)]
            self.parts.append(advance_in_runs(self.state, piece, self.tallies[-1], run_min))
            records = records[self.parts[-1].consumed :]
            if draw.random() < 0.2:
                self.state = State.load(self.state.log, self.state.partition, self.state.tables())
        return self

    def given(self) -> dict[str, Any]:
        """All that was given, and the state at the end."""
        found: dict[str, Any] = {
            name: [item for part in self.parts for item in getattr(part, name)]
            for name in ("windows", "rejects", "rejected")
        }
        found["cuts"] = [part.cut for part in self.parts if part.cut is not None]
        found["counts"] = sum((part.counts for part in self.parts), Counts())
        found["state"] = {name: table.to_pylist() for name, table in self.state.tables().items()}
        return found

    @property
    def share(self) -> float:
        """The share of the accepted rows that was judged in columns."""
        return sum(tally.in_columns for tally in self.tallies) / sum(tally.accepted for tally in self.tallies)


def check(log: Log, records: list[Record], seed: int, longest: int, run_min: int = 0) -> Outcome:
    expected = Outcome(log).plainly(records)
    found = Outcome(log).in_columns(records, random.Random(seed), longest, run_min)
    given_in_columns = found.given()
    for name, given_plainly in expected.given().items():
        assert given_in_columns[name] == given_plainly, name
    assert found.state.digest() == expected.state.digest()
    return found


@settings(max_examples=25)
@given(SEEDS, DIRT, st.sampled_from((5, 60, 10_000)))
def test_small_logs_of_every_kind(seed: int, dirt: float, longest: int) -> None:
    check(small_log(), dirty_log(seed, dirt, 150), seed, longest)


@settings(max_examples=25)
@given(SEEDS, DIRT, st.sampled_from((5, 60, 10_000)))
def test_small_logs_of_every_kind_as_arrow(seed: int, dirt: float, longest: int) -> None:
    check(small_log(), [arrow_of(record) for record in dirty_log(seed, dirt, 150)], seed, longest)


@settings(max_examples=20)
@given(
    SEEDS,
    st.sampled_from((0.0, 0.02, 0.1, 0.5, 1.0)),
    st.sampled_from((("json", 1), ("json", 9), ("arrow", 40), ("mixed", 9))),
    st.sampled_from((40, 700, 10_000)),
    st.sampled_from((0, RUN_MIN)),
)
def test_fleets(seed: int, dirt: float, form: tuple[str, int], longest: int, run_min: int) -> None:
    encoding, batch = form
    records = fleet_log(seed, dirt=dirt, encoding=encoding, batch=batch, rows=600)
    check(fleet_logs.LOG, records, seed, longest, run_min)


@pytest.mark.parametrize(("encoding", "batch"), [("json", 1), ("json", 50), ("arrow", 100)])
@pytest.mark.parametrize(("dirt", "least"), [(0.0, 0.9), (0.1, 0.6)])
def test_nearly_all_rows_of_a_fleet_go_in_columns(encoding: str, batch: int, dirt: float, least: float) -> None:
    # The first row of each meter doesn't, nor one that starts a session with a price of its own.
    records = fleet_log(1, dirt=dirt, encoding=encoding, batch=batch, rows=3_000)
    assert check(fleet_logs.LOG, records, 1, 10_000, RUN_MIN).share > least


SIGNED_SHARE = st.sampled_from((0.0, 0.5, 1.0))


@settings(max_examples=25)
@given(SEEDS, DIRT, DIRT, SIGNED_SHARE, st.sampled_from((5, 60, 10_000)), st.booleans())
def test_small_signed_logs(seed: int, dirt: float, forged: float, share: float, longest: int, is_arrow: bool) -> None:
    records = dirty_log(seed, dirt, 120)
    if is_arrow:
        records = [arrow_of(record) for record in records]
    check(small_log(), SignedLog("dirty", seed, share=share, dirt=forged).of(records), seed, longest)


@settings(max_examples=20)
@given(
    SEEDS,
    st.sampled_from((0.0, 0.1, 1.0)),
    DIRT,
    SIGNED_SHARE,
    st.sampled_from((("json", 1), ("json", 9), ("arrow", 40), ("mixed", 9))),
    st.sampled_from((0, RUN_MIN)),
)
def test_signed_fleets(
    seed: int, dirt: float, forged: float, share: float, form: tuple[str, int], run_min: int
) -> None:
    encoding, batch = form
    records = fleet_log(seed, dirt=dirt, encoding=encoding, batch=batch, rows=500)
    check(fleet_logs.LOG, SignedLog("fleet", seed, share=share, dirt=forged).of(records), seed, 700, run_min)


def test_signed_rows_go_in_columns_too() -> None:
    asked = {"keys": [key_of("site", 1, hardware=True)], "require_signature": True}
    records = fleet_log(1, encoding="arrow", batch=100, rows=3_000)
    for place, record in enumerate(records):
        if record_type(record) == READING:
            records[place] = signed("fleet", record, "site", 1)
        else:
            records[place] = record._replace(value=msgspec.json.encode(plain_object(record.value or b"") | asked))
    outcome = check(fleet_logs.LOG, records, 1, 10_000, RUN_MIN)
    assert outcome.share > 0.9
    assert {window.trust for part in outcome.parts for window in part.windows} == {2}
    refused = [record._replace(headers=record.headers[:-2]) for record in records if record_type(record) == READING]
    records = [record for record in records if record_type(record) != READING][:12] + refused
    assert {reject.reason for reject in check(fleet_logs.LOG, records, 1, 10_000, RUN_MIN).given()["rejects"]} == {
        "bad_signature"
    }


@pytest.mark.parametrize("count", [1, 5, 40])
def test_rows_of_many_names_are_the_same_in_columns(count: int) -> None:
    shown = {"boot": 1, "seq": 1, "observed_at": 9, "level": 3}
    names = [(f"m{place}", f"e{place * 7 % count}") for place in range(count)]
    rows = [{"machine": machine, "meter": meter} | shown for machine, meter in names]
    rows += [{"machine": "m0", "meter": "é"} | shown, {"machine": "m0"} | shown]
    value = as_arrow(rows)
    decoded = decode_readings(value, ARROW)
    index_of = {names[place]: place for place in range(0, count, 2)}
    refused: list[Refused] = []
    columns = columns_of(arrow_parts([0], [value], index_of, refused), refused)
    assert refused == [(0, count, "malformed"), (0, count + 1, "malformed")]
    assert [reading for _, _, reading in columns.readings(np.arange(count))] == decoded[:count]
    assert columns.meter.tolist() == [-1 if place % 2 else place for place in range(count)]


def arrow_of(record: Record) -> Record:
    """A reading record with its value as Arrow, if it has such a form."""
    if record_type(record) != READING:
        return record
    try:
        value = plain_object(record.value or b"")
    except msgspec.DecodeError:
        return record
    rows = value if isinstance(value, list) else [value]
    arrow = as_arrow(rows) if rows and all(isinstance(row, dict) for row in rows) else None
    if arrow is None:
        return record
    return record._replace(value=arrow, headers=[*record.headers, ("content-type", ARROW.encode())])
