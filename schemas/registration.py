"""All that is registered of a machine: meters, tariff and agreement by value, one version at a time.

The tariff uses the terms of OCPI 2.2.1 and a part of its features; what it can't express is rejected.
"""

from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from schemas.canonical import document_digest
from schemas.reading import MeterKind
from schemas.units import CARRY_BASE, COUNT_MAX, Account, Count, Difference, Id, Points, Positive, Trust

DayOfWeek = Literal["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]
TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)")]
Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)")]
OffsetSeconds = Annotated[int, Meta(ge=-86_400, le=86_400)]

POINTS_WHOLE = 10_000
"""An agreement's shares are basis points and add up to this."""

TERMS_KEPT = 4_096
"""Digests of so many agreements are remembered: thousands of windows seal under the same few."""

METERS_MAX, ORDERS_MAX = 32, 16
"""The most meters, and the most order policies, of one version."""


Curve = Literal["brainpoolP256r1", "brainpoolP384r1", "secp192r1", "secp256k1", "secp256r1", "secp384r1"]

COORDINATE_BYTES: dict[Curve, int] = {
    "brainpoolP256r1": 32, "brainpoolP384r1": 48, "secp192r1": 24, "secp256k1": 32, "secp256r1": 32, "secp384r1": 48,
}  # fmt: skip
"""How long a coordinate of a point is."""


OBIS_MAX = 64
"""The longest name of a register, in characters."""


