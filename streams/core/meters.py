"""The state of each meter: one row of integers a meter, shared by the row-by-row loop and the columns.

The rows live in one int64 matrix (`Meters.ints`, columns `INTS`); other values stand beside it, by the meter's index.
The loop borrows a row as a `MeterState` and changes it; `give_back`, called before the matrix is read, writes it back.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from schemas.reading import MeterKind, Reading
from schemas.units import MINUTE_MS
from streams.core.tables import Changes, TableSpec, empty_keys

NONE = -1
"""Stands for an absent integer; all others are 0 or more."""

SLACK_MS = MINUTE_MS
"""The largest slack of rule 15, and the one that a meter starts with."""

KINDS: tuple[MeterKind, ...] = ("register", "quantity", "level")

_BOOT = ("boot", "seq", "observed_at", "kind", "value", "session_started_at", "marks", "floor")
_STANDING = ("boot", "seq", "observed_at", "value")
INTS = (
    *(f"current_{name}" for name in _BOOT),
    *(f"previous_{name}" for name in _BOOT),
    *(f"baseline_{name}" for name in _STANDING),
    *(f"suspect_{name}" for name in _STANDING),
    "quantity_at",
    "slack_ms",
)
_TEXTS = ("current_session", "previous_session")
_HOLES = ("current_holes", "previous_holes")

METERS = TableSpec(
    pa.schema(
        [("machine", pa.string()), ("meter", pa.string())]
        + [(name, pa.int64()) for name in INTS]
        + [(name, pa.string()) for name in _TEXTS]
        + [(name, pa.list_(pa.int64())) for name in _HOLES]
    ),
    ("machine", "meter"),
)


class Content(NamedTuple):
    """All that a row states besides its meter, boot and number: rows are equal if these are."""

    observed_at: int
    kind: int
    value: int
    session_started_at: int
    marks: int
    session: str

    @classmethod
    def of(cls, row: Reading) -> "Content":
        """A row's content; `kind` is an index in KINDS, `marks` are 1 for session_start and 2 for reconstructed."""
        started_at = row.session_started_at if isinstance(row.session_started_at, int) else NONE
        session = row.session if isinstance(row.session, str) else ""
        marks = row.session_start + 2 * row.reconstructed
        return cls(row.observed_at, KINDS.index(row.kind), row.value, started_at, marks, session)


_NO_CONTENT = Content(NONE, NONE, NONE, NONE, 0, "")


class Boot(Struct):
    """One boot of a meter: its high-water number with the content there, and the holes below it (inclusive pairs)."""

    boot: int
    seq: int = NONE
    content: Content = _NO_CONTENT
    floor: int = 0
    holes: list[tuple[int, int]] = []


class Standing(NamedTuple):
    """A register's value at a moment. An opening register has no boot and no number: both are NONE."""

    boot: int
    seq: int
    observed_at: int
    value: int


class MeterState(Struct):
    """The state of one meter of one machine."""

    current: Boot | None = None
    previous: Boot | None = None
    baseline: Standing | None = None
    suspect: Standing | None = None
    quantity_at: int = NONE
    slack_ms: int = SLACK_MS


