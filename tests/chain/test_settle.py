"""Settlement on a real EVM node: fund, post, attest, claim, twice; what is refused, and why."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import requests

from schemas.errors import InvalidInput
from schemas.manifest import epoch_folder
from schemas.payout import Funding
from schemas.window import Window
from settlement import service
from settlement.audit.sources import Epoch, Sources
from settlement.chain.job import SettleOptions
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from tests.chain.crashes import Killed, journal_of, killed_at
from tests.support.settlement_data import ALICE, BOB, FIRST_EPOCH, LOG, SOLAR, manifest_of, publish, publish_all, window

pytestmark = pytest.mark.chain

DAY = FIRST_EPOCH


@pytest.fixture
def place(tmp_path: Path, node: Chain, keys: Keys) -> Path:
    """A data folder with a ledger and two epochs: the first owes 900 dollars, the second nothing."""
    service.deploy_contracts(tmp_path, node, LOG, keys)
    publish_all(tmp_path, {
        DAY: {0: [window("pv-1", DAY, 600_000_001)], 1: [window("cab-7", DAY, 300_000_000, place=3)]},
        DAY + 1: {0: [window("pv-1", DAY + 1, -5)]},
    })  # fmt: skip
    return tmp_path


def test_two_posts_from_epochs_to_claims(place: Path, node: Chain, keys: Keys) -> None:
    funding = place / "settlement" / "funding.json"
    with pytest.raises(InvalidInput):
        service.settle(place, node, LOG, keys)
    assert msgspec.json.decode(funding.read_bytes(), type=Funding).shortfall == "900000001"
    funded = service.fund(place, node, LOG, keys)
    assert funded.amount == funded.balance == 900_000_001
    assert msgspec.json.decode(funding.read_bytes(), type=Funding).shortfall == "0"
    assert service.fund(place, node, LOG, keys).transaction is None
    settled = service.settle(place, node, LOG, keys)
    assert settled.posts == (1,)
    assert "epoch 18142" in settled.waiting_for
    assert service.settle(place, node, LOG, keys).posts == ()
    (row,) = service.settlements(place, node, LOG).posts
    assert (row.settlement.state, row.settlement.first_epoch, row.settlement.last_epoch) == ("pending", DAY, DAY + 1)

    with pytest.raises(InvalidInput, match="not attested yet"):
        service.claim(place, node, keys, SOLAR)
    service.attest(place, node, keys)
    with pytest.raises(InvalidInput, match=r"not active until 20\d\d-"):
        service.claim(place, node, keys, SOLAR)
    waiting = service.verify(place, node, service.proof(place, node, SOLAR))
    assert waiting.valid
    assert not waiting.active
    node.pass_time(61)
    shares = {SOLAR: 450_000_001, ALICE: 299_970_000, BOB: 150_030_000}
    for account, amount in shares.items():
        claimed = service.claim(place, node, keys, account)
        assert (claimed.amount, claimed.balance) == (amount, amount)
    with pytest.raises(InvalidInput, match="has already claimed 450000001"):
        service.claim(place, node, keys, SOLAR)

    publish_all_more(place)
    assert service.settlements(place, node, LOG).shortfall == 99_999_995
    with pytest.raises(InvalidInput, match="short of 99999995 token units"):
        service.settle(place, node, LOG, keys)
    assert service.fund(place, node, LOG, keys).amount == 99_999_995
    assert service.settle(place, node, LOG, keys).posts == (2,)
    service.attest(place, node, keys)
    ask(node, "evm_increaseTime", 61)  # and no block: the delay passes on a quiet chain as well
    rows = {row.account: row for row in service.payouts(place, node)}
    assert {name: row.claimable for name, row in rows.items()} == {
        SOLAR: 49_999_998,
        ALICE: 33_329_998,
        BOB: 16_669_999,
    }
    assert service.claim(place, node, keys, BOB.upper().replace("X", "x")).amount == 16_669_999
    assert service.payouts(place, node, BOB)[0].claimable == 0
    tables = {
        name: pq.read_table(place / "settlement" / f"{name}.parquet") for name in ("settlements", "payouts", "claims")
    }
    assert {name: table.num_rows for name, table in tables.items()} == {"settlements": 2, "payouts": 6, "claims": 4}
    assert tables["settlements"].column("state").to_pylist() == ["active", "active"]


def publish_all_more(place: Path) -> None:
    """A third epoch: pv-1 still owes 5 micros of the day before."""
    publish(place, 0, DAY + 2, [window("pv-1", DAY + 2, 100_000_000)])
    publish(place, 1, DAY + 2)


def test_a_proof_that_was_changed_proves_nothing(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    proof = service.proof(place, node, ALICE)
    assert service.verify(place, node, proof).valid
    for change in ({"cumulative": "1"}, {"account": BOB}, {"proof": proof.proof[1:]}):
        assert not service.verify(place, node, msgspec.structs.replace(proof, **change)).valid
    (place / "proof.json").write_bytes(msgspec.json.encode(proof))
    assert service.read_proof(place / "proof.json") == proof
    with pytest.raises(InvalidInput, match="on chain 1"):
        service.verify(place, node, msgspec.structs.replace(proof, chain_id=1))


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_a_crash_at_any_step_posts_once(place: Path, node: Chain, keys: Keys, step: int) -> None:
    service.fund(place, node, LOG, keys)
    with pytest.raises(Killed):
        service.settle(place, node, LOG, keys, after=killed_at(step))
    before = service.Ledger.open(place, node).history().next_sequence
    again = service.settle(place, node, LOG, keys)
    assert service.Ledger.open(place, node).history().next_sequence == 2
    assert again.posts == ((1,) if step < 6 else ())
    assert before == (2 if step >= 4 else 1)
    assert service.settle(place, node, LOG, keys).posts == ()


def test_a_disputed_post_is_not_posted_again(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    service.dispute(place, node, keys, 1)
    assert [row.settlement.state for row in service.settlements(place, node, LOG).posts] == ["disputed"]
    with pytest.raises(InvalidInput, match="post 1 was disputed: find out why"):
        service.settle(place, node, LOG, keys)
    with pytest.raises(InvalidInput, match="would be the same again"):
        service.settle(place, node, LOG, keys, SettleOptions(restate=True))
    publish_all_more(place)
    service.fund(place, node, LOG, keys)
    assert service.settle(place, node, LOG, keys, SettleOptions(restate=True)).posts == (1,)
    assert [row.settlement.state for row in service.settlements(place, node, LOG).posts] == ["disputed", "pending"]


def test_another_host_without_the_store_does_not_guess(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    shutil.move(place / "settlement", place / "gone")
    publish_all_more(place)
    with pytest.raises(InvalidInput, match="`tallyroot restore-posts` rebuilds it"):
        service.settle(place, node, LOG, keys)


@pytest.mark.parametrize("name", ["cumulative", "carries", "partition_offsets", "next_epoch"])
def test_balances_that_were_changed_are_not_continued(place: Path, node: Chain, keys: Keys, name: str) -> None:
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    path = place / "settlement" / "posts" / "1" / "balances.json"
    document = msgspec.json.decode(path.read_bytes())
    changed = {"cumulative": {ALICE: "1"}, "carries": [], "partition_offsets": {"0": 1, "1": 1}, "next_epoch": 1}
    path.write_bytes(msgspec.json.encode(document | {name: changed[name]}))
    publish_all_more(place)
    with pytest.raises(InvalidInput, match="was changed after it was posted"):
        service.settle(place, node, LOG, keys)


def test_a_dead_partition_is_left_out_and_enters_later(place: Path, node: Chain, keys: Keys) -> None:
    for epoch in (DAY, DAY + 1):
        folder = place / "epochs" / worker_folder(epoch)
        (folder / "1.manifest.json").rename(folder / "1.hidden")
    assert service.settle(place, node, LOG, keys).waiting_for == "the first epoch of partition 1"
    service.fund(place, node, LOG, keys, 2_000_000_000)
    assert service.settle(place, node, LOG, keys, SettleOptions(without={1})).posts == (1,)
    for epoch in (DAY, DAY + 1):
        folder = place / "epochs" / worker_folder(epoch)
        (folder / "1.hidden").rename(folder / "1.manifest.json")
    publish_all_more(place)
    assert service.settle(place, node, LOG, keys).posts == (2,)
    total = sum(row.cumulative for row in service.payouts(place, node))
    assert total == 600_000_001 + 300_000_000 - 5 + 100_000_000
    truth = {
        DAY: {0: [window("pv-1", DAY, 600_000_001)], 1: [window("cab-7", DAY, 300_000_000, place=3)]},
        DAY + 1: {0: [window("pv-1", DAY + 1, -5)]},
        DAY + 2: {0: [window("pv-1", DAY + 2, 100_000_000)]},
    }
    report = service.audit(place, node, LOG, Sources(Recomputed(truth)))
    assert report.findings == ()
    assert (report.posts, report.epochs, report.unposted_epochs) == (2, 6, 0)


def worker_folder(epoch: int) -> str:
    return epoch_folder(LOG.epoch_span(epoch)[0])


def test_wrong_keys_and_chains_are_told(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    wrong = Keys({"poster": keys.of("guardian"), "auditor": keys.of("poster")}, node.chain_id)
    with pytest.raises(InvalidInput, match="wrong key"):
        service.settle(place, node, LOG, wrong)
    service.settle(place, node, LOG, keys)
    with pytest.raises(InvalidInput, match="wrong key"):
        service.attest(place, node, wrong)
    with pytest.raises(InvalidInput, match="no key for the poster: set TALLYROOT_POSTER_KEY"):
        Keys({}, 1).of("poster")
    with pytest.raises(InvalidInput, match=r"no EVM node answers at http://127\.0\.0\.1:1 \("):
        Chain("http://127.0.0.1:1/secret")
    elsewhere = Chain(node.rpc_url)
    elsewhere.chain_id = 1
    with pytest.raises(InvalidInput, match="only be moved on a development chain"):
        elsewhere.pass_time(1)
    deployment = service.Deployment.load(place)
    msgspec.structs.replace(deployment, chain_id=5).save(place)
    with pytest.raises(InvalidInput, match="wrong chain"):
        service.settlements(place, node, LOG)
    node.verified.clear()
    for change in ({"ledger": deployment.token}, {"log_digest": "00" * 32}, {"token": deployment.ledger}):
        msgspec.structs.replace(deployment, **change).save(place)
        with pytest.raises(InvalidInput, match="is not the ledger of this version for the log of this folder"):
            service.settlements(place, node, LOG)


class Recomputed:
    """Stands where the stream's recomputation will: what the log says, whatever was published."""

    def __init__(self, epochs: dict[int, dict[int, list[Window]]]) -> None:
        self._epochs = epochs

    def __call__(self, partition: int) -> Iterator[Epoch]:
        for epoch in sorted(self._epochs):
            windows = self._epochs[epoch].get(partition, [])
            yield Epoch(manifest_of(partition, epoch, windows, first=min(self._epochs)), windows)


