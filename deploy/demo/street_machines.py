"""Who lives in the demo's street: what its machines cost, whom they pay, and how those behave that are paid before.

They are the machines of a simulated fleet, with a till instead of passers-by: what they show while a session is open is
of that session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import msgspec

from deploy.data_folder import DEMO_PAYEES, demo_account
from deploy.importers.source_log import SourceMachine
from deploy.importers.tariffs import flat, offsets_of, time_of_use
from deploy.simulate.fleet import Fleet, bearings_from
from deploy.simulate.fleet_days import Drone, Inverter, Life, Robot, Sensor, Taxi, draw
from schemas.reading import Reading
from schemas.registration import Agreement, Component, Element, Key, Meter, Tariff
from schemas.units import MINUTE_MS, SIMULATED, Account
from streams.core.signature import reading_key

ZONE = "America/Los_Angeles"
CHARGE_W = 22_000
PARCEL, KILOMETRE, OBSERVATION = 4_500_000, 150_000, 20_000
"""What the drone and the sensor cost, in micros."""

TAXIS = tuple(f"{SIMULATED}taxi-{number}" for number in (1, 2, 3))
CHARGERS = tuple(f"{SIMULATED}charger-{number}" for number in (1, 2))
INVERTER, ROBOT, SENSOR, DRONE = (f"{SIMULATED}{kind}" for kind in ("inverter", "robot", "sensor", "drone"))

TAXI_POINTS = 5_000
"""A taxi's own part of its fares: by this it pays for its energy."""

FARES_END_WH = 8_000
"""With less in its battery a taxi takes nobody."""


@cache
def account_of(name: str) -> Account:
    """The account of a machine, a customer or the supplier of the street: the same in every demo."""
    return demo_account(name)


class Paid(Life):
    """A machine that works for whoever has paid, one session at a time; `sold` is the meter that marks its ends."""

    sold = "energy"
    session: tuple[str, int] | None = None

    def begin(self, session: str, at_ms: int) -> Reading:
        """The first reading of a session."""
        self.session = session, at_ms
        return self._mark(at_ms)

    def end(self, at_ms: int) -> Reading:
        """The last one."""
        last = msgspec.structs.replace(self._mark(at_ms), session_end=True)
        self.session = None
        return last

    def _mark(self, at_ms: int) -> Reading:
        return self._show(self.sold, at_ms, None if self.gauges[self.sold].kind == "register" else 0)

    def _show(
        self, meter: str, at_ms: int, value: int | None = None, session: tuple[str, int] | None = None
    ) -> Reading:
        of_session = self.session if self.gauges[meter].kind != "level" else session
        return super()._show(meter, at_ms, value, of_session)


class PaidCharger(Paid):
    """Its energy is what the taxi at it takes."""

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        if self.session is None:
            return []
        self.gauges["energy"].grow(CHARGE_W, elapsed_ms)
        return [self._show("energy", at_ms)]


class PaidSensor(Paid, Sensor):
    """It observes for itself, and makes data for who has paid."""

    sold = "data"

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        level, data = super()._tick(at_ms, elapsed_ms, local_ms)
        return [level] if self.session is None else [level, data]


class PaidDrone(Paid, Drone):
    """It flies once for each session."""

    sold = "distance"
    has_landed = False

    def _visitor(self, local_ms: int, slot_ms: int, percent: Sequence[int]) -> tuple[int, int] | None:
        if self.session is None or self.has_landed:
            return None
        minutes = 8 + draw(self.seed, f"flight {self.session[0]}", 6)
        return self.session[1] // MINUTE_MS, local_ms + minutes * MINUTE_MS

    def begin(self, session: str, at_ms: int) -> Reading:
        """A parcel is there."""
        self.has_landed = False
        return super().begin(session, at_ms)

    def _tick(self, at_ms: int, elapsed_ms: int, local_ms: int) -> list[Reading]:
        was_flying = self._visit is not None
        shown = super()._tick(at_ms, elapsed_ms, local_ms)
        self.has_landed = self.has_landed or (was_flying and self._visit is None)
        return shown


class StreetTaxi(Taxi):
    """It charges where it has paid, and nowhere else."""

    def _plug(self) -> None:
        """Who sold the energy plugs it in."""

    def _visitor(self, local_ms: int, slot_ms: int, percent: Sequence[int]) -> tuple[int, int] | None:
        return None if self.battery_wh < FARES_END_WH else super()._visitor(local_ms, slot_ms, percent)


@dataclass(frozen=True)
class Inhabitant:
    """A machine of the street: what is registered of it, whom it pays, and what it does."""

    machine: SourceMachine
    agreement: Agreement
    life: Life


def inhabitants(seed: str) -> dict[str, Inhabitant]:
    """All machines of the street, by id; each has just been switched on."""
    models = {kind: (meters, tariff) for kind, _, meters, tariff in Fleet(seed).models}
    visit = Element((Component("energy", 350_000, per_session=True),))
    peaks = time_of_use(("energy",), ZONE, 420_000, 280_000, 1_000)
    steady = _tariff(energy=(330_000, 1_000))
    steady = msgspec.structs.replace(steady, elements=(*steady.elements, visit))
    sensor = _tariff(data=(OBSERVATION, 1))
    drone = _tariff(parcels=(PARCEL, 1), distance=(KILOMETRE, 1_000))
    kinds: list[tuple[str, str, type[Life], Tariff]] = [
        (INVERTER, "inverter", Inverter, models["inverter"][1]),
        (CHARGERS[0], "charger", PaidCharger, peaks),
        (CHARGERS[1], "charger", PaidCharger, steady),
        *((taxi, "taxi", StreetTaxi, models["taxi"][1]) for taxi in TAXIS),
        (ROBOT, "robot", Robot, models["robot"][1]),
        (SENSOR, "sensor", PaidSensor, sensor),
        (DRONE, "drone", PaidDrone, drone),
    ]
    offsets = offsets_of(ZONE)
    return {
        name: _inhabitant(seed, name, kind, life, models[kind][0], msgspec.structs.replace(tariff, offsets=offsets))
        for name, kind, life, tariff in kinds
    }


def robot_key(seed: str) -> bytes:
    """The key of the robot's gateway, which signs that goods have arrived."""
    return sha256(f"tallyroot demo gateway 1\n{seed}\n{ROBOT}".encode()).digest()


def _inhabitant(
    seed: str, name: str, kind: str, life: type[Life], meters: tuple[Meter, ...], tariff: Tariff
) -> Inhabitant:
    payees = {demo_account(payee): points for payee, points in DEMO_PAYEES.items()}
    if name in TAXIS:
        payees = {account_of(name): TAXI_POINTS, demo_account("owner"): 10_000 - TAXI_POINTS}
    machine = SourceMachine(name, kind, meters, tariff)
    if name == ROBOT:
        key = Key(f"{ROBOT}.gateway", reading_key(robot_key(seed)))
        machine = SourceMachine(name, kind, meters, tariff, (key,), (bearings_from(account_of("supplier")),))
    return Inhabitant(machine, Agreement(payees), life(seed, name, meters, tariff.offsets))


def _tariff(**prices: tuple[int, int]) -> Tariff:
    return Tariff(flat(prices).elements, offsets_of(ZONE))
