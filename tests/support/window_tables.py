"""Windows as flat tables, one object after the other: what the columns of the core must be equal to."""

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from schemas.arrow import DUES, LINES, STATEMENTS, WINDOWS, agreements_table, parts_table
from schemas.window import Window, flag_bits

KindAndRoute = Callable[[str, int], tuple[str, str]]
"""Kind and route of a machine, by its id and the version of its registration."""


def window_tables(windows: Iterable[Window], kind_and_route: KindAndRoute) -> dict[str, pa.Table]:
    """Sealed windows, in any order, as the tables WINDOW_TABLES."""
    windows = sorted(windows, key=lambda window: (window.machine.encode(), *window.sealing_key))
    own = Window.__struct_fields__
    columns: dict[str, list[Any]] = {name: [getattr(window, name) for window in windows] for name in own}
    named = [kind_and_route(window.machine, window.registration_version) for window in windows]
    columns |= {"kind": [kind for kind, _ in named], "route": [route for _, route in named]}
    columns["flags"] = [flag_bits(window.flags) for window in windows]
    columns["agreement"] = [window.agreement.terms_digest().hex() for window in windows]
    agreements = {digest: window.agreement for digest, window in zip(columns["agreement"], windows, strict=True)}
    keys = [(window.machine, window.start_ms, window.adjusts_ms, window.utc_offset_s) for window in windows]
    return {
        "lines": parts_table(LINES, zip(keys, (window.lines for window in windows), strict=True)),
        "statements": parts_table(STATEMENTS, zip(keys, (window.sessions for window in windows), strict=True)),
        "dues": parts_table(DUES, zip(keys, (window.dues for window in windows), strict=True)),
        "agreements": agreements_table(agreements),
        "windows": pa.table([columns[name] for name in WINDOWS.names], schema=WINDOWS),
    }
