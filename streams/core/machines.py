"""The registered versions of a machine, and which of them is in force when (rule 22).

The facts lie in arrays and in lists by number; a `Machine` or a `Version` is made when somebody asks, and looks there.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct, structs

from schemas.canonical import canonical_json
from schemas.registration import Agreement, Registration
from schemas.registration import Meter as RegisteredMeter
from schemas.window import HARDWARE_BACKED, SIGNED
from streams.core.kernel import tables as t
from streams.core.kernel.columns import NONE
from streams.core.kernel.store import Store
from streams.core.orders import ItemOrders
from streams.core.rating import Prices

OWN = ("machine", "route", "version", "effective_from", "salt")
"""What a version says of its machine alone; the rest is its content, which machines may have in common."""

_COMPARED = ("version", "effective_from", "salt")

_NOBODY: dict[str, Any] = {"machine": "-", "route": "-", "version": 1, "effective_from": 0}


class RegisteredKey(NamedTuple):
    """A key that readings may be signed with, and the trust of readings signed by it."""

    public_key: bytes
    trust: int


class Content:
    """What versions may have in common: its canonical JSON, decoded at first use."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that stand for it where it is stored."""
        return hashlib.sha256(self.encoded).digest()

    @cached_property
    def template(self) -> Registration:
        """A registration that says this of nobody."""
        return msgspec.convert(msgspec.json.decode(self.encoded) | _NOBODY, Registration)

    @cached_property
    def meters(self) -> dict[str, RegisteredMeter]:
        """The meters, by name."""
        return {meter.meter: meter for meter in self.template.meters}

    @cached_property
    def keys(self) -> dict[bytes, RegisteredKey]:
        """The keys by id, as the header `key-id` states it."""
        return {
            key.key_id.encode(): RegisteredKey(
                bytes.fromhex(key.public_key), HARDWARE_BACKED if key.hardware_backed else SIGNED
            )
            for key in self.template.keys
        }

    @cached_property
    def prices(self) -> Prices:
        """The tariff, compiled for look-ups."""
        return Prices(self.template.tariff)


class RareFacts(Struct, array_like=True):
    """What few machines have. Digests are of the last such record, in hex; `payment_place` is (block, log index)."""

    correction_version: int = 0
    correction_digest: str = ""
    payment_version: int = 0
    payment_digest: str = ""
    payment_place: tuple[int, int] = (NONE, NONE)
    orders: dict[str, ItemOrders] = {}
    """By item."""


class Book:
    """All machines and versions of a partition."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.contents: list[Content] = []
        self.rare: dict[int, RareFacts] = {}
        """By machine."""
        self.agreements: dict[int, Agreement] = {}
        """By the word that is the digest of its terms."""
        self._content_of: dict[bytes, int] = {}

    def add_machine(self, name: str, route: str) -> "Machine":
        """A new machine, without a version."""
        return Machine(self, int(self.store.add_machines([name], [route])[0]), name)

    def add_version(self, m: int, own: Mapping[str, Any], content: bytes, in_force_from_ms: int) -> int:
        """A further version: what it says of its machine alone, and the rest as `content_of`."""
        facts = np.array([(own["version"], in_force_from_ms, own["effective_from"])], np.int64)
        contents = np.array([self.content(content)], np.int64)
        return int(self.store.add_versions(np.array([m]), facts, contents, [own.get("salt")])[0])

    def content(self, content: bytes) -> int:
        """The number of a content, which is new or isn't; it is also its line in CONTENTS."""
        known = self._content_of.get(content)
        if known is not None:
            return known
        self.contents.append(Content(content))
        template = self.contents[-1].template
        number = self._content_of[content] = self.store.add_content(template)
        self.agreements[int(self.store.matrix(t.CONTENTS)[number, t.CONTENT_AGREEMENT])] = template.agreement
        return number


def content_of(plain: Mapping[str, Any]) -> bytes:
    """The canonical JSON of what a registration says beside what is its machine's own."""
    return canonical_json({name: part for name, part in plain.items() if name not in OWN})


