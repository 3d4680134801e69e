"""Page, views and commands say the same as the ledger, whoever claimed; what can't be paid has a name and a sum."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from deploy.cli import app as cli
from deploy.config import load_settings
from deploy.data_folder import DataFolder
from deploy.explain.query import query
from deploy.report.figures import Wish
from deploy.report.report import gather, write_report
from deploy.stack.servers import Stack
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from tests.chain.test_shares import LOCKED, OWNER, POINTS, SharesFolder, issued, worked

pytestmark = pytest.mark.chain

MISTYPED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"
"""ERC-55's first example with its last letter in the other case."""


@pytest.fixture
def place(tmp_path: Path, node: Chain) -> SharesFolder:
    return SharesFolder(tmp_path, node)


def claimed_by_views(data: DataFolder) -> tuple[int, int]:
    """Token units and accounts, as any analyst asks for them."""
    ((amount, accounts),) = query(data, "SELECT sum(amount)::VARCHAR, count(DISTINCT account) FROM claims").rows
    return int(str(amount or 0)), int(str(accounts))


def said(place: SharesFolder, *words: str) -> list[str]:
    """The lines of a command."""
    done = CliRunner().invoke(cli.app, [*words, "--data-dir", str(place.folder)])
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.stdout.splitlines()


def test_page_and_views_show_every_claim_however_it_was_made(place: SharesFolder) -> None:
    worked(place, issued(place), LOCKED)
    place.settle()
    data, ledger = DataFolder(place.folder, load_settings()), Ledger.open(place.folder, place.node)
    place.run("collect", "M1")  # the shares' contract claims, not we
    assert claimed_by_views(data) == (ledger.state().claimed, 1)

    proof = service.proof(place.folder, place.node, OWNER)
    path = [bytes.fromhex(node[2:]) for node in proof.proof]
    call = ledger.claim(OWNER, proof.sequence, int(proof.cumulative), path)
    place.node.transact(place.keys.of("operator"), call)  # as a wallet does, without this folder
    assert claimed_by_views(data)[1] == 1
    assert write_report(data).chain is None
    claimed = gather(data, Wish(), {}).claimed
    assert (int(claimed.units), claimed.accounts) == claimed_by_views(data) == (ledger.state().claimed, 2)
    assert (claimed.block, claimed.time_s) == (place.node.block_number(), place.node.time_s())

    Stack.start(place.folder, kafka_bootstrap_servers="127.0.0.1:1", chain_rpc_url="http://127.0.0.1:1")
    written = write_report(data)
    assert written.chain is not None and "no EVM node answers" in written.chain
    assert gather(data, Wish(), {}).claimed == claimed  # with the block and the time that it is true of
    named = DataFolder(place.folder, msgspec.structs.replace(load_settings(), chain_rpc_url="http://127.0.0.1:1"))
    with pytest.raises(InvalidInput, match=r"no EVM node answers .* CHAIN_RPC_URL names it"):
        write_report(named)  # what is set is not left out in silence


def test_what_no_account_is_owed_stands_everywhere_by_name_and_sum(place: SharesFolder) -> None:
    worked(place, "Bob", LOCKED)
    bob = 18 * 1_234_567 * POINTS // 10_000
    lines = [line for line in said(place, "settle", "--dry-run") if line.startswith("unsettled")]
    assert lines == [f"unsettled: {bob // 10**6}.{bob % 10**6 // 10**4} USD to 'Bob' (not an account)"]
    place.settle()
    assert lines[0] in said(place, "settlements")
    report: Any = json.loads(said(place, "settlements", "--json")[-1])
    (row,) = report["unsettled"]
    micros = int(row["amount"].replace(".", ""))
    assert (row["reason"], row["payee"]) == ("no_account", "Bob") and 0 <= bob - micros < 5
    data = DataFolder(place.folder, load_settings())
    assert gather(data, Wish(), {}).unsettled == {"Bob": str(micros)}


def test_a_mistyped_account_is_named_as_such(place: SharesFolder) -> None:
    worked(place, MISTYPED, LOCKED)
    (line,) = [line for line in said(place, "settlements") if line.startswith("unsettled")]
    assert line.endswith(f"to '{MISTYPED}' (mistyped, no such account)")
    assert msgspec.json.encode(gather(DataFolder(place.folder, load_settings()), Wish(), {}).unsettled) != b"{}"
