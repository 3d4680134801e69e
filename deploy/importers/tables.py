"""Files as rows of text, and text as exact numbers and moments. A float never stands in between."""

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DECIMAL = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?")


def columns_of(path: Path) -> tuple[str, ...]:
    """The names of a file's columns, in their order. Raises InvalidInput for what is not a CSV or Parquet file."""
    if _is_parquet(path):
        return tuple(_parquet(path).schema_arrow.names)
    with _opened(path) as lines:
        return tuple(name.strip() for name in next(_csv_rows(path, lines), ()))


def rows_of(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...] | str]]:
    """(row number from 1, the named columns as text) for every row; an absent value is the empty text.

    A CSV row with another number of fields than its header has the reason in their place. Empty lines are not rows.
    Raises InvalidInput naming a missing column, or why the file can't be read.
    """
    present = columns_of(path)
    for column in columns:
        if column not in present:
            raise InvalidInput(f"{path.name} has no column {column}: its columns must include {', '.join(columns)}")
    if _is_parquet(path):
        yield from enumerate(_parquet_rows(path, columns), 1)
        return
    places = [present.index(column) for column in columns]
    with _opened(path) as lines:
        for number, row in enumerate(_csv_rows(path, lines)):
            if number and len(row) != len(present):
                yield number, f"{len(row)} fields where the header has {len(present)}"
            elif number:
                yield number, tuple(row[place].strip() for place in places)


def exact(text: str) -> Fraction | None:
    """The exact number of a decimal text, None for any other text (nan and infinity are others)."""
    return Fraction(Decimal(text)) if _DECIMAL.fullmatch(text) else None


def half_up(number: Fraction) -> int:
    """The nearest integer; a half goes up. For amounts of zero or more."""
    return (2 * number.numerator + number.denominator) // (2 * number.denominator)


def moment_of(text: str) -> datetime | None:
    """A moment as ISO 8601 writes it, with its offset or naive, or None for any other text.

    The first and the last year of a datetime are excluded: they are sentinels, and in some zones they overflow.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if MINYEAR < moment.year < MAXYEAR else None


def to_ms(moment: datetime) -> int:
    """Epoch ms of a moment with an offset; what is finer is cut off."""
    return (moment - _EPOCH) // _MILLISECOND


def localised(moment: datetime, zone: ZoneInfo, previous_ms: int | None) -> int | None:
    """Epoch ms of a naive local moment, or None for one that the clock skipped in spring.

    An hour that comes twice in autumn counts as the first, unless the row before (`previous_ms`) lies past that.
    """
    first = to_ms(moment.replace(tzinfo=zone, fold=0))
    if datetime.fromtimestamp(first // 1000, zone).replace(tzinfo=None) != moment.replace(microsecond=0):
        return None
    second = to_ms(moment.replace(tzinfo=zone, fold=1))
    return second if previous_ms is not None and first <= previous_ms < second else first


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InvalidInput(f"{path.name} is neither a .csv nor a .parquet file: use one of these")
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}: check the path")
    return path.suffix.lower() == ".parquet"


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InvalidInput(f"can't read {path}: {error.strerror}") from None


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[list[str]]:
    """The rows of a CSV file but for empty lines; the first is its header."""
    try:
        yield from filter(None, csv.reader(lines, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name} is not a CSV file in UTF-8: {error}") from None


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"{path.name} is not a Parquet file: {str(error).splitlines()[0]}") from None


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    try:
        for batch in _parquet(path).iter_batches(columns=list(columns)):
            yield from zip(*(_texts(batch.column(column)) for column in columns), strict=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InvalidInput(f"{path.name} can't be read as Parquet: {str(error).splitlines()[0]}") from None


def _texts(column: pa.Array) -> list[str]:
    if not pa.types.is_timestamp(column.type):
        return [_text(value) for value in column.to_pylist()]
    if column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return [_moment_text(scalar) for scalar in column]


def _moment_text(scalar: pa.TimestampScalar) -> str:
    """A Parquet time as ISO 8601; one that no datetime can hold as its number, which is then skipped."""
    try:
        return _text(scalar.as_py())
    except (ValueError, OverflowError):
        return str(scalar.value)


def _text(value: object) -> str:
    """A Parquet value as a CSV file would write it; a double by its shortest decimal text."""
    match value:
        case None:
            return ""
        case str():
            return value.strip()
        case datetime():
            return value.isoformat()
        case _:
            return str(value)
