"""`analytics.duckdb`: only views over the files of a data folder, for any number of analysts at once.

Nothing in it has to be refreshed; it is rebuilt only because a data folder may have moved or a version added views.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from files.write import Temporary, sync_folder
from schemas.arrow import RECORD_TABLES, TABLES
from schemas.log import Log
from schemas.manifest import epoch_folder
from schemas.payout import CLAIMS, PAYOUTS, SETTLEMENTS
from schemas.units import SIMULATED
from schemas.window import FLAGS
from streams.storage.checkpoint_rejects import LIVE_REJECTS
from streams.storage.live import BOUNDARY, LIVE_TABLES, OPEN_WINDOWS
from streams.storage.view_comments import COLUMNS, VIEWS
from streams.storage.views_origin import ANALYTICS_FILE, MERGED, merged_until, views_origin

COUNTS = pa.struct([(name, pa.int64()) for name in ("entries", "accepted", "duplicate", "rejected")])
MANIFEST = pa.struct(
    [(name, pa.int64()) for name in ("partition", "epoch", "start_ms", "end_ms", "first_offset", "next_offset")]
    + [("counts", COUNTS), ("rejects_by_reason", pa.map_(pa.string(), pa.int64()))]
    + [(name, pa.int64()) for name in ("windows", "adjustments", "orders")]
    + [(f"{name}_micros", pa.string()) for name in ("gross", "expenses", "uncollected", "net", "deposits")]
    + [(name, pa.string()) for name in ("currency", "log_root")]
)
"""The fields of a manifest that the view epochs shows."""

AVAILABILITY = pa.list_(
    pa.struct([("machine", pa.string()), ("period_minutes", pa.int64()), ("outage_minutes", pa.int64())])
)
"""The part of availability.json that the view machines shows."""

SEALED = ("windows", "lines", "statements", "dues")
"""The tables of which every row belongs to one sealed window."""

SCHEMAS = TABLES | {
    "live_rejects": LIVE_REJECTS,
    "boundary": BOUNDARY,
    "open": OPEN_WINDOWS,
    "settlements": SETTLEMENTS,
    "payouts": PAYOUTS,
    "claims": CLAIMS,
    "seen": pa.schema([("block", pa.int64()), ("time_s", pa.int64())]),
    "availability": pa.schema([("machines", AVAILABILITY)]),
    "manifest": pa.schema([("manifest", MANIFEST), ("manifest_digest", pa.string())]),
}
SCHEMAS |= {f"live_{name}": schema for name, schema in LIVE_TABLES.items()}
FILES = {f"merged_{name}_files": f"{MERGED}/*.{name}.parquet" for name in (*TABLES, "epochs")}
FILES |= {f"live_{name}_files": f"live/*/*.{name}.parquet" for name in TABLES}
FILES |= {
    "boundary_files": "live/*/boundary.parquet",
    "open_files": "live/*/open.parquet",
    "settlement_files": "settlement/settlements.parquet",
    "payout_files": "settlement/payouts.parquet",
    "claim_files": "settlement/claims.parquet",
    "seen_file": "settlement/seen.json",
    "availability_file": "availability.json",
}


def make_analytics(data_dir: Path, log: Log) -> Path:
    """Creates `analytics.duckdb` in a data folder, replacing an older one; returns its path. Open it read-only.

    Processes that have the older one open keep it, and several may create it at once.
    """
    new = Temporary(data_dir / ANALYTICS_FILE, f".{uuid.uuid4().hex}")
    db = duckdb.connect(str(new.temporary))
    try:
        db.execute(views_sql(data_dir, log))
        db.execute(f"CREATE VIEW files.made_from AS SELECT {_text(views_origin(data_dir, log))} AS made_from")
        for view, comment in VIEWS.items():
            db.execute(f"COMMENT ON VIEW {view} IS {_text(comment)}")
        for view, column in db.execute(
            "SELECT if(schema_name = 'main', table_name, schema_name || '.' || table_name), column_name"
            " FROM duckdb_columns() WHERE NOT internal"
        ).fetchall():
            db.execute(f'COMMENT ON COLUMN {view}."{column}" IS {_text(COLUMNS[column])}')
    finally:
        db.close()
    new.publish()
    sync_folder(data_dir)
    return new.path


def views_sql(data_dir: Path, log: Log) -> str:
    """The statements that create the views of a data folder, with its absolute paths."""
    root = _escaped(str(data_dir.resolve()))
    names = {name: _text(f"{root}/{pattern}") for name, pattern in FILES.items()}
    columns = {f"{name}_columns": _no_rows(schema) for name, schema in SCHEMAS.items()}
    constants = {"epoch_ms": str(log.epoch_ms), "window_ms": str(log.window_ms)}
    until_ms = merged_until(data_dir)
    constants["merged_until_ms"] = str(until_ms)
    names["merged_until"] = _text(epoch_folder(until_ms) if until_ms else "")
    names["manifest_files"] = _epoch_files(root, until_ms, "manifest.json")

    def views_of(source: str, tables: Iterable[str]) -> str:
        template = Template(_source(source))
        return "\n".join(
            template.substitute(
                names | constants,
                table=name,
                columns=", ".join(f'"{column}"' for column in TABLES[name].names),
                no_rows=columns[f"{name}_columns"],
                no_live_rows=columns.get(f"live_{name}_columns", ""),
                epoch_files=_epoch_files(root, until_ms, f"{name}.parquet"),
                merged_files=names[f"merged_{name}_files"],
                live_files=names[f"live_{name}_files"],
            )
            for name in tables
        )

    return Template(_source("views.sql")).substitute(
        names | columns | constants,
        epoch_views=views_of("epoch_views.sql", TABLES),
        sealed_views=views_of("sealed_views.sql", SEALED),
        record_views=views_of("record_views.sql", RECORD_TABLES),
        flags=f"[{', '.join(map(_text, FLAGS))}]",
        availability_type=_text(_type(AVAILABILITY)),
        manifest_type=manifest_type(),
        currency=_text(log.currency),
        simulated=_text(SIMULATED),
    )


def manifest_type() -> str:
    """DuckDB's type of a manifest, as a literal."""
    return _text(_type(MANIFEST))


def _epoch_files(root: str, until_ms: int, kind: str) -> str:
    """The patterns of files in the folders of all epochs that aren't merged: names from `until_ms` on, by their digits.

    A pattern can't say "from here on": it is one for the day itself, and one for each digit that may be higher.
    """
    first = epoch_folder(until_ms)[:8] if until_ms else ""
    higher = [f"{first[:place]}[{int(digit) + 1}-9]" for place, digit in enumerate(first) if digit != "9"]
    return f"[{', '.join(_text(f'{root}/epochs/{start}*/*.{kind}') for start in (first, *higher))}]"


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _escaped(path: str) -> str:
    """A path in which DuckDB finds no glob pattern."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)


def _text(content: str) -> str:
    return "'" + content.replace("'", "''") + "'"


def _no_rows(schema: pa.Schema) -> str:
    """A query that returns the columns of a schema and no row: for folders without files."""
    columns = [f'NULL::{_type(field.type)} AS "{field.name}"' for field in schema]
    return f"SELECT {', '.join(columns)} LIMIT 0"


def _type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type."""
    if pa.types.is_struct(kind):
        fields = [f'"{field.name}" {_type(field.type)}' for field in kind]
        return f"STRUCT({', '.join(fields)})"
    if pa.types.is_map(kind):
        return f"MAP({_type(kind.key_type)}, {_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    return {pa.int64(): "BIGINT", pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN"}[kind]
