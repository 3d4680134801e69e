"""Opens a till on a data folder, and serves until it is stopped."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.keys import own_account
from deploy.machines.new_log import operator_of
from deploy.money.closed_sessions import ClosedSessions
from deploy.money.treasury import Treasury
from deploy.till.chain_hand import ChainHand, asset_of
from deploy.till.commands_hand import CommandsHand
from deploy.till.config import TillConfig, read_till
from deploy.till.facilitator_hand import FacilitatorHand
from deploy.till.log_hand import LogHand
from schemas.errors import InvalidInput
from settlement.chain.ledger import Ledger
from streams.kafka.reader import KafkaLogReader
from tallyroot_gateway.http.server import serve
from till.app import Service, new_app
from till.cashier import Cashier
from till.desk import Desk, SignedOffers
from till.journal import Journal
from till.purchase import UNDER_WAY
from till.sender import Facilitated, OwnGas, Sender

PAUSE_S = 0.5
"""Between two looks at purchases that wait for the chain."""

FOLLOW_S = 2.0
"""Between two looks at what sessions have used."""

AWAY_S = 5.0

_log = logging.getLogger("tallyroot.gateway")


class OpenTill(Struct, frozen=True, kw_only=True):
    """A till's parts: what answers, what drives purchases on, and its journal."""

    config: TillConfig
    desk: Desk
    cashier: Cashier
    journal: Journal


def open_till(data: DataFolder, file: Path, after: Callable[[int], None] = lambda _: None) -> OpenTill:
    """Opens a till. `after` is for crash tests. Raises InvalidInput for what is wrong or away."""
    config = read_till(file)
    treasury = Treasury(data)
    ledger = Ledger.open(data.data_dir, treasury.chain)
    asset = asset_of(treasury.chain, ledger.deployment, config.token_version)
    facilitator, gas = None, None
    if config.facilitator is not None:
        facilitator = FacilitatorHand(config.facilitator.url, config.facilitator.token(), asset)
    else:
        gas = own_account(treasury.keys, config.gas, "the till, with ether for gas")
    log, servers = data.log(), data.kafka_servers()
    journal = Journal(data.data_dir / config.journal)
    try:
        awaited = [purchase.record for purchase in journal.in_state("numbered")]
        reader = KafkaLogReader(servers, log.topic, 0, data.skipped_ranges())
        hand = LogHand(log, servers, reader, operator_of(data), awaited)
        chain, commands = ChainHand(treasury.chain, asset, gas), CommandsHand(servers, config.topic)
        sender: Sender = OwnGas(journal, chain, after)
        if facilitator is not None:
            sender = Facilitated(journal, chain, facilitator, asset, config.limits.timeout_s, after)
        cashier = Cashier(journal, hand, chain, commands, sender, time, after)
        books = ClosedSessions(treasury)
        items = {item.machine: item for item in config.machines}
        desk = Desk(items, config.limits, log.currency, journal, hand, chain, commands, books, asset, time, facilitator)
        for item in config.machines:
            if hand.registration(item.machine, time.time_ns() // 1_000_000) is None:
                raise InvalidInput(f"{item.machine} is not registered in this log: `tallyroot machines` lists them")
    except BaseException:
        journal.close()
        raise
    return OpenTill(config=config, desk=desk, cashier=cashier, journal=journal)


def offers(data: DataFolder, file: Path) -> SignedOffers:
    """What the till would offer now. Raises InvalidInput."""
    opened = open_till(data, file)
    try:
        return opened.desk.offers()
    finally:
        opened.journal.close()


def run(data: DataFolder, file: Path) -> int:
    """Sells until SIGTERM or SIGINT; returns how many purchases are under way. Raises InvalidInput at the start."""
    opened = open_till(data, file)
    driver = Driver(opened.cashier, lambda: os.kill(os.getpid(), signal.SIGTERM))
    answering = opened.config.answering
    service = Service(
        desk=opened.desk, wake=driver.wake, requests_per_minute=answering.requests_per_minute,
        answer_within_s=answering.answer_within_s,
    )  # fmt: skip
    driver.start()
    try:
        asyncio.run(_serve(service, opened.config))
    finally:
        driver.stop()
        left = len(opened.journal.in_state(*UNDER_WAY))
        opened.journal.close()
    if driver.fault is not None:
        raise driver.fault
    return left


async def _serve(service: Service, config: TillConfig) -> None:
    serving = asyncio.create_task(serve(new_app(service), config.http, "/machines"))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return


class Driver:
    """The cashier's thread: it looks often while a purchase is under way, and follows sessions that go on.

    What it can't wait for ends it, and `end` is called: a till without a cashier takes money and begins no session.
    """

    def __init__(self, cashier: Cashier, end: Callable[[], None]) -> None:
        self._cashier = cashier
        self._end = end
        self.fault: Exception | None = None
        self._woken = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="cashier", daemon=True)

    def start(self) -> None:
        """Begins with what the journal left."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    def stop(self) -> None:
        """Ends after the step that it is in."""
        self._is_over = True
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over:
            self._woken.clear()
            try:
                is_waiting = self._cashier.go_on()
            except InvalidInput as error:  # Kafka or the chain is away: what is journaled goes on later
                _log.warning("purchases wait: %s", error)
                self._woken.wait(AWAY_S)
                continue
            except Exception as error:  # noqa: BLE001 - the main thread raises it
                self.fault = error
                self._end()
                return
            self._woken.wait(PAUSE_S if is_waiting else FOLLOW_S)
