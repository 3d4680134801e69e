"""An account's statement as CSV, for a spreadsheet, and as one HTML page that prints well and needs no network."""

import csv
import io
from collections.abc import Sequence
from html import escape
from string import Template

from msgspec import Struct

from deploy.explain.why import MonthSum, month_of, month_sums
from deploy.texts import machine_text, moment_text, units
from schemas.errors import InvalidInput
from schemas.units import MICROS_DECIMALS
from settlement.statement import DueRow, Statement, StatementRow

PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Statement $period, $account</title>
<style>
body { font: 11pt/1.4 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
h1 { font-size: 1.4rem } dt { color: #555 } dd { margin: 0 0 .4rem; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
thead { display: table-header-group } tfoot { display: table-row-group } tr, footer { break-inside: avoid }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #ccc }
td:first-child { overflow-wrap: anywhere }
.m, .n { white-space: nowrap } .n { text-align: right; font-variant-numeric: tabular-nums }
tfoot td { border-bottom: 0 } tfoot tr:first-child td { font-weight: bold; border-top: 2px solid #111 }
footer { color: #555; font-size: .85rem } code { white-space: nowrap }
@media screen and (max-width: 40rem) {
  thead { display: none } table, tbody, tfoot { display: block } code { white-space: normal; overflow-wrap: anywhere }
  tr { display: flex; flex-wrap: wrap; column-gap: .6rem; padding: .4rem 0; border-bottom: 1px solid #ccc }
  td { padding: 0 } td, tfoot tr:first-child td { border: 0 } tfoot tr:first-child { border-top: 2px solid #111 }
  td:first-child { flex: 1 0 calc(100% - 8.6rem); width: min-content } td:last-child { flex: 0 0 8rem }
  tbody td.m, tbody td.n:not(:last-child) { order: 1; color: #555; font-size: .8rem }
  .w::before { content: "windows " } .e::before { content: "earned " } .p::before { content: "part " }
}
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 9.5pt }
  @page { margin: 18mm; @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif } }
}
</style>
<h1>Statement, $period</h1>
<dl><dt>Account</dt><dd>$account</dd><dt>Log</dt><dd>$log_id, $currency</dd>
<dt>Ledger</dt><dd>$ledger</dd><dt>Posts</dt><dd>$posts</dd></dl>
<main><table>
<thead><tr><th>Machine<th>Month<th class="n">Windows<th class="n">Earned<th class="n">Your part<th class="n">Amount</tr>
</thead><tbody>
$rows
</tbody><tfoot><tr><td colspan="5">Total, $currency<td class="n">$total</tr>$simulated</tfoot>
</table></main>
<footer>Amounts are exact. Earned is what the machine's windows came to; your part is that of the agreement in force.
Invoices and refunds are paid whole, whatever the machine earned.
A window that adjusts an earlier one stands in the month of its own start. Times are UTC. To check a window down to its
readings: <code>tallyroot why $account --window MACHINE START</code></footer>
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
    dues: tuple[DueRow, ...]


def payee_statement(found: Statement, month: str, *, log_id: str, currency: str, ledger: str) -> PayeeStatement:
    """The part of a statement that is of a month. Raises InvalidInput where there is none."""
    rows = tuple(row for row in found.rows if month in ("", month_of(row)))
    dues = tuple(due for due in found.dues if month in ("", month_of(due)))
    if not rows and not dues:
        where = f"in {month}" if month else "in any post"
        raise InvalidInput(f"{found.account} was paid nothing {where}: see `tallyroot why {found.account}`")
    return PayeeStatement(
        account=found.account, month=month, log_id=log_id, currency=currency, ledger=ledger, rows=rows,
        sums=month_sums(rows), dues=dues,
        amount_micros=sum(row.amount_micros for row in rows) + sum(due.amount_micros for due in dues),
    )  # fmt: skip


def statement_csv(found: PayeeStatement) -> str:
    """A line for each window, then one for each due; amounts with all of their decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["post", "kind", "machine", "simulated", "start_utc", "end_utc", "adjusts_utc", "ref", "net", "carry_before",
         "payable", "carry_after", "agreement", "basis_points", "amount", "currency", "window_digest"]
    )  # fmt: skip
    for row in found.rows:
        net, before, payable, after, amount = _plain(
            row.net_micros, row.carry_before_micros, row.payable_micros, row.carry_after_micros, row.amount_micros
        )
        writer.writerow(
            [row.sequence, "part", row.machine, _yes(row), *_times(row), "", net, before, payable, after,
             f"0x{row.agreement}", row.points, amount, found.currency, f"0x{row.window_digest}"]
        )  # fmt: skip
    for due in found.dues:
        (amount,) = _plain(due.amount_micros)
        writer.writerow(
            [due.sequence, due.kind, due.machine, _yes(due), *_times(due), due.ref, "", "", "", "", "", "", amount,
             found.currency, f"0x{due.window_digest}"]
        )  # fmt: skip
    return text.getvalue()


def _yes(row: StatementRow | DueRow) -> str:
    return "yes" if row.simulated else "no"


def _times(row: StatementRow | DueRow) -> list[str]:
    """Start, end, and start of what is adjusted (empty for nothing), in UTC."""
    times = (row.start_ms, row.end_ms, row.adjusts_ms)
    return [moment_text(each).removesuffix(" UTC") if each else "" for each in times]


def statement_html(found: PayeeStatement) -> str:
    """The page: a line for each machine, month and agreement, one for each due, and their total."""
    months = [*(each.month for each in found.sums), *map(month_of, found.dues)]
    period = found.month or (min(months) if min(months) == max(months) else f"{min(months)} to {max(months)}")
    posts = sorted({row.sequence for row in found.rows} | {due.sequence for due in found.dues})
    rows = (*map(_row, found.sums), *map(_due_row, found.dues))
    shown: tuple[MonthSum | DueRow, ...] = (*found.sums, *found.dues)
    simulated = [one.amount_micros for one in shown if one.simulated]
    of_it = f'<tr><td colspan="5">of it simulated<td class="n">{units(sum(simulated), MICROS_DECIMALS)}</tr>'
    return PAGE.substitute(
        period=escape(period), account=escape(found.account), log_id=escape(found.log_id),
        currency=escape(found.currency), ledger=escape(found.ledger), posts=", ".join(map(str, posts)),
        rows="\n".join(rows), total=units(found.amount_micros, MICROS_DECIMALS), simulated=of_it if simulated else "",
    )  # fmt: skip


def _row(one: MonthSum) -> str:
    numbers = {
        "n w": f"{one.windows:,}", "n e": units(one.net_micros, MICROS_DECIMALS), "n p": percent(one.points),
        "n": units(one.amount_micros, MICROS_DECIMALS),
    }  # fmt: skip
    cells = "".join(f'<td class="{name}">{number}' for name, number in numbers.items())
    return f'<tr><td>{escape(machine_text(one.machine))}<td class="m">{one.month}{cells}</tr>'


def _due_row(due: DueRow) -> str:
    what = f"{'Invoice of' if due.kind == 'expense' else 'Refund of'} {due.ref}, whole"
    amount = units(due.amount_micros, MICROS_DECIMALS)
    cells = f'<td class="m">{month_of(due)}<td colspan="3">{escape(what)}<td class="n">{amount}'
    return f"<tr><td>{escape(machine_text(due.machine))}{cells}</tr>"


def percent(points: int) -> str:
    """Basis points as per cent, such as 12.5 %."""
    return f"{points / 100:g} %"


def _plain(*micros: int) -> Sequence[str]:
    """Amounts without separators, as a spreadsheet reads them."""
    return [units(each, MICROS_DECIMALS).replace(",", "") for each in micros]
