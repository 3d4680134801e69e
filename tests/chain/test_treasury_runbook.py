"""The runbook of docs/runbook.md, run on a real EVM node: a stolen key, a lost folder, a lost journal."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from deploy.cli import app as cli
from deploy.cli import check, money, roles
from deploy.config import Settings
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain.job import SettleOptions
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, development_signer
from settlement.head import PostHeader
from tests.chain.crashes import Killed, killed_at
from tests.support.settlement_data import ALICE, FIRST_EPOCH, LOG, publish, publish_all, window
from tests.support.watched_folder import ask

pytestmark = pytest.mark.chain

DAY = FIRST_EPOCH


@pytest.fixture
def place(tmp_path: Path, node: Chain, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """A data folder with a ledger; its log has one epoch, which owes 900 dollars."""
    monkeypatch.setenv("CHAIN_RPC_URL", node.rpc_url)
    place = DataFolder(tmp_path, Settings(data_dir=tmp_path, chain_rpc_url=node.rpc_url))
    place.create_log(LOG)
    publish_all(tmp_path, {DAY: {0: [window("pv-1", DAY, 600_000_000)], 1: [window("cab-7", DAY, 300_000_000)]}})
    service.deploy_contracts(tmp_path, node, LOG, keys)
    return place


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_stolen_poster_s_role_changes_hands(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.data_dir
    service.fund(place.data_dir, node, LOG, keys)
    stolen, fresh = keys.of("poster"), development_signer(1)
    ledger = Ledger.open(place.data_dir, node)
    all_mine = PostHeader(
        sequence=1, previous_head=ledger.head(), windows_root=b"w" * 32, payouts_root=b"p" * 32,
        manifest_hash=b"m" * 32, epoch_start_s=DAY * 86_400, epoch_end_s=DAY * 86_400 + 1, total=900_000_000,
        deposits=0,
    )  # fmt: skip
    node.transact(stolen, ledger.post(all_mine))
    for words in (service.settle, service.dry_run):
        with pytest.raises(InvalidInput, match=r"post 1 .*is not in"):
            words(place.data_dir, node, LOG, keys, SettleOptions())
    check.dispute(1, data_dir=folder)
    roles.roles(revoke=f"poster={stolen.address}", data_dir=folder)
    roles.roles(grant=f"poster={fresh.address}", data_dir=folder)
    capsys.readouterr()
    assert {row.role: row.account for row in service.roles(folder, node)}["poster"] == fresh.address
    roles.roles(data_dir=folder)
    assert fresh.address in capsys.readouterr().out
    restate = SettleOptions(restate=True)
    with pytest.raises(InvalidInput, match="wrong key"):
        service.settle(place.data_dir, node, LOG, keys, restate)
    mended = Keys({"poster": fresh}, node.chain_id)
    with pytest.raises(InvalidInput, match="post 1 was disputed"):
        service.dry_run(place.data_dir, node, LOG, mended, SettleOptions())
    assert service.dry_run(place.data_dir, node, LOG, mended, restate).refusal == ""
    assert service.settle(place.data_dir, node, LOG, mended, restate).posts == (1,)
    for change in ("poster", f"admin={ALICE}", "poster=0x12", "auditor:" + ALICE):
        with pytest.raises(InvalidInput):
            roles.roles(grant=change, data_dir=folder)
    with pytest.raises(InvalidInput, match="one change at a time"):
        roles.roles(grant="a", revoke="b", data_dir=folder)


def test_the_runbook_s_commands_take_their_options() -> None:
    runbook = Path(__file__).resolve().parents[2] / "docs" / "runbook.md"
    commands = re.findall(r"(?m)^    (?:\w+=\S+ )?tallyroot ((?:\S+ ?)+)", runbook.read_text())
    assert len(commands) > 20
    group = get_command(cli.app)
    for line in commands:
        name, *arguments = shlex.split(line)
        group.commands[name].make_context(name, arguments)  # raises where it has no such option


def test_a_lost_folder_of_posts_is_made_anew(
    place: DataFolder, node: Chain, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.data_dir / "settlement"
    service.fund(place.data_dir, node, LOG, keys, 2_000_000_000)
    service.settle(place.data_dir, node, LOG, keys)
    publish(place.data_dir, 0, DAY + 1, [window("pv-1", DAY + 1, 100)])
    publish(place.data_dir, 1, DAY + 1, [window("cab-7", DAY + 1, 7)])
    service.settle(place.data_dir, node, LOG, keys, SettleOptions(without={1}))
    publish(place.data_dir, 0, DAY + 2, [window("pv-1", DAY + 2, 10)])
    publish(place.data_dir, 1, DAY + 2)
    service.settle(place.data_dir, node, LOG, keys)
    kept = files_of(folder / "posts")
    shutil.rmtree(folder)  # posts and journal
    with pytest.raises(InvalidInput, match="is not in"):
        service.settle(place.data_dir, node, LOG, keys)
    with pytest.raises(InvalidInput, match="the epochs here do not make post 2"):
        money.restore_posts(data_dir=place.data_dir)
    money.restore_posts([1], data_dir=place.data_dir, json=True)
    assert json.loads(capsys.readouterr().out) == {"restored": [2, 3]}
    assert files_of(folder / "posts") == kept
    assert service.restore_posts(place.data_dir, node, LOG) == ()
    publish(place.data_dir, 0, DAY + 3, [window("pv-1", DAY + 3, 10)])
    publish(place.data_dir, 1, DAY + 3)
    assert service.settle(place.data_dir, node, LOG, keys).posts == (4,)


def lose_journal(place: DataFolder) -> None:
    for path in (place.data_dir / "settlement").glob("journal.sqlite*"):
        path.unlink()


@pytest.mark.parametrize("has_grown", [False, True])
def test_a_journal_lost_while_a_post_waits_makes_no_second_one(
    place: DataFolder, node: Chain, keys: Keys, has_grown: bool
) -> None:
    service.fund(place.data_dir, node, LOG, keys, 2_000_000_000)
    ask(node, "evm_setAutomine", False)
    try:
        with pytest.raises(Killed):
            service.settle(place.data_dir, node, LOG, keys, after=killed_at(5))
        lose_journal(place)
        if has_grown:
            publish(place.data_dir, 0, DAY + 1, [window("pv-1", DAY + 1, 100)])
            publish(place.data_dir, 1, DAY + 1)
            with pytest.raises(Killed):  # the very post that waits is sent again, not one with the new epoch
                service.settle(place.data_dir, node, LOG, keys, after=killed_at(5))
    finally:
        ask(node, "evm_setAutomine", True)
        ask(node, "evm_mine")
    service.settle(place.data_dir, node, LOG, keys)
    live = Ledger.open(place.data_dir, node).history().live
    assert [posted.header.total for posted in live] == [900_000_000, 900_000_100][: 1 + has_grown]
