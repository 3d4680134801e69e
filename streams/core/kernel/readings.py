"""The rows of a slice's reading records, a piece at a time: the loops decide what is plain, the definition the rest.

    entries = Entries()
    entries.add(batch)                      # for each batch of the slice
    readings, line = Readings(entries), 0
    while line < len(entries.records):
        next, rows = readings.read(line)    # the rows of the records from `line` to `next`
        ...
        line = next

A record that is refused as a whole has its reason in REFUSED, and no rows.
"""

from typing import Any

import numpy as np
from msgspec import UNSET, UnsetType

from schemas.reading import EVIDENCES_MAX, ROWS_MAX, Reading
from streams.core import records as definition
from streams.core.kernel import columns as c
from streams.core.kernel.arrow_rows import PLAN_COLUMNS, read_arrow
from streams.core.kernel.columns import ASK, NONE, Bytes, Ints, Matrix, Words
from streams.core.kernel.compiled import compiled
from streams.core.kernel.entries import Entries
from streams.core.kernel.json_rows import CUT, read_json
from streams.core.kernel.words import FIELDS
from streams.core.stream_time import FAR_MS, TIMESTAMP_MAX_MS

ROOM = 65_536
"""How many rows are read at a time, so that memory is bounded, whatever the records promise."""

FULL, ASKED = range(2)
"""Why a piece ends before the last record: the next may not fit, or cuts the epoch, or is for the definition."""

_MEDIA = (definition.JSON, definition.ARROW)


@compiled
def read_records(
    words: Words, buffer: Bytes, records: Matrix, k: int, cut_ms: int, rows: Matrix, used: int, follows: Ints,
    plan: Matrix,
) -> tuple[int, int, int]:  # fmt: skip
    """The rows of the records from the line `k` on, behind the `used` lines of `rows`: (next record, used, why)."""
    while k < len(records):
        if cut_ms <= records[k, c.TIMESTAMP] <= TIMESTAMP_MAX_MS:
            return k, used, FULL
        records[k, c.FIRST_ROW], records[k, c.ROWS], records[k, c.EVIDENCES] = used, 0, 0
        if records[k, c.TYPE] == c.TYPE_READING and records[k, c.REFUSED] == 0:
            if used + ROWS_MAX > len(rows):
                return k, used, FULL
            at, end = records[k, c.VALUE_AT], records[k, c.VALUE_AT] + records[k, c.VALUE_LEN]
            count, after = 0, ASK
            if records[k, c.MEDIA] == c.JSON_MEDIA:
                count, after = read_json(words, buffer, at, end, follows, rows, used)
            elif records[k, c.MEDIA] == c.ARROW_MEDIA:
                count = read_arrow(words, buffer, at, end, rows, used, plan)
                after = ASK if count == ASK else end
            if after == ASK:
                return k, used, ASKED
            if after == CUT:
                records[k, c.REFUSED] = c.UNDECODABLE
            for r in range(used, used + count):
                rows[r, c.RECORD] = k
            records[k, c.ROWS] = count
            used += count
        k += 1
    return k, used, FULL


class Readings:
    """Reads the rows of a slice. `entries` may grow by texts that no record holds verbatim."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._rows: Matrix = np.empty((ROOM, c.ROW_COLUMNS), np.int64)
        self._follows: Ints = np.zeros(len(FIELDS) + 1, np.int64)
        self._plan: Matrix = np.empty((len(FIELDS), PLAN_COLUMNS), np.int64)
        self.evidence: dict[int, str] = {}
        """What meters signed, by the line in `rows`; empty beyond the first EVIDENCES_MAX of a record (rule 41)."""

    def read(self, line: int, cut_ms: int = FAR_MS) -> tuple[int, Matrix]:
        """(next, rows): the rows of the records from `line` to `next`, none that moves stream time to `cut_ms` or past
        it.

        `rows` is overwritten by the next call; `entries.buffer` may be another array after each.
        """
        entries, records, used = self._entries, self._entries.records, 0
        self.evidence = {}
        while True:
            line, used, why = read_records(
                entries.words, entries.buffer, records, line, cut_ms, self._rows, used, self._follows, self._plan
            )
            if line == len(records) or why == FULL:
                return line, self._rows[:used]
            used = self._ask(line, used)
            line += 1

    def _ask(self, line: int, used: int) -> int:
        """What the definition makes of a record, in the same columns. Returns the rows used afterwards."""
        cells = self._entries.records[line]
        media = int(cells[c.MEDIA])
        content_type = definition.media_type(self._entries.record(line)) if media == ASK else _MEDIA[media]
        value = self._entries.bytes_at(int(cells[c.VALUE_AT]), int(cells[c.VALUE_LEN]))
        found = definition.decode_readings(value, content_type)
        if isinstance(found, str):
            cells[c.REFUSED] = c.code_of(found)
            return used
        cells[c.FIRST_ROW], cells[c.ROWS] = used, len(found)
        for number, reading in enumerate(found):
            row = self._rows[used + number]
            row[c.RECORD], row[c.ROW] = line, number
            if reading is None:
                row[c.VERDICT] = c.MALFORMED
            else:
                self._write(row, reading)
                if reading.evidence is not UNSET:
                    is_read = cells[c.EVIDENCES] < EVIDENCES_MAX
                    self.evidence[used + number] = reading.evidence if is_read else ""
                    cells[c.EVIDENCES] += 1
        return used + len(found)

    def _write(self, row: Any, reading: Reading) -> None:
        texts = [reading.machine, reading.meter, "" if reading.session is UNSET else reading.session]
        at = self._entries.write("".join(texts).encode("ascii"))
        row[c.VERDICT] = c.ACCEPTED
        row[c.BOOT], row[c.SEQ], row[c.OBSERVED_AT] = reading.boot, reading.seq, reading.observed_at
        row[c.KIND], row[c.VALUE] = c.KINDS.index(reading.kind), reading.value
        row[c.STARTED_AT] = _or_none(reading.session_started_at)
        row[c.MARKS] = (
            reading.session_start * c.IS_START
            | reading.session_end * c.IS_END
            | reading.reconstructed * c.IS_RECONSTRUCTED
        )
        for column, text in zip((c.MACHINE_AT, c.METER_AT, c.SESSION_AT), texts, strict=True):
            row[column], row[column + 1] = at, len(text)
            at += len(text)


def _or_none(value: int | UnsetType) -> int:
    return NONE if isinstance(value, UnsetType) else value
