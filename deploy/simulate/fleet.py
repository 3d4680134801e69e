"""A simulated fleet: chargers, inverters, taxis, drones, robots and sensors, all of it from a seed.

Every sixth machine is of one kind. A large fleet stands in sites: a site's gateway batches for its machines, signs with
its own key, and the site's name is their route. Of three gateways one has its key in hardware, one has it in a file,
and one signs nothing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from deploy.importers.source_log import SourceMachine
from deploy.importers.tariffs import flat, offsets_of, time_of_use
from deploy.simulate.fleet_days import (
    BEARING,
    BEARINGS_LOW,
    BEARINGS_ORDERED,
    DRONE_BATTERY_WH,
    TAXI_BATTERY_WH,
    Charger,
    Drone,
    Inverter,
    Life,
    Robot,
    Sensor,
    Taxi,
)
from schemas.errors import InvalidInput
from schemas.registration import Agreement, Component, Element, Key, Meter, OrderPolicy, Registration, Tariff
from schemas.units import MINUTE_MS, SIMULATED
from streams.core.signature import operator_account, reading_key

MACHINES_MAX = 100_000
SITES_FULL = 60
"""Up to this many machines, each is a site of its own; beyond, sites have more machines, not the fleet more sites."""

SITE_MACHINES_MAX = 100
YEARS = range(2020, 2040)

BEARING_MICROS, BEARINGS_BUDGET_MICROS = 1_200_000, 2_000_000_000
"""What a bearing may cost, and all those of 30 days."""

Model = tuple[str, type[Life], tuple[Meter, ...], Tariff]


class Site(NamedTuple):
    """A gateway: the route of its machines, its private key if it signs, and whether that is in hardware."""

    route: str
    private_key: bytes | None
    hardware_backed: bool
    machines: range
    """The numbers of its machines."""

    @property
    def key_id(self) -> str:
        """Its key's name in registrations."""
        return f"{self.route}.gateway"

    def keys(self) -> tuple[Key, ...]:
        """What its machines' registrations say of its key."""
        if self.private_key is None:
            return ()
        return (Key(self.key_id, reading_key(self.private_key), self.hardware_backed),)


