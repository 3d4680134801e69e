"""What a data folder's refused rows and flags say of its meters: for `machines` and the report, which read no log."""

from collections.abc import Iterable

from deploy.data_folder import DataFolder
from deploy.explain.advice import ARROW_BEGINS
from deploy.explain.meter_signs import MeterSign, MeterSigns
from deploy.explain.query import query
from schemas.reading import Reading
from schemas.reject import Reason
from schemas.window import Flag
from streams.core.records import ARROW, JSON, decode_readings

REASONS: tuple[Reason, ...] = ("seq_reused", "too_high", "too_low")
ROWS_MAX = 20_000
"""At most so many refused rows are looked at, the latest ones."""

Refused = tuple[int, Reason, bytes]
"""A row's position in its record, why it was refused, and the record's value."""


def refused_signs(data: DataFolder) -> list[MeterSign]:
    """The signs that a folder's refused rows and flags show. Raises InvalidInput where there is no log."""
    latest = f'ORDER BY "timestamp" DESC, "offset" DESC LIMIT {ROWS_MAX}'
    refused = query(
        data,
        f'SELECT "row", reason, "value" FROM (FROM rejects WHERE reason IN {REASONS} {latest})'  # noqa: S608 - no input
        ' ORDER BY "partition", "offset", "row"',
    ).rows
    flags = query(
        data,
        "SELECT machine, flag, count(*) FROM (SELECT machine, unnest(flags) AS flag FROM windows)"
        " WHERE flag IN ('behind', 'clock', 'fees') GROUP BY 1, 2",
    ).rows
    return signs_of(refused, flags)  # type: ignore[arg-type]


def signs_of(refused: Iterable[Refused], flags: Iterable[tuple[str, Flag, int]]) -> list[MeterSign]:
    """The signs that refused rows and flags (machine, flag, windows) alone show; `check-gateway` reads the log itself,
    and sees more.
    """
    signs = MeterSigns()
    for place, reason, value in refused:
        row = _row_in(value, place)
        if row is not None:
            signs.see(row, reason, None)
    for machine, flag, count in flags:
        signs.see_flags(machine, [flag], count)
    return signs.found()


def _row_in(value: bytes, place: int) -> Reading | None:
    """A refused row of a record; None where it was cut off, since rejects keep a part of a long value."""
    rows = decode_readings(value, ARROW if value.startswith(ARROW_BEGINS) else JSON)
    return rows[place] if not isinstance(rows, str) and 0 <= place < len(rows) else None
