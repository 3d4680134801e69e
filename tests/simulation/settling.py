"""`settle` against a chain in memory: `python -m tests.simulation.settling --seeds 1000 [--first N] [--json]`.

A seed draws hosts, epochs, and what goes wrong between any two questions to a node; the same seed draws the same. Each
host is the real job with its own journal and store. Epochs may be told falsely; a guardian disputes what is wrong, and
sometimes what is right; somebody adjusts the files and restates. Then the chain is kind again, and the posts must be
finished: every account is owed, once, what all epochs truly owe it.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from schemas.errors import InvalidInput
from schemas.window import DUE_KINDS, Due, DueKind
from settlement.accrual import NOBODY
from settlement.chain.job import SettleJob, SettleOptions
from settlement.chain.ledger import Deployment
from settlement.history import Posted, same_post
from settlement.posting import Posting
from settlement.storage.journal import Journal
from settlement.storage.posts import Store
from tests.simulation.chain import KIND_BASE_FEE, Poster, SimulatedChain, SimulatedLedger, SimulatedNode, Transaction
from tests.simulation.seeds import again, run_seeds
from tests.simulation.truth import Truth, epochs_of
from tests.support.settlement_data import ALICE, LOG

MODULE = "tests.simulation.settling"

DEPLOYMENT = Deployment(
    chain_id=1, log_id=LOG.log_id, currency=LOG.currency, epoch_ms=LOG.epoch_ms, ledger="0x" + "1e" * 20,
    token="0x" + "70" * 20, decimals=6, demo_token=True, operator="0x" + "0e" * 20, block=0,
    log_digest="00" * 32, first_epoch_start_s=0,
)  # fmt: skip
KIND_RUNS = 24
ASKED_AT_MOST = 20_000
"""So many questions to its node may one run ask: it waits for minutes, and a block takes seconds."""
LEFT = "no EVM node answers"
UNDERFUNDED = "the ledger is short of tokens"
PASSING = (
    LEFT, UNDERFUNDED, "is not mined yet", "gas costs too much", "replacement transaction underpriced",
    "the ledger's head has", "has no receipt for it yet", "does not show its event yet", "the node lags behind",
    "when it was mined", "the node says of its transaction",
)  # fmt: skip
DISPUTED = ("was disputed: find out why", "was disputed, and a reorganisation has undone the dispute")
SAME_AGAIN = "would be the same again"
FOREIGN = ("settlement halts: a foreign transaction", "settlement is halted: a foreign transaction")
NOT_OURS = ("on the ledger differs from the one in", "is not in")


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


class Host:
    """One data folder with its journal and store, its node, and what goes wrong at both."""

    def __init__(self, world: "World", folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.node = SimulatedNode(world.chain, self._trouble, self._sending)
        self.running = False
        self.lost_journal = False
        self.stopped_for = ""
        self.restates = False
        self.asked = 0
        self.sent: set[str] = set()

    def run(self) -> str:
        """One settle; what it stopped for, or nothing."""
        self.asked = 0
        self.stopped_for = self._run()
        return self.stopped_for

    def _run(self) -> str:
        draw = self.world.draw
        self.restates = self.world.restates(self.stopped_for)
        options = SettleOptions(
            max_epochs=draw.choice([None, None, 1, 2]), max_posts=draw.choice([None, None, 1]), bump_blocks=3,
            restate=self.restates,
        )  # fmt: skip
        ledger = SimulatedLedger(self.node, DEPLOYMENT)
        job = SettleJob(self.folder, LOG, ledger, Poster(), self._step, self)
        self.running = True
        try:
            job.settle(options)
        except InvalidInput as stopped:
            self.world.judge(self, str(stopped))
            return str(stopped)
        except Killed:
            self.world.chain.happened["killed"] += 1
            return "killed"
        finally:
            self.running = False
        return ""

    def monotonic(self) -> float:
        """The chain's time, seconds."""
        return self.world.now

    def sleep(self, seconds: float) -> None:
        """A wait is a block."""
        self.world.now += seconds
        self.world.chain.mine()
        self._trouble("sleep")

    def lose_journal(self) -> None:
        """The file is gone, with what SQLite keeps beside it."""
        for path in (self.folder / "settlement").glob("journal.sqlite*"):
            path.unlink()
        self.lost_journal = True
        self.sent.clear()

    def _step(self, step: int) -> None:
        history = self.world.chain.latest
        if step == 2 and not self.restates and history.disputed is not None:
            follows = [posting.header.previous_head for posting in self.journal() if posting.state == "prepared"]
            assert history.head not in follows, "a post follows a dispute that nobody has looked at"
        if self.world.wild and self.world.draw.random() < 0.04:
            self.world.chain.happened[f"killed after step {step}"] += 1
            raise Killed
        self._trouble("step")

    def journal(self) -> list[Posting]:
        """What the journal knows, from the disk."""
        with Journal(self.folder / "settlement" / "journal.sqlite") as journal:
            return journal.postings()

    def _sending(self, transaction: Transaction) -> None:
        """What is sent is on the disk, and within the cap."""
        known = {attempt.hash for posting in self.journal() for attempt in posting.attempts}
        assert transaction.hash in known, "bytes were sent before the journal had them"
        assert transaction.max_fee <= self.node.fee_cap, "more is offered than the cap allows"
        self.sent.add(transaction.hash)

    def _trouble(self, where: str) -> None:
        self.asked += 1
        assert self.asked < ASKED_AT_MOST, "settle asks for ever"
        if self.world.wild:
            self.world.happen(self, where)


