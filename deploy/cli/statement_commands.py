"""Why an account is owed what it is: its windows, and the readings that earned one of them."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from deploy.cli.money_commands import Treasury
from deploy.cli.terminal import Terminal, moment_text, money
from deploy.data_folder import DataFolder
from deploy.explain.statement_readings import WindowReadings, window_readings
from schemas.arrow import MICROS
from schemas.errors import InvalidInput
from schemas.units import SECOND_MS
from settlement import service
from settlement.statement import Statement, StatementRow

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


def why(
    data: DataFolder, terminal: Terminal, account: str, *, window: tuple[str, str] | None, out: Path | None
) -> None:
    """The statement of an account, window by window; or one window (machine and moment), reading by reading."""
    treasury = Treasury(data)
    found = service.why(treasury.data_dir, treasury.chain, account)
    if window is None:
        _show_rows(terminal, treasury.log.currency, found)
        explained = Explained(account=found.account, cumulative_micros=found.cumulative_micros, rows=found.rows)
        table = _table([msgspec.structs.asdict(row) for row in found.rows], STATEMENT_COMMENTS)
    else:
        explained = explain(data, treasury, found, *window)
        for row, readings in zip(explained.rows, explained.windows, strict=True):
            _show_window(terminal, row, readings)
        table = _table([row for readings in explained.windows for row in _reading_rows(readings)], READING_COMMENTS)
    if out is not None:
        pq.write_table(table, out, compression="zstd")
        terminal.say(f"written to {out}")
    terminal.result(_document(explained))


def explain(data: DataFolder, treasury: Treasury, found: Statement, machine: str, moment: str) -> Explained:
    """The part of a statement that one window has, with the readings of it and of the adjustments in it.

    Raises InvalidInput where the account has no part in it, or a window is not the one that was settled.
    """
    moment_ms = read_moment(moment)
    start_ms = treasury.log.window_start(moment_ms)
    rows = [row for row in found.rows if (row.machine, row.start_ms) == (machine, start_ms)]
    if not rows:
        raise InvalidInput(
            f"{found.account} has no part in a window of {machine} at {moment_text(start_ms)}: see `tallyroot why`"
        )
    data.fetch_epochs()
    found_windows = window_readings(treasury.data_dir, treasury.log, machine, start_ms)
    windows = {own.window.digest.hex(): own for own in found_windows}
    if any(row.window_digest not in windows for row in rows):
        raise InvalidInput(f"the window of {machine} at {start_ms} ms was settled otherwise: see `tallyroot audit`")
    return Explained(
        account=found.account, cumulative_micros=found.cumulative_micros, rows=tuple(rows),
        windows=tuple(windows[row.window_digest] for row in rows),
    )  # fmt: skip


def _document(explained: Explained) -> dict[str, Any]:
    """What a script gets: windows as their digests cover them, with their readings."""
    windows = [
        own.window.document() | {"digest": own.window.digest, "readings": own.readings} for own in explained.windows
    ]
    return msgspec.structs.asdict(explained) | {"windows": windows}


def read_moment(text: str) -> int:
    """A moment as epoch ms, as 2019-09-01T17:00Z or as 2019-09-01 17:00 (UTC). Raises InvalidInput."""
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise InvalidInput(f"'{text}' is no moment: write it as 2019-09-01T17:00Z, or in epoch ms") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()) * SECOND_MS


def _show_rows(terminal: Terminal, currency: str, found: Statement) -> None:
    rows = [
        (row.sequence, row.machine, moment_text(row.start_ms), row.net_micros, row.payable_micros, row.points,
         row.amount_micros)
        for row in found.rows
    ]  # fmt: skip
    columns = ["post", "machine", "window", "net micros", "payable micros", "basis points", "micros"]
    terminal.table(f"why {found.account} is owed {money(found.cumulative_micros, currency)}", columns, rows)
    terminal.say("from here down to readings: --window MACHINE 'YYYY-MM-DD HH:MM'")


def _show_window(terminal: Terminal, row: StatementRow, found: WindowReadings) -> None:
    mends = f", an adjustment of that of {moment_text(row.mends_ms)}" if row.mends_ms else ""
    rows = [
        (one.offset, one.row, one.meter, one.boot, one.seq, moment_text(one.observed_at_ms), one.value, one.usage,
         f"{one.price_micros} / {one.per}" if one.per else f"{one.price_micros} / session", one.micros)
        for one in found.readings
    ]  # fmt: skip
    columns = ["offset", "row", "meter", "boot", "seq", "observed", "value", "usage", "price micros", "micros"]
    terminal.table(f"{row.machine}, window of {moment_text(row.start_ms)}{mends}", columns, rows)
    terminal.say(f"net {row.net_micros} micros = the sum of these; digest 0x{row.window_digest}, post {row.sequence}")
    terminal.say(
        f"payable {row.payable_micros} = carry before {row.carry_before_micros} + net {row.net_micros}"
        f" - carry after {row.carry_after_micros}; {row.points} of 10,000 of it: {row.amount_micros}"
    )


def _reading_rows(found: WindowReadings) -> list[dict[str, Any]]:
    window = found.window
    data = {"machine": window.machine, "start_ms": window.start_ms, "mends_ms": window.mends_ms}
    return [data | msgspec.structs.asdict(one) for one in found.readings]


def _table(rows: list[dict[str, Any]], comments: dict[str, str]) -> pa.Table:
    """Rows with typed columns: money as DECIMAL(38, 0) micros; a comment stands in each field's metadata."""
    fields = []
    for name, comment in comments.items():
        is_text = name in ("machine", "kind", "meter", "window_digest")
        kind = MICROS if name.endswith("micros") else pa.string() if is_text else pa.int64()
        fields.append(pa.field(name, kind, metadata={"comment": comment}))
    columns = [
        [Decimal(row[field.name]) if field.type == MICROS else row[field.name] for row in rows] for field in fields
    ]
    return pa.table(columns, schema=pa.schema(fields))