class Version:
    """One version of a machine."""

    __slots__ = ("_book", "_line")

    def __init__(self, book: Book, number: int) -> None:
        self._book = book
        self._line: list[int] = book.store.matrix(t.VERSIONS)[number].tolist()

    @property
    def machine(self) -> str:
        """The id of its machine."""
        return self._book.store.name(self._line[t.VERSION_MACHINE])

    @property
    def number(self) -> int:
        """The version, from 1."""
        return self._line[t.VERSION_NO]

    @property
    def in_force_from_ms(self) -> int:
        """From when it counts (epoch ms)."""
        return self._line[t.IN_FORCE_FROM]

    @property
    def content(self) -> Content:
        """What it may have in common with others."""
        return self._book.contents[self._line[t.VERSION_CONTENT]]

    @property
    def own(self) -> dict[str, Any]:
        """What it says of its machine alone, as far as `Book.add_version` asks."""
        own = {"version": self.number, "effective_from": self.effective_from}
        return own if self.salt is None else own | {"salt": self.salt}

    @property
    def salt(self) -> str | None:
        """Its salt (hex), None where it states none."""
        at, size = self._line[t.SALT_AT], self._line[t.SALT_LEN]
        return None if size == NONE else self._book.store.named(at, size)

    @property
    def effective_from(self) -> int:
        """From when the operator wanted it to count (epoch ms)."""
        return self._line[t.EFFECTIVE_FROM]

    def says(self, plain: Mapping[str, Any], content: bytes) -> bool:
        """Whether it is this registration, whose content is given."""
        own = self.own
        return content == self.content.encoded and all(plain.get(name) == own.get(name) for name in _COMPARED)

    @property
    def registration(self) -> Registration:
        """The registration as the operator wrote it."""
        m = self._line[t.VERSION_MACHINE]
        return structs.replace(
            self.content.template,
            machine=self._book.store.name(m),
            route=self._book.store.route(m),
            version=self.number,
            effective_from=self.effective_from,
            salt=self.salt or "",
        )

    @property
    def meters(self) -> dict[str, RegisteredMeter]:
        """The meters, by name."""
        return self.content.meters

    @property
    def keys(self) -> dict[bytes, RegisteredKey]:
        """The keys by id, as the header `key-id` states it."""
        return self.content.keys

    @property
    def prices(self) -> Prices:
        """The tariff, compiled for look-ups."""
        return self.content.prices


class Machine:
    """A registered machine."""

    __slots__ = ("_book", "machine", "number")

    def __init__(self, book: Book, number: int, name: str) -> None:
        self._book = book
        self.number = number
        self.machine = name

    @property
    def route(self) -> str:
        """The key of its records."""
        return self._book.store.route(self.number)

    @property
    def least_boot(self) -> int:
        """The boot that its registrations stated last (NONE: none did)."""
        return self._get(t.LEAST_BOOT)

    @least_boot.setter
    def least_boot(self, boot: int) -> None:
        self._set(t.LEAST_BOOT, boot)

    @property
    def is_marked(self) -> bool:
        """Whether it equivocated since its last version (rule 9)."""
        return self._get(t.IS_MARKED) == 1

    @is_marked.setter
    def is_marked(self, marked: bool) -> None:
        self._set(t.IS_MARKED, int(marked))

    def _get(self, column: int) -> int:
        return int(self._book.store.matrix(t.MACHINES)[self.number, column])

    def _set(self, column: int, value: int) -> None:
        self._book.store.matrix(t.MACHINES)[self.number, column] = value

    @property
    def rare(self) -> RareFacts:
        """Corrections, payments and orders, to be read."""
        return self._book.rare.get(self.number) or RareFacts()

    def change_rare(self) -> RareFacts:
        """The same, to be changed."""
        return self._book.rare.setdefault(self.number, RareFacts())

    @property
    def versions(self) -> list[Version]:
        """All versions, from the first on."""
        return list(self._backwards())[::-1]

    def _backwards(self) -> Iterator[Version]:
        number = self._get(t.LAST_VERSION)
        while number != NONE:
            yield Version(self._book, number)
            number = int(self._book.store.matrix(t.VERSIONS)[number, t.VERSION_BEFORE])

    @property
    def last(self) -> Version:
        """The version registered last, in force or not."""
        return Version(self._book, self._get(t.LAST_VERSION))

    def version(self, number: int) -> Version:
        """The version of a number, from 1."""
        return next(version for version in self._backwards() if version.number == number)

    def version_at(self, moment_ms: int) -> Version:
        """The highest version in force at a moment (epoch ms); the first one always is."""
        for version in self._backwards():
            if version.in_force_from_ms <= moment_ms:
                break
        return version

    def all_meters(self) -> dict[str, RegisteredMeter]:
        """The meters of all versions: kind and unit never change."""
        return {name: meter for version in self.versions for name, meter in version.meters.items()}


class Machines(Mapping[str, Machine]):
    """The machines of a partition, by id."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def __getitem__(self, name: str) -> Machine:
        return Machine(self._book, self._book.store.machine_of[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._book.store.machine_of)

    def __len__(self) -> int:
        return len(self._book.store.machine_of)
