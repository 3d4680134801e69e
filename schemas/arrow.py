"""The Arrow form of the nouns: what Parquet files and analysts see. Money is DECIMAL(38, 0) micros, times are ms."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any

import pyarrow as pa
from msgspec import UNSET, UnsetType

from schemas.registration import Agreement
from schemas.reject import Reject, RejectedRecord
from schemas.window import Line, Window

MICROS = pa.decimal128(38, 0)
LINE = pa.struct(
    [
        ("meter", pa.string()),
        ("unit", pa.string()),
        ("version", pa.int64()),
        ("usage", pa.int64()),
        ("price_micros", pa.int64()),
        ("per", pa.int64()),
        ("amount_micros", MICROS),
    ]
)
WINDOWS = pa.schema(
    [
        ("machine", pa.string()),
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("adjusts_ms", pa.int64()),
        ("utc_offset_s", pa.int64()),
        ("gross_micros", MICROS),
        ("expenses_micros", MICROS),
        ("net_micros", MICROS),
        ("lines", pa.list_(LINE)),
        ("carry_in", pa.int64()),
        ("carry_out", pa.int64()),
        ("registration_version", pa.int64()),
        ("payees", pa.map_(pa.string(), pa.int64())),
        ("locked_until_ms", pa.int64()),
        ("pays_trust", pa.int64()),
        ("readings", pa.int64()),
        ("first_offset", pa.int64()),
        ("last_offset", pa.int64()),
        ("skipped", pa.int64()),
        ("flags", pa.list_(pa.string())),
        ("trust", pa.int64()),
        ("digest", pa.binary(32)),
    ]
)
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


PLAIN = [
    "machine", "start_ms", "end_ms", "adjusts_ms", "utc_offset_s", "carry_in", "carry_out", "registration_version",
    "readings", "first_offset", "last_offset", "skipped", "trust", "digest",
]  # fmt: skip
"""The columns that are attributes of a window, unconverted."""

AMOUNTS = ("gross_micros", "expenses_micros", "net_micros")


def windows_table(windows: Sequence[Window]) -> pa.Table:
    """Windows as a table of the schema WINDOWS, in the order given."""
    columns: dict[str, Any] = {name: [getattr(window, name) for window in windows] for name in PLAIN}
    columns |= {name: [Decimal(getattr(window, name)) for window in windows] for name in AMOUNTS}
    columns["lines"] = _lines_column([window.lines for window in windows])
    agreements = [window.agreement for window in windows]
    columns["payees"] = [sorted(agreement.payees.items()) for agreement in agreements]
    columns["locked_until_ms"] = [
        None if agreement.locked_until is UNSET else agreement.locked_until for agreement in agreements
    ]
    columns["pays_trust"] = [agreement.pays_trust for agreement in agreements]
    columns["flags"] = [window.flags for window in windows]
    return pa.table([columns[name] for name in WINDOWS.names], schema=WINDOWS)


def _lines_column(lines: Sequence[tuple[Line, ...]]) -> pa.Array:
    flat = [line for window in lines for line in window]
    fields: dict[str, Any] = {name: [getattr(line, name) for line in flat] for name in Line.__struct_fields__}
    fields["amount_micros"] = [Decimal(amount) for amount in fields["amount_micros"]]
    columns = [pa.array(fields[field.name], field.type) for field in LINE]
    ends = accumulate((len(window) for window in lines), initial=0)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.StructArray.from_arrays(columns, fields=list(LINE)))


def windows_from(table: pa.Table) -> list[Window]:
    """The windows of a table of the schema WINDOWS, equal to those that made it."""
    return [_window(row) for row in table.to_pylist()]


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Rejects as a table of the schema REJECTS."""
    columns = ([r.offset for r in rejects], [r.row for r in rejects], [r.reason for r in rejects])
    return pa.table(list(columns), schema=REJECTS)


def rejected_records_table(records: Sequence[RejectedRecord]) -> pa.Table:
    """The bytes of refused records as a table of the schema REJECTED_RECORDS."""
    names = REJECTED_RECORDS.names
    return pa.table([[getattr(r, name) for r in records] for name in names], schema=REJECTED_RECORDS)


def _window(row: dict[str, Any]) -> Window:
    agreement = Agreement(
        payees=dict(row.pop("payees")),
        locked_until=_present(row.pop("locked_until_ms")),
        pays_trust=row.pop("pays_trust"),
    )
    lines = tuple(Line(**line | {"amount_micros": int(line["amount_micros"])}) for line in row.pop("lines"))
    for name in AMOUNTS:
        row[name] = int(row[name])
    flags = tuple(row.pop("flags"))
    return Window(**row, agreement=agreement, lines=lines, flags=flags)


def _present(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
