"""The tables that a state is dumped to and loaded from: their columns, and the rows of each part of the state."""

from collections.abc import Iterable

import pyarrow as pa

from streams.core.machines import Machine
from streams.core.meters import METERS
from streams.core.open_window import OpenWindow, WindowKey
from streams.core.tables import TableSpec

INT, TEXT = pa.int64(), pa.string()
CLOCK = TableSpec(pa.schema([("id", INT), ("stream_time_ms", INT), ("epoch", INT)]), ("id",))
MACHINES = TableSpec(
    pa.schema(
        [
            ("machine", TEXT),
            ("route", TEXT),
            ("least_boot", INT),
            ("is_marked", INT),
            ("correction_version", INT),
            ("correction_digest", pa.binary()),
        ]
    ),
    ("machine",),
)
VERSIONS = TableSpec(
    pa.schema([("machine", TEXT), ("version", INT), ("in_force_from_ms", INT), ("content", TEXT)]),
    ("machine", "version"),
)
CARRIES = TableSpec(pa.schema([("machine", TEXT), ("agreement", TEXT), ("carry", INT)]), ("machine", "agreement"))
OPEN_WINDOWS = TableSpec(
    pa.schema(
        [
            ("start_ms", INT),
            ("machine", TEXT),
            ("adjusts_ms", INT),
            ("readings", INT),
            ("first_offset", INT),
            ("last_offset", INT),
            ("skipped", INT),
            ("flags", INT),
            ("trust", INT),
        ]
    ),
    ("start_ms", "machine", "adjusts_ms"),
)
OPEN_LINES = TableSpec(
    pa.schema(
        [
            ("start_ms", INT),
            ("machine", TEXT),
            ("adjusts_ms", INT),
            ("meter", TEXT),
            ("version", INT),
            ("price_micros", INT),
            ("per", INT),
            ("usage", INT),
        ]
    ),
    ("start_ms", "machine", "adjusts_ms", "meter", "version", "price_micros", "per"),
)
TABLES: dict[str, TableSpec] = {
    "carries": CARRIES,
    "clock": CLOCK,
    "machines": MACHINES,
    "meters": METERS,
    "open_lines": OPEN_LINES,
    "open_windows": OPEN_WINDOWS,
    "versions": VERSIONS,
}
"""The dumped state. An absent integer is -1; `adjusts_ms` is -1 in a plain window."""

Row = tuple[object, ...]


def machine_row(machine: Machine) -> Row:
    """A row of MACHINES."""
    return (
        machine.machine,
        machine.route,
        machine.least_boot,
        int(machine.is_marked),
        machine.correction_version,
        machine.correction_digest,
    )


def version_row(machine: Machine, number: int) -> Row:
    """A row of VERSIONS."""
    version = machine.versions[number - 1]
    return machine.machine, number, version.in_force_from_ms, version.content


def window_row(key: WindowKey, window: OpenWindow) -> Row:
    """A row of OPEN_WINDOWS."""
    facts = (window.readings, window.first_offset, window.last_offset, window.skipped, window.flags, window.trust)
    return *key, *facts


def line_rows(windows: Iterable[tuple[WindowKey, OpenWindow]]) -> list[Row]:
    """The rows of OPEN_LINES, sorted by key if the windows are."""
    return [(*key, *line, usage) for key, window in windows for line, usage in sorted(window.usage.items())]


def line_keys(windows: Iterable[tuple[WindowKey, OpenWindow]]) -> list[Row]:
    """The keys of the same rows."""
    return [row[:-1] for row in line_rows(windows)]
