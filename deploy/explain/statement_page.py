"""A payee's statement as CSV, for a spreadsheet, and as one HTML page that prints well and needs no network."""

import csv
import io
from collections.abc import Sequence
from html import escape
from string import Template

from msgspec import Struct

from deploy.explain.statement import MonthSum, month_of, month_sums
from deploy.texts import machine_text, moment_text, units
from schemas.errors import InvalidInput
from schemas.units import MICROS_DECIMALS
from settlement.statement import Statement, StatementRow

PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Statement $period, $account</title>
<style>
body { font: 11pt/1.4 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.4rem } dt { color: #555 } dd { margin: 0 0 .4rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
thead { display: table-header-group } tr { break-inside: avoid }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #ccc }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
tfoot td { font-weight: bold; border-top: 2px solid #111; border-bottom: 0 }
footer { color: #555; font-size: .85rem }
@media (max-width: 40rem) { main { overflow-x: auto } }
@media print { body { margin: 0; max-width: none; font-size: 9.5pt } @page { margin: 18mm } }
</style>
<h1>Statement, $period</h1>
<dl><dt>Account</dt><dd>$account</dd><dt>Log</dt><dd>$log_id, $currency</dd>
<dt>Ledger</dt><dd>$ledger</dd><dt>Posts</dt><dd>$posts</dd></dl>
<main><table>
<thead><tr><th>Machine<th>Month<th class="n">Windows<th class="n">Earned<th class="n">Your part<th class="n">Amount</tr>
</thead><tbody>
$rows
</tbody><tfoot><tr><td colspan="5">Total, $currency<td class="n">$total</tr></tfoot>
</table></main>
<footer>Amounts are exact. Earned is what the machine's windows came to; your part is that of the agreement in force.
A window that adjusts an earlier one stands in the month of its own start. Times are UTC. To check a window down to its
readings: tallyroot why $account --window MACHINE START</footer>
</html>
""")


class PayeeStatement(Struct, frozen=True, kw_only=True):
    """What an account was paid for windows of one `month` (such as 2026-11), or of all where it is empty."""

    account: str
    month: str
    log_id: str
    currency: str
    ledger: str
    amount_micros: int
    sums: tuple[MonthSum, ...]
    rows: tuple[StatementRow, ...]


def payee_statement(found: Statement, month: str, *, log_id: str, currency: str, ledger: str) -> PayeeStatement:
    """The part of a statement that is of a month. Raises InvalidInput where there is none."""
    rows = tuple(row for row in found.rows if month in ("", month_of(row)))
    if not rows:
        where = f"in {month}" if month else "in any post"
        raise InvalidInput(f"{found.account} was paid nothing {where}: see `tallyroot why {found.account}`")
    return PayeeStatement(
        account=found.account, month=month, log_id=log_id, currency=currency, ledger=ledger, rows=rows,
        sums=month_sums(rows), amount_micros=sum(row.amount_micros for row in rows),
    )  # fmt: skip


def statement_csv(found: PayeeStatement) -> str:
    """A line for each window; amounts with all of their decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["post", "machine", "simulated", "start_utc", "end_utc", "adjusts_utc", "net", "carry_before", "payable",
         "carry_after", "agreement", "basis_points", "amount", "currency", "window_digest"]
    )  # fmt: skip
    for row in found.rows:
        net, before, payable, after, amount = _plain(
            row.net_micros, row.carry_before_micros, row.payable_micros, row.carry_after_micros, row.amount_micros
        )
        times = [moment_text(each).removesuffix(" UTC") if each else "" for each in (row.start_ms, row.end_ms)]
        adjusts = moment_text(row.mends_ms).removesuffix(" UTC") if row.mends_ms else ""
        writer.writerow(
            [row.sequence, row.machine, "yes" if row.simulated else "no", *times, adjusts, net, before, payable,
             after, f"0x{row.agreement}", row.points, amount, found.currency, f"0x{row.window_digest}"]
        )  # fmt: skip
    return text.getvalue()


def statement_html(found: PayeeStatement) -> str:
    """The page: a line for each machine, month and agreement, and their total."""
    months = [each.month for each in found.sums]
    period = found.month or (min(months) if min(months) == max(months) else f"{min(months)} to {max(months)}")
    posts = sorted({row.sequence for row in found.rows})
    return PAGE.substitute(
        period=escape(period), account=escape(found.account), log_id=escape(found.log_id),
        currency=escape(found.currency), ledger=escape(found.ledger), posts=", ".join(map(str, posts)),
        rows="\n".join(map(_row, found.sums)), total=units(found.amount_micros, MICROS_DECIMALS),
    )  # fmt: skip


def _row(one: MonthSum) -> str:
    numbers = (
        f"{one.windows:,}", units(one.net_micros, MICROS_DECIMALS), percent(one.points),
        units(one.amount_micros, MICROS_DECIMALS),
    )  # fmt: skip
    cells = "".join(f'<td class="n">{number}' for number in numbers)
    return f"<tr><td>{escape(machine_text(one.machine))}<td>{one.month}{cells}</tr>"


def percent(points: int) -> str:
    """Basis points as per cent, such as 12.5 %."""
    return f"{points / 100:g} %"


def _plain(*micros: int) -> Sequence[str]:
    """Amounts without separators, as a spreadsheet reads them."""
    return [units(each, MICROS_DECIMALS).replace(",", "") for each in micros]
