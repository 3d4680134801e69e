"""OpenZeppelin's JavaScript library on our published files: it checks every proof, and drives a claim without us."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from eth_abi.abi import encode

from deploy.setup.bootstrap import find_node
from deploy.stack.servers import start_evm
from schemas.keccak import keccak
from settlement import service
from settlement.chain.ledger import Deployment, Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.contracts.build import ABI_DIR, ROOT
from settlement.storage.posts import Store
from tests.support.settlement_data import ALICE, BOB, FIRST_EPOCH, LOG, publish_all, window

pytestmark = pytest.mark.chain

CHILD = Path(__file__).with_name("claim_js.cjs")
STRANGER = "0x90f79bf6eb2c4f870365e785982e1f101e93b906"
"""One of the development node's accounts, unlocked there: anybody may claim for anybody."""


def test_the_library_checks_every_proof_and_claims(tmp_path: Path) -> None:
    folder = find_node()
    javascript = None if folder is None else shutil.which("node", path=folder)
    assert javascript is not None, "no Node: run `make setup`"
    server = start_evm(tmp_path / "node")
    try:
        chain = Chain(server.rpc_url, poll_s=0.01)
        settled(tmp_path, chain)
        said = claim_with(javascript, tmp_path, server.rpc_url)
        owed = int(Store(tmp_path).payouts(1)[ALICE].cumulative)
        assert said == {
            "leaves": 3, "windows": 13, "payouts_root_is_the_post_s": True, "windows_root_is_the_post_s": True,
            "windows_verified": [True, True], "claimable": str(owed), "status": "0x1", "claimed": str(owed),
            "again": nothing_to_claim(owed),
        }  # fmt: skip
        ledger = Ledger.open(tmp_path, chain)
        assert (ledger.balance_of(ALICE), ledger.balance_of(BOB)) == (owed, 0)
        assert [(paid.account, paid.amount) for paid in ledger.claims()] == [(ALICE, owed)]
    finally:
        server.stop()


def settled(folder: Path, chain: Chain) -> None:
    """One post that is active: windows of both signs, an adjustment, three payees."""
    windows = [window("pv-1", FIRST_EPOCH, 10**7 + place, place=place) for place in range(10)]
    mended = window("pv-1", FIRST_EPOCH, -77, place=11, adjusts=windows[3].start_ms)
    loss = window("pv-1", FIRST_EPOCH, -(2**40), place=10)
    publish_all(folder, {FIRST_EPOCH: {0: [*windows, mended, loss], 1: [window("cab-7", FIRST_EPOCH, 333, place=3)]}})
    keys = Keys({}, chain.chain_id)
    service.deploy_contracts(folder, chain, LOG, keys)
    service.fund(folder, chain, LOG, keys)
    assert service.settle(folder, chain, LOG, keys).posts == (1,)
    service.attest(folder, chain, keys)
    chain.pass_time(61)


def claim_with(javascript: str, folder: Path, rpc: str) -> dict[str, object]:
    """What the script says. It gets the windows as JSON, for it reads no Parquet."""
    windows = Store(folder).windows(1)
    assert windows is not None
    rows = [
        ["0x" + keccak(e.machine.encode()).hex(), str(e.start_ms), str(e.end_ms), str(e.adjusts_ms), str(e.net_micros),
         "0x" + e.digest.hex()]
        for _, e in windows
    ]  # fmt: skip
    (folder / "windows.json").write_text(json.dumps(rows))
    task = {
        "rpc": rpc, "abi": str(ABI_DIR / "SettlementLedger.json"), "ledger": Deployment.load(folder).ledger,
        "sequence": 1, "payouts": str(folder / "settlement/posts/1/payouts.json"),
        "windows": str(folder / "windows.json"), "account": ALICE, "sender": STRANGER,
    }  # fmt: skip
    done = subprocess.run(
        [javascript, str(CHILD), json.dumps(task)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def nothing_to_claim(claimed: int) -> str:
    """What a second claim is refused with."""
    error = keccak(b"NothingToClaim(address,uint256,uint256)")[:4]
    return "0x" + (error + encode(("address", "uint256", "uint256"), (ALICE, claimed, claimed))).hex()