class Meters:
    """The meters of a partition, each at an index that never changes while the process lives."""

    def __init__(self) -> None:
        self.index_of: dict[tuple[str, str], int] = {}
        self.names: list[tuple[str, str]] = []
        self.ints: NDArray[np.int64] = np.empty((0, len(INTS)), np.int64)
        self.texts: list[tuple[str, str]] = []
        """The sessions at the high water of the current and of the previous boot, empty if there is none."""
        self.holes: list[tuple[list[int], list[int]]] = []
        """The holes of the current and of the previous boot: first, last, first, last, ..."""
        self.touched: set[int] = set()
        self._borrowed: dict[int, MeterState] = {}

    def add(self, machine: str, meter: str, facts: MeterState) -> None:
        """Adds a new meter at the next index."""
        index = len(self.names)
        if index == len(self.ints):
            more = np.empty((max(64, len(self.ints)), len(INTS)), np.int64)
            self.ints = np.concatenate([self.ints, more])
        self.index_of[machine, meter] = index
        self.names.append((machine, meter))
        self.texts.append(("", ""))
        self.holes.append(([], []))
        self._borrowed[index] = facts

    def borrow(self, machine: str, meter: str) -> MeterState:
        """A meter's state, to be changed freely until `give_back`."""
        index = self.index_of[machine, meter]
        facts = self._borrowed.get(index)
        if facts is None:
            facts = self._borrowed[index] = self._read(index)
        return facts

    def give_back(self) -> None:
        """Writes all borrowed states to their rows."""
        if not self._borrowed:
            return
        rows = []
        for index, facts in self._borrowed.items():
            current, previous = facts.current, facts.previous
            rows.append(
                (
                    *_boot_ints(current),
                    *_boot_ints(previous),
                    *(facts.baseline or _NO_STANDING),
                    *(facts.suspect or _NO_STANDING),
                    facts.quantity_at,
                    facts.slack_ms,
                )
            )
            self.texts[index] = _session(current), _session(previous)
            self.holes[index] = _flat(current), _flat(previous)
        self.ints[list(self._borrowed)] = rows
        self.touched.update(self._borrowed)
        self._borrowed.clear()

    def table(self, indices: Sequence[int]) -> pa.Table:
        """The rows at these indices, in that order: schema METERS."""
        rows = self.ints[np.asarray(indices, np.int64)]
        columns: list[Any] = [[self.names[index][part] for index in indices] for part in (0, 1)]
        columns += [np.ascontiguousarray(rows[:, column]) for column in range(len(INTS))]
        columns += [[self.texts[index][part] for index in indices] for part in (0, 1)]
        columns += [[self.holes[index][part] for index in indices] for part in (0, 1)]
        arrays = [pa.array(column, kind.type) for column, kind in zip(columns, METERS.schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=METERS.schema)

    def whole(self) -> pa.Table:
        """All rows, sorted by (machine, meter): schema METERS."""
        self.give_back()
        return self.table([self.index_of[name] for name in sorted(self.names)])

    def changes(self) -> Changes:
        """The rows touched since the last call. Meters are never removed."""
        self.give_back()
        touched = sorted(self.touched)
        self.touched.clear()
        return Changes(self.table(touched), empty_keys(METERS))

    @classmethod
    def load(cls, table: pa.Table) -> "Meters":
        """The meters of a table of the schema METERS."""
        meters = cls()
        columns = {name: table.column(name).to_pylist() for name in ("machine", "meter", *_TEXTS, *_HOLES)}
        meters.names = list(zip(columns["machine"], columns["meter"], strict=True))
        meters.index_of = {name: index for index, name in enumerate(meters.names)}
        ints = [np.asarray(table.column(name).combine_chunks(), np.int64) for name in INTS]
        meters.ints = np.ascontiguousarray(np.stack(ints, axis=1)) if meters.names else meters.ints
        meters.texts = list(zip(*(columns[name] for name in _TEXTS), strict=True))
        meters.holes = list(zip(*(columns[name] for name in _HOLES), strict=True))
        return meters

    def _read(self, index: int) -> MeterState:
        row: list[int] = self.ints[index].tolist()
        texts, holes = self.texts[index], self.holes[index]
        return MeterState(
            _boot_from(row[0:8], texts[0], holes[0]),
            _boot_from(row[8:16], texts[1], holes[1]),
            _standing_from(row[16:20]),
            _standing_from(row[20:24]),
            row[24],
            row[25],
        )


_NO_STANDING = Standing(NONE, NONE, NONE, NONE)
_NO_BOOT = (NONE, NONE, *_NO_CONTENT[:5], 0)


def _boot_ints(boot: Boot | None) -> tuple[int, ...]:
    return (boot.boot, boot.seq, *boot.content[:5], boot.floor) if boot else _NO_BOOT


def _boot_from(ints: list[int], session: str, holes: list[int]) -> Boot | None:
    if ints[0] == NONE:
        return None
    content = Content(ints[2], ints[3], ints[4], ints[5], ints[6], session)
    return Boot(ints[0], ints[1], content, ints[7], list(zip(holes[::2], holes[1::2], strict=True)) if holes else [])


def _standing_from(ints: list[int]) -> Standing | None:
    return None if ints[3] == NONE else Standing(*ints)


def _session(boot: Boot | None) -> str:
    return boot.content.session if boot else ""


def _flat(boot: Boot | None) -> list[int]:
    return [number for hole in boot.holes for number in hole] if boot else []
