"""A taxi that charges itself, in memory: its agent buys from real tills on the chain and the log of `sim_till`."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import structs

from agent.agent import Agent
from agent.journal import AgentJournal
from agent.policy import Policy
from agent.ports import Answer, Away, Level
from agent.purchase import Purchase
from agent.tills import Tills
from schemas.errors import InvalidInput
from schemas.payment import PaymentReceived
from settlement.chain.signer import Signer
from tests.support.asgi import call
from tests.support.sim_till import ALICE, ASSET, OPERATOR, SimTill, Street
from till.app import Service, new_app
from till.purchase import Place

POLICY = Policy(
    machine="taxi-7", meter="battery", buy_at=20_000, until=30_000, unit="Wh", worth=1, tills=("http://a",),
    operators=(OPERATOR,), kinds=("charger",), price_micros=600_000, per=1_000, purchase_micros=10_000_000,
    day_micros=12_000_000, month_micros=100_000_000, valid_s=120, patience_s=600, avoid_s=3_600,
)  # fmt: skip
LIE = Callable[[str, str, bytes], Answer | None]
"""What a hostile till answers to a method, a path and a body; None: what an honest one would."""


class SimWeb:
    """Tills by URL; what goes between may be lost, after the till has done it."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.tills: dict[str, SimTill] = {}
        self.lies: dict[str, LIE] = {}
        self.is_lossy = False

    def ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        host = "/".join(url.split("/", 3)[:3])
        path = url.removeprefix(host)
        lie = self.lies.get(host)
        found = None if lie is None else lie(method, path, body)
        if found is None:
            till = self.tills[host]
            service = Service(desk=till.desk, wake=lambda: None, answer_within_s=0.0, requests_per_minute=10**6)
            called = call(new_app(service), method, path, body, headers)
            found = Answer(called.status, called.headers.get("payment-required", ""), called.body)
        self.street.kills.after()
        if self.is_lossy:
            raise Away("no answer within 10 s")
        return found


class SimLogOfAgent:
    """The street's log, and the taxi's battery."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.now = Level(18_000, 1)

    def shows(self, value: int) -> None:
        self.now = Level(value, self.now.observed_ms + 1)

    def refresh(self) -> None:
        self.street.log.refresh()

    def level(self) -> Level | None:
        return self.now

    def payment(self, place: Place) -> PaymentReceived | None:
        for payment in self.street.log.accepted:
            if (payment.transaction, payment.log_index) == (place.transaction, place.log_index):
                return payment
        return None

    def is_open(self, machine: str, session: str) -> bool:
        return self.street.log.is_open(machine, session) and not self.street.log.has_ended(machine, session)


class SimPurse:
    """What the ledger owes."""

    def __init__(self) -> None:
        self.claimable = 0
        self.refunds: dict[tuple[str, str], int] = {}
        self.fault = ""

    def claim(self) -> int:
        if self.fault:
            raise InvalidInput(self.fault)
        found, self.claimable = self.claimable, 0
        return found

    def refund(self, machine: str, session: str) -> int | None:
        return self.refunds.get((machine, session))


class Taxi:
    """A street with a till at http://a, and a taxi whose agent is driven by hand."""

    def __init__(self, folder: Path, policy: Policy = POLICY) -> None:
        self.folder, self.policy = folder, policy
        self.street = Street(folder)
        self.web, self.log, self.purse = SimWeb(self.street), SimLogOfAgent(self.street), SimPurse()
        self.web.tills["http://a"] = self.street.till
        self.said: list[str] = []
        self.journal, self.agent = self.opened()

    def opened(self) -> tuple[AgentJournal, Agent]:
        journal = AgentJournal(self.folder / "agent.sqlite")
        tills = Tills(self.web, ASSET, "street", self.policy.operators)
        key = Signer.from_key("01" * 32)
        assert key.address == ALICE.public_key.to_address()
        kills = self.street.kills
        return journal, Agent(
            self.policy, "USD", ASSET, journal, self.log, self.street.chain, self.purse, key, tills, self.said.append,
            kills.after,
        )  # fmt: skip

    def restart(self) -> None:
        """The agent's process is gone; another one opens its journal."""
        self.journal.close()
        self.journal, self.agent = self.opened()

    def change(self, **words: object) -> None:
        """Another policy from now on."""
        self.policy = structs.replace(self.policy, **words)
        self.restart()

    def tick(self) -> bool:
        """A look of the agent, the tills' cashiers, and a block; what is charged shows."""
        is_busy = self.agent.look()
        for till in self.web.tills.values():
            till.cashier.go_on()
        self.street.chain.mine()
        started = [command for command, _ in self.street.commands.sent if command.command == "start"]
        stopped = [command for command, _ in self.street.commands.sent if command.command == "stop"]
        if len(started) > len(stopped):
            self.log.shows(self.log.now.value + 4_000)
        return is_busy

    def trip(self, ticks: int = 20) -> None:
        """Until nothing is under way."""
        for _ in range(ticks):
            if not self.tick() and self.log.now.value >= self.policy.until:
                return

    def purchases(self) -> list[Purchase]:
        return self.journal.all()

    @property
    def spent(self) -> int:
        """Token units that the ledger got."""
        return self.street.chain.balance(ASSET.ledger)


def answer(status: int, document: object, required: str = "") -> Answer:
    return Answer(status, required, msgspec.json.encode(document))
