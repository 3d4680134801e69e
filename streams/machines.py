"""What operators said of a machine: its versions, and which of them rules when (rule 22)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas.registration import Meter as RegisteredMeter
from schemas.registration import Registration
from schemas.window import HARDWARE_BACKED, SIGNED
from streams.meters import NONE
from streams.rating import Prices


class RegisteredKey(NamedTuple):
    """A key that readings may be signed with, and what trust it gives."""

    public_key: bytes
    trust: int


class Version:
    """One version of a machine and what follows from it. `content` is its canonical JSON: equal ones are duplicates."""

    def __init__(self, content: str, in_force_from_ms: int) -> None:
        self.content = content
        self.in_force_from_ms = in_force_from_ms
        self.registration = msgspec.json.decode(content, type=Registration)
        self.number = self.registration.version
        self.meters: dict[str, RegisteredMeter] = {meter.meter: meter for meter in self.registration.meters}
        self.keys: dict[bytes, RegisteredKey] = {
            key.key_id.encode(): RegisteredKey(
                bytes.fromhex(key.public_key), HARDWARE_BACKED if key.hardware_backed else SIGNED
            )
            for key in self.registration.keys
        }
        """By id, as the header `key-id` gives it."""
        self.prices = Prices(self.registration.tariff)
        self.agreement_digest = self.registration.agreement.digest().hex()


@dataclass(slots=True)
class Machine:
    """A registered machine. `least_boot` is the boot that its registrations gave last (NONE: none did)."""

    machine: str
    route: str
    versions: list[Version] = field(default_factory=list)
    least_boot: int = NONE
    is_marked: bool = False
    """Whether it equivocated since its last version (rule 9)."""
    correction_version: int = 0
    correction_digest: bytes = b""

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

    def unit_of(self, meter: str, version: int) -> str:
        """The unit of a meter in a version or, if a session outlived one without the meter, in the next that has it."""
        return next(later.meters[meter].unit for later in self._from(version) if meter in later.meters)

    def _from(self, version: int) -> Iterator[Version]:
        return (self.versions[place] for place in range(version - 1, len(self.versions)))
