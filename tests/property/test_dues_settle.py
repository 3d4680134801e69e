"""What the core makes of logs with orders and prepaid sessions settles: no money is lost, and the audit agrees."""

from pathlib import Path

import pytest

from schemas.window import Window
from settlement.accrual import earning_of
from settlement.audit.audit import Auditor
from settlement.audit.sources import Epoch, Sources
from settlement.history import Posted
from settlement.leaf import payout_leaf
from settlement.post import PartitionEpoch, PostStanding, Run, assemble, token_units
from streams.core.replay import advance_through
from streams.reference.vectors import new_state, read_document, records_of
from tests.support.published_post import MadePost
from tests.support.settlement_data import FIRST_EPOCH, LOG, manifest_of

FILES = sorted((Path(__file__).parents[1] / "golden" / "vectors").glob("*.json.gz"))
GENESIS = b"g" * 32
DECIMALS = 6


def sealed(path: Path) -> tuple[list[Window], int]:
    """The sealed windows of a vector by the core, and what customers are owed beside them."""
    document = read_document(path)
    state = new_state(document)
    parts = advance_through(state, records_of(document))
    return [window for part in parts for window in part.windows], state.deposits_micros()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_what_the_core_seals_is_settled_and_audited(path: Path) -> None:
    windows, deposits = sealed(path)
    epochs: dict[int, list[Epoch]] = {
        0: [Epoch(manifest_of(0, FIRST_EPOCH, windows, deposits=deposits), windows)],
        1: [Epoch(manifest_of(1, FIRST_EPOCH, []), [])],
    }
    chosen = {
        partition: [PartitionEpoch(one.manifest, [earning_of(window) for window in one.windows]) for one in items]
        for partition, items in epochs.items()
    }
    made = assemble(PostStanding.initial(), Run(FIRST_EPOCH, FIRST_EPOCH, chosen), DECIMALS)
    dues = [due for window in windows for due in window.dues]
    if made is None:
        assert not dues
        return
    header, totals = made.header(GENESIS, DECIMALS), made.manifest.totals
    assert (int(totals.expenses), int(totals.refunds)) == tuple(
        sum(due.micros for due in dues if due.kind == kind) for kind in ("expense", "refund")
    )
    assert int(totals.expenses) == sum(window.expenses_micros for window in windows)
    assert header.deposits == deposits
    payouts = {
        account: (token_units(micros, DECIMALS), made.payouts_tree.proof(payout_leaf(account, micros)))
        for account, micros in made.after.balances.payouts().items()
    }
    files = MadePost(made.manifest.canonical(), [earning for _, earning in made.windows], payouts)
    report = Auditor(LOG, GENESIS, DECIMALS).run(
        [Posted(header, header.head(), 0, "0x", 0)],
        lambda sequence: files,
        Sources(lambda partition: epochs[partition]),
    )
    assert report.ok, report.findings
    given = report.nets_micros + report.expenses_micros + report.refunds_micros
    assert given == report.paid_micros + report.outside_micros + report.held_micros + report.carry_micros


def test_the_vectors_hold_dues_of_both_kinds_and_deposits() -> None:
    found = [sealed(path) for path in FILES[::4]]
    kinds = {due.kind for windows, _ in found for window in windows for due in window.dues}
    assert kinds == {"expense", "refund"}
    assert any(deposits for _, deposits in found)