def test_an_audit_accepts_the_truth_and_names_a_changed_net(tmp_path: Path, node: Chain, keys: Keys) -> None:
    truth = {DAY: {0: [window("pv-1", DAY, 100), window("pv-1", DAY, 7, place=1)], 1: [window("cab-7", DAY, 5)]}}
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    publish_all(right, truth)
    publish_all(wrong, {DAY: {**truth[DAY], 0: [truth[DAY][0][0], window("pv-1", DAY, 7_000, place=1)]}})
    for place in (right, wrong):
        service.deploy_contracts(place, node, LOG, keys)
        service.fund(place, node, LOG, keys)
        assert service.settle(place, node, LOG, keys).posts == (1,)
    report = service.audit(right, node, LOG, Sources(Recomputed(truth)))
    assert report.ok, report.findings
    assert report.total_on_chain == report.paid_micros == 112
    service.attest(right, node, keys, head=bytes.fromhex(report.head))

    report = service.audit(wrong, node, LOG, Sources(Recomputed(truth)))
    assert not report.ok
    first = report.findings[0]
    assert (first.kind, first.machine, first.window_start_ms) == ("window", "pv-1", truth[DAY][0][1].start_ms)
    assert "net 0.007000" in first.found
    assert "net 0.000007," in first.expected


