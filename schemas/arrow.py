"""The Arrow form of the nouns: the flat tables that Parquet files hold and analysts see.

Columns are integers and plain texts: amounts are micros, times epoch ms. A window is one row of `windows`; its lines,
statements and dues are rows of tables of their own, which carry the window's key; an agreement is held once, however
many windows it shares. Tables are sorted (`ORDER`), so a machine's rows lie together in a file.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from msgspec import UNSET, structs

from schemas.order import Order
from schemas.payment import AcceptedPayment
from schemas.registration import Agreement
from schemas.reject import Reject
from schemas.window import Due, Line, Statement, Window, flags_from

MICROS = pa.decimal128(38, 0)
"""Sums of settlement: they may leave 63 bits."""

WINDOW = [("machine", pa.string()), ("start_ms", pa.int64()), ("adjusts_ms", pa.int64()), ("utc_offset_s", pa.int64())]
"""What each row of a window's lines, statements and dues says of the window; without the offset it is the key."""

WINDOWS = pa.schema(
    [
        *WINDOW,
        ("end_ms", pa.int64()),
        ("kind", pa.string()),
        ("route", pa.string()),
        ("registration_version", pa.int64()),
        ("agreement", pa.string()),
        ("gross_micros", pa.int64()),
        ("expenses_micros", pa.int64()),
        ("uncollected_micros", pa.int64()),
        ("net_micros", pa.int64()),
        ("collected_micros", pa.int64()),
        ("carry_in", pa.int64()),
        ("carry_out", pa.int64()),
        ("readings", pa.int64()),
        ("first_offset", pa.int64()),
        ("last_offset", pa.int64()),
        ("skipped", pa.int64()),
        ("flags", pa.int64()),
        ("trust", pa.int64()),
        ("digest", pa.binary(32)),
    ]
)
"""Kind and route are those of the registration; `agreement` is the hex of Agreement.terms_digest(); `flags` are bits,
the lowest that of the first of FLAGS.
"""

LINES = pa.schema(
    [
        *WINDOW,
        ("position", pa.int64()),
        ("meter", pa.string()),
        ("unit", pa.string()),
        ("version", pa.int64()),
        ("usage", pa.int64()),
        ("price_micros", pa.int64()),
        ("per", pa.int64()),
        ("amount_micros", pa.int64()),
    ]
)
"""`position` counts the rows of a window from 0, here and in statements and dues."""

STATEMENTS = pa.schema(
    [
        *WINDOW,
        ("position", pa.int64()),
        ("session", pa.string()),
        ("payer", pa.string()),
        ("paid_micros", pa.int64()),
        ("used_micros", pa.int64()),
        ("refund_micros", pa.int64()),
    ]
)
DUES = pa.schema(
    [
        *WINDOW,
        ("position", pa.int64()),
        ("kind", pa.string()),
        ("account", pa.string()),
        ("ref", pa.string()),
        ("micros", pa.int64()),
    ]
)
AGREEMENTS = pa.schema(
    [
        ("agreement", pa.string()),
        ("payee", pa.string()),
        ("points", pa.int64()),
        ("locked_until_ms", pa.int64()),
        ("pays_trust", pa.int64()),
    ]
)
"""A row for each payee."""

ORDERS = pa.schema(
    [
        ("offset", pa.int64()),
        ("row", pa.int64()),
        ("position", pa.int64()),
        ("machine", pa.string()),
        ("item", pa.string()),
        ("number", pa.int64()),
        ("quantity", pa.int64()),
        ("unit_price", pa.int64()),
        ("supplier", pa.string()),
        ("placed_at", pa.int64()),
    ]
)
"""`position` orders what one reading placed."""

PAYMENTS = pa.schema(
    [
        ("offset", pa.int64()),
        ("machine", pa.string()),
        ("payment", pa.int64()),
        ("session", pa.string()),
        ("payer", pa.string()),
        ("amount_micros", pa.int64()),
        ("valid_until_ms", pa.int64()),
        ("block", pa.int64()),
        ("transaction", pa.string()),
        ("log_index", pa.int64()),
    ]
)
"""The payments that were accepted, and where the chain has each; `payment` counts those of a machine from 1."""

