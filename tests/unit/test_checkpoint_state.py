"""A state stored as its changes is the state; what a restart has to read is bounded."""

import random
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from streams.core.state_tables import TABLES
from streams.core.tables import Changes
from streams.storage import state_store
from streams.storage.state_store import StateStore


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
def test_what_is_loaded_is_what_single_changes_give_wherever_the_state_is_written_whole(seed: int) -> None:
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
            store.write(store.load())
        if chance.random() < 0.2:  # a restart
            store = StateStore(store._db)
            store.load()
    rows: list[dict[str, Any]] = store.load()["carries"].to_pylist()
    assert sorted((row["agreement"], row["carry"]) for row in rows) == sorted(model.items())


def test_a_state_is_written_whole_once_its_changes_outweigh_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_store, "CHANGED_BYTES_MIN", 5 * state_store.COMMIT_BYTES_MIN)
    store = opened()
    for number in range(6):
        assert not store.is_due
        store.append(changes({"a": number}, []))
    assert store.is_due
    again = StateStore(store._db)
    assert again.load()["carries"].num_rows == 1
    assert again.is_due, "a restart forgot what it had to read"
    store.write(store.load())
    assert not store.is_due
    assert store.load()["carries"]["carry"].to_pylist() == [5]
    wide = {f"a{number}": number for number in range(200_000)}
    store.append(changes(wide, []))
    assert store.is_due
    store.write(store.load())
    store.append(changes(dict.fromkeys(wide, 1), []))
    assert not store.is_due, "a large state was written whole for a change that is no larger"