def test_every_part_of_a_payout_is_explained(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    statement = service.why(place, node, ALICE)
    assert [(row.machine, row.amount_micros) for row in statement.rows] == [
        ("pv-1", 199_980_000), ("cab-7", 99_990_000), ("pv-1", 0),
    ]  # fmt: skip
    assert statement.cumulative_micros == service.payouts(place, node, ALICE)[0].cumulative


def ask(node: Chain, method: str, *parameters: object) -> object:
    """A method that only the development node has."""
    answer = requests.Session()
    answer.trust_env = False
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    found = answer.post(node.rpc_url, json=body, timeout=10).json()
    assert "error" not in found, found
    return found["result"]


@pytest.fixture
def mining_by_hand(node: Chain) -> Iterator[None]:
    yield
    ask(node, "evm_setAutomine", True)
    ask(node, "evm_mine")


@pytest.mark.usefixtures("mining_by_hand")
def test_a_transaction_that_the_node_forgot_is_sent_again(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    ask(node, "evm_setAutomine", False)
    with pytest.raises(Killed):
        service.settle(place, node, LOG, keys, after=killed_at(5))
    ask(node, "anvil_dropAllTransactions")
    ask(node, "evm_setAutomine", True)
    assert service.settle(place, node, LOG, keys).posts == (1,)
    assert len(service.Ledger.open(place, node).history().live) == 1
    (posting,) = journal_of(place)
    assert len(posting.attempts) == 1


@pytest.mark.usefixtures("mining_by_hand")
def test_a_transaction_that_is_too_cheap_gets_higher_fees(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    ask(node, "evm_setAutomine", False)
    with pytest.raises(Killed):
        service.settle(place, node, LOG, keys, after=killed_at(5))
    ask(node, "anvil_setNextBlockBaseFeePerGas", hex(20 * 10**9))
    for _ in range(6):
        ask(node, "evm_mine")
    ask(node, "evm_setAutomine", True)
    assert service.settle(place, node, LOG, keys).posts == (1,)
    (posting,) = journal_of(place)
    first, second = posting.attempts
    assert first.nonce == second.nonce
    assert second.fees.max_fee * 8 >= first.fees.max_fee * 9
    assert len(service.Ledger.open(place, node).history().live) == 1


def test_a_post_that_a_reorganisation_took_is_sent_again(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    service.settle(place, node, LOG, keys)
    ask(node, "anvil_rollback", 1)
    assert service.Ledger.open(place, node).history().live == ()
    assert service.settle(place, node, LOG, keys).posts == (1,)
    (posting,) = journal_of(place)
    assert posting.state == "mined"
    assert len(service.Ledger.open(place, node).history().live) == 1
    for _ in range(12):
        ask(node, "evm_mine")
    service.settle(place, node, LOG, keys)
    assert journal_of(place)[0].state == "final"


def test_a_foreign_transaction_on_our_nonce_halts(place: Path, node: Chain, keys: Keys) -> None:
    service.fund(place, node, LOG, keys)
    with pytest.raises(Killed):
        service.settle(place, node, LOG, keys, after=killed_at(3))
    service.Ledger.open(place, node)
    node.transact(keys.of("poster"), service.Ledger.open(place, node).transfer(ALICE, 0))
    ask(node, "evm_setIntervalMining", 1)  # it is said after blocks, not after looks
    with pytest.raises(InvalidInput, match="settlement halts: a foreign transaction"):
        service.settle(place, node, LOG, keys)
    with pytest.raises(InvalidInput, match="settlement is halted"):
        service.settle(place, node, LOG, keys)
    assert service.Ledger.open(place, node).history().live == ()
