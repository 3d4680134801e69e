"""Why an account is owed what it is: its windows, the readings of one of them, and both as a Parquet table."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from deploy.explain.statement_readings import WindowReadings, window_readings
from deploy.money.treasury import Treasury
from deploy.texts import moment_text
from schemas.arrow import MICROS
from schemas.errors import InvalidInput
from schemas.parsing import moment_ms
from settlement import service
from settlement.statement import StatementRow

STATEMENT_COMMENTS = {
    "sequence": "the post that settled the window",
    "machine": "the machine that earned",
    "start_ms": "start of the window, epoch ms",
    "end_ms": "end of the window, exclusive, epoch ms",
    "mends_ms": "start of the window that this one adjusts, epoch ms; 0: none",
    "net_micros": "what the window earned, micros of the log's currency",
    "carry_before_micros": "what the machine owed under its agreement before the window, micros, not above 0",
    "payable_micros": "what the window paid to all payees, micros: carry before + net - carry after",
    "carry_after_micros": "what the machine owes after the window, micros, not above 0",
    "points": "the account's part of the agreement, basis points",
    "amount_micros": "the account's part of what was payable, micros",
    "window_digest": "digest of all that the window says: in the leaf under the windows root, hex",
}
READING_COMMENTS = {
    "machine": "the machine that earned",
    "start_ms": "start of the window, epoch ms",
    "mends_ms": "start of the window that this one adjusts, epoch ms; null: none",
    "partition": "partition of the log",
    "offset": "offset of the record in the partition",
    "row": "row in the record, from 0; -1: all of it",
    "logged_ms": "timestamp of the record, epoch ms",
    "kind": "register, quantity or level as the meter shows it, or usage.corrected",
    "meter": "the meter",
    "boot": "restarts of the meter; null for a correction",
    "seq": "number of the reading; null for a correction",
    "observed_at_ms": "when it was read, epoch ms",
    "value": "what the meter showed, or the difference, in the meter's unit",
    "registration_version": "the registration whose price held",
    "usage": "what was billed, in the meter's unit, or 1 for a session",
    "price_micros": "price in micros for every `per` units",
    "per": "units that the price is for; 0: a session",
    "micros": "what the reading earned: these add up to the window's net, micros",
}


class Explained(Struct, frozen=True, kw_only=True):
    """A statement, or one window of it with its readings."""

    account: str
    cumulative_micros: int
    rows: tuple[StatementRow, ...]
    windows: tuple[WindowReadings, ...] = ()


def why(treasury: Treasury, account: str, window: tuple[str, str] | None) -> Explained:
    """The statement of an account; with a `window` (machine and time) the part of it, with its readings.

    The window's adjustments are part of it. Raises InvalidInput where the account has no part in it, or a window is
    not the one that was settled.
    """
    found = service.why(treasury.data_dir, treasury.chain, account)
    explained = Explained(account=found.account, cumulative_micros=found.cumulative_micros, rows=found.rows)
    if window is None:
        return explained
    machine, moment = window
    start_ms = treasury.log.window_start(moment_ms(moment))
    rows = [row for row in found.rows if (row.machine, row.start_ms) == (machine, start_ms)]
    if not rows:
        raise InvalidInput(
            f"{found.account} has no part in a window of {machine} at {moment_text(start_ms)}: see `tallyroot why`"
        )
    treasury.data.fetch_epochs()
    found_windows = window_readings(treasury.data_dir, treasury.log, machine, start_ms)
    windows = {own.window.digest.hex(): own for own in found_windows}
    if any(row.window_digest not in windows for row in rows):
        raise InvalidInput(
            f"the window of {machine} at {moment_text(start_ms)} is not the one that was settled: see `tallyroot audit`"
        )
    return msgspec.structs.replace(
        explained, rows=tuple(rows), windows=tuple(windows[row.window_digest] for row in rows)
    )


def write_parquet(explained: Explained, out: Path) -> None:
    """Writes the readings of its windows, else its rows, with a comment on every column."""
    if explained.windows:
        table = _table([row for own in explained.windows for row in _reading_rows(own)], READING_COMMENTS)
    else:
        table = _table([msgspec.structs.asdict(row) for row in explained.rows], STATEMENT_COMMENTS)
    pq.write_table(table, out, compression="zstd")


def document(explained: Explained) -> dict[str, Any]:
    """The statement for a script: windows as their digests cover them, with their readings."""
    windows = [
        own.window.document() | {"digest": own.window.digest, "readings": own.readings} for own in explained.windows
    ]
    return msgspec.structs.asdict(explained) | {"windows": windows}


def _reading_rows(found: WindowReadings) -> list[dict[str, Any]]:
    window = found.window
    data = {"machine": window.machine, "start_ms": window.start_ms, "mends_ms": window.mends_ms}
    return [data | msgspec.structs.asdict(one) for one in found.readings]


def _table(rows: list[dict[str, Any]], comments: dict[str, str]) -> pa.Table:
    """Rows with typed columns: money as DECIMAL(38, 0) micros; each field's metadata has its comment."""
    fields = []
    for name, comment in comments.items():
        is_text = name in ("machine", "kind", "meter", "window_digest")
        kind = MICROS if name.endswith("micros") else pa.string() if is_text else pa.int64()
        fields.append(pa.field(name, kind, metadata={"comment": comment}))
    columns = [
        [Decimal(row[field.name]) if field.type == MICROS else row[field.name] for row in rows] for field in fields
    ]
    return pa.table(columns, schema=pa.schema(fields))
