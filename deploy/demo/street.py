"""The demo's street: machines that are paid before they work, and machines that spend. It lasts as long as the records.

Machines and customers are simulated, by the physics of `simulate`; who buys what, where and for how much is decided as
an agent decides, sold as a till sells, and paid on the chain. The records are the street's part of the log: they hold
what its machines show, the payments, and the receipts and invoices of what the robot's level lets order.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import msgspec

from agent.choice import choices
from agent.policy import Policy
from deploy.data_folder import DataFolder
from deploy.demo.street_machines import (
    CHARGE_W,
    CHARGERS,
    DRONE,
    ROBOT,
    SENSOR,
    TAXIS,
    Inhabitant,
    Paid,
    PaidDrone,
    StreetTaxi,
    account_of,
    inhabitants,
    robot_key,
)
from deploy.demo.street_till import Customer, StreetTill
from deploy.importers.source_log import SourceLog
from deploy.machines.operator import Operator
from deploy.money.treasury import Treasury
from deploy.simulate.fleet import BEARING_MICROS
from deploy.simulate.fleet_days import BEARING, TAXI_FULL_WH, TAXI_LOW_WH, Robot, draw
from deploy.simulate.simulation import invoice_of
from deploy.texts import moment_text
from schemas.order import INVOICED, RECEIVED, GoodsReceived
from schemas.registration import Agreement
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS, SIMULATED
from settlement.chain.signer import Signer
from streams.core.encode import signed_headers
from streams.core.records import JSON, Record
from streams.core.signature import sign_reading
from till.desk import Wish

EVERY_MS = 5 * MINUTE_MS
PURSE_UNITS = 250 * 10**6
"""What each customer holds at the beginning."""

OBSERVATIONS, OBSERVED_MS = 100, 7 * HOUR_MS
"""How many observations are paid for at once, and after how long their buyer has enough."""

PARCEL_MICROS = 8_000_000
"""What a shipper pays for a flight: the parcel, and up to 23 kilometres."""

SECRET = "what ends a session of the street"  # noqa: S105 - simulated customers have none
BUYER, SHIPPER = "university", "shipper"


@dataclass
class Street:
    """What happened: the source for the replay, and what it must come to. Amounts are micros."""

    source: SourceLog
    agreements: dict[str, Agreement]
    orders: list[tuple[int, int]]
    """Number and moment (epoch ms) of each order that the robot's level lets place."""
    received: int
    paid_micros: int
    sessions: Counter[str] = field(default_factory=Counter)
    """How many were sold, by kind of machine."""
    names: dict[str, str] = field(default_factory=dict)
    """Who an account is."""


def live(
    data: DataFolder, treasury: Treasury, seed: str, start_ms: int, days: int,
    progress: Callable[[float, str], None] = lambda done, text: None,
) -> Street:  # fmt: skip
    """Lets the street live for so many days; `progress` hears each day what part is done, and words.

    Raises InvalidInput where the chain doesn't answer.
    """
    street = _Days(data, treasury, seed, start_ms)
    try:
        end_ms = start_ms + days * DAY_MS
        for at_ms in range(start_ms, end_ms, EVERY_MS):
            street.moment(at_ms)
            if (at_ms - start_ms) % DAY_MS == 0:
                records = len(street.till.records.all)
                done = (at_ms - start_ms) / (end_ms - start_ms)
                progress(done, f"{records:,} records, up to {moment_text(at_ms)} on the street")
        street.close(end_ms)
        return street.over(start_ms)
    finally:
        street.till.close()


