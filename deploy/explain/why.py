"""Why an account is owed what it is: sums by machine and month, its windows, the readings of one of them.

amount of an account = sum of its sums + sum of its dues = sum of its windows' parts and dues, exactly. A holder of
shares is paid through their contract, which is an account of the ledger like others.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from deploy.explain.window_document import window_document
from deploy.money.treasury import Treasury
from deploy.texts import moment_text
from schemas.arrow import MICROS
from schemas.errors import InvalidInput
from schemas.parsing import moment_ms
from schemas.units import TokenUnits, is_simulated
from settlement import service
from settlement.chain.overview import skipped_in_posts
from settlement.chain.shares import ShareBook, Shares
from settlement.results import SkippedInPost
from settlement.statement import DueRow, StatementRow

WINDOW_COMMENTS = {
    "sequence": "the post that settled the window",
    "kind": "part of what the window paid, or a due: expense (a supplier's invoice) or refund",
    "ref": "of an invoice item/number of the order, of a refund the session; null: a part",
    "machine": "the machine that earned",
    "start_ms": "start of the window, epoch ms",
    "end_ms": "end of the window, exclusive, epoch ms",
    "adjusts_ms": "start of the window that this one adjusts, epoch ms; 0: none",
    "net_micros": "what the window earned, micros of the log's currency",
    "carry_before_micros": "what the machine owed under its agreement before the window, micros, not above 0",
    "payable_micros": "what the window paid to all payees, micros: carry before + net - carry after",
    "carry_after_micros": "what the machine owes after the window, micros, not above 0",
    "agreement": "digest of the agreement that shared the window, hex",
    "points": "the account's part of the agreement, basis points",
    "amount_micros": "the account's part of what was payable, or its due, micros",
    "window_digest": "digest of all that the window says: in the leaf under the windows root, hex",
    "simulated": "whether the machine is simulated: its id begins with sim-",
}
READING_COMMENTS = {
    "machine": "the machine that earned",
    "start_ms": "start of the window, epoch ms",
    "adjusts_ms": "start of the window that this one adjusts, epoch ms; null: none",
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
    "proven": "whether the meter itself signed what was billed",
    "micros": "what the reading earned: these add up to the window's gross, micros",
    "simulated": "whether the machine is simulated: its id begins with sim-",
}

TYPES = dict.fromkeys(("machine", "kind", "ref", "meter", "agreement", "window_digest"), pa.string()) | {
    "simulated": pa.bool_(),
    "proven": pa.bool_(),
}
"""Of the columns that are neither money nor whole numbers."""


class MonthSum(Struct, frozen=True, kw_only=True):
    """What one machine paid an account in one month (UTC, by the windows' starts) under one agreement."""

    machine: str
    simulated: bool
    month: str
    agreement: str
    points: int
    windows: int
    net_micros: int
    amount_micros: int


class Holding(Struct, frozen=True, kw_only=True):
    """Shares that an account holds: through their contract `shares` it is paid; `sums` are what that was paid."""

    symbol: str
    machine: str
    simulated: bool
    shares: str
    held: int
    supply: int
    withdrawable: TokenUnits
    decimals: int
    sums: tuple[MonthSum, ...]


class EarningReading(Struct, frozen=True, kw_only=True):
    """What one reading (or correction) added to one line of a window, and the whole micros that it earned there.

    `boot` and `seq` are None for a correction. `value` is what the meter showed, or the difference, and `usage` what
    was billed, both in the meter's unit. `price_micros` is for every `per` units, or (per 0) for each session.
    `proven` says that the meter itself signed what was billed.
    """

    partition: int
    offset: int
    row: int
    logged_ms: int
    kind: str
    meter: str
    boot: int | None
    seq: int | None
    observed_at_ms: int
    value: int
    registration_version: int
    usage: int
    price_micros: int
    per: int
    micros: int
    proven: bool


class ExplainedWindow(Struct, frozen=True, kw_only=True):
    """A sealed window, `document` as its digest covers it (money in micros there), and the readings that earned it."""

    document: dict[str, Any]
    digest: bytes
    readings: tuple[EarningReading, ...]


class Explained(Struct, frozen=True, kw_only=True):
    """A statement, or one window of it with its readings. `dues` are the account's invoices and refunds.

    `skipped` are the ranges of offsets that its posts leave out: readings that nobody could read.
    """

    account: str
    cumulative_micros: int
    sums: tuple[MonthSum, ...]
    holdings: tuple[Holding, ...]
    rows: tuple[StatementRow, ...]
    dues: tuple[DueRow, ...]
    windows: tuple[ExplainedWindow, ...] = ()
    skipped: tuple[SkippedInPost, ...] = ()


def why(treasury: Treasury, account: str, window: tuple[str, str] | None) -> Explained:
    """The statement of an account; with a `window` (machine and time) the part of it, with its readings.

    The window's adjustments are part of it. Raises InvalidInput where the account is unknown or has no part in it, or a
    window is not the one that was settled.
    """
    found = service.why(treasury.data_dir, treasury.chain, account)
    holdings = () if window is not None else tuple(_holdings(treasury, found.account))
    if not found.rows and not found.dues and not holdings:
        raise InvalidInput(
            f"{found.account} is in no post, and holds no shares of this folder: see `tallyroot payouts`"
        )
    sequences = sorted({row.sequence for row in found.rows} | {due.sequence for due in found.dues})
    explained = Explained(
        account=found.account, cumulative_micros=found.cumulative_micros, rows=found.rows,
        sums=month_sums(found.rows), holdings=holdings, dues=found.dues,
        skipped=skipped_in_posts(treasury.data_dir, treasury.log, sequences),
    )  # fmt: skip
    if window is None:
        return explained
    machine, moment = window
    start_ms = treasury.log.window_start(moment_ms(moment))
    rows = [row for row in found.rows if (row.machine, row.start_ms) == (machine, start_ms)]
    dues = [due for due in found.dues if (due.machine, due.start_ms) == (machine, start_ms)]
    if not rows and not dues:
        raise InvalidInput(
            f"{found.account} has no part in a window of {machine} at {moment_text(start_ms)}: see `tallyroot why`"
        )
    from deploy.explain.why_readings import window_readings

    treasury.data.whole_archive()
    windows = {
        own.window.digest.hex(): ExplainedWindow(
            document=window_document(own.window), digest=own.window.digest, readings=own.readings
        )
        for own in window_readings(treasury.data_dir, treasury.log, machine, start_ms)
    }
    digests = {row.window_digest for row in rows} | {due.window_digest for due in dues}
    if not digests <= windows.keys():
        raise InvalidInput(
            f"the window of {machine} at {moment_text(start_ms)} is not the one that was settled: see `tallyroot audit`"
        )
    return msgspec.structs.replace(
        explained, rows=tuple(rows), sums=month_sums(rows), dues=tuple(dues),
        windows=tuple(windows[row.window_digest] for row in rows),
    )  # fmt: skip


def month_of(row: StatementRow | DueRow) -> str:
    """The month that a window starts in, as 2026-11 (UTC)."""
    return moment_text(row.start_ms)[:7]


def month_sums(rows: Iterable[StatementRow]) -> tuple[MonthSum, ...]:
    """The rows, added up by machine, month and agreement, in that order."""
    groups: dict[tuple[str, str, str, int], list[StatementRow]] = {}
    for row in rows:
        groups.setdefault((row.machine, month_of(row), row.agreement, row.points), []).append(row)
    return tuple(
        MonthSum(
            machine=machine, simulated=is_simulated(machine), month=month, agreement=agreement, points=points,
            windows=len(own), net_micros=sum(row.net_micros for row in own),
            amount_micros=sum(row.amount_micros for row in own),
        )
        for (machine, month, agreement, points), own in sorted(groups.items())
    )  # fmt: skip


def _holdings(treasury: Treasury, account: str) -> Iterator[Holding]:
    for issue in ShareBook(treasury.data_dir).issues():
        contract = Shares.open(treasury.data_dir, treasury.chain, issue.shares)
        for holder in contract.holders():
            if holder.account.lower() == account:
                paid = service.why(treasury.data_dir, treasury.chain, issue.shares)
                yield Holding(
                    symbol=issue.symbol, machine=issue.machine,
                    simulated=is_simulated(issue.machine), shares=issue.shares, held=holder.shares,
                    supply=contract.supply(), withdrawable=holder.withdrawable, decimals=treasury.decimals(),
                    sums=month_sums(paid.rows),
                )  # fmt: skip


def write_parquet(explained: Explained, out: Path) -> None:
    """Writes the readings of its windows, else its rows and dues, with a comment on every column."""
    if explained.windows:
        pairs = zip(explained.rows, explained.windows, strict=True)
        table = _table([line for row, own in pairs for line in _reading_rows(row, own)], READING_COMMENTS)
    else:
        parts = [msgspec.structs.asdict(row) | {"kind": "part"} for row in explained.rows]
        dues = [msgspec.structs.asdict(due) for due in explained.dues]
        table = _table([*parts, *dues], WINDOW_COMMENTS)
    pq.write_table(table, out, compression="zstd")


def _reading_rows(row: StatementRow, found: ExplainedWindow) -> list[dict[str, Any]]:
    data = {
        "machine": row.machine, "start_ms": row.start_ms, "adjusts_ms": row.adjusts_ms or None,
        "simulated": row.simulated,
    }  # fmt: skip
    return [data | msgspec.structs.asdict(one) for one in found.readings]


def _table(rows: list[dict[str, Any]], comments: dict[str, str]) -> pa.Table:
    """Rows with typed columns: money as DECIMAL(38, 0) micros, null what a row lacks; each field has its comment."""
    fields = []
    for name, comment in comments.items():
        kind = MICROS if name.endswith("micros") else TYPES.get(name, pa.int64())
        fields.append(pa.field(name, kind, metadata={"comment": comment}))
    columns = [[_cell(row.get(field.name), field.type == MICROS) for row in rows] for field in fields]
    return pa.table(columns, schema=pa.schema(fields))


def _cell(value: Any, is_money: bool) -> Any:
    return Decimal(value) if is_money and value is not None else value
