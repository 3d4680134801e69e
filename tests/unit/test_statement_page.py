"""A payee's statement on paper: exact, complete, and what is simulated is marked."""

import csv
import io
from decimal import Decimal

from deploy.explain.statement_page import payee_statement, statement_csv, statement_html
from schemas.window import Due
from settlement.accrual import Earning, Terms
from settlement.statement import statement

ACCOUNT = "0x" + "a1" * 20
HOUR_MS = 3_600_000


def earning(machine: str, net_micros: int, *dues: Due) -> Earning:
    return Earning(
        machine=machine, start_ms=HOUR_MS, end_ms=2 * HOUR_MS, adjusts_ms=0, net_micros=net_micros, trust=0,
        terms=Terms(((ACCOUNT, 10_000),), frozenset(), 0, "ab" * 32), digest=machine.encode().ljust(32, b"\0"),
        dues=dues,
    )  # fmt: skip


def test_simulated_income_is_marked_in_sums_csv_and_page() -> None:
    due = Due(kind="refund", account=ACCOUNT, micros=250_000, ref="s-1")
    found = statement(ACCOUNT, [(1, [earning("cp-7", 12_000_001), earning("sim-robot-1", 3_500_000, due)])])
    assert [(row.machine, row.simulated) for row in found.dues] == [("sim-robot-1", True)]
    assert [(row.machine, row.simulated) for row in found.rows] == [("cp-7", False), ("sim-robot-1", True)]
    page = payee_statement(found, "", log_id="log-1", currency="EUR", ledger="0x" + "c3" * 20)
    assert [(one.machine, one.simulated) for one in page.sums] == [("cp-7", False), ("sim-robot-1", True)]
    rows = list(csv.DictReader(io.StringIO(statement_csv(page))))
    assert [(row["machine"], row["simulated"], row["amount"]) for row in rows] == [
        ("cp-7", "no", "12.000001"),
        ("sim-robot-1", "yes", "3.500000"),
        ("sim-robot-1", "yes", "0.250000"),
    ]
    html = statement_html(page)
    assert "sim-robot-1 (simulated)" in html
    assert "cp-7 (simulated)" not in html
    assert 'of it simulated<td class="n">3.750000' in html
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("15.750001")
    assert "15.750001" in html