class World:
    """A chain, its hosts, and what a seed has in store for them."""

    def __init__(self, seed: int, root: Path) -> None:
        self.draw = random.Random(seed)
        folders = [root / str(number) for number in range(self.draw.choice([1, 1, 1, 2]))]
        self.truth = Truth(folders, DEPLOYMENT.ledger)
        self.chain = SimulatedChain(self.draw, self.truth.is_right)
        self.now = 0.0
        self.wild = True
        self.hosts = [Host(self, folder) for folder in folders]
        self.thieves = self.draw.random() < 0.15
        self.losers = self.draw.random() < 0.25
        self.lies = self.draw.choice([0.0, 0.2, 0.5])
        self.hasty = self.draw.choice([0.0, 0.3, 0.8])
        self.weather = self.draw.choice([0.01, 0.04, 0.1, 0.3])
        self.matured: list[Posted] = []
        for _ in range(self.draw.randint(1, 3)):
            self.publish()

    def publish(self) -> None:
        """One more epoch, the same for every host: true or false."""
        net = self.draw.randint(1, 10**9)
        is_false = self.wild and self.draw.random() < self.lies
        told = self.draw.randint(1, 10**9) if is_false else net
        own = random.Random(net)
        self.truth.publish(net, told, dues(own), own.choice((0, own.randint(1, 10**9))))

    def guard(self) -> bool:
        """Disputes the first wrong post, or now and then a right one; whether there was a wrong one."""
        live = self.chain.latest.live
        wrong = [posted.header.sequence for posted in live if not self.truth.is_right(posted.header)]
        if wrong:
            self.chain.disputes.append(wrong[0])
        elif live and self.wild and self.draw.random() < self.hasty:
            self.chain.happened["disputed for nothing"] += 1
            self.chain.disputes.append(self.draw.randint(1, len(live)))
        return bool(wrong)

    def restates(self, stopped_for: str) -> bool:
        """Whether somebody who read of a dispute has looked, mended what was false, and lets settle go on."""
        if "was disputed" not in stopped_for or (self.wild and self.draw.random() < 0.4):
            return False
        self.chain.happened["mended"] += self.truth.mend()
        self.chain.happened["restated"] += 1
        return True

    def happen(self, host: Host, where: str) -> None:
        """What may go wrong at this moment, for this host or for all."""
        if self.draw.random() >= self.weather:
            return
        event = self.draw.choice(EVENTS)
        self.chain.happened[event] += 1
        match event:
            case "mine":
                self.chain.mine()
            case "reorganisation":
                self.chain.reorganise()
            case "drop":
                self.chain.drop()
            case "stuck":
                self.chain.stuck |= {waiting.hash for waiting in self.chain.pool.values()}
            case "fees":
                self.chain.base_fee = self.draw.choice([KIND_BASE_FEE, 30, 90, 130, 400])
            case "refusal":
                self.chain.refusal = "" if self.chain.refusal else UNDERFUNDED
            case "bad luck":
                self.chain.bad_luck = self.draw.choice([0.0, 0.5])
            case "leave":
                raise InvalidInput(LEFT)
            case "kill":
                raise Killed
            case "lag":
                host.node.lag = self.draw.choice([0, 1, 2])
            case "hide":
                mined = {one.transaction.hash for _, one in self.chain.mined()}
                host.node.hidden = mined if not host.node.hidden else set()
            case "dispute":
                self.guard()
            case "foreign":
                if self.thieves:
                    self.chain.foreign()
            case "other host":
                other = self.draw.choice(self.hosts)
                if not other.running:
                    other.run()
                elif other is host:
                    self.second_worker(host)

    def second_worker(self, host: Host) -> None:
        """Another process on the same folder is refused, and touches nothing."""
        job = SettleJob(host.folder, LOG, SimulatedLedger(host.node, DEPLOYMENT), Poster(), clock=host)
        with pytest.raises(InvalidInput, match="another settle runs"):
            job.settle(SettleOptions())

    def judge(self, host: Host, reason: str) -> None:
        """Whether a stop was for the right reason, in one line."""
        assert "\n" not in reason
        known = [words for words in (*PASSING, *FOREIGN, *NOT_OURS, *DISPUTED, SAME_AGAIN) if words in reason]
        assert known, f"stopped for a reason that nobody foresaw: {reason}"
        self.chain.happened[f"stop: {known[0]}"] += 1
        if any(words in reason for words in NOT_OURS):
            assert len(self.hosts) > 1 or host.lost_journal, f"took its own post for another's: {reason}"