REJECTS = pa.schema([("offset", pa.int64()), ("row", pa.int64()), ("reason", pa.string())])
REJECTED_RECORDS = pa.schema(
    [
        ("offset", pa.int64()),
        ("timestamp_ms", pa.int64()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("value_size", pa.int64()),
        ("value_sha256", pa.binary(32)),
    ]
)

WINDOW_TABLES = {
    "lines": LINES,
    "statements": STATEMENTS,
    "dues": DUES,
    "agreements": AGREEMENTS,
    "windows": WINDOWS,
}
"""The tables of sealed windows, by name; windows last, so that whoever sees one finds the rest of it."""

RECORD_TABLES = {"orders": ORDERS, "payments": PAYMENTS}
"""The tables of what single records brought, by name; each has the record's offset."""

TABLES = WINDOW_TABLES | RECORD_TABLES | {"rejects": REJECTS, "rejected_records": REJECTED_RECORDS}
"""All that an epoch of a partition comes to; the names are also those of its files."""

KEY = ("machine", "start_ms", "adjusts_ms")
ORDER = {
    "windows": KEY,
    "lines": (*KEY, "position"),
    "statements": (*KEY, "position"),
    "dues": (*KEY, "position"),
    "agreements": ("agreement", "payee"),
    "orders": ("offset", "row", "position"),
    "payments": ("offset",),
    "rejects": ("offset", "row"),
    "rejected_records": ("offset",),
}
"""The columns that each table is sorted by: texts by their bytes, no value first."""

Tables = Mapping[str, pa.Table]

_OWN = [
    "machine", "start_ms", "adjusts_ms", "utc_offset_s", "end_ms", "registration_version", "gross_micros",
    "expenses_micros", "uncollected_micros", "net_micros", "collected_micros", "carry_in", "carry_out", "readings",
    "first_offset", "last_offset", "skipped", "trust", "digest",
]  # fmt: skip
"""The columns that are attributes of a window, unconverted."""


def windows_from(tables: Tables) -> list[Window]:
    """The windows of the tables WINDOW_TABLES in sealing order, equal to those that made them.

    Rows of windows that `windows` doesn't hold are ignored. Raises KeyError where an agreement is missing.
    """
    agreements = agreements_from(tables["agreements"])
    lines, sessions = (_rows_of(tables[name], kind) for name, kind in (("lines", Line), ("statements", Statement)))
    dues = dues_from(tables["dues"])
    windows = [
        Window(
            **{name: row[name] for name in _OWN},
            agreement=agreements[row["agreement"]],
            lines=lines.get(key, ()),
            sessions=sessions.get(key, ()),
            dues=dues.get(key, ()),
            flags=flags_from(row["flags"]),
        )
        for row in tables["windows"].to_pylist()
        for key in [tuple(row[name] for name in KEY)]
    ]
    return sorted(windows, key=lambda window: window.sealing_key)


def dues_from(table: pa.Table) -> dict[tuple[Any, ...], tuple[Due, ...]]:
    """The dues of the table DUES, in order, by machine, start and what is adjusted (None: nothing) of their window."""
    return _rows_of(table, Due)


def agreements_from(table: pa.Table) -> dict[str, Agreement]:
    """The agreements of the table AGREEMENTS, by their digests (hex)."""
    rows = table.to_pylist()
    payees: dict[str, dict[str, int]] = {}
    for row in rows:
        payees.setdefault(row["agreement"], {})[row["payee"]] = row["points"]
    return {
        row["agreement"]: Agreement(
            payees[row["agreement"]],
            UNSET if row["locked_until_ms"] is None else row["locked_until_ms"],
            row["pays_trust"],
        )
        for row in rows
    }


def orders_table(orders: Sequence[Order]) -> pa.Table:
    """Orders, in the order of placing, as a table of the schema ORDERS."""
    columns = {name: [getattr(order, name) for order in orders] for name in Order.__struct_fields__}
    columns["position"] = list(range(len(orders)))
    return pa.table([columns[name] for name in ORDERS.names], schema=ORDERS)


def orders_from(table: pa.Table) -> list[Order]:
    """The orders of a table of the schema ORDERS, in its order."""
    return [Order(**row) for row in table.drop_columns(["position"]).to_pylist()]


def payments_table(payments: Sequence[AcceptedPayment]) -> pa.Table:
    """Accepted payments, in the order of the log, as a table of the schema PAYMENTS."""
    rows = [(accepted.offset, *structs.astuple(accepted.payment)) for accepted in payments]
    return pa.table([[row[place] for row in rows] for place in range(len(PAYMENTS))], schema=PAYMENTS)


def rejects_from(table: pa.Table) -> list[Reject]:
    """The rejects of a table of the schema REJECTS, in its order."""
    return [Reject(**row) for row in table.to_pylist()]


def agreements_table(agreements: Mapping[str, Agreement]) -> pa.Table:
    """Agreements by their digests (hex) as a table of the schema AGREEMENTS."""
    rows = [
        (digest, payee, points, None if each.locked_until is UNSET else each.locked_until, each.pays_trust)
        for digest, each in sorted(agreements.items())
        for payee, points in sorted(each.payees.items())
    ]
    return pa.table([[row[place] for row in rows] for place in range(len(AGREEMENTS))], schema=AGREEMENTS)


Parts = Sequence[Line] | Sequence[Statement] | Sequence[Due]


def parts_table(schema: pa.Schema, parts: Iterable[tuple[Sequence[object], Parts]]) -> pa.Table:
    """Lines, statements or dues as a table: each comes with the columns WINDOW of its window, in the order of KEY."""
    rows = [(*window, position, *structs.astuple(part)) for window, own in parts for position, part in enumerate(own)]
    return pa.table([[row[place] for row in rows] for place in range(len(schema))], schema=schema)


def _rows_of(table: pa.Table, kind: type[Any]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Lines, statements or dues by the key of their window, in their order."""
    found: dict[tuple[Any, ...], list[tuple[int, Any]]] = {}
    for row in table.to_pylist():
        part = kind(**{name: row[name] for name in kind.__struct_fields__})
        found.setdefault(tuple(row[name] for name in KEY), []).append((row["position"], part))
    return {key: tuple(part for _, part in sorted(rows, key=lambda pair: pair[0])) for key, rows in found.items()}
