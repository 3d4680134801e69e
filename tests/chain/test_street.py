"""A day of the demo's street on a real EVM node: what the core makes of it, and that it is the same each time."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.config import KeySettings, Settings
from deploy.data_folder import DataFolder
from deploy.demo.street import PURSE_UNITS, Street, live
from deploy.demo.street_machines import CHARGERS, DRONE, ROBOT, SENSOR, TAXIS, account_of
from deploy.importers.replay import planned
from deploy.money.treasury import Treasury
from schemas.log import Log, Ruleset
from schemas.payment import PAID, PaymentReceived
from schemas.units import DAY_MS
from schemas.window import Window
from settlement import service
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.transfers import LedgerTransfers
from streams.core.records import Record, record_type
from streams.core.replay import advance_through
from streams.core.signature import operator_account
from streams.core.state import State

pytestmark = pytest.mark.chain

KEY = DataFolder(Path("nowhere"), Settings()).operator_key()
"""The development node's own operator, who has ether."""

START_MS, DAYS = 18_140 * DAY_MS + 15 * DAY_MS // 24, 2
LOG = Log(
    log_id="street", topic="street", partitions=2, timestamp_type="CreateTime", epoch_ms=DAY_MS,
    rulesets=(Ruleset(operators=(operator_account(KEY),)),),
)  # fmt: skip


class Lived:
    """A street that has lived on a ledger of its own, and its part of the log as the core judges it."""

    def __init__(self, folder: Path, node: Chain) -> None:
        settings = Settings(
            kafka_bootstrap_servers="127.0.0.1:1", chain_rpc_url=node.rpc_url, operator=KeySettings(key=KEY.hex())
        )
        data = DataFolder(folder, settings)
        data.create_log(LOG)
        treasury = Treasury(data)
        service.deploy_contracts(folder, treasury.chain, LOG, treasury.keys)
        self.ledger = Ledger.open(folder, treasury.chain)
        self.street: Street = live(data, treasury, "a", START_MS, DAYS)
        self.parts: list[list[Record]] = [[] for _ in range(LOG.partitions)]
        for out in planned(LOG, [self.street.source], KEY, lambda one: self.street.agreements[one.machine], "a"):
            part = self.parts[out.partition]
            part.append(Record(len(part), out.timestamp_ms, out.key, out.value, out.headers))
        self.windows: list[Window] = []
        self.orders: list[tuple[int, int]] = []
        self.rejects: Counter[str] = Counter()
        for number, records in enumerate(self.parts):
            for done in advance_through(State.new(LOG, number), records):
                self.windows += done.windows
                self.orders += [(order.number, order.placed_at) for order in done.orders]
                self.rejects.update(reject.reason for reject in done.rejects)

    def payments(self) -> list[PaymentReceived]:
        records = [record for part in self.parts for record in part if record_type(record) == PAID]
        return [msgspec.json.decode(record.value or b"", type=PaymentReceived) for record in records]


def test_what_the_street_pays_is_on_the_chain_used_and_back_and_is_the_same_each_time(
    node: Chain, tmp_path: Path
) -> None:
    lived, again = Lived(tmp_path / "one", node), Lived(tmp_path / "two", node)
    assert not lived.rejects
    assert [window.digest for window in lived.windows] == [window.digest for window in again.windows]
    sums: Counter[Any] = Counter()
    for window in lived.windows:
        for statement in window.sessions:
            assert statement.used_micros <= statement.paid_micros, "the till stops what is used up"
            sums["paid"] += statement.paid_micros
            sums[statement.payer] += statement.paid_micros
            sums[window.machine] += 1
        sums["collected"] += window.collected_micros
        for due in window.dues:
            sums[due.kind] += due.micros
    assert all(sums[machine] for machine in (SENSOR, DRONE)) and sum(sums[charger] for charger in CHARGERS) >= 3
    assert sums["paid"] == sums["collected"] + sums["refund"] == lived.street.paid_micros > 0
    assert lived.orders == lived.street.orders
    assert sums["expense"] == 72_000_000 * lived.street.received
    on_chain_and_in_the_log(lived, sums)


def on_chain_and_in_the_log(lived: Lived, sums: Counter[Any]) -> None:
    """Each payment is one transfer of the chain, final, from the account that the log names."""
    transfers = LedgerTransfers(lived.ledger)
    found = {(each.block, each.log_index): each for each in transfers.transfers()}
    payments = lived.payments()
    assert len(payments) == len(found) == sum(lived.street.sessions.values())
    for payment in payments:
        each = found[payment.block, payment.log_index]
        assert (each.payer, each.amount, each.transaction) == (payment.payer, payment.amount, payment.transaction)
        assert payment.block <= transfers.final_block() and transfers.is_authorised(each)
    for taxi in TAXIS:
        assert lived.ledger.balance_of(account_of(taxi)) == PURSE_UNITS - sums[account_of(taxi)]
    assert ROBOT in lived.street.agreements
