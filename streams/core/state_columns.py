"""The rows of the dumped tables, in columns out of the arrays: no object is made of a machine, a meter or a window."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix
from streams.core.kernel.store import Store
from streams.core.kernel.texts import names_array, texts_array, words_array
from streams.core.kernel.turned import turned
from streams.core.state import State
from streams.core.state_tables import COMMON, METER_INTS, NOTHING, TABLES, WINDOW_INTS, lines_of


def machines(state: State, numbers: Ints) -> pa.Table:
    """The rows of these machines."""
    cells, rare = turned(state.store.matrix(t.MACHINES), numbers), state.book.rare
    encoded = {m: msgspec.json.encode(rare[m], order="sorted") for m in _among(numbers, rare)}
    return _table(
        TABLES["machines"].schema,
        [names_array(state.store, t.NAME_AT, numbers), names_array(state.store, t.ROUTE_AT, numbers),
         cells[t.LEAST_BOOT], cells[t.IS_MARKED], _mostly(COMMON, numbers, encoded)],
    )  # fmt: skip


def versions(state: State, numbers: Ints) -> pa.Table:
    """The rows of these versions."""
    store = state.store
    cells = turned(store.matrix(t.VERSIONS), numbers)
    salts = texts_array(store.names, np.maximum(cells[t.SALT_AT], 0), cells[t.SALT_LEN], pa.string())
    found, places = np.unique(cells[t.VERSION_CONTENT], return_inverse=True)
    digests = pa.array([state.book.contents[number].digest for number in found.tolist()], pa.binary())
    columns = (t.VERSION_NO, t.IN_FORCE_FROM, t.EFFECTIVE_FROM)
    return _table(
        TABLES["versions"].schema,
        [names_array(store, t.NAME_AT, cells[t.VERSION_MACHINE]), *(cells[column] for column in columns),
         salts.fill_null("-"), digests.take(pa.array(places))],
    )  # fmt: skip


def carries(state: State, numbers: Ints) -> pa.Table:
    """The carries that these versions have."""
    store = state.store
    cells = turned(store.matrix(t.VERSIONS), numbers)
    payees = store.matrix(t.CONTENTS)[cells[t.VERSION_CONTENT], t.CONTENT_PAYEES]
    texts = names_array(store, t.NAME_AT, cells[t.VERSION_MACHINE]), words_array(store, payees)
    return _table(TABLES["carries"].schema, [*texts, store.carries[numbers]])


def windows(state: State, numbers: Ints) -> dict[str, pa.Table]:
    """The rows of these open windows, and of their lines."""
    store = state.store
    cells = turned(store.matrix(t.WINDOWS), numbers)
    extras = {w: msgspec.json.encode(state.extras[w]) for w in _among(numbers, state.extras)}
    ints = cells[t.READINGS : t.READINGS + len(WINDOW_INTS)]
    owners, found = lines_of(state, numbers)
    lines = turned(store.matrix(t.LINES), found)
    keys = _keys(store, turned(store.matrix(t.WINDOWS), owners))
    words = words_array(store, lines[t.LINE_NAME])
    return {
        "open_windows": _table(
            TABLES["open_windows"].schema, [*_keys(store, cells), *ints, _mostly(NOTHING, numbers, extras)]
        ),
        "open_lines": _table(TABLES["open_lines"].schema, [*keys, words, *lines[t.LINE_VERSION :]]),
    }


def gone_windows(state: State) -> dict[str, pa.Table]:
    """The keys of windows and lines that are no longer there."""
    store = state.store
    gone = np.concatenate([np.empty((0, 3), np.int64), *state.gone_windows]).T
    lines = np.concatenate([np.empty((0, 7), np.int64), *state.gone_lines]).T
    columns = {
        "open_windows": _keys(store, gone),
        "open_lines": [*_keys(store, lines), words_array(store, lines[3]), *lines[4:]],
    }
    return {name: _table(TABLES[name].key_schema, part) for name, part in columns.items()}


def meters(state: State, numbers: Ints) -> pa.Table:
    """The rows of these meters."""
    store = state.store
    cells = turned(store.matrix(t.METERS), numbers)
    columns: list[Any] = [
        names_array(store, t.NAME_AT, cells[t.METER_MACHINE]), words_array(store, cells[t.METER_NAME]),
        *(cells[column] for _, column in METER_INTS), *_meter_texts(store, cells),
        *(_holes(store, cells[side + t.BOOT_HOLES]) for side in (t.CURRENT, t.PREVIOUS)),
    ]  # fmt: skip
    return _table(TABLES["meters"].schema, columns)


def _meter_texts(store: Store, cells: Matrix) -> list[pa.Array]:
    started = [cells[side + t.BOOT_STARTED] != NONE for side in (t.CURRENT, t.PREVIOUS)]
    is_there = [*started, *(cells[t.STARTS] > k for k in range(t.STARTS_KEPT))]
    flat, found = store.texts.reshape(-1), []
    if (cells[t.TEXT] == NONE).all():  # as it mostly is: no meter here ever named a session
        return [pa.repeat("", cells.shape[1])] * len(is_there)
    for text, has in enumerate(is_there & (cells[t.TEXT] != NONE)):
        lines = np.where(has, cells[t.TEXT] + text, 0)
        sizes = np.where(has, store.texts[lines, t.TEXT_MAX], 0).astype(np.int64)
        found.append(texts_array(flat, lines * (t.TEXT_MAX + 1), sizes, pa.string()))
    return found


def _holes(store: Store, lines: Ints) -> pa.Array:
    holes = store.matrix(t.HOLES)
    counts = np.where(lines == NONE, 0, 2 * holes[lines, t.HOLE_COUNT])
    cells = [holes[lines[k], : counts[k]] for k in np.flatnonzero(counts).tolist()]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate([np.empty(0, np.int64), *cells])))


def _keys(store: Store, cells: Matrix) -> list[Any]:
    """Start, machine and what it adjusts of windows; lines that are given back have none."""
    return [cells[t.START], names_array(store, t.NAME_AT, cells[t.WINDOW_MACHINE]), cells[t.ADJUSTS]]


def _among(numbers: Ints, few: Mapping[int, object]) -> list[int]:
    found: list[int] = numbers[np.isin(numbers, list(few))].tolist()
    return found


def _mostly(common: bytes, numbers: Ints, others: Mapping[int, bytes]) -> pa.Array:
    """A column of bytes: what most have, and what few have instead, by number."""
    place_of = {number: place for place, number in enumerate(others, 1)}
    places = [place_of.get(number, 0) for number in numbers.tolist()] if others else np.zeros(len(numbers), np.int64)
    return pa.array([common, *others.values()], pa.binary()).take(pa.array(places, pa.int64()))


def _table(schema: pa.Schema, columns: Sequence[Any]) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(np.ascontiguousarray(column), field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
