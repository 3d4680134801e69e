"""`analytics.duckdb`: only views over the files of a data folder, for any number of analysts at once.

Nothing in it has to be refreshed; it is rebuilt only because a data folder may have moved or a version added views.
"""

import uuid
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa

from files.write import Temporary, sync_folder
from schemas.arrow import REJECTED_RECORDS, REJECTS, WINDOWS
from schemas.log import Log
from schemas.payout import CLAIMS, PAYOUTS, SETTLEMENTS
from schemas.units import SIMULATED
from streams.storage.checkpoint_rejects import LIVE_REJECTS
from streams.storage.live import BOUNDARY, OPEN_WINDOWS
from streams.storage.view_comments import COLUMNS, VIEWS
from streams.storage.views_origin import ANALYTICS_FILE, views_origin

COUNTS = pa.struct([(name, pa.int64()) for name in ("entries", "accepted", "duplicate", "rejected")])
MANIFEST = pa.struct(
    [(name, pa.int64()) for name in ("partition", "epoch", "start_ms", "end_ms", "first_offset", "next_offset")]
    + [("counts", COUNTS), ("rejects_by_reason", pa.map_(pa.string(), pa.int64()))]
    + [(name, pa.int64()) for name in ("windows", "adjustments")]
    + [(name, pa.string()) for name in ("currency", "gross_micros", "net_micros", "log_root")]
)
"""The fields of a manifest that the view epochs shows."""

AVAILABILITY = pa.list_(
    pa.struct([("machine", pa.string()), ("period_minutes", pa.int64()), ("outage_minutes", pa.int64())])
)
"""The part of availability.json that the view machines shows."""

SCHEMAS = {
    "windows": WINDOWS,
    "rejects": REJECTS,
    "rejected_records": REJECTED_RECORDS,
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
FILES = {
    "manifest_files": "epochs/*/*.manifest.json",
    "epoch_window_files": "epochs/*/*[0-9].parquet",
    "reject_files": "epochs/*/*.rejects.parquet",
    "rejected_record_files": "epochs/*/*.rejected_records.parquet",
    "live_window_files": "live/*/*[0-9].parquet",
    "live_reject_files": "live/*/*.rejects.parquet",
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
    windows = ", ".join(f'"{name}"' for name in WINDOWS.names)
    sql = Path(__file__).with_name("views.sql").read_text("utf-8")
    return Template(sql).substitute(
        names,
        **columns,
        windows_names=windows,
        availability_type=_text(_type(AVAILABILITY)),
        manifest_type=_text(_type(MANIFEST)),
        currency=_text(log.currency),
        simulated=_text(SIMULATED),
        epoch_ms=str(log.epoch_ms),
        window_ms=str(log.window_ms),
    )


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
