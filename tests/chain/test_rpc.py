"""Nodes that lie, lag, answer nonsense, too much, too often no: what is asked again, and what the one line says."""

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.attack.moody_node import Mood, Reply, moody, result
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain import driver, rpc
from settlement.chain import node as node_module
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.rpc import NodeAway
from settlement.chain.signer import Keys
from settlement.posting import GWEI
from tests.chain.relay import error
from tests.support.settlement_data import FIRST_EPOCH, LOG, publish_all, window
from tests.support.watched_folder import ask

pytestmark = pytest.mark.chain

DAY = FIRST_EPOCH
Honest = Callable[[], bytes]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits as long as a process in the field does."""
    monkeypatch.setattr(rpc, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(rpc, "SLOWEST_S", 0.002)
    monkeypatch.setattr(node_module, "MINED_TIMEOUT_S", 2.0)
    monkeypatch.setattr(driver, "WAIT_S", 1.0)
    monkeypatch.setattr(rpc, "RETRY_AFTER_MAX_S", 0.01)


@pytest.fixture
def place(tmp_path: Path, node: Chain, keys: Keys) -> Iterator[Path]:
    """A funded ledger that owes 900 dollars, unposted; whatever a test does to the node is taken back."""
    snapshot = ask(node, "evm_snapshot")
    service.deploy_contracts(tmp_path, node, LOG, keys)
    publish_all(tmp_path, {DAY: {0: [window("pv-1", DAY, 900_000_000)]}})
    service.fund(tmp_path, node, LOG, keys)
    yield tmp_path
    ask(node, "evm_setAutomine", True)
    assert ask(node, "evm_revert", snapshot)


NONSENSE: list[Any] = [
    None, True, -1, 3.5, "", "0x", "0xzz", "latest", "0x" + "f" * 65, "0x" + "f" * 64, [], [None], [[]], {}, {"a": 1},
    [{"address": None}], "0x0", "0xabc", {"number": "0x1"}, {"status": 1}, 10**40,
]  # fmt: skip
"""What may come in the place of any result."""


def looked_at(url: str, place: Path, keys: Keys) -> None:
    """All that a settlement, a claim and a dispute ask a node."""
    chain = Chain(url, poll_s=0.02)
    chain.final_block(), chain.time_s(at="pending"), chain.fees(), chain.ether(keys.of("poster").address)
    chain.receipt("0x" + "11" * 32), chain.knows("0x" + "11" * 32)
    ledger = Ledger.open(place, chain)
    ledger.history(), ledger.state(), ledger.holders(), ledger.claims()
    service.settle(place, chain, LOG, keys)
    service.attest(place, chain, keys)
    service.dispute(place, chain, keys, 1)


METHODS = sorted(set(rpc.RESULTS))


@pytest.mark.parametrize("method", METHODS)
def test_nonsense_in_the_place_of_a_result_is_one_line(
    place: Path, node: Chain, keys: Keys, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one method answers, nothing but InvalidInput comes of it."""
    monkeypatch.setattr(node_module, "MINED_TIMEOUT_S", 0.1)  # nothing that waits here is ever mined
    monkeypatch.setattr(driver, "WAIT_S", 0.1)
    for value in NONSENSE:

        def mood(asked: dict[str, Any], honest: Honest, value: Any = value) -> Reply:
            return result(asked, value) if asked["method"] == method else Reply(honest())

        with moody(node.rpc_url, mood) as url, contextlib.suppress(InvalidInput):
            looked_at(url, place, keys)
    Ledger.open(place, node).history()


