"""Moves a data folder from its ledger to a new one; the old one goes on paying what it owes.

(1) deploy the new ledger, bound to where the old one ended, and note it in chain.next.json
(2) make ended/<n>/ with log.json and the old chain.json: a data folder of its own, for claims
(3) move settlement/ there
(4) chain.next.json becomes chain.json

Safe to repeat after any step. Between (3) and (4) nothing can be posted: the old ledger's posts aren't in the folder.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from msgspec import Struct, structs

from files.write import make_folder, sync_folder, write_bytes
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.post import ENDED
from settlement.chain.contract import moment
from settlement.chain.ledger import CHAIN_FILE, NEXT_FILE, Deployment, Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from settlement.chain.treasury import LedgerSettings, deploy_contracts
from settlement.storage.journal import Journal
from settlement.storage.posts import Store
from settlement.succession import LedgerStart

Step = Callable[[int], None]


class Moved(Struct, frozen=True, kw_only=True):
    """The old and the new ledger, and the folder of the old one. `first_epoch_start_s` is where the new one begins."""

    old: str
    new: str
    folder: str
    sequence: int
    first_epoch_start_s: int


def move_ledger(
    data_dir: Path, chain: Chain, log: Log, keys: Keys, after: Step = lambda _: None, **settings: Unpack[LedgerSettings]
) -> Moved:
    """Moves; `settings` are those of `deploy_contracts`, by default the old ledger's token and holders.

    `after` is for crash tests. Raises InvalidInput unless the last post can be claimed, and none is on its way.
    """
    old = Deployment.load(data_dir)
    if not (data_dir / NEXT_FILE).exists():
        ledger = Ledger(chain, old)
        start = _start_after(data_dir, ledger)
        named = {role: held for role, held in (settings.get("accounts") or {}).items() if held}
        wanted: LedgerSettings = {
            "token": settings.get("token") or old.token,
            "accounts": {**{role: held for role, held in ledger.holders().items() if held}, **named},
            "quorum": settings.get("quorum"),
            "delay_s": settings.get("delay_s") or ledger.delay_s(),
            "max_rate_whole": settings.get("max_rate_whole"),
        }
        deploy_contracts(data_dir, chain, log, keys, start=start, **wanted)
    after(1)
    new = Deployment.load(data_dir, NEXT_FILE)
    Ledger(chain, new)
    if new.start is None or new.start.predecessor != old.ledger:
        raise InvalidInput(f"{data_dir / NEXT_FILE} does not follow the ledger {old.ledger}: move it away")
    folder = _ended_folder(data_dir, old.ledger)
    make_folder(folder)
    write_bytes(folder / "log.json", (data_dir / "log.json").read_bytes())
    structs.replace(old, successor=new.ledger).save(folder)
    after(2)
    if not (folder / "settlement").exists():
        (data_dir / "settlement").rename(folder / "settlement")
        for changed in (folder, data_dir):
            sync_folder(changed)
    shutil.rmtree(data_dir / "settlement", ignore_errors=True)  # what a claim may have made meanwhile, from the chain
    after(3)
    (data_dir / NEXT_FILE).replace(data_dir / CHAIN_FILE)
    sync_folder(data_dir)
    return Moved(
        old=old.ledger, new=new.ledger, folder=str(folder), sequence=new.start.sequence,
        first_epoch_start_s=new.first_epoch_start_s,
    )  # fmt: skip


def _start_after(data_dir: Path, ledger: Ledger) -> LedgerStart:
    history, store = ledger.history(), Store(data_dir)
    if not history.live:
        raise InvalidInput("the ledger has no post: deploy another one for a new data folder")
    last = history.live[-1]
    if not ledger.is_active(last.header.sequence):
        raise InvalidInput(
            f"post {last.header.sequence} can still be disputed or waits for its auditors: move once it can be claimed,"
            f" from {moment(last.delay_end_s)} on"
        )
    with Journal(store.folder / "journal.sqlite") as journal:
        live = {posted.head for posted in history.live}
        waiting = [posting for posting in journal.open() if posting.header.head() not in live]
    if waiting:
        raise InvalidInput(f"post {waiting[0].header.sequence} is on its way: run settle first")
    standing = store.standing(last.header.sequence, ledger.deployment.initial)
    return LedgerStart.after(standing, ledger.deployment.ledger, last.head)


def _ended_folder(data_dir: Path, ledger: str) -> Path:
    """The folder of an ended ledger: the one that has it, or the next number."""
    number = 1
    while (folder := data_dir / ENDED / str(number)).exists():
        if not (folder / CHAIN_FILE).exists() or Deployment.load(folder).ledger == ledger:
            return folder  # what a move has begun
        number += 1
    return folder