class _Days:
    """The street while it lives."""

    def __init__(self, data: DataFolder, treasury: Treasury, seed: str, start_ms: int) -> None:
        self._seed, self._log_id = seed, data.log().log_id
        self._all: dict[str, Inhabitant] = inhabitants(seed)
        self.till = StreetTill(data, treasury, self._all, start_ms)
        self._customers = {name: Customer(name) for name in (*TAXIS, BUYER, SHIPPER)}
        self.till.fund(self._customers.values(), PURSE_UNITS)
        self._supplier = Operator(Signer.from_seed("demo", "supplier"))
        self._at: dict[str, StreetTaxi] = {}
        """The taxi at each charger."""
        self._orders: list[tuple[int, int]] = []
        self._received = self._paid_micros = 0
        self._sessions: Counter[str] = Counter()
        self._policies = {taxi: _policy(taxi) for taxi in TAXIS}

    def moment(self, at_ms: int) -> None:
        """What its machines show now; then who has enough stops, and who needs something buys."""
        self.till.clock.now_ms = at_ms
        for each in self._all.values():
            self.till.records.show(each.life.readings(at_ms, at_ms))
        self._restock(at_ms)
        if any(life.session for life in self._paid_machines()):
            self.till.follow()
        self._stop(at_ms)
        self._do(at_ms)
        for taxi in TAXIS:
            self._charge(taxi)
        self._observe(at_ms)
        self._ship(at_ms)

    def close(self, at_ms: int) -> None:
        """The records end, and with them what goes on."""
        self.till.clock.now_ms = at_ms
        for life in self._paid_machines():
            if life.session is not None:
                self.till.records.show([life.end(at_ms)])

    def over(self, start_ms: int) -> Street:
        """All of it as a source."""
        records = self.till.records.all
        source = SourceLog(
            name="a simulated street", machines=tuple(each.machine for each in self._all.values()),
            rows=len(records), left_out=0, skipped=(), totals={}, start_ms=start_ms,
            end_ms=records[-1].timestamp_ms, make=lambda _: iter(records),
        )  # fmt: skip
        names = {account_of(name): f"{SIMULATED}{name}" for name in (BUYER, SHIPPER, "supplier")}
        return Street(
            source, {name: each.agreement for name, each in self._all.items()}, self._orders, self._received,
            self._paid_micros, self._sessions, names | {account_of(taxi): taxi for taxi in TAXIS},
        )  # fmt: skip

    def _life(self, name: str) -> Paid:
        return cast(Paid, self._all[name].life)

    def _paid_machines(self) -> list[Paid]:
        return [self._life(name) for name in (*CHARGERS, SENSOR, DRONE)]

    def _restock(self, at_ms: int) -> None:
        """What the robot's level orders, and what comes: its gateway's receipt, and its supplier's invoice."""
        robot = cast(Robot, self._all[ROBOT].life)
        number = robot.orders.get(BEARING, (0, 0))[0]
        if number > len(self._orders):
            self._orders.append((number, at_ms))
        for goods in robot.arrived:
            self._received += 1
            self._receive(goods)

    def _receive(self, goods: GoodsReceived) -> None:
        key, value = ROBOT.encode(), msgspec.json.encode(goods)
        signature = sign_reading(robot_key(self._seed), self._log_id, key, RECEIVED, JSON, value)
        headers = (("ce_type", RECEIVED.encode()), *signed_headers(JSON, f"{ROBOT}.gateway", signature))
        self.till.records.add(Record(0, goods.observed_at, key, value, headers))
        value = msgspec.json.encode(invoice_of(goods, BEARING_MICROS))
        signature = self._supplier.sign_record(self._log_id, ROBOT, INVOICED, value)
        headers = (("ce_type", INVOICED.encode()), *signed_headers(JSON, self._supplier.address, signature))
        self.till.records.add(Record(0, goods.observed_at, key, value, headers))

    def _stop(self, at_ms: int) -> None:
        """Taxis that are full, and a buyer who has enough, stop their sessions; a drone ends its own where it lands."""
        for charger, taxi in self._at.items():
            if taxi.battery_wh >= TAXI_FULL_WH:
                self._stop_session(charger)
        sensor, drone = self._life(SENSOR), cast(PaidDrone, self._life(DRONE))
        if sensor.session is not None and at_ms >= sensor.session[1] + OBSERVED_MS:
            self._stop_session(SENSOR)
        if drone.session is not None and drone.has_landed:
            self.till.records.show([drone.end(at_ms)])

    def _stop_session(self, machine: str) -> None:
        session = self._life(machine).session
        if session is not None:
            self.till.desk.stop(machine, session[0], SECRET)

    def _do(self, at_ms: int) -> None:
        """What the till has told the machines' gateways."""
        for command in self.till.commands.taken():
            life = self._life(command.machine)
            if command.command == "start":
                self.till.records.show([life.begin(str(command.session), at_ms)])
            elif life.session is not None and life.session[0] == command.session and command.machine != DRONE:
                self.till.records.show([life.end(at_ms)])
                if command.machine in self._at:
                    self._at.pop(command.machine).charge_w = 0

    def _charge(self, name: str) -> None:
        """A taxi whose battery is low drives to the charger that it has chosen, and paid."""
        taxi, policy, customer = cast(StreetTaxi, self._all[name].life), self._policies[name], self._customers[name]
        is_needed = taxi.is_free and not taxi.charge_w and taxi.battery_wh <= policy.buy_at
        if not is_needed or all(self._life(charger).session for charger in CHARGERS):
            return
        money = min(policy.purchase_micros, self.till.held(customer))
        is_free = {charger: self._life(charger).session is None for charger in CHARGERS}
        offers = [("street", offer) for offer in self.till.offers() if is_free.get(offer.machine)]
        found = choices(offers, policy, "USD", policy.until - taxi.battery_wh, money)
        if found:
            best = found[0]
            self._buy(customer, best.machine, Wish(units=best.units, secret=SECRET))
            self._at[best.machine] = taxi
            taxi.charge_w = CHARGE_W

    def _observe(self, at_ms: int) -> None:
        """Every other day somebody wants observations."""
        day, rest_ms = divmod(at_ms, DAY_MS)
        if day % 2 == 0 and rest_ms // EVERY_MS == 16 * HOUR_MS // EVERY_MS:
            self._buy(self._customers[BUYER], SENSOR, Wish(units=OBSERVATIONS, secret=SECRET))

    def _ship(self, at_ms: int) -> None:
        """Once on most days somebody has a parcel."""
        day, rest_ms = divmod(at_ms, DAY_MS)
        comes_ms = 17 * HOUR_MS + draw(self._seed, f"parcel {day}", 6 * HOUR_MS)
        if draw(self._seed, f"ships {day}", 100) < 70 and rest_ms // EVERY_MS == comes_ms // EVERY_MS:
            money = f"{PARCEL_MICROS // 10**6}.00"
            self._buy(self._customers[SHIPPER], DRONE, Wish(money=money, secret=SECRET))

    def _buy(self, customer: Customer, machine: str, wish: Wish) -> None:
        receipt = self.till.buy(customer, machine, wish)
        self._paid_micros += receipt.paid_micros
        self._sessions[self._all[machine].machine.kind] += 1
        self._do(self.till.clock.now_ms)


def _policy(taxi: str) -> Policy:
    """A taxi buys energy when its battery is at a quarter, at a price that its fares bear."""
    return Policy(
        machine=taxi, meter="battery", buy_at=TAXI_LOW_WH, until=TAXI_FULL_WH, unit="Wh", worth=1, tills=("street",),
        operators=(), kinds=("charger",), price_micros=500_000, per=1_000, purchase_micros=25_000_000,
        day_micros=100_000_000, month_micros=1_000_000_000, valid_s=240, patience_s=900, avoid_s=3_600,
    )  # fmt: skip
