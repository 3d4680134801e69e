"""Arrow values as columns: batches of one schema are joined, and no row becomes a Python object."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reject import WHOLE_RECORD
from schemas.units import COUNT_MAX
from streams.core.arrow_rows import decode_batches
from streams.core.columns import IS_RECONSTRUCTED, IS_START, Ints, Mask, Part, Refused, is_id, mark_bad_names
from streams.core.meters import NONE


def arrow_parts(
    records: Sequence[int],
    values: Sequence[bytes | None],
    index_of: Mapping[tuple[str, str], int],
    refused: list[Refused],
) -> list[Part]:
    """The rows of the values of `records` (indices in the run), one part for each schema. Refused ones go to
    `refused`.
    """
    by_schema: dict[pa.Schema, tuple[list[pa.RecordBatch], list[int], list[int]]] = {}
    for record, value in zip(records, values, strict=True):
        decoded = "undecodable" if value is None else decode_batches(value)
        if isinstance(decoded, str):
            refused.append((record, WHOLE_RECORD, decoded))
            continue
        batches, numbers, firsts = by_schema.setdefault(decoded[0].schema.remove_metadata(), ([], [], []))
        first = 0
        for batch in decoded:
            batches.append(batch.replace_schema_metadata(None))
            numbers.append(record)
            firsts.append(first)
            first += batch.num_rows
    return [_part(*group, index_of) for group in by_schema.values()]


def _part(
    batches: Sequence[pa.RecordBatch], records: Sequence[int], firsts: Sequence[int], index_of: Mapping[Any, int]
) -> Part:
    lengths = [batch.num_rows for batch in batches]
    rows = sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    table = _Table(pa.Table.from_batches(batches), rows)
    machines, meters = table.texts("machine"), table.texts("meter")
    texts = _ArrowTexts(machines, meters, table.column("session"))
    meter = _meter_indices(machines, meters, index_of)
    columns = {name: table.ints(name) for name in ("boot", "seq", "observed_at", "session_started_at")}
    is_bad = table.is_bad | (machines.codes < 0) | (meters.codes < 0)
    for name in ("boot", "seq", "observed_at"):
        is_bad |= columns[name] == NONE
    has_session = table.has_session()
    values = [table.ints(name) for name in ("register", "quantity", "level")]
    is_bad |= table.is_bad
    mark_bad_names(meter, texts, is_bad)
    return Part(
        record=np.repeat(np.asarray(records, np.int64), lengths),
        row=np.arange(rows) - np.repeat(starts - np.asarray(firsts, np.int64), lengths),
        meter=meter,
        boot=columns["boot"],
        seq=columns["seq"],
        observed_at=columns["observed_at"],
        registers=values[0],
        quantities=values[1],
        levels=values[2],
        started_at=columns["session_started_at"],
        has_session=has_session,
        marks=table.flags("session_start") * IS_START + table.flags("reconstructed") * IS_RECONSTRUCTED,
        is_bad=is_bad,
        texts=texts,
    )


class _Coded:
    """A column of strings as codes (NONE for a null) into its distinct strings."""

    def __init__(self, column: Any, rows: int) -> None:
        self.codes: Ints = np.full(rows, NONE)
        self.words: list[str] = []
        if column is None:
            return
        encoded = column.dictionary_encode()
        indices = encoded.indices if encoded.null_count == 0 else encoded.indices.fill_null(NONE)
        self.codes = indices.to_numpy(zero_copy_only=False).astype(np.int64)
        self.words = encoded.dictionary.to_pylist()


class _Table:
    """Columns of a table, absent ones included. `is_bad` collects the rows with integers that are not counts."""

    def __init__(self, table: pa.Table, rows: int) -> None:
        self._table, self._rows = table.combine_chunks(), rows
        self.is_bad: Mask = np.zeros(rows, np.bool_)

    def column(self, name: str) -> Any:
        """The column as one array, None if it is absent or all null."""
        if not self._rows or name not in self._table.schema.names:
            return None
        column = self._table.column(name)
        return None if pa.types.is_null(column.type) else pa.concat_arrays(column.chunks)

    def texts(self, name: str) -> _Coded:
        return _Coded(self.column(name), self._rows)

    def ints(self, name: str) -> Ints:
        """A column of integers, NONE for a null; rows with integers that are not counts are marked bad."""
        column = self.column(name)
        if column is None:
            return np.full(self._rows, NONE)
        is_null = None
        if column.null_count:
            is_null = column.is_null().to_numpy(zero_copy_only=False)
            column = column.fill_null(0)
        values = column.to_numpy(zero_copy_only=False)
        is_bad = values > COUNT_MAX
        if values.dtype.kind == "i":
            is_bad |= values < 0
        if is_bad.any():
            self.is_bad |= is_bad
            values = np.where(is_bad, 0, values)
        ints: Ints = values.astype(np.int64)
        return ints if is_null is None else np.where(is_null, NONE, ints)

    def flags(self, name: str) -> Ints:
        column = self.column(name)
        if column is None:
            return np.zeros(self._rows, np.int64)
        flags: Ints = column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
        return flags

    def has_session(self) -> Mask:
        """Which rows have a session. A session that is not an id marks its row as bad."""
        column = self.column("session")
        if column is None:
            return np.zeros(self._rows, np.bool_)
        wrong = [word for word in pc.unique(column).to_pylist() if word is not None and not is_id(word)]
        if wrong:
            self.is_bad |= pc.is_in(column, value_set=pa.array(wrong, column.type)).to_numpy(zero_copy_only=False)
        has: Mask = column.is_valid().to_numpy(zero_copy_only=False)
        return has


class _ArrowTexts:
    def __init__(self, machines: _Coded, meters: _Coded, sessions: Any) -> None:
        self._machines, self._meters, self._sessions = machines, meters, sessions

    def names(self, at: int) -> tuple[str, str]:
        return self._machines.words[self._machines.codes[at]], self._meters.words[self._meters.codes[at]]

    def session(self, at: int) -> str:
        return "" if self._sessions is None else self._sessions[at].as_py() or ""


def _meter_indices(machines: _Coded, meters: _Coded, index_of: Mapping[tuple[str, str], int]) -> Ints:
    """The index of each row's meter: looked up once for each pair of names that occurs."""
    width = len(meters.words)
    codes = machines.codes * width + meters.codes
    codes[(machines.codes < 0) | (meters.codes < 0)] = NONE
    size = len(machines.words) * width
    words = machines.words, meters.words
    is_small = size <= 8 * len(codes) + 8
    pairs = _marked(codes, size) if is_small else np.unique(codes[codes != NONE])
    found = [index_of.get((words[0][pair // width], words[1][pair % width]), NONE) for pair in pairs.tolist()]
    if is_small:
        by_code = np.full(size + 1, NONE)
        by_code[pairs] = found
        return np.asarray(by_code[codes], np.int64)
    indices, is_named = np.full(len(codes), NONE), codes != NONE
    indices[is_named] = np.array(found, np.int64)[np.searchsorted(pairs, codes[is_named])]
    return indices


def _marked(codes: Ints, size: int) -> Ints:
    """The codes below `size` that occur, without sorting. NONE marks the last element."""
    is_there = np.zeros(size + 1, np.bool_)
    is_there[codes] = True
    return np.flatnonzero(is_there[:-1])
