"""What the commands about money need of a data folder: its log, its chain, its keys; and what more than one call takes.

Everything that is one call of `settlement.service` is called where it is shown.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from msgspec import Struct, structs

from deploy.data_folder import DataFolder
from deploy.keys import keys_of
from deploy.money.shared_posts import SharedPosts
from files.read import FileMissing, read_json
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.parsing import token_amount
from schemas.payout import Funding
from settlement import service
from settlement.chain.claims import NotActive
from settlement.chain.contract import EpochNotOver, Underfunded
from settlement.chain.driver import NotYet
from settlement.chain.job import Settled, SettleOptions
from settlement.chain.ledger import CHAIN_FILE, Deployment, Ledger
from settlement.chain.node import Chain
from settlement.chain.rpc import NodeAway, NodeRefuses, RpcCounts
from settlement.history import Posted
from settlement.posting import GWEI
from settlement.results import Funded, SettlementsReport
from settlement.storage.posts import Store
from settlement.storage.published_epochs import last_epoch
from streams.storage.object_store import StoreAway

T = TypeVar("T")

FUNDED_AT_MOST = 5
"""How often a settlement on the folder's own chain is funded again."""

FOLLOW_S = 5.0
SAY_AGAIN_S = 600.0
"""How often a follower says that it waits for the chain: what gas costs changes with every block."""


COLLECTED = (
    'SELECT "partition", epoch, sum(collected_micros) FROM windows WHERE final AND collected_micros <> 0 GROUP BY ALL'
)

Waiting = NotYet | NodeAway | NodeRefuses | Underfunded | EpochNotOver | StoreAway
"""Why a follower can't post now, and goes on by itself once that is over."""


class Round(Struct, frozen=True):
    """One round of a follower: what it came to, why it waits, and what it took."""

    outcome: Literal["posted", "nothing", "waiting"]
    why: str
    seconds: float


def no_round(done: Round) -> None:
    """Nobody looks at the rounds."""


