"""A folder that moves to a new ledger: nothing is paid by both, nothing is lost between them, and an audit sees it."""

import json
import shutil
from pathlib import Path

import pytest
from msgspec import structs

from deploy.cli import money
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain import move
from settlement.chain.ledger import NEXT_FILE, Deployment, Ledger
from settlement.chain.node import Chain
from tests.support.archived_log import LOG
from tests.support.watched_folder import DELAY_S, WatchedFolder

pytestmark = pytest.mark.chain


def settled(watched: WatchedFolder, epochs: int) -> None:
    """Posts an epoch, attests it, and lets its delay pass."""
    for _ in range(epochs):
        watched.settle(epochs=1)
    assert watched.events() == [("attested", watched.live)]
    watched.node.pass_time(DELAY_S + 1)


def owed(folder: Path, node: Chain) -> dict[str, int]:
    rows = service.payouts(folder, node)
    return {row.account: int(row.cumulative) for row in rows}


def test_what_two_ledgers_pay_is_what_one_would(watched: WatchedFolder, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(watched.folder, alone)
    settled(watched, 2)
    before = owed(watched.folder, watched.node)
    moved = service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    old, new = Path(moved.folder), watched.folder
    assert (Deployment.load(old).ledger, Deployment.load(new).ledger) == (moved.old, moved.new)
    assert owed(old, watched.node) == before
    service.fund(new, watched.node, LOG, watched.keys)
    again = WatchedFolder(new, watched.node)
    settled(again, 1)
    assert again.audited(from_archive=True) == again.audited(from_archive=False) == []
    rest = owed(new, watched.node)
    whole = WatchedFolder(alone, watched.node)
    (alone / "chain.json").unlink()
    service.deploy_contracts(alone, watched.node, LOG, watched.keys)
    whole = WatchedFolder(alone, watched.node)
    service.fund(alone, watched.node, LOG, watched.keys)
    whole.settle()
    assert owed(alone, watched.node) == {name: before.get(name, 0) + rest.get(name, 0) for name in before | rest}
    for folder in (old, new):
        assert service.claim_many(folder, watched.node, watched.keys, tuple(owed(folder, watched.node)))
        state = Ledger.open(folder, watched.node).state()
        assert state.claimed == state.total
    with pytest.raises(InvalidInput, match="this ledger has ended"):
        service.settle(old, watched.node, LOG, watched.keys)


def test_a_ledger_that_can_still_lose_a_post_is_not_left(watched: WatchedFolder) -> None:
    with pytest.raises(InvalidInput, match="has no post"):
        service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    watched.settle(epochs=1)
    with pytest.raises(InvalidInput, match="can still be disputed or waits for its auditors"):
        service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    assert not (watched.folder / "ended").exists()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_move_that_is_killed_goes_on(watched: WatchedFolder, step: int) -> None:
    settled(watched, 1)

    def dies(at: int) -> None:
        if at == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.move_ledger(watched.folder, watched.node, LOG, watched.keys, dies)
    if step == 3:
        with pytest.raises(InvalidInput):
            service.settle(watched.folder, watched.node, LOG, watched.keys)
    new = Deployment.load(watched.folder, NEXT_FILE).ledger
    moved = service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    assert moved.new == Deployment.load(watched.folder).ledger == new
    assert [path.name for path in (watched.folder / "ended").iterdir()] == ["1"]
    service.fund(watched.folder, watched.node, LOG, watched.keys)
    again = WatchedFolder(watched.folder, watched.node)
    again.settle()
    assert again.audited(from_archive=True) == []


def test_a_start_that_the_log_does_not_have_is_found(watched: WatchedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who leaves a carry or some offsets behind; the ledger is bound to the lie."""
    settled(watched, 1)
    honest = move.LedgerStart.after

    def lying(*arguments: object) -> move.LedgerStart:
        start = honest(*arguments)  # type: ignore[arg-type]
        return structs.replace(start, partition_offsets={0: 1, 1: start.partition_offsets[1]})

    monkeypatch.setattr(move.LedgerStart, "after", lying)
    service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    found = WatchedFolder(watched.folder, watched.node).audited(from_archive=True)
    assert any("does not begin where the log says" in text for text in found)


def test_a_changed_start_is_not_the_ledger_s(watched: WatchedFolder) -> None:
    settled(watched, 1)
    service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    deployment = Deployment.load(watched.folder)
    assert deployment.start is not None
    structs.replace(deployment, start=structs.replace(deployment.start, sequence=7)).save(watched.folder)
    assert not Deployment.load(watched.folder).is_of(LOG)


def test_an_old_ledger_that_goes_on_is_an_alarm(watched: WatchedFolder) -> None:
    """Whoever has its poster's and auditor's keys lets both ledgers pay for the same epochs."""
    settled(watched, 1)
    moved = service.move_ledger(watched.folder, watched.node, LOG, watched.keys)
    service.fund(watched.folder, watched.node, LOG, watched.keys)
    old = Path(moved.folder)
    for name in ("epochs", "log"):
        shutil.copytree(watched.folder / name, old / name)
    structs.replace(Deployment.load(old), successor=None).save(old)
    service.fund(old, watched.node, LOG, watched.keys)
    WatchedFolder(old, watched.node).settle(epochs=1)
    again = WatchedFolder(watched.folder, watched.node)
    again.settle(epochs=1)
    assert again.events() == [("attested", 1)], "what nobody has attested pays nothing"
    service.attest(old, watched.node, watched.keys)
    assert [event for event, _ in again.events()] == ["alarm"]
    assert any("both ledgers pay" in text for text in again.audited(from_archive=True))


def test_the_command_says_what_comes_next(watched: WatchedFolder, capsys: pytest.CaptureFixture[str]) -> None:
    settled(watched, 1)
    money.move_ledger(data_dir=watched.folder, json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["folder"] == str(watched.folder / "ended" / "1") and shown["sequence"] == 1
    money.payouts(data_dir=Path(shown["folder"]), json=True)
    assert json.loads(capsys.readouterr().out)
