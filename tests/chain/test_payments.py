"""Operators who write payments that the chain doesn't have, on a real EVM node and a real archive."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from deploy.cli import app as cli
from deploy.explain.audit_sources import archived
from deploy.money.peaq_events import write_peaq_events
from deploy.texts import money, units
from files.foreign import PlainFiles
from schemas.units import COUNT_MAX, MINUTE_MS
from settlement import service
from settlement.audit.audit import AuditReport
from settlement.audit.payments import Payments
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.chain.transfers import LedgerTransfers
from settlement.chain.watcher import auditor_of
from settlement.storage.published_post import published_in
from tests.support.archived_log import LOG, MACHINES, START_MS
from tests.support.paid_sessions import Customer, Payment, fill_paid, make_final
from tests.support.watched_folder import DELAY_S, WatchedFolder

pytestmark = pytest.mark.chain

WHOLE = 10**6
WAIT_S = DELAY_S * 3 // 8 + 1
Records = Mapping[int, Sequence[Payment]]


@pytest.fixture
def ledger(tmp_path: Path, node: Chain, keys: Keys) -> Ledger:
    """A ledger with a thousand dollars of the operator's own, before anything is in the log."""
    deployed = service.deploy_contracts(tmp_path / "data", node, LOG, keys, delay_s=DELAY_S)
    service.fund(tmp_path / "data", node, LOG, keys, 10**9)
    return Ledger(node, deployed)


@pytest.fixture
def customer(ledger: Ledger) -> Customer:
    return Customer(ledger, "customer")


def posted(ledger: Ledger, tmp_path: Path, records: Records) -> WatchedFolder:
    """A folder whose log says this of payments, settled as it should be."""
    fill_paid(tmp_path / "data", records)
    place = WatchedFolder(tmp_path / "data", ledger.chain)
    place.settle()
    assert place.live == 1
    return place


def unchecked(place: WatchedFolder) -> AuditReport:
    """What an audit finds that asks the chain about posts alone."""
    files = PlainFiles(place.folder)
    auditor = auditor_of(place.ledger, LOG)
    return auditor.run(place.ledger.events(), published_in(files), archived(LOG, files))


def said(place: WatchedFolder) -> list[tuple[str, int, str]]:
    return [(part.event, part.sequence, part.text) for part in place.look().done]


def test_payments_that_the_ledger_got_are_attested_and_refunded(
    ledger: Ledger, customer: Customer, tmp_path: Path
) -> None:
    other = Customer(ledger, "another")
    first, second, third = customer.pay(3 * WHOLE), other.pay(2 * WHOLE), customer.pay(5 * WHOLE)
    make_final(ledger.chain)
    place = posted(ledger, tmp_path, {0: [first, third | {"session": "s-0"}], 1: [second]})
    assert said(place) == [("attested", 1, "")]
    report = service.audit(place.folder, ledger.chain, LOG, archived(LOG, PlainFiles(place.folder)))
    assert (report.ok, report.payments, report.refunds_micros) == (True, 3, 10 * WHOLE)
    rows = {row.account: row.refunds for row in service.payouts(place.folder, ledger.chain)}
    assert (rows[customer.address], rows[other.address]) == (8 * WHOLE, 2 * WHOLE)


def invented(paid: dict[str, Any], _: Customer) -> Records:
    return {0: [paid | {"transaction": "0x" + "ab" * 32, "block": paid["block"] - 1, "log_index": 0}]}


def at_another_place(paid: dict[str, Any], _: Customer) -> Records:
    return {0: [paid | {"log_index": paid["log_index"] + 1}]}


def of_the_future(paid: dict[str, Any], _: Customer) -> Records:
    return {0: [paid | {"block": COUNT_MAX}]}


def reused(paid: dict[str, Any], _: Customer) -> Records:
    return {0: [paid], 1: [paid]}


def inflated(paid: dict[str, Any], _: Customer) -> Records:
    return {1: [paid | {"amount": paid["amount"] * 100}]}


def another_payer(paid: dict[str, Any], _: Customer) -> Records:
    return {1: [paid | {"payer": "0x" + "d4" * 20}]}


