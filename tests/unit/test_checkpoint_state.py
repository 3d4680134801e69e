"""Rows of changes fold into the same tables as changes made one by one."""

import random
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from streams.core.state_tables import TABLES
from streams.core.tables import Changes
from streams.storage.state_store import FOLD_COMMITS, StateStore


def opened() -> StateStore:
    store = StateStore(duckdb.connect(":memory:", config={"threads": 1}))
    store.create()
    return store


def changes(upserts: dict[str, int], deletes: list[str]) -> dict[str, Changes]:
    """Changes to the table of carries: by agreement of one machine."""
    spec = TABLES["carries"]
    columns = [["m"] * len(upserts), list(upserts), list(upserts.values())]
    keys = pa.table([["m"] * len(deletes), deletes], schema=spec.key_schema)
    empty = {
        name: Changes(other.schema.empty_table(), other.key_schema.empty_table()) for name, other in TABLES.items()
    }
    return empty | {"carries": Changes(pa.table(columns, schema=spec.schema), keys)}


@pytest.mark.parametrize("seed", range(4))
def test_folding_at_any_time_gives_what_single_changes_give(seed: int) -> None:
    chance = random.Random(seed)
    store = opened()
    model: dict[str, int] = {}
    names = [f"a{number}" for number in range(8)]
    for _ in range(60):
        touched = chance.sample(names, chance.randrange(5))
        split = chance.randrange(len(touched) + 1)
        upserts = {name: chance.randrange(100) for name in touched[:split]}
        deletes = touched[split:]
        store.append(changes(upserts, deletes))
        model = {name: carry for name, carry in (model | upserts).items() if name not in deletes}
        if chance.random() < 0.2:
            store.fold()
    rows: list[dict[str, Any]] = store.load()["carries"].to_pylist()
    assert sorted((row["agreement"], row["carry"]) for row in rows) == sorted(model.items())


def test_what_is_not_folded_is_bounded() -> None:
    store = opened()
    for number in range(FOLD_COMMITS):
        assert not store.is_fold_due
        store.append(changes({"a": number}, []))
    assert store.is_fold_due
    store.fold()
    assert not store.is_fold_due
    assert store.load()["carries"].num_rows == 1
