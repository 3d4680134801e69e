"""The tables that a state is dumped to and loaded from: their columns, and the rows of each part of the state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE, Matrix
from streams.core.kernel.store import get, put, value_of
from streams.core.machines import Book, Machine, RareFacts, Version
from streams.core.meters import write_holes
from streams.core.open_window import Extras
from streams.core.prepaid import PrepaidSession
from streams.core.tables import Changes, TableSpec, table_of

if TYPE_CHECKING:
    from streams.core.state import State

INT, TEXT, BYTES = pa.int64(), pa.string(), pa.binary()

_BOOT = ("boot", "seq", "observed_at", "kind", "value", "session_started_at", "marks", "latest_ms", "floor")
_STANDING = ("boot", "seq", "value", "time_ms", "seen_ms")
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

Row = tuple[object, ...]


def dump(state: State) -> dict[str, pa.Table]:
    """The whole state, the rows of each table sorted by key."""
    used, machines = state.store.used, state.machines.values()
    rows: dict[str, list[Row]] = {
        "carries": _carry_rows(state, state.carries),
        "clock": _clock_rows(state),
        "contents": _content_rows(state, range(len(state.book.contents))),
        "machines": _machine_rows(machines),
        "sessions": _session_rows(state, state.session_names()),
        "versions": _version_rows(state, range(used[t.VERSIONS])),
    }
    tables = {name: table_of(TABLES[name].schema, part) for name, part in rows.items()}
    tables |= _window_tables(state, np.array(state.window_numbers(), np.int64))
    tables["meters"] = _meter_table(state, np.arange(used[t.METERS]))
    return {name: table.sort_by([(key, "ascending") for key in TABLES[name].key]) for name, table in tables.items()}


def take_changes(state: State) -> dict[str, Changes]:
    """What changed since the last call, by table and in no order; from now on nothing has."""
    store, clock = state.store, state.store.clock
    touched = store.matrix(t.TOUCHED)
    meters = touched[: clock[t.METERS_TOUCHED], t.TOUCHED_METER].copy()
    windows = touched[: clock[t.WINDOWS_TOUCHED], t.TOUCHED_WINDOW].copy()
    numbers = touched[: clock[t.MACHINES_TOUCHED], t.TOUCHED_MACHINE].tolist()
    machines = [Machine(state.book, m, store.name(m)) for m in numbers]
    names = {machine.machine for machine in machines}
    versions = store.matrix(t.VERSIONS)[state.new_versions, t.VERSION_CONTENT]
    rows: dict[str, list[Row]] = {
        "carries": _carry_rows(state, state.touched_carries),
        "clock": _clock_rows(state) if state.clock_moved else [],
        "contents": _content_rows(state, np.unique(versions).tolist()),
        "machines": _machine_rows(machines),
        "sessions": _session_rows(state, (key for key in state.session_names() if key[0] in names)),
        "versions": _version_rows(state, state.new_versions),
    }
    upserts = {name: table_of(TABLES[name].schema, part) for name, part in rows.items()}
    still_open = np.unique(windows[store.matrix(t.WINDOWS)[windows, t.START] != NONE])
    upserts |= _window_tables(state, still_open)
    upserts["meters"] = _meter_table(state, meters)
    deletes: dict[str, list[Row]] = {
        "open_windows": list(state.gone_windows),
        "open_lines": state.gone_lines,
        "sessions": list(state.gone_sessions),
    }
    changes = {
        name: Changes(table, table_of(TABLES[name].key_schema, deletes.get(name, [])))
        for name, table in upserts.items()
    }
    _forget(state, meters, windows, numbers)
    return changes


def _forget(state: State, meters: Any, windows: Any, machines: Sequence[int]) -> None:
    store, clock = state.store, state.store.clock
    store.matrix(t.METERS)[meters, t.METER_TOUCHED] = 0
    store.matrix(t.WINDOWS)[windows, t.WINDOW_TOUCHED] = 0
    store.matrix(t.MACHINES)[list(machines), t.MACHINE_TOUCHED] = 0
    clock[[t.METERS_TOUCHED, t.WINDOWS_TOUCHED, t.MACHINES_TOUCHED]] = 0
    state.gone_windows.clear()
    state.gone_lines.clear()
    state.gone_sessions.clear()
    state.touched_carries.clear()
    state.new_versions.clear()
    state.clock_moved = False


def _clock_rows(state: State) -> list[Row]:
    return [] if state.stream_time_ms is None else [(0, state.stream_time_ms, state.epoch)]


def _carry_rows(state: State, keys: Iterable[tuple[int, str]]) -> list[Row]:
    return [(state.store.name(m), agreement, state.carries[m, agreement]) for m, agreement in keys]


def _content_rows(state: State, numbers: Iterable[int]) -> list[Row]:
    contents = [state.book.contents[number] for number in numbers]
    return [(content.digest, content.encoded) for content in contents]


def _machine_rows(machines: Iterable[Machine]) -> list[Row]:
    return [
        (each.machine, each.route, each.least_boot, int(each.is_marked), msgspec.json.encode(each.rare, order="sorted"))
        for each in machines
    ]


def _version_rows(state: State, numbers: Iterable[int]) -> list[Row]:
    book: Book = state.book
    rows: list[Row] = []
    for number in numbers:
        version = Version(book, number)
        salt = book.salts[number]
        rows.append(
            (version.machine, version.number, version.in_force_from_ms, version.effective_from,
             "-" if salt is None else salt, version.content.digest)
        )  # fmt: skip
    return rows


def _session_rows(state: State, keys: Iterable[tuple[str, str]]) -> list[Row]:
    rows: list[Row] = []
    for machine, name in keys:
        s = state.session_of_name[state.store.machine_of[machine], name]
        rows.append((machine, name, state.payers[s], *state.store.matrix(t.SESSIONS)[s, t.VALID_UNTIL :].tolist()))
    return rows


def _window_tables(state: State, numbers: Any) -> dict[str, pa.Table]:
    """The open windows of these numbers, and their lines."""
    windows = state.store.matrix(t.WINDOWS)
    extras = [_NOTHING if w not in state.extras else msgspec.json.encode(state.extras[w]) for w in numbers.tolist()]
    ints = windows[numbers]
    columns = [*_keys(state, ints), *(ints[:, t.READINGS + k] for k in range(len(WINDOW_INTS))), extras]
    owners, found = lines_of(state, numbers)
    lines = state.store.matrix(t.LINES)[found]
    meters = _texts(state.store.word_names, lines[:, t.LINE_NAME])
    line_columns = [*_keys(state, windows[owners]), meters, *lines[:, t.LINE_VERSION :].T]
    return {"open_windows": _table("open_windows", columns), "open_lines": _table("open_lines", line_columns)}


_NOTHING = msgspec.json.encode(Extras())
_COMMON = msgspec.json.encode(RareFacts(), order="sorted")


def _keys(state: State, windows: Matrix) -> list[Any]:
    machines = _texts(state.store.ids, windows[:, t.WINDOW_MACHINE])
    return [windows[:, t.START], machines, windows[:, t.ADJUSTS]]


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


def _texts(texts: Sequence[str], numbers: Any) -> list[str]:
    return [texts[number] for number in numbers.tolist()]


def _table(name: str, columns: Sequence[Any]) -> pa.Table:
    schema = TABLES[name].schema
    arrays = [
        pa.array(column if isinstance(column, list) else np.ascontiguousarray(column), field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _meter_table(state: State, numbers: Any) -> pa.Table:
    """The rows of these meters."""
    store = state.store
    rows = store.matrix(t.METERS)[numbers]
    columns: list[Any] = [
        _texts(store.ids, rows[:, t.METER_MACHINE]), _texts(store.word_names, rows[:, t.METER_NAME]),
        *(rows[:, column] for _, column in METER_INTS), *_meter_texts(state, rows),
        *(_holes(state, rows[:, side + t.BOOT_HOLES]) for side in (t.CURRENT, t.PREVIOUS)),
    ]  # fmt: skip
    return _table("meters", columns)


def _meter_texts(state: State, rows: Matrix) -> list[list[str]]:
    columns = [[""] * len(rows) for _ in METER_TEXTS]
    for k in np.flatnonzero(rows[:, t.TEXT] != NONE).tolist():
        row = rows[k].tolist()
        for text, side in enumerate((t.CURRENT, t.PREVIOUS)):
            if row[side + t.BOOT_STARTED] != NONE:
                columns[text][k] = get(state.store.texts, row[t.TEXT] + text)
        for start in range(row[t.STARTS]):
            columns[2 + start][k] = get(state.store.texts, row[t.TEXT] + 2 + start)
    return columns


def _holes(state: State, lines: Any) -> list[list[int]]:
    holes = state.store.matrix(t.HOLES)
    found: list[list[int]] = [[]] * len(lines)
    for k in np.flatnonzero(lines != NONE).tolist():
        cells = holes[lines[k]].tolist()
        found[k] = cells[: 2 * cells[t.HOLE_COUNT]]
    return found


def load(state: State, tables: Mapping[str, pa.Table]) -> None:
    """Fills an empty state from its dumped tables; a table left out is empty."""
    wide = ("meters", "open_windows", "open_lines")
    rows = {name: tables[name].to_pylist() for name in TABLES if name in tables and name not in wide}
    for row in rows.get("machines", []):
        machine = state.book.add_machine(row["machine"], row["route"])
        machine.least_boot, machine.is_marked = row["least_boot"], bool(row["is_marked"])
        if row["rare"] != _COMMON:
            state.book.rare[machine.number] = msgspec.json.decode(row["rare"], type=RareFacts)
    contents = {row["digest"]: row["content"] for row in rows.get("contents", [])}
    for row in sorted(rows.get("versions", []), key=lambda row: int(row["version"])):
        m, salt = state.store.machine_of[row["machine"]], None if row["salt"] == "-" else row["salt"]
        own = {"version": row["version"], "effective_from": row["effective_from"]}
        own = own if salt is None else own | {"salt": salt}
        state.book.add_version(m, own, contents[row["content"]], row["in_force_from_ms"])
    for row in rows.get("carries", []):
        state.carries[state.store.machine_of[row["machine"]], row["agreement"]] = row["carry"]
    if "meters" in tables:
        _load_meters(state, tables["meters"])
    for row in rows.get("clock", []):
        state.set_clock(row["stream_time_ms"], row["epoch"])
        state.stream_time_ms = row["stream_time_ms"]
    if "open_windows" in tables:
        _load_windows(state, tables["open_windows"], tables["open_lines"])
    for row in rows.get("sessions", []):
        use = value_of(row["use_high"], row["use"])
        session = PrepaidSession(row["payer"], row["valid_until"], row["paid"], use, row["ends_in_ms"])
        state.put_session(row["machine"], row["session"], session)
    take_changes(state)


def _load_windows(state: State, windows: pa.Table, lines: pa.Table) -> None:
    from streams.core.kernel.windows import put_back, put_lines_back

    store = state.store
    store.reserve_windows(windows.num_rows, lines.num_rows)
    put_back(store.tables, store.window_index, store.clock, _window_keys(state, windows), _ints(windows, WINDOW_INTS))
    words = [store.word(name) for name in lines["meter"].to_pylist()]
    priced = np.column_stack([np.array(words, np.int64), _ints(lines, ("version", "price_micros", "per", "usage"))])
    put_lines_back(store.tables, store.window_index, store.clock, _window_keys(state, lines), priced)
    for k in np.flatnonzero(np.asarray(pc.not_equal(windows["extras"], _NOTHING))).tolist():
        row = windows.slice(k, 1).to_pylist()[0]
        w = state.open_window((row["start_ms"], row["machine"], row["adjusts_ms"]))
        state.extras[w] = msgspec.json.decode(row["extras"], type=Extras)


def _window_keys(state: State, table: pa.Table) -> Matrix:
    """(machine, start, adjusts) of each row."""
    machines = [state.store.machine_of[name] for name in table["machine"].to_pylist()]
    return np.column_stack([np.array(machines, np.int64), _ints(table, ("start_ms", "adjusts_ms"))])


def _ints(table: pa.Table, names: Sequence[str]) -> Matrix:
    return np.column_stack([np.asarray(table[name].combine_chunks(), np.int64) for name in names])


def _load_meters(state: State, table: pa.Table) -> None:
    store = state.store
    names = zip(table.column("machine").to_pylist(), table.column("meter").to_pylist(), strict=True)
    numbers = [store.add_meter(store.machine_of[machine], meter) for machine, meter in names]
    meters = store.matrix(t.METERS)
    for name, column in METER_INTS:
        meters[numbers, column] = np.asarray(table.column(name).combine_chunks(), np.int64)
    for text, name in enumerate(METER_TEXTS):
        for number, session in zip(numbers, table.column(name).to_pylist(), strict=True):
            if session:
                store.need_texts(number)
                put(store.texts, int(meters[number, t.TEXT]) + text, session)
    for side, name in ((t.CURRENT, METER_HOLES[0]), (t.PREVIOUS, METER_HOLES[1])):
        for number, flat in zip(numbers, table.column(name).to_pylist(), strict=True):
            if flat:
                write_holes(store, number, side, flat)
