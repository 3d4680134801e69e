"""What a slice refused, in columns: no object is made of a refused row, nor of its record."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrow import REJECTED_RECORDS, REJECTS, Tables, rejects_from
from schemas.reject import KEPT_BYTES, REASONS, Reject
from streams.core.kernel import columns as c
from streams.core.kernel.columns import Ints, Matrix

if TYPE_CHECKING:
    from streams.core.kernel.entries import Entries

_REASONS = pa.array(REASONS)


class Refused:
    """The refused entries of a slice, in the order of the log.

    To be asked before the slice's entries are cleared.
    """

    def __init__(self, entries: "Entries", parts: Sequence[Matrix]) -> None:
        self._entries = entries
        self._found: Matrix = np.concatenate([np.empty((0, c.REFUSED_COLUMNS), np.int64), *parts])

    def __len__(self) -> int:
        return len(self._found)

    def by_reason(self) -> dict[str, int]:
        """How many entries each reason refused."""
        codes, counts = np.unique(self._found[:, c.REFUSED_CODE], return_counts=True)
        return {c.reason_of(code): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}

    def objects(self) -> list[Reject]:
        """The entries as objects: for what is rare."""
        return rejects_from(self._rejects())

    def tables(self) -> dict[str, pa.Table]:
        """`rejects`, and `rejected_records`: each record once, however many of its rows were refused."""
        return {
            "rejects": self._rejects(),
            "rejected_records": self._records(np.unique(self._found[:, c.REFUSED_LINE])),
        }

    def _rejects(self) -> pa.Table:
        reasons = _REASONS.take(pa.array(self._found[:, c.REFUSED_CODE] - c.CODES))
        offsets = self._entries.records[self._found[:, c.REFUSED_LINE], c.OFFSET]
        return pa.table([offsets, self._found[:, c.REFUSED_ROW].copy(), reasons], schema=REJECTS)

    def _records(self, lines: Ints) -> pa.Table:
        """A record without a value counts as empty; of a value the first 64 KiB are kept, and the SHA-256 of all."""
        from streams.core.kernel.digests import digests
        from streams.core.kernel.texts import texts_array

        buffer, cells = self._entries.buffer, self._entries.records[lines]
        at, sizes = cells[:, c.VALUE_AT], np.maximum(cells[:, c.VALUE_LEN], 0)
        columns = [
            cells[:, c.OFFSET].copy(),
            cells[:, c.TIMESTAMP].copy(),
            texts_array(buffer, cells[:, c.KEY_AT], cells[:, c.KEY_LEN], pa.binary()),
            texts_array(buffer, at, np.minimum(sizes, KEPT_BYTES), pa.binary()),
            sizes,
            pa.Array.from_buffers(pa.binary(32), len(lines), [None, pa.py_buffer(digests(buffer, at, at + sizes))]),
        ]
        return pa.table(columns, schema=REJECTED_RECORDS)


def rejects_digest(tables: Tables) -> bytes:
    """32 bytes over an epoch's refused entries, in the order of the log, and the digests of their records' values.

    SHA-256 of a domain line, then column by column: offsets and rows as 8 bytes each, big-endian, the reasons each
    with a line's end, the 32 bytes of each entry's record.
    """
    rejects, records = tables["rejects"], tables["rejected_records"]
    offsets = np.asarray(rejects["offset"], np.int64)
    places = np.searchsorted(np.asarray(records["offset"], np.int64), offsets)
    state = hashlib.sha256(b"tallyroot rejects 1\n")
    for column in (offsets, np.asarray(rejects["row"], np.int64)):
        state.update(column.astype(">i8").tobytes())
    state.update("".join(f"{reason}\n" for reason in rejects["reason"].to_pylist()).encode())
    state.update(b"".join(records["value_sha256"].take(pa.array(places)).to_pylist()))
    return state.digest()


def counted_reasons(rejects: pa.Table) -> dict[str, int]:
    """How many entries each reason refused, by the reasons' names."""
    counts = pc.value_counts(rejects["reason"]).to_pylist()
    return dict(sorted((each["values"], each["counts"]) for each in counts))
