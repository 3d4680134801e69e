"""A tiny ledger on an EVM node of the run's own, over a copy of some epochs: where posters cheat and watchers look."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from deploy.attack.cheat import Outcome, Stopwatch
from deploy.explain import audit_sources
from deploy.explain.audit_files import file_findings
from deploy.stack.servers import start_evm
from files.confined import ConfinedFiles
from files.foreign import PlainFiles
from schemas.errors import InvalidInput
from schemas.log import Log
from settlement import service
from settlement.accrual import Earning, Terms
from settlement.chain.contract import Call
from settlement.chain.job import SettleOptions, choose_run
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, Signer
from settlement.chain.watcher import Done, look
from settlement.head import PostHeader
from settlement.post import PartitionEpoch, Run, assemble
from settlement.storage.posts import Store
from settlement.storage.published_epochs import EpochReader

DELAY_S = 3_600
FREE_WHOLE = 1_000
"""Tokens in the ledger beyond what is owed: what thieves are after."""

Edit = Callable[[Earning], list[Earning]]


class LedgerCopy:
    """The copy's folder, its ledger, and everybody's keys: those of the node, which are public."""

    def __init__(self, folder: Path, log: Log, node: Chain) -> None:
        self.folder, self.log, self.node = folder, log, node
        self.keys = Keys({}, node.chain_id)
        operator, admin, guardian = (self.keys.of(role) for role in ("operator", "admin", "guardian"))
        timelock, _ = node.deploy(operator, "LedgerTimelock", DELAY_S, [admin.address], [guardian.address])
        service.deploy_contracts(folder, node, log, self.keys, delay_s=DELAY_S, accounts={"admin": [timelock]})
        self.ledger = Ledger.open(folder, node)
        self.store = Store(folder)
        self.decimals = self.ledger.deployment.decimals
        service.fund(folder, node, log, self.keys)
        service.fund(folder, node, log, self.keys, FREE_WHOLE * 10**self.decimals)
        self.thief = Signer.from_seed("attack", "thief").address

    @property
    def live(self) -> int:
        """The number of live posts."""
        return len(self.ledger.history().live)

    @property
    def free(self) -> int:
        """Token units that are owed to nobody yet, and no deposits."""
        state = self.ledger.state()
        return state.balance + state.claimed - state.total - state.deposits

    def header(self, edit: Edit | None = None) -> PostHeader:
        """The next post, of all epochs that aren't posted yet, with its files; `edit` changes its first paid window."""
        before = self.store.standing(self.live, self.ledger.deployment.initial)
        run, _ = choose_run(EpochReader(self.folder, self.log), before, self.log, SettleOptions())
        made = None if run is None else assemble(before, run if edit is None else edited(run, edit), self.decimals)
        if made is None:
            raise InvalidInput("too little is owed in these epochs to cheat with: stream some more")
        header = made.header(self.ledger.head(), self.decimals)
        self.store.save(made, header, 1, self.decimals)
        return header

    def post(self, header: PostHeader) -> None:
        """Posts with the poster's key, once its days are over."""
        early_s = header.epoch_end_s - self.node.time_s(at="pending")
        if early_s > 0:
            self.node.pass_time(early_s)
        self.node.transact(self.keys.of("poster"), self.ledger.post(header))

    def settle(self) -> None:
        """Posts, attests and waits until all that is owed can be claimed."""
        self.post(self.header())
        service.attest(self.folder, self.node, self.keys)
        self.node.pass_time(DELAY_S + 1)

    def look(self, node: Chain | None = None) -> Sequence[Done]:
        """What a watcher does, by the archive and what some node shows."""
        sources = audit_sources.archived(self.log, PlainFiles(self.folder))
        return look(self.folder, node or self.node, self.log, self.keys, sources).done

    def watched(self) -> Outcome:
        """The watcher's outcome: caught if nothing of the post can be paid any more."""
        watch = Stopwatch()
        done = self.look()
        said = "; ".join(f"{part.event} post {part.sequence}: {part.text}" for part in done) or "nothing"
        is_disputed = any(part.event == "disputed" for part in done)
        return watch.outcome("watch" if is_disputed else "", f"watch: {said}")

    def refused(self, call: Call, signer: Signer, why: str) -> Outcome:
        """The contract's outcome: caught if it refuses the call in these words."""
        watch = Stopwatch()
        try:
            self.node.transact(signer, call)
        except InvalidInput as error:
            by = "contract" if why in str(error) else ""
            return watch.outcome(by, f"contract: {str(error).partition('; ')[0]}")
        return watch.outcome("", "contract: done")

    def audited(self, cheat: Callable[[Path], None]) -> Outcome:
        """The outcome of an audit from the archive of a copy in which somebody has cheated."""
        copy = self.folder.with_name("forged")
        try:
            shutil.copytree(self.folder, copy)
            cheat(copy)
            watch = Stopwatch()
            try:
                with ConfinedFiles(copy) as files:
                    report = service.audit(copy, self.node, self.log, audit_sources.archived(self.log, files))
                    findings = [*report.findings, *file_findings(files, {})]
            except InvalidInput as error:
                return watch.outcome("audit", f"audit: {str(error).replace(f'{copy}/', '')}")
            windows = [finding for finding in findings if finding.kind == "window"]
            found = (windows or findings)[:1]
            text = found[0].text.replace(f"{copy}/", "") if found else "ok"
            return watch.outcome("audit" if found else "", f"audit: {text}")
        finally:
            shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def court(folder: Path, log: Log, node_folder: Path) -> Iterator[LedgerCopy]:
    """A court whose node is ended after use."""
    server = start_evm(node_folder)
    try:
        yield LedgerCopy(folder, log, Chain(server.rpc_url, poll_s=0.01))
    finally:
        server.stop()


def edited(run: Run, edit: Edit) -> Run:
    """The run with its first paid window replaced by what `edit` makes of it."""
    for partition, epochs in sorted(run.epochs.items()):
        for place, epoch in enumerate(epochs):
            for number, earning in enumerate(epoch.earnings):
                if earning.net_micros > 0 and earning.terms.points:
                    windows = [*epoch.earnings[:number], *edit(earning), *epoch.earnings[number + 1 :]]
                    changed = [*epochs[:place], PartitionEpoch(epoch.manifest, windows), *epochs[place + 1 :]]
                    return structs.replace(run, epochs={**run.epochs, partition: changed})
    raise InvalidInput("no window of these epochs pays anybody: stream some more epochs first")


def paying(account: str, like: Terms) -> Terms:
    """Terms that pay all to one account."""
    return Terms(((account, 10_000),), frozenset(), 0, like.digest)
