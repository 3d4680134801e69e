"""What holds for every log, from clean to hostile: no cutting shows, no entry is lost, and no fraction of a micro."""

import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from schemas.manifest import Counts
from schemas.reading import HEARTBEAT, READING
from schemas.units import CARRY_BASE, HOUR_MS
from schemas.window import Window
from streams.core.advance import Advanced, advance
from streams.core.recompute import recompute
from streams.core.records import Record, decode_readings, record_type
from streams.core.replay import advance_through
from streams.core.sealing import open_windows
from streams.core.state import State
from streams.core.state_tables import TABLES
from streams.reference.recount import PartitionRecount, plain_windows
from streams.storage.log_reader import in_slices
from tests.support.dirty_logs import dirty_log, small_log
from tests.support.parts import all_of

LOG = small_log()
SEEDS = st.integers(0, 10**6)
DIRT = st.sampled_from((0.0, 0.1, 0.5, 1.0))


class Store:
    """Tables kept only by what `changes` gives, as a checkpoint keeps them."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {name: {} for name in TABLES}

    def take(self, state: State) -> None:
        for name, changes in state.changes().items():
            key = TABLES[name].key
            deletes = [tuple(row[part] for part in key) for row in changes.deletes.to_pylist()]
            upserts = {tuple(row[part] for part in key): row for row in changes.upserts.to_pylist()}
            assert not set(deletes) & set(upserts)
            assert len(upserts) == changes.upserts.num_rows
            for gone in deletes:
                self.rows[name].pop(gone, None)
            self.rows[name] |= upserts

    def tables(self, draw: random.Random) -> dict[str, pa.Table]:
        """The tables, rows in any order."""
        found = {}
        for name, rows in self.rows.items():
            shuffled = draw.sample(list(rows.values()), len(rows))
            found[name] = pa.Table.from_pylist(shuffled, schema=TABLES[name].schema)
        return found


def cut_at_random(records: list[Record], seed: int) -> tuple[State, list[Advanced], list[bytes]]:
    """Slices of 1 to 30 records, each from a state restored from the store. Also the state's digest at each cut."""
    draw = random.Random(seed)
    store, state = Store(), State.new(LOG, 0)
    parts: list[Advanced] = []
    digests: list[bytes] = []
    left = records
    while left:
        parts.append(advance(state, left[: draw.randint(1, 30)]))
        left = left[parts[-1].consumed :]
        if parts[-1].cut is not None:
            digests.append(state.digest())
        store.take(state)
        state = State.load(LOG, 0, store.tables(draw))
    return state, parts, digests


@settings(max_examples=15)
@given(SEEDS, DIRT)
def test_no_cutting_and_no_restart_shows(seed: int, dirt: float) -> None:
    records = dirty_log(seed, dirt)
    whole = State.new(LOG, 0)
    straight = advance_through(whole, records)
    state, parts, digests = cut_at_random(records, seed)
    assert all_of(parts) == all_of(straight)
    assert [part.cut for part in parts if part.cut is not None] == [part.cut for part in straight[:-1]]
    assert state.tables() == whole.tables()
    assert state.digest() == whole.digest()
    results = list(recompute(LOG, 0, [records]))
    assert results == list(recompute(LOG, 0, in_slices(records, 7)))
    assert [result.manifest.state_digest for result in results] == [digest.hex() for digest in digests]


@settings(max_examples=25)
@given(SEEDS, DIRT)
def test_accepted_and_duplicate_and_rejected_are_all_entries(seed: int, dirt: float) -> None:
    records = dirty_log(seed, dirt)
    entries = 0
    for record in records:
        rows = decode_readings(record.value) if record_type(record) == READING else ""
        entries += 1 if isinstance(rows, str) else len(rows)
    parts = advance_through(State.new(LOG, 0), records)
    counts = sum((part.counts for part in parts), Counts())
    assert counts.accepted + counts.duplicate + counts.rejected == counts.entries == entries
    rejects, kept = (all_of(parts)[name] for name in ("rejects", "rejected_records"))
    assert counts.rejected == len(rejects) == len({(reject["offset"], reject["row"]) for reject in rejects})
    assert [record["offset"] for record in kept] == sorted({reject["offset"] for reject in rejects})
    by_offset = {record.offset: record for record in records}
    assert all(record["value"] == (by_offset[record["offset"]].value or b"")[:65_536] for record in kept)