@dataclass(frozen=True)
class Fleet:
    """`machines` machines (1 to 100,000). The same seed makes the same fleet; `is_signed` False: no gateway signs."""

    seed: str
    machines: int = 6
    is_signed: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.machines <= MACHINES_MAX:
            raise InvalidInput(f"a fleet has 1 to {MACHINES_MAX:,} machines, not {self.machines:,}: choose --machines")

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """All gateways, in the order of their machines."""
        size = min(SITE_MACHINES_MAX, -(-self.machines // SITES_FULL))
        starts = range(0, self.machines, size)
        return tuple(self._site(number, range(start, min(start + size, self.machines)))
                     for number, start in enumerate(starts))  # fmt: skip

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """The six kinds."""
        return _models()

    @cached_property
    def supplier_key(self) -> bytes:
        """The private key of the account that sells bearings to its robots."""
        return bytes.fromhex(self._secret("supplier", BEARING))

    @cached_property
    def policies(self) -> dict[str, tuple[OrderPolicy, ...]]:
        """What machines order, by kind. One whose gateway signs nothing can't: nobody could believe its receipts."""
        supplier = operator_account(self.supplier_key)
        return {"robot": (bearings_from(supplier),)}

    def machine(self, number: int) -> SourceMachine:
        """What a machine's registration says, but for what its operator adds."""
        kind, _, meters, tariff = self.models[number % len(self.models)]
        return SourceMachine(f"{SIMULATED}{kind}-{number:05d}", kind, meters, tariff)

    def life(self, number: int) -> Life:
        """A machine that has just been switched on for the first time."""
        _, model, meters, tariff = self.models[number % len(self.models)]
        return model(self.seed, self.machine(number).machine, meters, tariff.offsets)

    def registrations(self, agreement: Agreement, effective_from_ms: int) -> Iterator[tuple[Site, Registration]]:
        """The first version of every machine.

        Its opening registers stand a minute before its first readings: a register at the very moment of the one that it
        continues from has the log's time alone (rule 15), and a batch that arrives later would use up that of its rows.
        """
        opened_ms = effective_from_ms - MINUTE_MS
        for site in self.sites:
            keys = site.keys()
            for number in site.machines:
                machine = self.machine(number)
                whole = machine.registration(agreement, self._secret("salt", machine.machine)[:32], opened_ms)
                orders = self.policies.get(machine.kind, UNSET) if keys else UNSET
                yield site, msgspec.structs.replace(whole, route=site.route, keys=keys, orders=orders)

    def _site(self, number: int, machines: range) -> Site:
        alone = len(machines) == 1 and self.machines <= SITES_FULL
        route = self.machine(machines[0]).machine if alone else f"{SIMULATED}site-{number:04d}"
        key = bytes.fromhex(self._secret("key", route)) if self.is_signed and number % 3 < 2 else None
        return Site(route, key, number % 3 == 0 and key is not None, machines)

    def _secret(self, what: str, name: str) -> str:
        """64 hex digits. A simulation's keys are no secrets: they follow from its seed."""
        return hashlib.sha256(f"tallyroot simulated {what} 1\n{self.seed}\n{name}".encode()).hexdigest()


def bearings_from(supplier: str) -> OrderPolicy:
    """How a robot orders its bearings from an account."""
    return OrderPolicy(
        item=BEARING, meter="bearings", reorder_at=BEARINGS_LOW, quantity=BEARINGS_ORDERED,
        unit_price=BEARING_MICROS, supplier=supplier, budget=BEARINGS_BUDGET_MICROS,
    )  # fmt: skip


def _models() -> tuple[Model, ...]:
    """The kinds, with prices in micros of the log's currency. What has no price is metered only; what a robot's energy
    costs is a price below 0.
    """
    los_angeles = time_of_use(("energy",), "America/Los_Angeles", 420_000, 280_000, 1_000)
    visit = Element((Component("energy", 350_000, per_session=True),))
    charging = Tariff((*los_angeles.elements, visit), offsets_of("America/Los_Angeles", YEARS))
    return (
        ("charger", Charger, (Meter("energy", "Wh", "register", 22_000, 0),), charging),
        (
            "inverter",
            Inverter,
            (Meter("energy", "Wh", "register", 8_000, 0), Meter("import", "Wh", "register", 100, 0)),
            _flat("Europe/Rome", energy=(90_000, 1_000)),
        ),
        (
            "taxi",
            Taxi,
            (
                Meter("distance", "m", "quantity", 150_000),
                Meter("duration", "s", "quantity", 3_600),
                Meter("trips", "count", "quantity", 3_600),
                Meter("fare", "cents", "quantity", 10_000_000),
                Meter("battery", "Wh", "level", TAXI_BATTERY_WH),
            ),
            _flat("America/Chicago", fare=(10_000, 1)),
        ),
        (
            "drone",
            Drone,
            (
                Meter("distance", "m", "quantity", 120_000),
                Meter("airtime", "s", "quantity", 3_600),
                Meter("parcels", "count", "quantity", 3_600),
                Meter("battery", "Wh", "level", DRONE_BATTERY_WH),
            ),
            _flat("Africa/Kigali", parcels=(4_500_000, 1), distance=(150_000, 1_000)),
        ),
        (
            "robot",
            Robot,
            (
                Meter("parts", "count", "register", 1_200, 0),
                Meter("energy", "Wh", "register", 6_000, 0),
                Meter("uptime", "s", "quantity", 3_600),
                Meter("bearings", "count", "level", 3_600),
            ),
            _flat("Europe/Berlin", parts=(5_000, 1), uptime=(1_000_000, 3_600), energy=(-280_000, 1_000)),
        ),
        (
            "sensor",
            Sensor,
            (Meter("temperature", "mK", "level", 10_000_000), Meter("data", "count", "quantity", 7_200)),
            _flat("Asia/Tokyo", data=(100, 1)),
        ),
    )


def _flat(zone: str, **prices: tuple[int, int]) -> Tariff:
    return Tariff(flat(prices).elements, offsets_of(zone, YEARS))
