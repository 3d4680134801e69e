"""Facts from the registrations of each meter, as columns: a cache that saves look-ups, never part of the state.

A row holds for moments in [from, to) around the moment of its look-up: there one version is in force and the price of a
unit stays the same. It is looked up again when readings leave that span.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.registration import Key
from streams.core.machines import Machine, Version
from streams.core.meters import KINDS, NONE
from streams.core.name_index import NameIndex
from streams.core.open_window import LineKey
from streams.core.rating import FOREVER_MS, UNPRICED

COLUMNS = (
    "from_ms",
    "to_ms",
    "version_from_ms",
    "version_to_ms",
    "kind",
    "capacity_per_hour",
    "is_retired",
    "has_session_price",
    "needs_signature",
    "signers",
    "version",
    "price_micros",
    "per",
)
_AT: Final = {name: column for column, name in enumerate(COLUMNS)}


class MeterFacts:
    """A row of COLUMNS for each meter, by its index."""

    def __init__(self) -> None:
        self.rows: NDArray[np.int64] = np.zeros((0, len(COLUMNS)), np.int64)
        self.lines: dict[int, LineKey] = {}
        """The line that a meter's usage adds to, by the meter's index: version and price are those of its row."""
        self.signers: list[Version] = []
        """For each value of the column `signers`, one of the versions that have the same keys."""
        self._signers: dict[tuple[Key, ...], int] = {}
        self._by_machine: dict[str, set[int]] = {}
        self._index: NameIndex | None = None

    def column(self, name: str) -> NDArray[np.int64]:
        """A column, by the meter's index."""
        return self.rows[:, _AT[name]]

    def name_index(self, names: Sequence[tuple[str, str]]) -> NameIndex:
        """The index over the names of all meters; `names` must be the same list at every call."""
        if self._index is None:
            self._index = NameIndex(names)
        return self._index

    def forget(self, machine: str) -> None:
        """Drops the facts of a machine's meters: it has a new version."""
        indices = self._by_machine.pop(machine, None)
        if indices:
            self.rows[list(indices)] = 0

    def look_up(
        self,
        names: Sequence[tuple[str, str]],
        machines: Mapping[str, Machine],
        indices: Sequence[int],
        moments_ms: Sequence[int],
    ) -> None:
        """Looks up the facts of the meters at `indices`, each at a moment (epoch ms). `names` are those of all
        meters.
        """
        for index, moment_ms in zip(indices, moments_ms, strict=True):
            machine, meter = names[index]
            row = self._row(machines[machine], meter, moment_ms)
            self.rows[index] = row
            self.lines[index] = (meter, row[_AT["version"]], row[_AT["price_micros"]], row[_AT["per"]])
            self._by_machine.setdefault(machine, set()).add(index)

    def grow(self, size: int) -> None:
        """Makes room for `size` meters."""
        if size > len(self.rows):
            more = np.zeros((max(size, 2 * len(self.rows)) - len(self.rows), len(COLUMNS)), np.int64)
            self.rows = np.concatenate([self.rows, more])

    def _row(self, machine: Machine, meter: str, moment_ms: int) -> list[int]:
        version = machine.version_at(moment_ms)
        from_ms, to_ms = version_span = _span(machine, version)
        registered, price = version.meters.get(meter), UNPRICED
        kind, capacity_per_hour = NONE, 1
        if registered is not None:
            price, from_ms, to_ms = version.prices.usage_span(meter, moment_ms)
            kind, capacity_per_hour = KINDS.index(registered.kind), registered.capacity_per_hour
        return [
            max(from_ms, version_span[0]),
            min(to_ms, version_span[1]),
            *version_span,
            kind,
            capacity_per_hour,
            int(version.registration.retired),
            int(version.prices.has_session_price(meter)),
            int(version.registration.require_signature),
            self._signers_of(version),
            version.number,
            price.micros,
            price.per,
        ]

    def _signers_of(self, version: Version) -> int:
        keys = version.registration.keys
        if keys not in self._signers:
            self._signers[keys] = len(self.signers)
            self.signers.append(version)
        return self._signers[keys]


def _span(machine: Machine, version: Version) -> tuple[int, int]:
    """[from, to) in epoch ms in which a version is the highest in force; only higher versions can end it."""
    later = (other.in_force_from_ms for other in machine.versions[version.number :])
    return version.in_force_from_ms, min(later, default=FOREVER_MS)
