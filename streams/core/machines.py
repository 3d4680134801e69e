"""The registered versions of a machine, and which of them is in force when (rule 22)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import msgspec
from msgspec import structs

from schemas.registration import Agreement, Registration, Tariff
from schemas.registration import Meter as RegisteredMeter
from schemas.window import HARDWARE_BACKED, SIGNED
from streams.core.meters import NONE
from streams.core.orders import ItemOrders
from streams.core.rating import Prices

SHARED_MAX = 4_096
"""How many tariffs, and how many agreements, are shared between the versions that have the same."""


class RegisteredKey(NamedTuple):
    """A key that readings may be signed with, and the trust of readings signed by it."""

    public_key: bytes
    trust: int


class Version:
    """One version of a machine. `content` is its canonical JSON: equal ones are duplicates.

    Everything else is derived at first use: of a million machines few report at a time. Versions with equal tariffs or
    agreements share one object.
    """

    def __init__(self, content: str, number: int, in_force_from_ms: int) -> None:
        self.content = content
        self.number = number
        self.in_force_from_ms = in_force_from_ms

    @cached_property
    def registration(self) -> Registration:
        """The registration as the operator wrote it."""
        read = msgspec.json.decode(self.content, type=Registration)
        tariff, _ = _tariff(msgspec.json.encode(read.tariff))
        agreement, _ = _agreement(msgspec.json.encode(read.agreement))
        return structs.replace(read, tariff=tariff, agreement=agreement)

    @cached_property
    def meters(self) -> dict[str, RegisteredMeter]:
        """The meters, by name."""
        return {meter.meter: meter for meter in self.registration.meters}

    @cached_property
    def keys(self) -> dict[bytes, RegisteredKey]:
        """The keys by id, as the header `key-id` states it."""
        return {
            key.key_id.encode(): RegisteredKey(
                bytes.fromhex(key.public_key), HARDWARE_BACKED if key.hardware_backed else SIGNED
            )
            for key in self.registration.keys
        }

    @cached_property
    def prices(self) -> Prices:
        """The tariff, compiled for look-ups."""
        return _tariff(msgspec.json.encode(self.registration.tariff))[1]

    @cached_property
    def agreement_digest(self) -> str:
        """The agreement's digest (hex): who gets what."""
        return _agreement(msgspec.json.encode(self.registration.agreement))[1]


@lru_cache(SHARED_MAX)
def _tariff(encoded: bytes) -> tuple[Tariff, Prices]:
    tariff = msgspec.json.decode(encoded, type=Tariff)
    return tariff, Prices(tariff)


@lru_cache(SHARED_MAX)
def _agreement(encoded: bytes) -> tuple[Agreement, str]:
    agreement = msgspec.json.decode(encoded, type=Agreement)
    return agreement, agreement.digest().hex()


@dataclass(slots=True)
class Machine:
    """A registered machine. `least_boot` is the boot that its registrations stated last (NONE: none did)."""

    machine: str
    route: str
    versions: list[Version] = field(default_factory=list)
    least_boot: int = NONE
    is_marked: bool = False
    """Whether it equivocated since its last version (rule 9)."""
    correction_version: int = 0
    correction_digest: str = ""
    """Of the last correction's record, in hex; likewise below."""
    payment_version: int = 0
    payment_digest: str = ""
    payment_place: tuple[int, int] = (NONE, NONE)
    """Block and log index of the last payment."""
    orders: dict[str, ItemOrders] = field(default_factory=dict)
    """By item."""

    @property
    def last(self) -> Version:
        """The version registered last, in force or not."""
        return self.versions[-1]

    def version_at(self, moment_ms: int) -> Version:
        """The highest version in force at a moment (epoch ms); the first one always is."""
        for version in reversed(self.versions):
            if version.in_force_from_ms <= moment_ms:
                return version
        return self.versions[0]

    @property
    def meter_names(self) -> dict[str, None]:
        """The meters of all versions, each once."""
        return {name: None for version in self.versions for name in version.meters}

    def all_meters(self) -> dict[str, RegisteredMeter]:
        """The meters of all versions, as the last one that has each registered it: kind and unit never change."""
        return {name: meter for version in self.versions for name, meter in version.meters.items()}

    def unit_of(self, meter: str, version: int) -> str:
        """The unit of a meter in a version or, if a session outlived one without the meter, in the next that has it."""
        return next(later.meters[meter].unit for later in self._from(version) if meter in later.meters)

    def _from(self, version: int) -> Iterator[Version]:
        return (self.versions[index] for index in range(version - 1, len(self.versions)))
