"""The tables that a state is dumped to and loaded from: their columns, and the rows of each part of the state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Ints, Matrix
from streams.core.kernel.store import put, value_of
from streams.core.machines import RareFacts
from streams.core.meters import write_holes
from streams.core.open_window import Extras
from streams.core.prepaid import PrepaidSession
from streams.core.tables import Changes, TableSpec, table_of

if TYPE_CHECKING:
    from streams.core.state import State

INT, TEXT, BYTES = pa.int64(), pa.string(), pa.binary()

_BOOT = ("boot", "seq", "observed_at", "kind", "value", "session_started_at", "marks", "latest_ms", "floor")
_STANDING = ("boot", "seq", "value", "time_ms", "seen_ms", "proven")
METER_INTS: tuple[tuple[str, int], ...] = (
    *((f"{side}_{name}", place + k) for side, place in (("current", t.CURRENT), ("previous", t.PREVIOUS))
      for k, name in enumerate(_BOOT)),
    *((f"{side}_{name}", place + k)
      for side, place in (("baseline", t.BASELINE), ("suspect", t.SUSPECT), ("displaced", t.DISPLACED))
      for k, name in enumerate(_STANDING)),
    ("slack_high", t.SLACK_HIGH), ("slack", t.SLACK), ("oldest_ms", t.OLDEST), ("newest_ms", t.NEWEST),
    ("level_ms", t.LEVEL_AT), ("starts", t.STARTS), ("start_latest_ms", t.START_LATEST),
    ("start_slack_ms", t.START_SLACK), *((f"started_{k}", t.STARTED + k) for k in range(t.STARTS_KEPT)),
)  # fmt: skip
"""The integers of a meter by name, and their columns in METERS."""

METER_TEXTS = ("current_session", "previous_session", *(f"start_{k}" for k in range(t.STARTS_KEPT)))
METER_HOLES = ("current_holes", "previous_holes")

WINDOW_INTS = ("readings", "first_offset", "last_offset", "skipped", "flags", "trust")
SESSION_INTS = ("valid_until", "paid", "use_high", "use", "ends_in_ms")


def _spec(key: Sequence[tuple[str, pa.DataType]], rest: Sequence[tuple[str, pa.DataType]]) -> TableSpec:
    return TableSpec(pa.schema([*key, *rest]), tuple(name for name, _ in key))


_WINDOW = [("start_ms", INT), ("machine", TEXT), ("adjusts_ms", INT)]
TABLES: dict[str, TableSpec] = {
    "carries": _spec([("machine", TEXT), ("agreement", TEXT)], [("carry", INT)]),
    "clock": _spec([("id", INT)], [("stream_time_ms", INT), ("epoch", INT)]),
    "contents": _spec([("digest", BYTES)], [("content", BYTES)]),
    "machines": _spec([("machine", TEXT)], [("route", TEXT), ("least_boot", INT), ("is_marked", INT), ("rare", BYTES)]),
    "meters": _spec(
        [("machine", TEXT), ("meter", TEXT)],
        [(name, INT) for name, _ in METER_INTS]
        + [(name, TEXT) for name in METER_TEXTS]
        + [(name, pa.list_(INT)) for name in METER_HOLES],
    ),
    "open_lines": _spec(
        [*_WINDOW, ("meter", TEXT), ("version", INT), ("price_micros", INT), ("per", INT)], [("usage", INT)]
    ),
    "open_windows": _spec(_WINDOW, [*((name, INT) for name in WINDOW_INTS), ("extras", BYTES)]),
    "sessions": _spec(
        [("machine", TEXT), ("session", TEXT)], [("payer", TEXT), *((name, INT) for name in SESSION_INTS)]
    ),
    "versions": _spec(
        [("machine", TEXT), ("version", INT)],
        [("in_force_from_ms", INT), ("effective_from", INT), ("salt", TEXT), ("content", BYTES)],
    ),
}
"""The dumped state. An absent integer is -1, an absent salt "-". What few have (`rare`, `extras`) is canonical JSON."""

NOTHING = msgspec.json.encode(Extras())
COMMON = msgspec.json.encode(RareFacts(), order="sorted")
"""What most windows and most machines have."""

Row = tuple[object, ...]


def dump(state: State) -> dict[str, pa.Table]:
    """The whole state, the rows of each table sorted by key."""
    from streams.core import state_columns as columns

    used = state.store.used
    rows: dict[str, list[Row]] = {
        "clock": _clock_rows(state),
        "contents": _content_rows(state, range(len(state.book.contents))),
        "sessions": _session_rows(state, state.session_names()),
    }
    tables = {name: table_of(TABLES[name].schema, part) for name, part in rows.items()} | {
        "carries": columns.carries(state, np.flatnonzero(state.store.carries[: used[t.VERSIONS]] != NONE)),
        "machines": columns.machines(state, np.arange(used[t.MACHINES])),
        "meters": columns.meters(state, np.arange(used[t.METERS])),
        "versions": columns.versions(state, np.arange(used[t.VERSIONS])),
        **columns.windows(state, state.window_numbers()),
    }
    return {name: table.sort_by([(key, "ascending") for key in TABLES[name].key]) for name, table in tables.items()}


def take_changes(state: State) -> dict[str, Changes]:
    """What changed since the last call, by table and in no order; from now on nothing has."""
    from streams.core import state_columns as columns

    store, clock = state.store, state.store.clock
    touched = store.matrix(t.TOUCHED)
    meters, windows, machines, carries = (
        touched[: clock[t.METERS_TOUCHED + kind], kind].copy() for kind in range(t.TOUCHED_COLUMNS)
    )
    names = {store.name(m) for m in machines.tolist()}
    new_versions = np.array(state.new_versions, np.int64)
    contents = np.unique(store.matrix(t.VERSIONS)[new_versions, t.VERSION_CONTENT])
    rows: dict[str, list[Row]] = {
        "clock": _clock_rows(state) if state.clock_moved else [],
        "contents": _content_rows(state, contents.tolist()),
        "sessions": _session_rows(state, (key for key in state.session_names() if key[0] in names)),
    }
    still_open = np.unique(windows[store.matrix(t.WINDOWS)[windows, t.START] != NONE])
    upserts = {name: table_of(TABLES[name].schema, part) for name, part in rows.items()} | {
        "carries": columns.carries(state, carries),
        "machines": columns.machines(state, machines),
        "meters": columns.meters(state, meters),
        "versions": columns.versions(state, new_versions),
        **columns.windows(state, still_open),
    }
    deletes = columns.gone_windows(state)
    deletes["sessions"] = table_of(TABLES["sessions"].key_schema, list(state.gone_sessions))
    changes = {
        name: Changes(table, deletes.get(name, TABLES[name].key_schema.empty_table()))
        for name, table in upserts.items()
    }
    _forget(state, (meters, windows, machines, carries))
    return changes


def _forget(state: State, touched: Sequence[Ints]) -> None:
    for things, (matrix, flag) in zip(touched, t.TOUCHES.tolist(), strict=True):
        state.store.matrix(matrix)[things, flag] = 0
    state.store.clock[[t.METERS_TOUCHED, t.WINDOWS_TOUCHED, t.MACHINES_TOUCHED, t.CARRIES_TOUCHED]] = 0
    state.gone_windows.clear()
    state.gone_lines.clear()
    state.gone_sessions.clear()
    state.new_versions.clear()
    state.clock_moved = False


def _clock_rows(state: State) -> list[Row]:
    return [] if state.stream_time_ms is None else [(0, state.stream_time_ms, state.epoch)]


def _content_rows(state: State, numbers: Iterable[int]) -> list[Row]:
    contents = [state.book.contents[number] for number in numbers]
    return [(content.digest, content.encoded) for content in contents]


def _session_rows(state: State, keys: Iterable[tuple[str, str]]) -> list[Row]:
    rows: list[Row] = []
    for machine, name in keys:
        s = state.session_of_name[state.store.machine_of[machine], name]
        rows.append((machine, name, state.payers[s], *state.store.matrix(t.SESSIONS)[s, t.VALID_UNTIL :].tolist()))
    return rows


def lines_of(state: State, numbers: Any) -> tuple[Any, Any]:
    """(the window of each line, the line) of these windows, by number: the first line of each, then the second, ..."""
    nexts = state.store.matrix(t.LINES)[:, t.LINE_NEXT]
    lines = state.store.matrix(t.WINDOWS)[numbers, t.FIRST_LINE]
    owners_found, found = [], []
    while len(numbers):
        is_line = lines != NONE
        numbers, lines = numbers[is_line], lines[is_line]
        owners_found.append(numbers)
        found.append(lines)
        lines = nexts[lines]
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(owners_found), np.concatenate(found)


def load(state: State, tables: Mapping[str, pa.Table]) -> None:
    """Fills an empty state from its dumped tables; a table left out is empty."""
    tables = {name: tables.get(name, spec.schema.empty_table()).combine_chunks() for name, spec in TABLES.items()}
    _load_machines(state, tables["machines"])
    _load_versions(state, tables["versions"], tables["contents"])
    carries = tables["carries"]
    words = _words(state, carries["agreement"])
    state.store.carries[state.store.carry_versions(_numbers(state, carries), words)] = _ints(carries, ("carry",))[:, 0]
    _load_meters(state, tables["meters"])
    for row in tables["clock"].to_pylist():
        state.set_clock(row["stream_time_ms"], row["epoch"])
        state.stream_time_ms = row["stream_time_ms"]
    _load_windows(state, tables["open_windows"], tables["open_lines"])
    for row in tables["sessions"].to_pylist():
        use = value_of(row["use_high"], row["use"])
        session = PrepaidSession(row["payer"], row["valid_until"], row["paid"], use, row["ends_in_ms"])
        state.put_session(row["machine"], row["session"], session)
    take_changes(state)


def _load_machines(state: State, table: pa.Table) -> None:
    machines = state.store.add_machines(table["machine"].to_pylist(), table["route"].to_pylist())
    state.store.matrix(t.MACHINES)[machines, t.LEAST_BOOT : t.IS_MARKED + 1] = _ints(table, ("least_boot", "is_marked"))
    for k in np.flatnonzero(np.asarray(pc.not_equal(table["rare"], COMMON))).tolist():
        state.book.rare[int(machines[k])] = msgspec.json.decode(table["rare"][k].as_py(), type=RareFacts)


def _load_versions(state: State, table: pa.Table, contents: pa.Table) -> None:
    """Versions of a machine are added from the first on."""
    book = state.book
    of_digest = {row["digest"]: book.content(row["content"]) for row in contents.to_pylist()}
    digests = pc.dictionary_encode(table["content"]).combine_chunks()
    found = np.array([of_digest[digest] for digest in digests.dictionary.to_pylist()], np.int64)
    numbers = found[np.asarray(digests.indices)] if table.num_rows else np.empty(0, np.int64)
    machines, ints = _numbers(state, table), _ints(table, ("version", "in_force_from_ms", "effective_from"))
    salts = pc.if_else(pc.equal(table["salt"], "-"), pa.scalar(None, pa.string()), table["salt"])
    for version in np.unique(ints[:, 0]).tolist():
        rows = np.flatnonzero(ints[:, 0] == version)
        state.store.add_versions(machines[rows], ints[rows], numbers[rows], salts.take(pa.array(rows)).to_pylist())


def _load_windows(state: State, windows: pa.Table, lines: pa.Table) -> None:
    from streams.core.kernel.windows import put_back, put_lines_back

    store = state.store
    store.reserve_windows(windows.num_rows, lines.num_rows)
    put_back(store.tables, store.window_index, store.clock, _window_keys(state, windows), _ints(windows, WINDOW_INTS))
    words = _words(state, lines["meter"])
    priced = np.column_stack([words, _ints(lines, ("version", "price_micros", "per", "usage"))])
    put_lines_back(store.tables, store.window_index, store.clock, _window_keys(state, lines), priced)
    for k in np.flatnonzero(np.asarray(pc.not_equal(windows["extras"], NOTHING))).tolist():
        row = windows.slice(k, 1).to_pylist()[0]
        w = state.open_window((row["start_ms"], row["machine"], row["adjusts_ms"]))
        state.extras[w] = msgspec.json.decode(row["extras"], type=Extras)


def _window_keys(state: State, table: pa.Table) -> Matrix:
    """(machine, start, adjusts) of each row."""
    return np.column_stack([_numbers(state, table), _ints(table, ("start_ms", "adjusts_ms"))])


def _numbers(state: State, table: pa.Table) -> Ints:
    """The machine of each row."""
    number_of = state.store.machine_of
    return np.array([number_of[name] for name in table["machine"].to_pylist()], np.int64)


def _words(state: State, texts: pa.ChunkedArray) -> Ints:
    """The word of each row."""
    encoded = pc.dictionary_encode(texts).combine_chunks()
    words = np.array([state.store.word(text) for text in encoded.dictionary.to_pylist()], np.int64)
    return words[np.asarray(encoded.indices)] if len(texts) else words


def _ints(table: pa.Table, names: Sequence[str]) -> Matrix:
    return np.column_stack([np.asarray(table[name].combine_chunks(), np.int64) for name in names])


def _load_meters(state: State, table: pa.Table) -> None:
    store = state.store
    numbers = store.add_meters(_numbers(state, table), _words(state, table["meter"]))
    meters = store.matrix(t.METERS)
    for name, column in METER_INTS:
        meters[numbers, column] = np.asarray(table.column(name).combine_chunks(), np.int64)
    for text, name in enumerate(METER_TEXTS):
        for k in np.flatnonzero(np.asarray(pc.binary_length(table[name]))).tolist():
            store.need_texts(int(numbers[k]))
            put(store.texts, int(meters[numbers[k], t.TEXT]) + text, table[name][k].as_py())
    for side, name in ((t.CURRENT, METER_HOLES[0]), (t.PREVIOUS, METER_HOLES[1])):
        for k in np.flatnonzero(np.asarray(pc.list_value_length(table[name]))).tolist():
            write_holes(store, int(numbers[k]), side, table[name][k].as_py())
