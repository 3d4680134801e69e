"""A real node on which gas gets dear, and a ledger that refuses a post once it is mined: what settle says and does."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from deploy.cli import money
from deploy.config import Settings
from deploy.data_folder import DataFolder
from deploy.money import treasury
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain.contract import Call
from settlement.chain.driver import NotYet
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, Role, Signer
from settlement.posting import GWEI, Fees
from tests.chain.crashes import Killed, journal_of, killed_at
from tests.support.settlement_data import FIRST_EPOCH, LOG, publish, publish_all, window
from tests.support.watched_folder import ask

pytestmark = pytest.mark.chain

DAY = FIRST_EPOCH
CAP = 40


@pytest.fixture
def place(tmp_path: Path, node: Chain, keys: Keys) -> Iterator[DataFolder]:
    """A data folder with a funded ledger that owes 900 dollars; whatever a test does to the node is taken back."""
    snapshot = ask(node, "evm_snapshot")
    place = DataFolder(tmp_path, Settings(data_dir=tmp_path, chain_rpc_url=node.rpc_url, fee_cap_gwei=CAP))
    place.create_log(LOG)
    service.deploy_contracts(tmp_path, node, LOG, keys)
    publish_all(tmp_path, {DAY: {0: [window("pv-1", DAY, 900_000_000)]}})
    service.fund(tmp_path, node, LOG, keys)
    yield place
    ask(node, "evm_setAutomine", True)
    assert ask(node, "evm_revert", snapshot)


def base_fee(node: Chain, gwei: int) -> None:
    """The base fee of the next block, and about that of those after it."""
    ask(node, "anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))


def live(place: DataFolder, node: Chain) -> int:
    return len(Ledger.open(place.data_dir, node).history().live)


def capped(node: Chain, cap_gwei: int = CAP, tip: int | None = None) -> Chain:
    return Chain(node.rpc_url, fee_cap=cap_gwei * GWEI, priority_fee=tip, poll_s=0.01)


def test_a_spike_within_the_cap_is_paid_and_one_above_it_is_told(place: DataFolder, node: Chain, keys: Keys) -> None:
    base_fee(node, 60)
    with pytest.raises(NotYet) as told:
        service.settle(place.data_dir, capped(node), LOG, keys)
    assert "the base fee is 60 gwei now" in str(told.value)
    assert f"and the cap is {CAP}; wait, or raise TALLYROOT_FEE_CAP_GWEI; run settle again later" in str(told.value)
    with pytest.raises(InvalidInput, match="the base fee is 60 gwei now"):
        service.fund(place.data_dir, capped(node), LOG, keys, 1)
    base_fee(node, 30)  # twice that is above the cap; the cap itself is enough
    assert service.settle(place.data_dir, capped(node), LOG, keys).posts == (1,)
    assert live(place, node) == 1
    (posting,) = journal_of(place.data_dir)
    assert [attempt.fees.max_fee for attempt in posting.attempts] == [CAP * GWEI]


def test_a_spike_after_the_signature_raises_the_offer(place: DataFolder, node: Chain, keys: Keys) -> None:
    """The node refuses what offers less than the base fee; what was signed for the old one is never sent."""
    base_fee(node, 2)
    with pytest.raises(Killed):
        service.settle(place.data_dir, capped(node), LOG, keys, after=killed_at(3))
    base_fee(node, 20)
    assert service.settle(place.data_dir, capped(node), LOG, keys).posts == (1,)
    (posting,) = journal_of(place.data_dir)
    first, second = posting.attempts
    assert (first.nonce, first.sent_block, posting.state) == (second.nonce, None, "mined")
    assert second.fees.max_fee > 20 * GWEI > first.fees.max_fee


def test_settle_that_follows_waits_a_spike_out(
    place: DataFolder, node: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says once why it waits."""
    base_fee(node, 60)
    rests: list[float] = []

    class Stopped(Exception):
        pass

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            base_fee(node, 5)
        if len(rests) == 5:
            raise Stopped

    monkeypatch.setattr(treasury.time, "sleep", rest)
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    monkeypatch.setenv("TALLYROOT_FEE_CAP_GWEI", str(CAP))
    with pytest.raises(Stopped):
        money.settle(follow=True, data_dir=place.data_dir, json=True)
    said = capsys.readouterr()
    assert said.err.count("gas costs too much: the base fee is 60 gwei now") == 1
    assert json.loads(said.out.splitlines()[0])["posts"] == [1]
    assert live(place, node) == 1