EVENTS = (
    "mine", "mine", "mine", "reorganisation", "reorganisation", "reorganisation", "drop", "stuck", "fees", "refusal",
    "bad luck", "leave", "kill", "lag", "hide", "foreign", "other host", "dispute", "dispute",
)  # fmt: skip


def run(seed: int, root: Path) -> World:
    """A seed: wild days, then kind ones, and what must hold after each run of a host."""
    world = World(seed, root)
    for _ in range(world.draw.randint(3, 10)):
        host = world.draw.choice(world.hosts)
        host.run()
        check_always(world)
        check_journal(world, host)
        if world.draw.random() < 0.4:
            world.publish()
        if world.draw.random() < 0.5:
            world.chain.be_kind()  # for a while
        if world.losers and world.draw.random() < 0.2:
            world.chain.happened["lost journal"] += 1
            host.lose_journal()
    be_kind(world)
    reasons = {host: settle_to_the_end(world, host) for host in world.hosts}
    check_end(world, reasons)
    return world


def be_kind(world: World) -> None:
    """From now on nothing goes wrong."""
    world.wild = False
    world.chain.be_kind()
    for host in world.hosts:
        host.node.lag = 0
        host.node.hidden = set()


def settle_to_the_end(world: World, host: Host) -> str:
    """Runs until a run has nothing to do any more; what it stopped for at last."""
    reason = ""
    for _ in range(KIND_RUNS):
        before = len(world.chain.latest.live)
        reason = host.run()
        check_always(world)
        if world.guard():
            world.chain.mine()
            continue
        if not reason and len(world.chain.latest.live) == before and covered(world) == world.truth.epochs:
            break
        if any(words in reason for words in FOREIGN + NOT_OURS):
            break
        if SAME_AGAIN in reason:
            world.publish()
        world.chain.mine()
    return reason


def covered(world: World) -> int:
    """How many epochs the live posts settle."""
    live = world.chain.latest.live
    return 0 if not live else epochs_of(live[-1].header)