CHEATS: dict[Callable[[dict[str, Any], Customer], Records], tuple[int, str]] = {
    invented: (0, "was never made: the ledger got no such transfer"),
    at_another_place: (0, "was never made: the ledger got no such transfer"),
    of_the_future: (0, "names a block that is not before"),
    reused: (1, f"is used twice, first by the payment for session s-0 of {MACHINES[0]} (partition 0, offset 1)"),
    inflated: (1, "was of another amount"),
    another_payer: (1, "was made by another payer"),
}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_attack_a_payment_that_the_chain_does_not_have_is_disputed(
    cheat: Callable[[dict[str, Any], Customer], Records], ledger: Ledger, customer: Customer, tmp_path: Path
) -> None:
    """The core accepts each, and without the chain's transfers an audit does too: the payer would be refunded."""
    paid = customer.pay(3 * WHOLE)
    make_final(ledger.chain)
    records = cheat(paid, customer)
    place = posted(ledger, tmp_path, records)
    before = unchecked(place)
    assert (before.ok, before.payments) == (True, sum(map(len, records.values())))
    assert before.refunds_micros > 3 * WHOLE or cheat is not reused
    partition, text = CHEATS[cheat]
    report = service.audit(place.folder, ledger.chain, LOG, archived(LOG, PlainFiles(place.folder)))
    (finding,) = report.findings
    assert (finding.kind, finding.sequence, finding.machine, finding.session) == (
        "payment",
        1,
        MACHINES[partition],
        "s-0",
    )
    assert (finding.partition, finding.offset) == (partition, 1)
    assert text in finding.text
    is_in_chain = cheat is not invented
    assert (
        f"{3 * WHOLE} token units from {customer.address} in block {paid['block']}" in finding.expected
    ) == is_in_chain
    ((event, sequence, why),) = said(place)
    assert (event, sequence) == ("disputed", 1)
    assert why == finding.text
    assert (place.live, place.ledger.attested()) == (0, 0)


def test_attack_a_payment_that_is_not_final_is_not_attested_and_then_disputed(
    ledger: Ledger, customer: Customer, tmp_path: Path
) -> None:
    """It may be undone together with the customer's money, while the refund was posted for good."""
    place = posted(ledger, tmp_path, {0: [customer.pay(3 * WHOLE)]})
    assert unchecked(place).ok
    ((event, sequence, text),) = said(place)
    assert (event, sequence) == ("wait", 1)
    assert "is not final: the last block that can't be undone is" in text
    ledger.chain.pass_time(WAIT_S)
    assert [part[:2] for part in said(place)] == [("disputed", 1)]


def test_a_payment_that_becomes_final_in_time_is_attested(ledger: Ledger, customer: Customer, tmp_path: Path) -> None:
    place = posted(ledger, tmp_path, {0: [customer.pay(3 * WHOLE)]})
    assert said(place)[0][0] == "wait"
    make_final(ledger.chain)
    assert said(place) == [("attested", 1, "")]