def test_settle_that_follows_waits_for_funds_and_its_page_says_so(
    place: DataFolder, node: Chain, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alerts of a shortfall come from a process that lives."""
    publish_all(place.data_dir, {DAY: {0: [window("pv-1", DAY, 905_000_000)]}})
    rests: list[float] = []
    seen: list[tuple[bool, float]] = []

    class Stopped(Exception):
        pass

    def rest(seconds: float) -> None:
        rests.append(seconds)
        page = served(capsys.readouterr().err)
        seen.append((page["tallyroot_healthy"] == 1, page["tallyroot_ledger_shortfall_tokens"]))
        if len(rests) == 2:
            service.fund(place.data_dir, node, LOG, keys)
        if len(rests) == 4:
            raise Stopped

    said: list[str] = []

    def served(printed: str) -> dict[str, float]:
        said.append(printed)
        url = re.findall(r"http://\S+(?=/health)", "".join(said))[0]
        lines = requests.get(f"{url}/metrics", timeout=30).text.splitlines()
        return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    monkeypatch.setattr(treasury.time, "sleep", rest)
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(Stopped):
        money.settle(follow=True, metrics_port=0, data_dir=place.data_dir, json=True)
    assert seen == [(False, 5.0), (False, 5.0), (True, 0.0), (True, 0.0)]
    assert "".join(said).count("the ledger is short of") == 1, "it says once why it waits"


def test_settle_that_follows_says_once_that_an_epoch_owes_nobody(
    place: DataFolder, node: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has ended, and no post comes of it: without a line it would look as if nothing ran."""
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            publish_all(place.data_dir, {DAY + 1: {}})
        if len(rests) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(treasury.time, "sleep", rest)
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    with pytest.raises(KeyboardInterrupt):
        money.settle(follow=True, data_dir=place.data_dir)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "posted 1"
    assert [line for line in said if "owes nobody, and goes into a later post" in line] == said[-1:]


def test_settle_that_follows_waits_for_the_chain_s_clock(
    tmp_path: Path, node: Chain, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks come late: a broker's clock may be ahead of the last one's, and a grace be shorter than that."""
    tomorrow = LOG.epoch_of(node.time_s(at="pending") * 1_000) + 1
    snapshot = ask(node, "evm_snapshot")
    place = DataFolder(tmp_path, Settings(data_dir=tmp_path, chain_rpc_url=node.rpc_url))
    place.create_log(LOG)
    service.deploy_contracts(tmp_path, node, LOG, keys)
    publish_all(tmp_path, {tomorrow: {0: [window("pv-1", tomorrow, 900_000_000)]}})
    service.fund(tmp_path, node, LOG, keys)
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            node.pass_time(2 * 86_400)
        if len(rests) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(treasury.time, "sleep", rest)
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    with pytest.raises(KeyboardInterrupt):
        money.settle(follow=True, data_dir=tmp_path)
    said = capsys.readouterr()
    assert said.err.count("but the chain's clock says") == 1
    assert live(place, node) == 1
    assert ask(node, "evm_revert", snapshot)


def test_the_tip_is_the_node_s_within_a_part_of_the_cap_or_what_is_set(
    place: DataFolder, node: Chain, keys: Keys
) -> None:
    advised = capped(node).fees().priority_fee
    assert 0 < advised <= CAP * GWEI // 10
    assert capped(node, cap_gwei=1).fees().priority_fee == GWEI // 10
    tip = 3 * GWEI // 2
    service.settle(place.data_dir, capped(node, tip=tip), LOG, keys)
    (posting,) = journal_of(place.data_dir)
    assert posting.attempts[0].fees.priority_fee == tip
    with pytest.raises(InvalidInput, match="a transaction must offer 4"):
        service.fund(place.data_dir, capped(node, cap_gwei=40, tip=40 * GWEI - 1), LOG, keys, 1)


def other_poster(ledger: Ledger, keys: Keys) -> Call:
    return ledger.change_role("poster", keys.of("poster").address, grant=False)


def paused(ledger: Ledger, keys: Keys) -> Call:
    return ledger.pause("posting", 3_600)


def small_rate(ledger: Ledger, keys: Keys) -> Call:
    return ledger.set_max_rate(5)


REFUSED: dict[str, tuple[Role, Callable[[Ledger, Keys], Call], str]] = {
    "another poster": (
        "admin",
        other_poster,
        r"wrong key: 0x\w+ is not the poster of the ledger; `tallyroot roles` shows",
    ),
    "posting paused": ("guardian", paused, r"posting is paused by a guardian until 20"),
    "more than a day may add": (
        "admin",
        small_rate,
        r"raises the total by 900000000 token units, the ledger allows \d+",
    ),
}


def mined_before(node: Chain, signer: Signer, call: Call) -> None:
    """Sends a call that is mined in one block with what waits, before it."""
    raw, _ = node.signed(signer, call, node.nonce(signer.address), Fees(100 * GWEI, 90 * GWEI))
    assert node.send_raw(raw) == "sent"
    ask(node, "evm_setAutomine", True)
    ask(node, "evm_mine")


@pytest.mark.parametrize("name", REFUSED)
def test_a_post_that_is_refused_when_it_is_mined_says_why_and_what_to_do(
    place: DataFolder, node: Chain, keys: Keys, name: str
) -> None:
    role, make, text = REFUSED[name]
    ask(node, "evm_setAutomine", False)
    with pytest.raises(Killed):
        service.settle(place.data_dir, node, LOG, keys, after=killed_at(5))
    ledger = Ledger.open(place.data_dir, node)
    mined_before(node, keys.of(role), make(ledger, keys))
    with pytest.raises(InvalidInput, match=f"post 1 was refused when it was mined: .*{text}"):
        service.settle(place.data_dir, node, LOG, keys)
    (posting,) = journal_of(place.data_dir)
    assert posting.state == "reverted"
    assert f"transaction {posting.attempts[0].hash} was refused when it was mined: " in posting.note
    assert live(place, node) == 0


def test_a_post_on_a_disputed_one_is_refused_and_the_dispute_is_told(
    place: DataFolder, node: Chain, keys: Keys
) -> None:
    service.settle(place.data_dir, node, LOG, keys)
    publish(place.data_dir, 0, DAY + 1, [window("pv-1", DAY + 1, 5)])
    publish(place.data_dir, 1, DAY + 1)
    service.fund(place.data_dir, node, LOG, keys)
    ask(node, "evm_setAutomine", False)
    with pytest.raises(Killed):
        service.settle(place.data_dir, node, LOG, keys, after=killed_at(5))
    first = Ledger.open(place.data_dir, node)
    mined_before(node, keys.of("guardian"), first.dispute(1, first.head()))
    with pytest.raises(InvalidInput, match="post 1 was disputed: find out why"):
        service.settle(place.data_dir, node, LOG, keys)
    assert [posting.state for posting in journal_of(place.data_dir)] == ["disputed", "superseded"]
    assert service.settle(place.data_dir, node, LOG, keys, SettleOptions(restate=True)).posts == (1,)