def check_always(world: World) -> None:
    """One live post per sequence, no epoch twice; the fold itself refuses what doesn't follow.

    What has become mature stays, is right, and never falls; what is dead is not made again.
    """
    history = world.chain.latest
    end = total = 0
    for number, posted in enumerate(history.live, start=1):
        assert posted.header.sequence == number
        assert end <= posted.header.epoch_start_s < posted.header.epoch_end_s, "an epoch is posted twice"
        assert posted.header.total >= total, "a total has fallen"
        end, total = posted.header.epoch_end_s, posted.header.total
    mature = world.chain.mature()
    heads = [posted.head for posted in mature]
    assert heads[: len(world.matured)] == [posted.head for posted in world.matured], "what was active has gone"
    world.matured = mature
    made = [*history.live, *history.dead]
    for place, dead in enumerate(history.dead):
        again = [one for one in made if one.head != dead.head and same_post(one.header, dead.header)]
        assert not again, f"post {dead.header.sequence} was made again after its dispute"
        assert dead not in history.dead[place + 1 :]


def check_journal(world: World, host: Host) -> None:
    """What is final is so on the chain: no reorganisation takes it any more. What was sent is never forgotten."""
    history = world.chain.latest
    final = {posted.head for posted in (*history.live, *history.dead) if posted.block <= world.chain.final}
    for posting in host.journal():
        assert posting.state != "final" or posting.header.head() in final, "called final before it was"
    known = {attempt.hash for posting in host.journal() for attempt in posting.attempts}
    assert host.sent <= known, "the journal has forgotten what was sent"


def check_end(world: World, reasons: dict[Host, str]) -> None:
    """All is settled and stored, or each host says why not, and is right."""
    for host, reason in reasons.items():
        if not reason:
            check_stored(world, host)
        elif any(words in reason for words in FOREIGN):
            world.chain.happened["end: halted"] += 1
            assert nonce_of_strangers(world, host), f"nobody else has used the nonce: {reason}"
        else:
            world.chain.happened["end: not ours"] += 1
            assert any(words in reason for words in NOT_OURS), f"the chain is kind, and settle stops: {reason}"
            assert len(world.hosts) > 1, f"no other host could have posted: {reason}"
    if not all(reasons.values()):
        world.chain.happened["end: finished"] += 1
        assert covered(world) == world.truth.epochs, "not all epochs are settled"
        live = world.chain.latest.live
        assert all(world.truth.is_right(posted.header) for posted in live), "an account is owed what it should not be"


def dues(draw: random.Random) -> list[Due]:
    """A few invoices and refunds: of payees, of strangers, and of accounts that can't be paid."""
    accounts = (ALICE, "0x" + "d4" * 20, DEPLOYMENT.ledger, NOBODY)
    kinds: list[DueKind] = draw.choices(DUE_KINDS, k=draw.randint(0, 3))
    return [Due(kind, draw.choice(accounts), f"x/{at}", draw.randint(1, 10**6)) for at, kind in enumerate(kinds)]


def nonce_of_strangers(world: World, host: Host) -> bool:
    """Whether a nonce that a halted posting has signed for was used by a transaction that its journal doesn't know."""
    used = [mined.transaction for _, mined in world.chain.mined()]
    postings = host.journal()
    ours = {attempt.hash for posting in postings for attempt in posting.attempts}
    halted = {a.nonce for posting in postings if posting.state == "halted" for a in posting.attempts}
    return bool(halted & world.chain.stolen) or any(one.nonce in halted and one.hash not in ours for one in used)


def check_stored(world: World, host: Host) -> None:
    """The live posts are those of the store, and the journal that was never lost knows them all."""
    live = world.chain.latest.live
    world.chain.happened["posts"] += len(live)
    store = Store(host.folder)
    for posted in live:
        assert store.stored_header(posted.header.sequence).header.header() == posted.header
    store.standing(len(live), DEPLOYMENT.initial)
    states = {posting.header.head(): posting.state for posting in host.journal()}
    if len(world.hosts) == 1 and not host.lost_journal:
        assert all(states[posted.head] in ("mined", "final") for posted in live)


def run_and_check(seed: int) -> Counter[str]:
    """One seed in a folder in memory, if there is such a thing. Whatever it raises says how to run it again."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="settling-", dir=memory if memory.is_dir() else None) as folder:
        try:
            return run(seed, Path(folder)).chain.happened
        except BaseException as error:
            error.add_note(f"seed {seed} failed; run it again: {again(MODULE, seed)}")
            raise


if __name__ == "__main__":
    sys.exit(run_seeds(MODULE, __doc__, run_and_check))