def test_a_false_payment_is_found_before_it_is_posted(
    ledger: Ledger, customer: Customer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid = customer.pay(WHOLE)
    make_final(ledger.chain)
    fill_paid(tmp_path / "data", inflated(paid, customer))
    report = service.audit(tmp_path / "data", ledger.chain, LOG, archived(LOG, PlainFiles(tmp_path / "data")))
    assert [(finding.kind, finding.sequence) for finding in report.findings] == [("payment", 0)]
    monkeypatch.setenv("CHAIN_RPC_URL", ledger.chain.rpc_url)
    done = CliRunner().invoke(cli.app, ["audit", "--from-archive", "--data-dir", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert f"  the log:   {100 * WHOLE} token units from {customer.address} in block {paid['block']}" in done.stdout
    assert f"  the chain: {WHOLE} token units from {customer.address} in block {paid['block']}" in done.stdout
    assert "1 payments of customers held against what the ledger got" in done.stdout


def test_a_false_payment_that_its_operator_makes_good_holds_up_nothing(
    ledger: Ledger, customer: Customer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it every post of its epoch is disputed, for the record stays in the log. A post that was disputed is not
    made again: the next one has one more epoch.
    """
    monkeypatch.setenv("CHAIN_RPC_URL", ledger.chain.rpc_url)
    paid = customer.pay(3 * WHOLE)
    make_final(ledger.chain)
    fill_paid(tmp_path / "data", {0: [paid], 1: [paid]})
    place = WatchedFolder(tmp_path / "data", ledger.chain)
    place.settle(1)
    assert [part[:2] for part in said(place)] == [("disputed", 1)]

    def fund(payment: str) -> Result:
        words = ["fund", "--makes-good", payment, "--data-dir", str(place.folder)]
        return CliRunner().invoke(cli.app, words)

    assert str(fund(f"{MACHINES[0]}/1").exception).startswith("the chain has payment 1")
    assert str(fund(f"{MACHINES[0]}/2").exception).startswith("no payment 2")
    before = ledger.balance_of(ledger.deployment.ledger)
    assert fund(f"{MACHINES[1]}/1").exit_code == 0
    assert str(fund(f"{MACHINES[1]}/1").exception).startswith(f"payment 1 of {MACHINES[1]} was made good before")
    assert ledger.balance_of(ledger.deployment.ledger) == before + 3 * WHOLE
    make_final(ledger.chain)
    assert str(fund(f"{MACHINES[1]}/1").exception).startswith("the chain has payment 1")
    service.settle(place.folder, ledger.chain, LOG, place.keys, SettleOptions(restate=True))
    amended, attested = said(place)
    assert (amended[0], attested) == ("amended", ("attested", 1, ""))
    assert f"is used twice, first by the payment for session s-0 of {MACHINES[0]}" in amended[2]


def test_settlements_say_what_was_earned_collected_funded_owed_and_claimed(
    ledger: Ledger, customer: Customer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session is used, for half of what was paid: the rest goes back and was not collected."""
    paid = customer.pay(2 * WHOLE)
    make_final(ledger.chain)
    place = posted(ledger, tmp_path, {0: [paid | {"session": "s8", "valid_until": START_MS + 50 * MINUTE_MS}]})
    monkeypatch.setenv("CHAIN_RPC_URL", ledger.chain.rpc_url)
    done = CliRunner().invoke(cli.app, ["settlements", "--json", "--data-dir", str(place.folder)])
    report = json.loads(done.stdout.splitlines()[-1])
    (refund,) = [due.micros for _, window in place.store.windows(1) or () for due in window.dues]
    assert 0 < refund < 2 * WHOLE
    assert report["collected"] == units(2 * WHOLE - refund, 6)
    shown = CliRunner().invoke(cli.app, ["settlements", "--data-dir", str(place.folder)]).stdout
    total = ledger.state().total
    assert f", collected {money(2 * WHOLE - refund, 'USD')} of what is settled, funded 1,002.000000, owed" in shown
    assert f"owed {units(total, 6)}, claimed 0.000000" in shown


def test_what_active_posts_settled_is_exported_for_peaq_and_the_same_again(
    ledger: Ledger, customer: Customer, keys: Keys, tmp_path: Path
) -> None:
    place, out = posted(ledger, tmp_path, {}), tmp_path / "new" / "events.jsonl"
    assert write_peaq_events(place.folder, ledger.chain, "USD", out).events == 0, "it may still be disputed"
    assert said(place) == [("attested", 1, "")]
    ledger.chain.pass_time(DELAY_S + 1)
    done = write_peaq_events(place.folder, ledger.chain, "USD", out)
    lines = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    windows = place.store.windows(1)
    assert windows is not None
    assert [line["dataHash"] for line in lines] == ["0x" + window.digest.hex() for _, window in windows]
    assert {line["sourceTxHash"] for line in lines} == {ledger.history().live[0].transaction}
    nets = [sum(window.net_micros for _, window in windows if window.machine == machine) for machine in MACHINES]
    assert done.value == sum(line["value"] for line in lines) == sum(net // 10_000 for net in nets)
    before = out.read_bytes()
    write_peaq_events(place.folder, ledger.chain, "USD", out)
    assert out.read_bytes() == before


def test_money_by_an_authorisation_without_a_record_is_named_and_funding_is_not(
    ledger: Ledger, customer: Customer, keys: Keys
) -> None:
    recorded, forgotten = customer.pay(3 * WHOLE), customer.pay(4 * WHOLE)
    make_final(ledger.chain)
    late = customer.pay(5 * WHOLE)
    payments, transfers = Payments(LOG.log_id, 1), LedgerTransfers(ledger)
    payments.look(transfers)
    assert {paid.transaction for paid in transfers.transfers()} > {
        each["transaction"] for each in (recorded, forgotten, late)
    }
    for paid in transfers.transfers():
        assert transfers.is_authorised(paid) == (paid.payer == customer.address)
    first = transfers.transfers()[0]
    assert first.payer != customer.address, "the operator's own funds"
    after_s = ledger.chain.time_s() + 10 * DELAY_S
    assert [paid.transaction for paid in payments.unrecorded(after_s)] == [
        recorded["transaction"], forgotten["transaction"],
    ]  # fmt: skip
    assert payments.unrecorded(ledger.chain.time_s()) == (), "the records of that hour were not read yet"
