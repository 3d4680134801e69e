"""Where a reading stands in raw records, and what it changes when the real core judges it."""

from collections.abc import Sequence
from functools import reduce

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, to_builtins

from schemas.errors import InvariantBroken
from schemas.reading import READING
from schemas.reject import WHOLE_RECORD
from streams.core.advance import Tally
from streams.core.arrow_rows import decode_batches
from streams.core.judge import Outcome
from streams.core.log_root import RECORDS, records_from
from streams.core.meters import NONE
from streams.core.open_window import LineKey
from streams.core.records import ARROW, JSON, LogRecord, Record, media_type, plain_object, record_type
from streams.core.state import State


class ReadingName(Struct, frozen=True):
    """What names a reading."""

    machine: str
    meter: str
    boot: int
    seq: int

    def __str__(self) -> str:
        return f"{self.machine} {self.meter}, boot {self.boot}, seq {self.seq}"


class Billed(Struct, frozen=True):
    """Usage in the meter's unit at a price: micros for every `per` units, or (per 0) for each session."""

    registration_version: int
    usage: int
    price_micros: int
    per: int


class Change(Struct, frozen=True):
    """The window in which an accepted row was placed, and what the row added to it."""

    start_ms: int
    mends_ms: int | None
    billed: tuple[Billed, ...]


_Standings = dict[tuple[int, int], tuple[int, dict[LineKey, int]]]
"""Of one machine's open windows by (start, mended start or NONE): how many readings and how much usage lie there."""


class Watch(Tally):
    """Sees what certain rows of one reading record come to, and what they change in their machine's open windows."""

    def __init__(self, state: State, machine: str, rows: Sequence[int]) -> None:
        super().__init__()
        self.seen: list[tuple[int, Outcome, Change | None]] = []
        self._state = state
        self._machine = machine
        self._rows = frozenset(rows)
        self._before = self._look()

    def note(self, record: LogRecord, row: int, outcome: Outcome) -> None:
        """One entry is judged: `row` of it, or all of the record."""
        super().note(record, row, outcome)
        if row in self._rows or row == WHOLE_RECORD:
            change = self._change() if outcome is None else None
            self.seen.append((row, outcome, change))
        if row + 1 in self._rows:
            self._before = self._look()

    def _look(self) -> _Standings:
        return {
            (start_ms, mends_ms): (window.readings, dict(window.usage))
            for start_ms, windows in self._state.open_windows.items()
            for (machine, mends_ms), window in windows.items()
            if machine == self._machine
        }

    def _change(self) -> Change:
        """An accepted row adds one to the readings of its window and of no other (rule 26)."""
        for (start_ms, mends_ms), (readings, usage) in self._look().items():
            readings_before, usage_before = self._before.get((start_ms, mends_ms), (0, {}))
            if readings > readings_before:
                billed = tuple(
                    Billed(version, total - usage_before.get(key, 0), micros, per)
                    for key, total in sorted(usage.items())
                    for _, version, micros, per in (key,)
                    if total != usage_before.get(key, 0)
                )
                return Change(start_ms, None if mends_ms == NONE else mends_ms, billed)
        raise InvariantBroken("an accepted reading lies in no window")


def records_naming(batch: pa.RecordBatch, machine: str) -> list[Record]:
    """The records of an archive's batch whose values may name a machine: plainly, or with escapes in JSON."""
    values = batch.column(RECORDS.names.index("value"))
    named = pc.or_(pc.match_substring(values, machine.encode()), pc.match_substring(values, b"\\"))
    table = pa.Table.from_batches([batch]).filter(named).cast(RECORDS)
    return [record for part in table.to_batches() for record in records_from(part)]


def rows_of(record: Record, name: ReadingName) -> list[int]:
    """The rows of a reading record that carry a name, well formed or not.

    An Arrow record that is refused as a whole has no rows.
    """
    if record_type(record) != READING or record.value is None:
        return []
    content_type = media_type(record)
    if content_type == ARROW:
        return _arrow_rows(record.value, name)
    return _json_rows(record.value, name) if content_type == JSON else []


def _json_rows(value: bytes, name: ReadingName) -> list[int]:
    if str(name.seq).encode() not in value:
        return []
    try:
        decoded = plain_object(value)
    except msgspec.DecodeError:
        return []
    wanted = to_builtins(name)
    return [
        row
        for row, item in enumerate(decoded if isinstance(decoded, list) else [decoded])
        if isinstance(item, dict) and all(_is_same(item.get(part), wanted[part]) for part in wanted)
    ]


def _is_same(found: object, wanted: object) -> bool:
    """Equal and of one type: true is no 1."""
    return type(found) is type(wanted) and found == wanted


def _arrow_rows(value: bytes, name: ReadingName) -> list[int]:
    batches = decode_batches(value)
    rows: list[int] = []
    if isinstance(batches, str):
        return rows
    wanted = to_builtins(name)
    start = 0
    for batch in batches:
        if set(wanted) <= set(batch.schema.names):
            same = [pc.equal(batch.column(part), wanted[part]) for part in wanted]
            rows += [start + row for row in pc.indices_nonzero(reduce(pc.and_, same)).to_pylist()]
        start += batch.num_rows
    return rows
