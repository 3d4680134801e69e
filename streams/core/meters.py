"""The state of each meter: its boots, its standings, its quantities, its sessions' starts (rules 7 to 20)."""

from typing import NamedTuple

import msgspec
import pyarrow as pa
from msgspec import Struct

from schemas.reading import MeterKind, Reading
from schemas.units import MINUTE_MS
from streams.core.tables import Changes, TableSpec, empty_keys, table_of

NONE = -1
"""Stands for an absent integer; all others are 0 or more."""

SLACK_MS = MINUTE_MS
"""The largest slack of a register (rule 15), and the one that every meter starts with."""

KINDS: tuple[MeterKind, ...] = ("register", "quantity", "level")


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
        """A row's content; `kind` is an index in KINDS, `marks` are 1 for session_start, 2 for session_end and 4 for
        reconstructed.
        """
        started_at = row.session_started_at if isinstance(row.session_started_at, int) else NONE
        session = row.session if isinstance(row.session, str) else ""
        marks = row.session_start + 2 * row.session_end + 4 * row.reconstructed
        return cls(row.observed_at, KINDS.index(row.kind), row.value, started_at, marks, session)


_NO_CONTENT = Content(NONE, NONE, NONE, NONE, 0, "")


class Boot(Struct, array_like=True):
    """One boot of a meter: its high-water number with the content there, and the holes below it (inclusive pairs).

    `latest_ms` is the latest moment (epoch ms) at which a row that raised the high water was observed.
    """

    boot: int
    seq: int = NONE
    content: Content = _NO_CONTENT
    latest_ms: int = NONE
    floor: int = 0
    holes: list[tuple[int, int]] = []


class Standing(NamedTuple):
    """A register's value at a moment. An opening register has no boot and no number: both are NONE.

    Usage from here on is judged by the time since `time_ms`; where a clock stepped back, since stream time `seen_ms`.
    """

    boot: int
    seq: int
    value: int
    time_ms: int
    seen_ms: int


class Starts(Struct, array_like=True):
    """The last four sessions that a meter's rows started, oldest first, and the bucket of their fees (rule 20).

    `latest_ms` is the highest start of all; `slack_ms` is NONE before the first start with a price.
    """

    last: list[tuple[str, int]] = []
    latest_ms: int = NONE
    slack_ms: int = NONE


class MeterState(Struct, array_like=True):
    """The state of one meter of one machine. Quantities were observed from `oldest_ms` to `newest_ms`, levels up to
    `level_ms` (epoch ms).
    """

    current: Boot | None = None
    previous: Boot | None = None
    baseline: Standing | None = None
    suspect: Standing | None = None
    displaced: Standing | None = None
    slack_ms: int = SLACK_MS
    oldest_ms: int = NONE
    newest_ms: int = NONE
    level_ms: int = NONE
    starts: Starts = msgspec.field(default_factory=Starts)


METERS = TableSpec(
    pa.schema([("machine", pa.string()), ("meter", pa.string()), ("state", pa.binary())]), ("machine", "meter")
)
"""A meter's state is the canonical JSON of its struct: its fields in their order."""


class Meters:
    """The meters of a partition by (machine, meter)."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], MeterState] = {}
        self._touched: set[tuple[str, str]] = set()

    def __contains__(self, name: tuple[str, str]) -> bool:
        return name in self.known

    def add(self, machine: str, meter: str, facts: MeterState) -> None:
        """Adds a new meter."""
        self.known[machine, meter] = facts
        self._touched.add((machine, meter))

    def borrow(self, machine: str, meter: str) -> MeterState:
        """A meter's state, to be changed."""
        self._touched.add((machine, meter))
        return self.known[machine, meter]

    def look(self, machine: str, meter: str) -> MeterState:
        """A meter's state, to be read only."""
        return self.known[machine, meter]

    def whole(self) -> pa.Table:
        """All rows, sorted by (machine, meter): schema METERS."""
        return self._table(sorted(self.known))

    def changes(self) -> Changes:
        """The rows touched since the last call. Meters are never removed."""
        touched = sorted(self._touched)
        self._touched.clear()
        return Changes(self._table(touched), empty_keys(METERS))

    def _table(self, names: list[tuple[str, str]]) -> pa.Table:
        return table_of(METERS.schema, [(*name, msgspec.json.encode(self.known[name])) for name in names])

    @classmethod
    def load(cls, table: pa.Table) -> "Meters":
        """The meters of a table of the schema METERS."""
        meters = cls()
        columns = [table.column(name).to_pylist() for name in table.column_names]
        meters.known = {
            (machine, meter): msgspec.json.decode(state, type=MeterState)
            for machine, meter, state in zip(*columns, strict=True)
        }
        return meters