class MeterKey(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The key that a meter signs its registers with, as its label or its maker says it: a point, uncompressed, as hex.

    `obis` says which of the registers that it signs is this meter's, as it writes that: `1-b:1.8.0`, for example.
    """

    curve: Curve
    public_key: Annotated[str, Meta(pattern=r"^04[0-9a-f]{96,192}$(?!\n)")]
    obis: Annotated[str, Meta(min_length=1, max_length=OBIS_MAX)] | UnsetType = UNSET

    def is_valid(self) -> bool:
        """Two coordinates of the curve's size."""
        return len(self.public_key) == 2 + 4 * COORDINATE_BYTES[self.curve]


class Meter(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One meter: its capacity is in `unit` per hour; opening register, burst and modulus are in `unit`.

    `burst` is what may come at once beyond what time allows, such as the step of a register that moves by whole
    kilowatt-hours. A register with a `modulus` runs from 0 to modulus - 1 and begins again. `starts_per_hour` bounds
    how often a session's start is paid for. A register with a `meter_key` signs what it shows.
    """

    meter: Id
    unit: Id
    kind: MeterKind
    capacity_per_hour: Positive
    opening_register: Count | UnsetType = UNSET
    burst: Positive = 1
    modulus: Annotated[int, Meta(ge=2, le=COUNT_MAX)] | UnsetType = UNSET
    starts_per_hour: Positive = 60
    meter_key: MeterKey | UnsetType = UNSET

    def is_valid(self) -> bool:
        """Only a register signs, with a key of its curve; only one rolls over, and it opens below its modulus."""
        if self.meter_key is not UNSET and not (self.kind == "register" and self.meter_key.is_valid()):
            return False
        if self.modulus is UNSET:
            return True
        return self.kind == "register" and (self.opening_register is UNSET or self.opening_register < self.modulus)


class Component(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A price in micros: for every `per` units of a meter, or for each session started on it. Below 0 it is a cost."""

    meter: Id
    price: Difference
    per: Positive | UnsetType = UNSET
    per_session: bool = False

    def is_valid(self) -> bool:
        """Either per units, with a `per` that divides 3,600,000, or per session."""
        if self.per is UNSET:
            return self.per_session
        return not self.per_session and CARRY_BASE % self.per == 0


class Restrictions(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """When an element applies, in the tariff's local time: starts inclusive, ends exclusive, absent is always."""

    start_time: TimeOfDay | UnsetType = UNSET
    end_time: TimeOfDay | UnsetType = UNSET
    start_date: Day | UnsetType = UNSET
    end_date: Day | UnsetType = UNSET
    day_of_week: tuple[DayOfWeek, ...] = ()

    def is_valid(self) -> bool:
        """Dates are days of the calendar."""
        return all(day is UNSET or _is_day(day) for day in (self.start_date, self.end_date))


class Element(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Components that hold under the same restrictions; the first element that has one for a meter prices it."""

    components: tuple[Component, ...]
    restrictions: Restrictions = Restrictions()


class Tariff(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`offsets` lists (from epoch ms, seconds east of UTC): the zone by value, independent of any time-zone
    database.
    """

    elements: tuple[Element, ...]
    offsets: Annotated[tuple[tuple[Count, OffsetSeconds], ...], Meta(min_length=1)]


class Agreement(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who gets what: basis points by payee, adding up to 10,000.

    Until `locked_until` (epoch ms) no payee's part can be lowered; `pays_trust` is the lowest trust that it pays for.
    """

    payees: Annotated[dict[Id, Points], Meta(min_length=1)]
    locked_until: Count | UnsetType = UNSET
    pays_trust: Trust = 0

    def digest(self) -> bytes:
        """32 bytes that identify an agreement by its payees alone: a longer lock keeps the digest, and so the carry."""
        return document_digest("agreement 1", self.payees)

    def terms_digest(self) -> bytes:
        """32 bytes over all of it: payees, lock and trust."""
        return _terms_digest(tuple(self.payees.items()), self.locked_until, self.pays_trust)


@lru_cache(TERMS_KEPT)
def _terms_digest(payees: tuple[tuple[str, int], ...], locked_until: int | UnsetType, pays_trust: int) -> bytes:
    return document_digest("agreement terms 1", to_builtins(Agreement(dict(payees), locked_until, pays_trust)))


class Key(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An Ed25519 public key (64 hex digits) of the device or of its gateway."""

    key_id: Id
    public_key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
    hardware_backed: bool = False


class OrderPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """A machine orders `quantity` of an item once a level meter shows `reorder_at` or less.

    `unit_price` and `budget` are micros; `budget` covers what orders of the item settled for within 30 days.
    """

    item: Id
    meter: Id
    reorder_at: Count
    quantity: Positive
    unit_price: Count
    supplier: Account
    budget: Count

    @property
    def worth(self) -> int:
        """What one order costs at most, in micros."""
        return self.quantity * self.unit_price


class Registration(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A `machine.registered` record. The last version + 1 applies; `effective_from` is epoch ms.

    `salt` (16 random bytes as hex) enters every window digest: sessions and places are personal data.
    """

    machine: Id
    route: Id
    version: Positive
    kind: Id
    effective_from: Count
    meters: Annotated[tuple[Meter, ...], Meta(min_length=1, max_length=METERS_MAX)]
    tariff: Tariff
    agreement: Agreement
    boot: Count | UnsetType = UNSET
    retired: bool = False
    keys: tuple[Key, ...] = ()
    require_signature: bool = False
    salt: Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?$(?!\n)")] = ""
    orders: Annotated[tuple[OrderPolicy, ...], Meta(max_length=ORDERS_MAX)] | UnsetType = UNSET

    def is_valid(self) -> bool:
        """What types can't say: unique meters, named components, dividing `per`, 10,000 points, ascending offsets."""
        names = {meter.meter for meter in self.meters}
        parts = [part for element in self.tariff.elements for part in element.components]
        starts = [start for start, _ in self.tariff.offsets]
        return (
            len(names) == len(self.meters)
            and len({key.key_id for key in self.keys}) == len(self.keys)
            and all(meter.is_valid() for meter in self.meters)
            and self._are_orders_valid()
            and all(part.meter in names and part.is_valid() for part in parts)
            and all(element.restrictions.is_valid() for element in self.tariff.elements)
            and sum(self.agreement.payees.values()) == POINTS_WHOLE
            and starts[0] == 0
            and all(a < b for a, b in pairwise(starts))
        )

    def _are_orders_valid(self) -> bool:
        """Each item once, reordered by a level meter, worth at most 2^53 micros an order."""
        policies = self.orders or ()
        levels = {meter.meter for meter in self.meters if meter.kind == "level"}
        return len({policy.item for policy in policies}) == len(policies) and all(
            policy.meter in levels and policy.worth <= COUNT_MAX for policy in policies
        )


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
