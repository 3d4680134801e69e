"""Opens a machine's agent on a data folder, and looks until it is stopped, or once."""

import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from msgspec import Struct

from agent.agent import Agent
from agent.journal import AgentJournal
from agent.tills import Tills
from deploy.agent.config import PolicyFile, policy_of, read_policy
from deploy.agent.log_hand import LogHand
from deploy.agent.purse import Purse
from deploy.agent.web_hand import WebHand
from deploy.config import KeySettings
from deploy.data_folder import DataFolder
from deploy.keys import open_key, own_account
from deploy.money.treasury import Treasury
from deploy.till.chain_hand import ChainHand, asset_of
from schemas.errors import InvalidInput
from schemas.parsing import duration_ms, token_amount
from schemas.units import SECOND_MS, TokenUnits
from settlement.chain.ledger import Ledger
from streams.kafka.reader import KafkaLogReader

FOLDER = "agents"
BOOKS_S = 60.0
"""Between two looks at what the ledger owes the machine."""


class MachinePurchase(Struct, frozen=True, kw_only=True):
    """A purchase, and how far it is: `refund_micros` came back of the amount."""

    number: int
    till: str
    machine: str
    session: str
    units: int
    amount_micros: int
    refund_micros: int
    state: str
    note: str


class AgentEnded(Struct, frozen=True, kw_only=True):
    """What an agent knows when it ends: the account and its tokens, the level (in its meter's unit), all purchases.

    `allowed_micros` may be spent on a purchase now, by the tightest limit of the policy.
    """

    machine: str
    account: str
    balance: TokenUnits
    level: int | None
    allowed_micros: int
    purchases: list[MachinePurchase]


def run(
    data: DataFolder, machine: str, file: Path, say: Callable[[str], None], *, once: bool
) -> tuple[AgentEnded, int]:  # fmt: skip
    """Acts for a machine until SIGTERM or SIGINT, or once. Returns how it ended, and the token's decimals.

    Raises InvalidInput for what is wrong; with `once` also where Kafka or the chain is away.
    """
    policy_file, treasury = read_policy(file), Treasury(data)
    key = own_account(treasury.keys, _key(data, policy_file), f"the machine {machine}")
    asset = asset_of(treasury.chain, Ledger.open(data.data_dir, treasury.chain).deployment, "1")
    log = data.log()
    hand = LogHand(
        log, KafkaLogReader(data.kafka_servers(), log.topic, 0, data.skipped_ranges()), machine,
        policy_file.need.meter, key.address,
    )  # fmt: skip
    registration = hand.registration()
    policy = policy_of(policy_file, registration, log)
    if key.address not in registration.agreement.payees:
        say(f"{key.address} is no payee of {machine}: it spends, and earns nothing")
    purse = Purse(
        treasury, key.address, open_key(policy_file.gas) if policy_file.gas.is_set else key,
        token_amount(policy_file.claim_from, asset.decimals),
    )  # fmt: skip
    chain = ChainHand(treasury.chain, asset)
    (data.data_dir / FOLDER).mkdir(exist_ok=True)
    with closing(AgentJournal(data.data_dir / FOLDER / f"{machine}.sqlite")) as journal:
        tills = Tills(WebHand(), asset, log.log_id, policy.operators)
        agent = Agent(policy, log.currency, asset, journal, hand, chain, purse, key, tills, say)
        if once:
            agent.look()
        else:
            _look_for_ever(agent, duration_ms(policy_file.look_every) / SECOND_MS, say)
        level, purchases = hand.level(), journal.all()
        ended = AgentEnded(
            machine=machine, account=key.address, balance=chain.balance(key.address),
            level=None if level is None else level.value,
            allowed_micros=policy.allowed(purchases, chain.latest()[1])[0],
            purchases=[
                MachinePurchase(
                    number=each.number, till=each.till, machine=each.sold or each.machine, session=each.session,
                    units=each.units, amount_micros=each.amount_micros, refund_micros=each.refund_micros,
                    state=each.state, note=each.note,
                )
                for each in purchases
            ],
        )  # fmt: skip
    return ended, asset.decimals


def _look_for_ever(agent: Agent, pause_s: float, say: Callable[[str], None]) -> None:
    def stop(_: int, __: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    said, books_s = "", 0.0
    with suppress(KeyboardInterrupt):
        while True:
            at_books = time.monotonic() >= books_s
            try:
                agent.look(at_books=at_books)
                said, books_s = "", time.monotonic() + BOOKS_S if at_books else books_s
            except InvalidInput as error:  # Kafka or the chain is away: what is journaled goes on later
                if str(error) != said:
                    said = str(error)
                    say(f"waiting: {error}")
            time.sleep(pause_s)


def _key(data: DataFolder, file: PolicyFile) -> KeySettings:
    """Where the machine's key is: in the policy, or in the settings."""
    found = file.key if file.key.is_set else data.settings.agent
    if not found.is_set:
        raise InvalidInput(
            "no key for the machine: name one in the policy ([key]), or set TALLYROOT_AGENT_KEYSTORE, _SIGNER or _KEY"
        )
    return found
