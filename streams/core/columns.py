"""Rows of readings as columns: the rows that `records.decode_readings` returns, without an object for each.

A part holds the rows of one encoding, in the order of the log; `columns_of` joins parts and separates malformed rows.
In all columns an absent integer is NONE.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Protocol, get_args

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from schemas.reading import Reading
from schemas.reject import Reason
from schemas.units import ELAPSED_MAX_MS, Id
from streams.core.meters import NONE

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

IS_START, IS_RECONSTRUCTED = 1, 2
"""Bits of `marks`, as in a high water's content."""

Refused = tuple[int, int, Reason]
"""(index of the record in the run, row or WHOLE_RECORD, reason)."""

is_id: Callable[[str], object] = re.compile(get_args(Id)[1].pattern).search
"""Whether a string is an id, by the one definition of ids."""


class Texts(Protocol):
    """The strings of a part's rows, by the row's index in the part."""

    def names(self, at: int) -> tuple[str, str]:
        """Machine and meter of a row."""
        ...

    def session(self, at: int) -> str:
        """The session of a row, empty without one."""
        ...


@dataclass(slots=True)
class Part:
    """Rows with fields of the right types. `meter` is the meter's index or NONE; `is_bad` marks malformed rows.

    A row's value stands in one of `registers`, `quantities` and `levels`.
    """

    record: Ints
    row: Ints
    meter: Ints
    boot: Ints
    seq: Ints
    observed_at: Ints
    registers: Ints
    quantities: Ints
    levels: Ints
    started_at: Ints
    has_session: Mask
    marks: Ints
    is_bad: Mask
    texts: Texts

    def are_whole(self) -> Mask:
        """Whether each row is well formed: `Reading.is_valid`, and not marked bad."""
        started = self.started_at
        values = (self.registers >= 0).astype(np.int8) + (self.quantities >= 0) + (self.levels >= 0)
        whole: Mask = (values == 1) & ~self.is_bad & (self.has_session == (started >= 0))
        if self.has_session.any() or self.marks.any():
            in_time = (started >= self.observed_at - ELAPSED_MAX_MS) & (started <= self.observed_at)
            whole &= np.where(self.has_session, in_time, self.marks & IS_START == 0)
        return whole


@dataclass(slots=True)
class Columns:
    """Well-formed rows in the order of the log. `kind` is an index in KINDS, `at` the row's index in `texts`."""

    record: Ints
    row: Ints
    meter: Ints
    boot: Ints
    seq: Ints
    observed_at: Ints
    kind: Ints
    value: Ints
    started_at: Ints
    marks: Ints
    at: Ints
    texts: "_JoinedTexts"

    def __len__(self) -> int:
        return len(self.record)

    def take(self, rows: Ints) -> "Columns":
        """These rows, in this order."""
        taken = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "texts"}
        return Columns(**taken, texts=self.texts)

    def names(self, row: int) -> tuple[str, str]:
        """Machine and meter of a row."""
        return self.texts.names(int(self.at[row]))

    def session(self, row: int) -> str:
        """The session of a row, empty without one."""
        return self.texts.session(int(self.at[row]))

    def readings(self, rows: Ints) -> Iterator[tuple[int, int, Reading]]:
        """Rows as the plain loop takes them: (record's index, row in it, reading)."""
        names = ("record", "row", "boot", "seq", "observed_at", "kind", "value", "started_at", "marks", "at")
        cells = [getattr(self, name)[rows].tolist() for name in names]
        for record, row, boot, seq, observed_at, kind, value, started_at, marks, at in zip(*cells, strict=True):
            reading = Reading(
                *self.texts.names(at),
                boot,
                seq,
                observed_at,
                value if kind == 0 else UNSET,
                value if kind == 1 else UNSET,
                value if kind == 2 else UNSET,
                UNSET if started_at == NONE else self.texts.session(at),
                UNSET if started_at == NONE else started_at,
                bool(marks & IS_START),
                bool(marks & IS_RECONSTRUCTED),
            )
            yield record, row, reading


class _JoinedTexts:
    """The texts of several parts, concatenated."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._texts = [part.texts for part in parts]
        self._firsts = list(accumulate((len(part.record) for part in parts), initial=0))

    def names(self, at: int) -> tuple[str, str]:
        texts, at = self._find(at)
        return texts.names(at)

    def session(self, at: int) -> str:
        texts, at = self._find(at)
        return texts.session(at)

    def _find(self, at: int) -> tuple[Texts, int]:
        part = bisect_right(self._firsts, at) - 1
        return self._texts[part], at - self._firsts[part]


def columns_of(parts: Sequence[Part], refused: list[Refused]) -> Columns:
    """The well-formed rows of the parts; the others are added to `refused`."""

    def joined(name: str) -> Ints:
        columns: list[Ints] = [getattr(part, name) for part in parts]
        return columns[0] if len(columns) == 1 else np.concatenate(columns)

    registers, quantities, levels = joined("registers"), joined("quantities"), joined("levels")
    columns = Columns(
        record=joined("record"),
        row=joined("row"),
        meter=joined("meter"),
        boot=joined("boot"),
        seq=joined("seq"),
        observed_at=joined("observed_at"),
        kind=np.where(registers >= 0, 0, np.where(quantities >= 0, 1, 2)),
        value=np.maximum(np.maximum(registers, quantities), levels),
        started_at=joined("started_at"),
        marks=joined("marks"),
        at=np.arange(len(registers)),
        texts=_JoinedTexts(parts),
    )
    whole = np.concatenate([part.are_whole() for part in parts])
    if not whole.all():
        bad = np.flatnonzero(~whole)
        where = zip(columns.record[bad].tolist(), columns.row[bad].tolist(), strict=True)
        refused += [(record, row, "malformed") for record, row in where]
    if len(parts) > 1:
        order = np.lexsort((columns.row, columns.record))
        return columns.take(order[whole[order]])
    return columns if whole.all() else columns.take(np.flatnonzero(whole))


def mark_bad_names(meters: Ints, texts: Texts, is_bad: Mask) -> None:
    """Marks rows whose names are not ids. Names of known meters are ids, so only rows of unknown meters are checked."""
    for at in np.flatnonzero(meters == NONE).tolist():
        if not is_bad[at] and not all(is_id(name) for name in texts.names(at)):
            is_bad[at] = True
