"""Why an account is owed what it is."""

from deploy.money_commands import Treasury
from deploy.terminal import Terminal, moment_text, money
from deploy.workplace import Workplace
from settlement import worker


def why(place: Workplace, terminal: Terminal, account: str) -> None:
    """The statement of an account, window by window."""
    treasury = Treasury(place)
    found = worker.why(treasury.data_dir, treasury.chain, account)
    rows = [
        (row.sequence, row.machine, moment_text(row.start_ms), row.net_micros, row.payable_micros, row.points,
         row.amount_micros)
        for row in found.rows
    ]  # fmt: skip
    columns = ["post", "machine", "window", "net micros", "payable micros", "basis points", "micros"]
    terminal.table(
        f"why {found.account} is owed {money(found.cumulative_micros, treasury.log.currency)}", columns, rows
    )
    terminal.result(found)