class Treasury:
    """A data folder's log, its chain, and the keys of this process."""

    def __init__(self, data: DataFolder, *, trusts_folder: bool = True, counts: RpcCounts | None = None) -> None:
        """Who judges a folder (`trusts_folder` is false) takes no event log from it: all from the chain.

        What nodes are asked is counted in `counts`.
        """
        self.data = data
        self.data_dir = data.data_dir
        self.log: Log = data.log()
        tip = data.settings.priority_fee_gwei
        self.chain = Chain(
            data.chain_rpc_url(),
            fee_cap=data.settings.fee_cap_gwei * GWEI,
            priority_fee=None if tip is None else int(tip * GWEI),
            counts=counts,
        )
        if trusts_folder:
            self.chain.log_folder = self.data_dir / "settlement" / "logs"
        self.keys = keys_of(data.settings, self.chain.chain_id)
        store = data.store()
        self._shared = None if store is None else SharedPosts(store, self.data_dir)
        self._is_shared = False
        self._require_own_ledger()

    def _require_own_ledger(self) -> None:
        """Raises InvalidInput where the folder's ledger was made for another log, or for other rules of it."""
        if (self.data_dir / CHAIN_FILE).exists():
            deployment = Deployment.load(self.data_dir)
            if not deployment.is_of(self.log):
                raise InvalidInput(
                    f"the ledger {deployment.ledger} was made for other settings of the log {deployment.log_id} than"
                    f" {self.data_dir / 'log.json'} has: restore that file from a copy, or deploy a ledger for it"
                )

    def decimals(self) -> int:
        """Decimals of the token that the ledger pays in. Raises InvalidInput where none was deployed."""
        return Deployment.load(self.data_dir).decimals

    def settle(self, options: SettleOptions) -> Settled:
        """Posts what can be posted, once, and puts it into the store, if there is one. Raises NotYet where the chain
        can't take it now.

        On the folder's own development chain, whose tokens are worth nothing, it first deploys and funds a ledger.
        """
        self.data.fetch_epochs()
        settled = self._settle(options)
        if self._shared is not None and (settled.posts or not self._is_shared):
            self._is_shared = False  # until all are there, also where the store is away now
            self._shared.put(self._live_posts())
            self._is_shared = True
        return settled

    def fetch_posts(self) -> None:
        """Fetches from the store, if there is one, the posts that this folder lacks. Raises InvalidInput."""
        if self._shared is not None and (self.data_dir / CHAIN_FILE).exists():
            self._shared.fetch(self._live_posts())

    def _live_posts(self) -> Sequence[Posted]:
        return Ledger.open(self.data_dir, self.chain).history().live

    def _settle(self, options: SettleOptions) -> Settled:
        if self.data.has_own_chain():
            self.chain.keep_time()
            if not (self.data_dir / CHAIN_FILE).exists():
                service.deploy_contracts(self.data_dir, self.chain, self.log, self.keys)
            for _ in range(FUNDED_AT_MOST):
                self.fund(None)
                try:
                    return service.settle(self.data_dir, self.chain, self.log, self.keys, options)
                except Underfunded:
                    continue  # an epoch has ended since
        return service.settle(self.data_dir, self.chain, self.log, self.keys, options)

    def follow(
        self, options: SettleOptions, on_round: Callable[[Round], None] = no_round
    ) -> Iterator[Settled | Waiting]:
        """Posts as epochs end, for ever: what was posted, which epochs owe nobody, and now and then why it waits.

        It outlives a node or a store that is away for hours, a ledger that lacks funds, and blocks that are behind the
        log's time. `on_round` is called after each round.
        """
        silent_until_s, owes_nobody_until = 0.0, None
        while True:
            begun_s = time.monotonic()
            try:
                settled = self.settle(options)
            except (NotYet, NodeAway, NodeRefuses, Underfunded, EpochNotOver, StoreAway) as error:
                on_round(Round("waiting", str(error), time.monotonic() - begun_s))
                if time.monotonic() >= silent_until_s:
                    yield error
                    silent_until_s = time.monotonic() + SAY_AGAIN_S
            else:
                silent_until_s = 0.0
                outcome: Literal["posted", "nothing"] = "posted" if settled.posts else "nothing"
                on_round(Round(outcome, "", time.monotonic() - begun_s))
                if settled.posts or settled.owes_nobody_until not in (None, owes_nobody_until):
                    yield settled
                owes_nobody_until = settled.owes_nobody_until
            time.sleep(FOLLOW_S)

    def when_active(self, call: Callable[[], T], step: Callable[[str], None] | None) -> T:
        """What the call returns; with a `step` to say so, it waits until the post that it claims under is active."""
        while True:
            try:
                return call()
            except NotActive as error:
                if step is None:
                    raise
                step(f"waiting: {str(error).removesuffix(': claim then')}")
                time.sleep(max(1.0, error.until_s - time.time()))

    def settlements(self) -> SettlementsReport:
        """Every post, and the ledger's money; with what customers paid before of what was settled, by the views."""
        import duckdb

        from deploy.explain.query import open_views

        report = service.settlements(self.data_dir, self.chain, self.log)
        initial = Deployment.load(self.data_dir).initial
        live = sum(post.settlement.state != "disputed" for post in report.posts)
        after = Store(self.data_dir).standing(live, initial).partition_epochs
        try:
            with open_views(self.data) as views:
                found = views.execute(COLLECTED).fetchall()
        except (duckdb.Error, OSError):
            return report
        collected = sum(
            int(micros)
            for partition, epoch, micros in found
            if initial.partition_epochs.get(partition, 0) <= epoch < after.get(partition, 0)
        )
        return structs.replace(report, collected_micros=collected)

    def fund(self, amount: str | None) -> Funded:
        """Sends an amount such as 12.50 to the ledger, or what is missing. Raises InvalidInput."""
        wanted = None if amount is None else token_amount(amount, self.decimals())
        return service.fund(self.data_dir, self.chain, self.log, self.keys, wanted)

    def restore_posts(self, without: Collection[int], step: Callable[[str], None]) -> tuple[int, ...]:
        """Leads the folder to where the chain is: reads the log up to the last post's epochs, and rebuilds its posts.

        `without` names partitions that posts may have left out. Returns the sequences rebuilt. Raises InvalidInput
        where the epochs don't make a post of the chain.
        """
        self.data.fetch_epochs()
        if (epoch := service.last_posted_epoch(self.data_dir, self.chain, self.log)) is not None:
            partitions = set(range(self.log.partitions)) - set(without)
            behind = sorted(part for part in partitions if (last_epoch(self.data_dir, part) or 0) < epoch)
            if behind:
                from deploy.stack.worker import run_one_worker

                step(f"partitions {', '.join(map(str, behind))} are behind the chain: reading the log")
                run_one_worker(self.data, step, until_caught_up=True)
        return service.restore_posts(self.data_dir, self.chain, self.log, without)

    def write_proofs(self, folder: Path) -> int:
        """Writes `<account>.json` for every account of the last post: to be published. Returns how many."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"can't make the folder {folder}: {error.strerror}") from None
        written = 0
        for found in service.proofs(self.data_dir, self.chain):
            service.write_proof(folder / f"{found.account}.json", found)
            written += 1
        return written


def noted_funding(data_dir: Path) -> Funding | None:
    """What the settlement that ran last noted of the ledger's funds; None where none ran in this folder."""
    path = data_dir / "settlement" / "funding.json"
    try:
        return read_json(path, Funding, what="a settlement's figures", remedy="run `tallyroot settle` again")
    except FileMissing:
        return None