ENVELOPES: dict[str, Callable[[dict[str, Any]], Reply]] = {
    "nothing": lambda asked: Reply(b""),
    "a page": lambda asked: Reply(b"<html>502 Bad Gateway</html>"),
    "half": lambda asked: Reply(b'{"jsonrpc":"2.0","id":', length=4_000),
    "502": lambda asked: Reply(b"", status=502),
    "429": lambda asked: Reply(b"", status=429, headers={"Retry-After": "1"}),
    "asked too often": lambda asked: error(asked, -32005, "daily request count exceeded"),
    "another question's": lambda asked: Reply(msgspec.json.encode({"id": 10**9, "jsonrpc": "2.0", "result": "0x1"})),
    "a list": lambda asked: Reply(b"[1]"),
    "too much": lambda asked: Reply(b" " * (3 << 20)),
    "deep": lambda asked: Reply(b"[" * 100_000),
    "not UTF-8": lambda asked: Reply(b'{"id":1,"result":"\xff"}'),
    "an error that is none": lambda asked: Reply(msgspec.json.encode({"id": asked["id"], "error": "no"})),
    "no result": lambda asked: Reply(msgspec.json.encode({"id": asked["id"]})),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_answer_that_is_none_is_asked_for_again_and_told(
    place: Path, node: Chain, keys: Keys, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three bad answers in four cost nothing but time; a node that gives no other is named in one line."""
    monkeypatch.setattr(rpc, "ANSWER_BYTES_MAX", 1 << 20)
    asked_for = Counter[bytes]()

    def mostly(asked: dict[str, Any], honest: Honest) -> Reply:
        key = msgspec.json.encode([asked["method"], asked["params"]])
        asked_for[key] += 1
        return Reply(honest()) if asked_for[key] % rpc.TRIES == 0 else ENVELOPES[name](asked)

    with moody(node.rpc_url, mostly) as url:
        chain = Chain(url, poll_s=0.001)
        assert Ledger.open(place, chain).history().live == ()

    with moody(node.rpc_url, lambda asked, honest: ENVELOPES[name](asked)) as url, pytest.raises(NodeAway) as told:
        Chain(url)
    assert "CHAIN_RPC_URL" in str(told.value) and "\n" not in str(told.value)


def test_another_node_of_the_chain_takes_over(place: Path, node: Chain, keys: Keys) -> None:
    """Also in the middle of a settlement; a node of another chain is refused, and no access key is shown."""
    count = 0

    def dying(asked: dict[str, Any], honest: Honest) -> Reply:
        nonlocal count
        count += 1
        return Reply(honest()) if count < 20 else Reply(b"", status=503)

    with moody(node.rpc_url, dying) as url:
        chain = Chain(f"{url}/v2/secret, {node.rpc_url}", poll_s=0.01)
        assert service.settle(place, chain, LOG, keys).posts == (1,)
    assert (set(chain.counts.failures), chain.counts.requests[url] > 10) == ({url}, True)
    assert chain.counts.requests[node.rpc_url] > 0, "and by the addresses that are counted no access key is shown"

    def other(asked: dict[str, Any], honest: Honest) -> Reply:
        return result(asked, "0x1") if asked["method"] == "eth_chainId" else Reply(honest())

    count = 15
    with moody(node.rpc_url, dying) as url, moody(node.rpc_url, other) as stranger:
        chain = Chain(f"{url}/v2/secret,{stranger}/secret")
        count = 20
        with pytest.raises(InvalidInput, match="nodes of one chain") as told:
            chain.block_number()
    assert "secret" not in str(told.value)


def counted(asked_for: Counter[str], most_blocks: int) -> Mood:
    """A provider that shows logs of so many blocks at a time, as public ones do."""

    def mood(asked: dict[str, Any], honest: Honest) -> Reply:
        asked_for[asked["method"]] += 1
        if asked["method"] == "eth_getLogs":
            first, last = (int(asked["params"][0][name], 16) for name in ("fromBlock", "toBlock"))
            if last - first + 1 > most_blocks:
                return error(asked, -32600, f"eth_getLogs is limited to a {most_blocks} block range")
        return Reply(honest())

    return mood


def test_a_long_chain_is_read_once(place: Path, node: Chain, keys: Keys) -> None:
    """A ledger twenty times as old as its provider shows blocks at once: read once, then forty requests."""
    service.settle(place, node, LOG, keys)
    ask(node, "anvil_mine", hex(3_000))
    asked_for = Counter[str]()
    with moody(node.rpc_url, counted(asked_for, 150)) as url:

        def settle() -> None:
            chain = Chain(url, poll_s=0.01)
            chain.log_folder = place / "settlement" / "logs"
            asked_for.clear()
            service.settle(place, chain, LOG, keys)

        settle()
        assert asked_for["eth_getLogs"] <= 60  # half of the range after each refusal, then ranges that are allowed
        settle()
        assert asked_for["eth_getLogs"] <= 2
        assert asked_for.total() <= 40
        ask(node, "anvil_mine", hex(500))
        settle()
        assert asked_for.total() <= 40
        # A person may read what is remembered, or spoil it: it is only a memory.
        (kept,) = (place / "settlement" / "logs").iterdir()
        document = msgspec.json.decode(kept.read_bytes())
        kept.write_bytes(msgspec.json.encode(document | {"logs": document["logs"][:-1]}))
        settle()
        assert len(Ledger.open(place, Chain(url)).history().live) == 1


def test_what_a_reorganisation_undid_is_forgotten(place: Path, node: Chain, keys: Keys) -> None:
    """Also where the new branch is as long as the old one, and where it goes below what was final."""
    chain = Chain(node.rpc_url, poll_s=0.01)
    before = ask(node, "evm_snapshot")
    service.settle(place, chain, LOG, keys)
    ask(node, "anvil_mine", hex(100))
    assert len(Ledger.open(place, chain).history().live) == 1
    assert ask(node, "evm_revert", before)
    ask(node, "anvil_mine", hex(101))
    assert Ledger.open(place, chain).history().live == ()


def test_a_dispute_that_waits_at_the_node_is_replaced(place: Path, node: Chain, keys: Keys) -> None:
    """It was sent for little, and the base fee rose: the next one takes its place, and says so where it may not."""
    service.settle(place, node, LOG, keys)
    ask(node, "evm_setAutomine", False)
    guardian, ledger = keys.of("guardian"), Ledger.open(place, node)
    call = ledger.dispute(1, ledger.history().head)
    nonce = node.nonce(guardian.address)
    raw, first = node.signed(guardian, call, nonce, node.fees())
    assert node.send_raw(raw) == "sent"
    assert node.has_waiting(guardian.address)
    ask(node, "evm_setIntervalMining", 1)
    ask(node, "anvil_setNextBlockBaseFeePerGas", hex(300 * GWEI))
    receipt = service.dispute(place, Chain(node.rpc_url, poll_s=0.01), keys, 1)
    assert receipt != first
    assert Ledger.open(place, node).history().live == ()
    assert node.nonce(guardian.address) == nonce + 1
    ask(node, "evm_setIntervalMining", 0)


def test_what_waits_is_raised_after_blocks_and_told_at_the_cap(
    place: Path, node: Chain, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that never mines what we send: offers go up by an eighth, to the cap, and the line says what waits."""
    service.settle(place, node, LOG, keys)
    ask(node, "evm_setAutomine", False)
    sent: list[bytes] = []
    send_raw, receipt = Chain.send_raw, Chain.receipt

    def noted(chain: Chain, raw: bytes) -> Any:
        sent.append(raw)
        return send_raw(chain, raw)

    def lost(chain: Chain, transaction: str) -> Any:
        ask(node, "anvil_dropAllTransactions")
        ask(node, "anvil_mine", hex(6))
        return receipt(chain, transaction)

    monkeypatch.setattr(Chain, "send_raw", noted)
    monkeypatch.setattr(Chain, "receipt", lost)
    fee = node.fees().max_fee
    with pytest.raises(InvalidInput, match=r"waits at the node: it offers .* gwei, .* run this again to replace it"):
        service.dispute(place, Chain(node.rpc_url, poll_s=0.01, fee_cap=fee * 3 // 2), keys, 1)
    assert 3 <= len(set(sent)) <= 20


def test_a_slow_provider_is_asked_more_slowly(node: Chain) -> None:
    """After 429 the pace falls, and rises again once it answers."""
    asked_at: list[float] = []

    def mood(asked: dict[str, Any], honest: Honest) -> Reply:
        asked_at.append(time.monotonic())
        return Reply(b"", status=429) if len(asked_at) in (4, 5, 6) else Reply(honest())

    with moody(node.rpc_url, mood) as url:
        chain = Chain(url)
        for _ in range(8):
            chain.block_number()
    assert len(asked_at) >= 11


def test_a_nested_document_does_not_end_the_process() -> None:
    """What web3 imports takes Python's limit of recursion away; with it a node could end us by a hundred kilobytes."""
    assert sys.getrecursionlimit() < 10_000
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)


def test_nor_where_web3_or_its_keys_were_imported_first() -> None:
    said = "import sys, eth_account, settlement.chain; print(sys.getrecursionlimit())"
    limit = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True).stdout
    assert int(limit) < 10_000