@settings(max_examples=40)
@given(SEEDS, DIRT)
def test_money_equals_a_naive_recount_in_fractions(seed: int, dirt: float) -> None:
    """Sum of amounts + carry = sum of usage × price / per, by machine and agreement; and every verdict is the same."""
    records = dirty_log(seed, dirt)
    state = State.new(LOG, 0)
    parts = advance_through(state, records)
    recount = PartitionRecount(LOG).take(records)
    windows = [window for part in parts for window in part.windows] + open_windows(state)
    assert [to_builtins(order) for part in parts for order in part.orders] == [
        order.terms for order in recount.orders.placed
    ]
    assert state.deposits_micros() == recount.deposits()
    assert [(one.offset, one.row, one.reason) for part in parts for one in part.rejects] == recount.rejects
    assert sum(part.counts.accepted for part in parts) == recount.accepted
    assert sum(part.counts.duplicate for part in parts) == recount.duplicate
    assert sum(window.readings for window in windows) == recount.readings
    assert sum(window.skipped for window in windows) == recount.skipped
    assert money_of(windows) == {key: value for key, value in recount.money.items() if value}
    sealed = [{key: value for key, value in window.items() if key != "by"} for window in recount.sealed]
    assert plain_windows(windows) == sealed + recount.open_windows()


def money_of(windows: list[Window]) -> dict[Any, Fraction]:
    gross: Counter[Any] = Counter()
    carry: dict[Any, int] = {}
    for window in windows:
        key = (window.machine, tuple(sorted(window.agreement.payees.items())))
        assert window.carry_in == carry.get(key, 0)
        exact = sum(line.usage * line.price_micros * CARRY_BASE // (line.per or 1) for line in window.lines)
        assert exact + window.carry_in == window.gross_micros * CARRY_BASE + window.carry_out
        assert 0 <= window.carry_out < CARRY_BASE
        gross[key] += window.gross_micros
        carry[key] = window.carry_out
    exact_money = {key: gross[key] + Fraction(carry[key], CARRY_BASE) for key in carry}
    return {key: value for key, value in exact_money.items() if value}


@settings(max_examples=25)
@given(SEEDS, DIRT)
def test_windows_seal_once_in_order_and_in_the_epoch_that_holds_them(seed: int, dirt: float) -> None:
    state = State.new(LOG, 0)
    last = (-1, b"", -1)
    for part in advance_through(state, dirty_log(seed, dirt)):
        for window in part.windows:
            assert window.sealing_key > last
            last = window.sealing_key
            epoch = state.epoch if part.cut is None else part.cut
            assert LOG.epoch_of(window.start_ms) == epoch
            assert window.adjusts_ms is None or window.adjusts_ms < window.start_ms


@settings(max_examples=25)
@given(SEEDS, DIRT)
def test_what_is_sent_again_moves_no_money(seed: int, dirt: float) -> None:
    """Copies of accepted readings and of applied control records, at once or hours later, change nothing but counts.

    Unless an operator sets a boot: that forgets which numbers were used (rule 10).
    """
    records = dirty_log(seed, dirt, 80, boots=False)
    draw = random.Random(seed)
    state = State.new(LOG, 0)
    parts = advance_through(state, records)
    refused = {reject.offset for part in parts for reject in part.rejects}
    sent = [record for record in records if record.offset not in refused and record_type(record) != HEARTBEAT]
    again = []
    now_ms = records[-1].timestamp
    for place, record in enumerate(draw.sample(sent, len(sent)) if sent else []):
        now_ms += draw.choice((0, 0, 1_000, HOUR_MS if draw.random() < 0.05 else 0))
        again.append(record._replace(offset=records[-1].offset + 1 + place, timestamp=now_ms))
    end = Record(records[-1].offset + 10**6, now_ms + 9 * HOUR_MS, b"", b"", [("ce_type", b"heartbeat")])
    with_copies = advance_through(State.new(LOG, 0), [*records, *again, end])
    without = advance_through(State.new(LOG, 0), [*records, end])
    assert [window for part in with_copies for window in part.windows] == [
        window for part in without for window in part.windows
    ]
    assert sum(part.counts.accepted for part in with_copies) == sum(part.counts.accepted for part in without)


@pytest.mark.parametrize("name", sorted(set(TABLES) - {"sessions"}))
def test_tables_have_no_nulls(name: str) -> None:
    state = State.new(LOG, 0)
    advance_through(state, dirty_log(7, 0.5)[:-1])
    table = state.tables()[name]
    assert table.schema == TABLES[name].schema
    assert table.num_rows
    assert all(column.null_count == 0 for column in table.columns)
