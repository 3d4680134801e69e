"""Suppliers' invoices, customers' refunds and deposits on a real EVM node: paid whole, named, and never another's."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs
from typer.testing import CliRunner

from deploy.agent.purse import Purse
from deploy.cli import app as cli
from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.money.treasury import Treasury
from schemas.errors import InvalidInput
from schemas.registration import Agreement
from schemas.window import Due, Statement
from settlement import service
from settlement.accrual import NOBODY
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, Signer, development_signer
from settlement.storage.posts import Store
from tests.support.settlement_data import ALICE, FIRST_EPOCH, LOG, publish, window

pytestmark = pytest.mark.chain

DAY = FIRST_EPOCH
SUPPLIER = "0x" + "5e" * 20
CUSTOMER = "0x" + "c0" * 20
OWNER = Agreement({ALICE: 10_000}, pays_trust=1)
WHOLE = 10**6


def pays_in(ledger: Ledger, node: Chain, keys: Keys, amount: int) -> None:
    """A customer's payment: tokens that are sent to the ledger."""
    operator = keys.of("operator")
    node.transact(operator, ledger.mint(operator.address, amount))
    node.transact(operator, ledger.transfer(ledger.deployment.ledger, amount))


@pytest.fixture
def place(tmp_path: Path, node: Chain, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger, and an epoch: a robot earned 600 of its 700 without a signature and bought for 100; a customer who paid
    130 in all had 80 back, and has 200 more in a session that is open.
    """
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    DataFolder(tmp_path, Settings(data_dir=tmp_path, chain_rpc_url=node.rpc_url)).create_log(LOG)
    ledger = Ledger(node, service.deploy_contracts(tmp_path, node, LOG, keys))
    dues = [Due("expense", SUPPLIER, "bearing/7", 100 * WHOLE), Due("refund", CUSTOMER, "s-1", 80 * WHOLE)]
    dues += [Due("refund", NOBODY, "s-2", 3 * WHOLE), Due("refund", ledger.deployment.ledger, "s-3", 2 * WHOLE)]
    publish(tmp_path, 0, DAY, [
        window("robot", DAY, 600 * WHOLE, agreement=OWNER, trust=0, dues=dues),
        window("robot", DAY, 50 * WHOLE, place=1, agreement=OWNER, trust=2),
    ])  # fmt: skip
    publish(tmp_path, 1, DAY, deposits=200 * WHOLE)
    return tmp_path


def ask(place: Path, *words: str) -> str:
    """What a command says."""
    done = CliRunner().invoke(cli.app, [*words, "--data-dir", str(place)])
    assert done.exit_code == 0, done.output
    return done.stdout


def claim_all(place: Path, node: Chain, keys: Keys) -> dict[str, int]:
    service.attest(place, node, keys)
    node.pass_time(61)
    return {paid.account: paid.amount for paid in service.claim_many(place, node, keys).paid}


def test_dues_and_deposits_from_epochs_to_claims(place: Path, node: Chain, keys: Keys) -> None:
    ledger = Ledger.open(place, node)
    pays_in(ledger, node, keys, 330 * WHOLE)
    before = service.settlements(place, node, LOG)
    assert (before.deposits, before.unposted, before.shortfall) == (200 * WHOLE, 230 * WHOLE, 100 * WHOLE)
    service.fund(place, node, LOG, keys, 100 * WHOLE - 1)
    with pytest.raises(InvalidInput, match=r"short of 1 token units .* and 200000000 are deposits of customers"):
        service.settle(place, node, LOG, keys)
    planned = service.dry_run(place, node, LOG, keys, SettleOptions())
    assert "deposits of customers" in planned.refusal
    assert [(due.kind, due.ref, due.amount) for due in planned.dues[:2]] == [
        ("expense", "bearing/7", 100 * WHOLE), ("refund", "s-1", 80 * WHOLE),
    ]  # fmt: skip
    assert service.fund(place, node, LOG, keys).amount == 1
    assert service.settle(place, node, LOG, keys).posts == (1,)
    state = ledger.state()
    assert (state.total, state.deposits) == (230 * WHOLE, 200 * WHOLE)
    (posted,) = ledger.history().live
    assert posted.header.deposits == 200 * WHOLE
    assert {(u.payee, u.micros) for u in service.settlements(place, node, LOG).unsettled} == {
        (NOBODY, 3 * WHOLE), (ledger.deployment.ledger, 2 * WHOLE), ("", 600 * WHOLE),
    }  # fmt: skip
    assert claim_all(place, node, keys) == {ALICE: 50 * WHOLE, SUPPLIER: 100 * WHOLE, CUSTOMER: 80 * WHOLE}
    assert ledger.state().balance == 200 * WHOLE, "what is left is the customer's"
    with pytest.raises(InvalidInput, match="400 days after the last post"):
        node.ask(ledger.close(ALICE), keys.of("admin").address)

    # The session ends: 150 were used, 50 go back. Nobody has to fund anything for that.
    publish(place, 0, DAY + 1)
    refund = Due("refund", CUSTOMER, "s-9", 50 * WHOLE)
    publish(place, 1, DAY + 1, [window("charger", DAY + 1, 150 * WHOLE, agreement=OWNER, trust=1, dues=[refund])])
    assert service.settlements(place, node, LOG).shortfall == 0
    assert service.settle(place, node, LOG, keys).posts == (2,)
    assert ledger.state().deposits == 0
    assert claim_all(place, node, keys) == {ALICE: 150 * WHOLE, CUSTOMER: 50 * WHOLE}
    assert ledger.state().balance == 0

    # Lost posts are made again from the epochs, with the same dues and deposits under the same heads.
    shutil.rmtree(place / "settlement" / "posts")
    assert service.restore_posts(place, node, LOG) == (1, 2)
    assert [row.settlement.deposits_micros for row in service.settlements(place, node, LOG).posts] == [200 * WHOLE, 0]
    assert sum(due.amount_micros for due in service.why(place, node, CUSTOMER).dues) == 130 * WHOLE


def test_every_account_is_told_what_its_dues_are(place: Path, node: Chain, keys: Keys, tmp_path: Path) -> None:
    dry = ask(place, "settle", "--dry-run")
    assert "adds 230.000000 (100.000000 of it to suppliers, 80.000000 refunds)" in dry
    assert "200.000000 beside it are deposits of customers" in dry
    assert "bearing/7" in dry
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    shown = ask(place, "settlements")
    assert "to suppliers 100.00 USD, refunded 80.00 USD; deposits of customers for open sessions 200.000000" in shown
    assert f"unsettled: 3.00 USD to '{NOBODY}' (the zero address)" in shown
    assert "(the ledger itself)" in shown
    rows = {row["account"]: row for row in json.loads(ask(place, "payouts", "--json"))["payouts"]}
    assert (rows[SUPPLIER]["expenses"], rows[SUPPLIER]["refunds"]) == ("100.000000", "0.000000")
    assert (rows[CUSTOMER]["cumulative"], rows[CUSTOMER]["refunds"]) == ("80.000000", "80.000000")
    assert f"why {SUPPLIER} is owed 100.000000 USD: dues, paid whole" in ask(place, "why", SUPPLIER)
    explained = json.loads(ask(place, "why", CUSTOMER, "--json"))
    assert [(due["kind"], due["ref"], due["amount"]) for due in explained["dues"]] == [("refund", "s-1", "80.000000")]
    page, sheet = tmp_path / "page.html", tmp_path / "sheet.csv"
    ask(place, "statement", SUPPLIER, "--html", str(page), "--csv", str(sheet))
    assert "Invoice of bearing/7, whole" in page.read_text()
    (line,) = sheet.read_text().splitlines()[1:]
    assert line.startswith("1,expense,robot,") and ",bearing/7," in line and ",100.000000,USD," in line
    assert json.loads(ask(place, "statement", CUSTOMER, "--json"))["amount"] == "80.000000"
    with pytest.raises(InvalidInput, match="in no payout"):
        service.claim(place, node, keys, NOBODY[:-1] + "1")


def test_an_agent_s_purse_claims_and_sees_what_came_back(place: Path, node: Chain, keys: Keys) -> None:
    """With its own gas; a refund is back once the post that pays it is active, and what isn't worth the gas waits."""
    statement = Statement("s-9", CUSTOMER, 130 * WHOLE, 80 * WHOLE, 50 * WHOLE)
    refund = Due("refund", CUSTOMER, "s-9", 50 * WHOLE)
    sold = window("charger", DAY, 80 * WHOLE, place=2, agreement=OWNER, trust=1, dues=[refund])
    publish(place, 0, DAY, [structs.replace(sold, sessions=(statement,)).sealed("00" * 16)])
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    treasury = Treasury(DataFolder(place, Settings(data_dir=place, chain_rpc_url=node.rpc_url)))
    gas = development_signer(8)
    owner, customer = (Purse(treasury, account, gas, 51 * WHOLE) for account in (ALICE, CUSTOMER))
    assert (owner.claim(), customer.refund("charger", "s-9")) == (0, None), "not active yet"
    service.attest(place, node, keys)
    node.pass_time(61)
    assert (owner.claim(), customer.claim(), owner.claim()) == (80 * WHOLE, 0, 0)
    assert customer.refund("charger", "s-9") == 50 * WHOLE
    assert (owner.refund("charger", "s-9"), customer.refund("robot", "s-9")) == (None, None), "another's"
    poor = Purse(treasury, CUSTOMER, Signer.from_key("77" * 32), 1)
    with pytest.raises(InvalidInput, match="too little for gas"):
        poor.claim()


def test_attack_files_that_give_a_due_to_another_do_not_pass_why(place: Path, node: Chain, keys: Keys) -> None:
    """The leaf of a window does not hold its dues: the payouts root does."""
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    assert [due.ref for due in service.why(place, node, CUSTOMER).dues] == ["s-1"]
    windows = Store(place).windows(1)
    assert windows is not None
    path = place / "settlement" / "posts" / "1" / "windows.parquet"
    table = pq.read_table(path)
    dues = [[due | {"account": ALICE} for due in row] for row in table.column("dues").to_pylist()]
    column = pa.array(dues, table.schema.field("dues").type)
    pq.write_table(table.set_column(table.schema.get_field_index("dues"), "dues", column), path)
    with pytest.raises(InvalidInput, match="are not those on the chain"):
        service.why(place, node, CUSTOMER)
