"""What a treasurer runs, on a real EVM node: claims of many, proofs of all, dry runs, the runway, a remote key."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.cli import check, money, roles
from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.explain import audit_sources
from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.payout import Funding
from schemas.registration import Agreement
from settlement import service
from settlement.chain.contract import Call, artefact
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.remote_signer import RemoteSigner
from settlement.chain.signer import Keys, development_signer
from settlement.chain.watcher import look
from settlement.leaf import payout_leaf
from settlement.merkle import proves
from tests.support.odd_token import OddToken
from tests.support.settlement_data import ALICE, BOB, FIRST_EPOCH, LOG, SOLAR, publish, publish_all, window
from tests.support.signer_service import signer_service

pytestmark = pytest.mark.chain

DAY = FIRST_EPOCH
POSTER_KEY = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
"""The development node's second account, which is no role's: public."""


@pytest.fixture
def place(tmp_path: Path, node: Chain, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """A data folder whose log has one epoch: it owes 900 dollars to three payees."""
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    place = DataFolder(tmp_path, Settings(data_dir=tmp_path, chain_rpc_url=node.rpc_url))
    place.create_log(LOG)
    publish_all(tmp_path, {DAY: {0: [window("pv-1", DAY, 600_000_000)], 1: [window("cab-7", DAY, 300_000_000)]}})
    return place


def out(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The last JSON result on stdout."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def paying(place: DataFolder, node: Chain, keys: Keys) -> None:
    """Posts, attests, and lets the delay pass."""
    service.fund(place.data_dir, node, LOG, keys)
    service.settle(place.data_dir, node, LOG, keys)
    service.attest(place.data_dir, node, keys)
    node.pass_time(61)


def test_a_blocked_payee_stops_no_other_and_is_named(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = keys.of("operator")
    token = OddToken(node, operator, 6)
    token.mint(operator.address, 10**12)
    service.deploy_contracts(place.data_dir, node, LOG, keys, token=token.address)
    paying(place, node, keys)
    token.block(ALICE, blocked=True)
    with pytest.raises(InvalidInput):
        service.claim(place.data_dir, node, keys, ALICE)
    service.claim(place.data_dir, node, keys, BOB)
    money.claim(all_accounts=True, data_dir=place.data_dir, json=True)
    done = out(capsys)
    assert [(row["account"], row["amount"]) for row in done["paid"]] == [(SOLAR, "450.000000")]
    assert [row["account"] for row in done["returned"]] == [ALICE]
    assert done["already"] == [BOB]
    assert (done["amount"], len(done["transactions"])) == ("450.000000", 1)
    token.block(ALICE, blocked=False)
    again = service.claim_many(place.data_dir, node, keys)
    assert [row.account for row in again.paid] == [ALICE]
    none = service.claim_many(place.data_dir, node, keys)
    assert (none.paid, none.transactions, len(none.already)) == ((), (), 3)


def test_many_accounts_are_claimed_in_batches(place: DataFolder, node: Chain, keys: Keys) -> None:
    payees = {f"0x{number:040x}": 400 for number in range(1, 26)}
    publish_all(place.data_dir, {DAY: {0: [window("pv-1", DAY, 25_000_007, agreement=Agreement(payees))]}})
    service.deploy_contracts(place.data_dir, node, LOG, keys)
    with pytest.raises(InvalidInput, match="nothing is posted yet"):
        service.claim_many(place.data_dir, node, keys)
    service.fund(place.data_dir, node, LOG, keys)
    service.settle(place.data_dir, node, LOG, keys)
    with pytest.raises(InvalidInput, match="post 1 is not attested yet"):
        service.claim_many(place.data_dir, node, keys)
    service.attest(place.data_dir, node, keys)
    with pytest.raises(InvalidInput, match=r"post 1 is not active until 20\d\d-"):
        service.claim_many(place.data_dir, node, keys)
    node.pass_time(61)
    with pytest.raises(InvalidInput, match=f"{SOLAR} is in no payout of post 1"):
        service.claim_many(place.data_dir, node, keys, [SOLAR, *payees])
    two = service.claim_many(place.data_dir, node, keys, [f"0x{n:040X}" for n in (3, 2, 3)])
    assert [row.account for row in two.paid] == [f"0x{n:040x}" for n in (3, 2)]
    rest = service.claim_many(place.data_dir, node, keys, batch=10)
    assert (len(rest.paid), len(rest.already), len(rest.transactions)) == (23, 2, 3)
    assert two.amount + rest.amount == 25_000_007
    assert all(row.claimable == 0 for row in service.payouts(place.data_dir, node))


def test_every_account_gets_a_proof_file(
    place: DataFolder, node: Chain, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.deploy_contracts(place.data_dir, node, LOG, keys)
    paying(place, node, keys)
    folder = tmp_path / "published" / "proofs"
    check.proof(all_accounts=True, out=folder, data_dir=place.data_dir, json=True)
    assert out(capsys) == {"folder": str(folder), "proofs": 3}
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{a}.json" for a in (SOLAR, ALICE, BOB))
    for path in folder.iterdir():
        file = service.read_proof(path)
        assert file == service.proof(place.data_dir, node, file.account)
        nodes = [bytes.fromhex(text[2:]) for text in file.proof]
        assert proves(bytes.fromhex(file.payouts_root[2:]), payout_leaf(file.account, int(file.cumulative)), nodes)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="can't make the folder"):
        check.proof(all_accounts=True, out=tmp_path / "file" / "below", data_dir=place.data_dir)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_tells_all_and_does_nothing(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    service.deploy_contracts(place.data_dir, node, LOG, keys)
    before, block = files_of(place.data_dir), node.block_number()
    first = service.dry_run(place.data_dir, node, LOG, keys, SettleOptions())
    money.settle(dry_run=True, data_dir=place.data_dir)
    shown = capsys.readouterr().out
    assert "the ledger lacks 900.000000" in shown
    assert "3 accounts get more, 3 of them for the first time" in shown
    assert "short of 900000000 token units" in first.refusal
    assert (first.shortfall, first.posts[0].windows, first.waiting_for) == (
        900_000_000,
        2,
        "epoch 18141 of partition 0",
    )
    assert files_of(place.data_dir) == before
    assert node.block_number() == block

    service.fund(place.data_dir, node, LOG, keys)
    second = service.dry_run(place.data_dir, node, LOG, keys, SettleOptions())
    assert (second.refusal, second.shortfall) == ("", 0)
    assert 0 < second.cost_wei <= second.most_wei < second.poster_wei
    assert second.poster == keys.of("poster").address
    service.settle(place.data_dir, node, LOG, keys)
    (posted,) = Ledger.open(place.data_dir, node).history().live
    (planned,) = second.posts
    assert planned.windows_root == posted.header.windows_root.hex()
    assert planned.payouts_root == posted.header.payouts_root.hex()
    assert planned.manifest_hash == posted.header.manifest_hash.hex()
    assert planned.total == posted.header.total == 900_000_000
    used = node._eth.get_transaction_receipt(posted.transaction)["gasUsed"]  # type: ignore[arg-type]
    assert used <= second.gas <= used * 3 // 2
    assert abs(first.gas - used) < used // 20  # the table's figure, where the node gives none


def test_a_dry_run_names_who_is_new_and_who_is_gone(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    service.deploy_contracts(place.data_dir, node, LOG, keys)
    service.fund(place.data_dir, node, LOG, keys, 2_000_000_000)
    service.settle(place.data_dir, node, LOG, keys)
    new = "0x" + "d4" * 20
    publish(place.data_dir, 0, DAY + 1, [window("pv-1", DAY + 1, 100, agreement=Agreement({SOLAR: 5_000, new: 5_000}))])
    publish(place.data_dir, 1, DAY + 1)
    publish(place.data_dir, 0, DAY + 2, [window("pv-1", DAY + 2, 10)])
    publish(place.data_dir, 1, DAY + 2)
    one = service.dry_run(place.data_dir, node, LOG, keys, SettleOptions(max_epochs=1))
    assert [post.sequence for post in one.posts] == [2, 3]  # as `settle --epochs 1` goes on until all is posted
    found = service.dry_run(place.data_dir, node, LOG, keys, SettleOptions(max_epochs=1, max_posts=1))
    assert [(c.account, c.before, c.after, c.last_amount) for c in found.changes] == [
        (SOLAR, 450_000_000, 450_000_050, 450_000_000), (new, 0, 50, 0),
    ]  # fmt: skip
    assert [change.account for change in found.gone] == [ALICE, BOB]
    settled = service.settle(place.data_dir, node, LOG, keys, SettleOptions(max_epochs=1))
    live = Ledger.open(place.data_dir, node).history().live
    assert settled.posts == (2, 3)
    assert [p.payouts_root for p in one.posts] == [posted.header.payouts_root.hex() for posted in live[1:]]
    nothing = service.dry_run(place.data_dir, node, LOG, keys, SettleOptions())
    assert (nothing.posts, nothing.changes, nothing.gone) == ((), (), ())
    money.settle(dry_run=True, data_dir=place.data_dir)
    assert "nothing to post" in capsys.readouterr().out


def test_the_runway_shrinks_and_warns(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    service.deploy_contracts(place.data_dir, node, LOG, keys)
    assert service.settlements(place.data_dir, node, LOG).runway.days is None
    service.fund(place.data_dir, node, LOG, keys, 900_000_000 + 4_600_000_000)
    money.settle(runway_days=0, data_dir=place.data_dir, json=True)
    report = service.settlements(place.data_dir, node, LOG)
    money.settlements(5, data_dir=place.data_dir)
    assert (report.runway.free, report.runway.per_day, report.runway.days) == (4_600_000_000, 900_000_000, 5)
    shown = capsys.readouterr()
    assert "the funds last 5 days" in shown.out
    assert "warning" not in shown.err
    money.settlements(6, data_dir=place.data_dir, json=True)
    assert "warning: the ledger's free funds last 5 days, fewer than 6: `tallyroot fund`" in capsys.readouterr().err

    publish(place.data_dir, 0, DAY + 1, [window("pv-1", DAY + 1, 2_500_000_000)])
    publish(place.data_dir, 1, DAY + 1)
    money.settle(runway_days=7, data_dir=place.data_dir, json=True)
    shown = capsys.readouterr()
    assert "free funds last 1 day, fewer than 7" in shown.err
    noted = msgspec.json.decode((place.data_dir / "settlement" / "funding.json").read_bytes(), type=Funding)
    assert noted.runway_days == 1


def test_a_post_is_signed_by_a_remote_key(place: DataFolder, node: Chain, keys: Keys) -> None:
    poster = development_signer(1)
    with signer_service(POSTER_KEY) as signer:
        assert signer.account.address.lower() == poster.address
        remote = Keys({"poster": lambda: RemoteSigner(signer.url, poster.address)}, node.chain_id)
        service.deploy_contracts(place.data_dir, node, LOG, keys, accounts={"poster": [poster.address]})
        service.fund(place.data_dir, node, LOG, keys)
        with pytest.raises(InvalidInput, match="is not the poster of the ledger"):
            service.settle(place.data_dir, node, LOG, keys)
        assert service.dry_run(place.data_dir, node, LOG, remote, SettleOptions()).refusal == ""
        assert signer.asked == []
        assert service.settle(place.data_dir, node, LOG, remote).posts == (1,)
        assert len(signer.asked) == 1


def test_guardian_and_admin_keep_the_ledger(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.data_dir
    service.deploy_contracts(folder, node, LOG, keys)
    paying(place, node, keys)
    roles.pause("claims", "2d", data_dir=folder, json=True)
    capsys.readouterr()
    assert service.settlements(folder, node, LOG).paused_until_s > node.time_s()
    money.settlements(data_dir=folder)
    assert "claims are paused until 20" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match=r"claims are paused until 20\d\d-"):
        service.claim(place.data_dir, node, keys, SOLAR)
    with pytest.raises(InvalidInput, match="the next pause can start at"):
        roles.pause("claims", "1d", data_dir=folder)
    roles.unpause("claims", data_dir=folder)
    assert service.settlements(place.data_dir, node, LOG).paused_until_s == 0
    with pytest.raises(InvalidInput, match="nothing is paused"):
        roles.unpause("claims", data_dir=folder)
    assert service.claim(place.data_dir, node, keys, BOB).amount == 150_030_000

    with pytest.raises(InvalidInput, match="can no longer be disputed"):
        check.dispute(1, data_dir=folder)
    capsys.readouterr()
    roles.revoke(1, print_call=True, data_dir=folder, json=True)
    tried = out(capsys)
    assert tried["transaction"] is None
    node.transact(keys.of("admin"), Call(tried["to"], bytes.fromhex(tried["data"][2:])))  # as a timelock does
    with pytest.raises(InvalidInput, match="post 1 was revoked"):
        service.claim(place.data_dir, node, keys, SOLAR)
    with pytest.raises(InvalidInput, match="post 1 is not active"):
        roles.revoke(1, data_dir=folder)

    ledger = Ledger.open(folder, node)
    with pytest.raises(InvalidInput, match="400 days after the last post"):
        roles.close_ledger(ALICE, data_dir=folder)
    foreign = node.deploy(keys.of("operator"), "DemoDollar", keys.of("operator").address)[0]
    node.transact(keys.of("operator"), artefact("DemoDollar").call(foreign, "mint", ledger.deployment.ledger, 7))
    with pytest.raises(InvalidInput, match="is the ledger's own token"):
        roles.recover_token(ledger.deployment.token, 1, ALICE, data_dir=folder)
    roles.recover_token(foreign, 7, ALICE, data_dir=folder)
    assert node.ask(artefact("DemoDollar").call(foreign, "balanceOf", ALICE)) == 7
    roles.max_rate("12.5", data_dir=folder)
    assert Ledger.open(place.data_dir, node).state().max_rate == 12_500_000
    roles.pause("posting", "1d", data_dir=folder)
    assert service.settlements(folder, node, LOG).posting_paused_until_s > node.time_s()
    money.settlements(data_dir=folder)
    assert "posting is paused until 20" in capsys.readouterr().out
    roles.unpause("posting", data_dir=folder)
    with pytest.raises(InvalidInput, match="write claims or posting"):
        roles.pause("everything", "1d", data_dir=folder)
    with pytest.raises(InvalidInput, match="needs as many auditors, and there are 1"):
        roles.quorum(2, data_dir=folder)


def test_two_of_three_auditors_and_an_admin_who_announces(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, others = place.data_dir, [development_signer(number) for number in (7, 8)]
    operator, admin, guardian = (keys.of(role) for role in ("operator", "admin", "guardian"))
    timelock, _ = node.deploy(operator, "LedgerTimelock", 3_600, [admin.address], [guardian.address])
    auditors = [keys.of("auditor").address, *(each.address for each in others)]
    service.deploy_contracts(folder, node, LOG, keys, accounts={"admin": [timelock], "auditor": auditors})
    service.fund(folder, node, LOG, keys)
    service.settle(folder, node, LOG, keys)
    ledger = Ledger.open(folder, node)
    assert ledger.state().quorum == 2
    assert service.attest(folder, node, keys).sequence == 1
    assert (ledger.attested(), ledger.attested_by(auditors[0])) == (0, 1)
    with pytest.raises(InvalidInput, match="attested already"):
        service.attest(folder, node, keys)
    service.attest(folder, node, Keys({"auditor": others[1]}, node.chain_id))
    assert ledger.attested() == 1

    roles.quorum(3, data_dir=folder)
    assert "it may be carried out from 20" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="this was announced and may be done from 20"):
        roles.quorum(3, data_dir=folder)
    done = look(folder, node, LOG, keys, audit_sources.archived(LOG, PlainFiles(folder))).done
    (alarm,) = (part.text for part in done if "announced" in part.text)
    assert alarm.startswith(f"the admin has announced setQuorum of {ledger.deployment.ledger}")
    step = alarm.split("cancel-announced ")[1].strip("`")
    roles.cancel_announced(step, data_dir=folder)
    node.pass_time(3_601)
    roles.quorum(3, data_dir=folder)  # announced anew
    node.pass_time(3_601)
    roles.quorum(3, data_dir=folder)
    assert ledger.state().quorum == 3
