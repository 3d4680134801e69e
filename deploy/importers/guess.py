"""A mapping to start from, guessed from a file: DuckDB's sniffer finds the dialect, names and texts the columns' parts.

A guess is for a person to read: what is uncertain stands there with a remark.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import duckdb
import msgspec

from deploy.importers.mapping import FileShape, Kind, read_mapping, shipped
from deploy.importers.table_files import Fields, format_of, number_in, rows_in
from deploy.importers.tables import moment_of
from schemas.errors import InvalidInput

SAMPLE_ROWS = 500
RECORDS = ("", "data", "result", "results", "_items", "items", "rows", "sessions", "records")
PATTERNS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%a, %d %b %Y %H:%M:%S GMT", "%Y/%m/%d %H:%M:%S",
)  # fmt: skip
"""Ways of writing a time that ISO 8601 doesn't know, tried in this order."""

_START = r"start|begin|arriv|connection|created|von\b|plug.?in|d[ée]but"
_END = r"end|finish|depart|disconnect|stop|bis\b|plug.?out|fin\b"
_DURATION = r"duration|seconds|dauer|dur[ée]e"
_MACHINE = (
    r"station|charg.*(?:id|point)|evse|machine|device|meter_?id|inverter|ladepunkt|loadpoint|taxi_id|vehicle|asset"
)
_SITE = r"\bsite|site_?id|location|depot|standort"
_SESSION = r"session|transaction|trip_?id|cdr|^id$|_id$"
_UNITS = (("kwh", "kWh", "Wh"), ("mwh", "MWh", "Wh"), ("wh", "Wh", "Wh"), ("kw", "kW", "Wh"), ("power", "W", "Wh"),
          ("watt", "W", "Wh"), ("_w", "W", "Wh"), ("energy", "kWh", "Wh"), ("km", "km", "m"))  # fmt: skip
"""What a column's name says: a part of it, what it is then written in, and what a meter should count."""


def guess(path: Path) -> str:
    """A mapping for a file as TOML, with remarks. Raises InvalidInput for a file that has no rows at all."""
    shape = _shape(path)
    rows = [fields for _, fields in islice(rows_in(path, shape), SAMPLE_ROWS) if not isinstance(fields, str)]
    if not rows:
        raise InvalidInput(f"{path.name} has no rows to guess from: check that it is the right file")
    known = _known(rows)
    if known is not None:
        return f"# {path.name} has the columns of the mapping {known}: --map {known} reads it as it is.\n" + (
            shipped()[known].read_text("utf-8")
        )
    return _Guess(path, shape, rows).text()


def _shape(path: Path) -> FileShape:
    kind = format_of(path, FileShape())
    if kind == "json":
        for records in RECORDS:
            shape = FileShape(records=records)
            try:
                first = next(rows_in(path, shape), None)
            except InvalidInput:
                continue
            if first is not None and isinstance(first[1], dict) and len(first[1]) > 1:
                return shape
        raise InvalidInput(f'{path.name}: no array of rows was found: write records = "..." under [file]')
    return _dialect(path) if kind == "csv" else FileShape()


def _dialect(path: Path) -> FileShape:
    """A CSV file's delimiter and first line as DuckDB sniffs them, and its decimal sign by looking at the texts."""
    try:
        with duckdb.connect() as connection:
            query = "SELECT Delimiter, SkipRows FROM sniff_csv(?, sample_size = 20000, all_varchar = true)"
            delimiter, skip = connection.execute(query, [str(path)]).fetchall()[0]
    except duckdb.Error as error:
        raise InvalidInput(f"{path.name} can't be sniffed: {str(error).splitlines()[0]}") from None
    for encoding in ("utf-8", "cp1252"):
        shape = FileShape(delimiter=delimiter, skip_lines=skip, encoding=encoding)
        try:
            rows = [fields for _, fields in islice(rows_in(path, shape), SAMPLE_ROWS) if not isinstance(fields, str)]
        except InvalidInput:
            continue
        texts = [text for row in rows for text in row.values()]
        commas = sum(re.fullmatch(r"-?[0-9.]*[0-9],[0-9]+", text) is not None for text in texts)
        points = sum(re.fullmatch(r"-?[0-9]+\.[0-9]+", text) is not None for text in texts)
        grouped = any(re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{3})+,[0-9]+", text) for text in texts)
        if commas <= points:
            return shape
        return msgspec.structs.replace(shape, decimal=",", thousands="." if grouped else "")
    raise InvalidInput(f"{path.name} is text in an encoding that is not known: save it as UTF-8")


def _known(rows: Sequence[Fields]) -> str | None:
    """The shipped mapping all of whose columns the rows have, if there is one."""
    present = {name for row in rows for name in row}
    for name in shipped():
        mapping = read_mapping(name)
        if all(mapping.column_in(tuple(present), column) for column in mapping.columns):
            return name
    return None


class _Guess:
    def __init__(self, path: Path, shape: FileShape, rows: Sequence[Fields]) -> None:
        self._path = path
        self._shape = shape
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self._texts = {column: [row[column] for row in rows if row.get(column)] for column in columns}
        self._rows = rows
        self._format, self._moments = self._times()
        self._numbers = [
            column
            for column, texts in self._texts.items()
            if column not in self._moments and texts and all(number_in(text, shape) is not None for text in texts)
        ]

    def text(self) -> str:
        """The mapping."""
        start, end = self._find(_START, self._moments), self._find(_END, self._moments)
        duration = self._find(_DURATION, self._numbers)
        kind: Kind = "intervals"
        if start is not None and (end is not None or duration is not None):
            kind = "sessions"
        amounts = self._amounts(kind, duration)
        if kind == "intervals" and any(self._ascends(column) for _, column, _, _ in amounts):
            kind = "registers"
        lines = [
            f"# Guessed from {self._path.name}: check each line.",
            f'kind = "{kind}"',
            *self._machine(),
            *self._clock(),
        ]
        lines += self._file()
        if kind == "sessions":
            lines += ["", "[session]", f"start = {_toml(start or '')}"]
            lines.append(f"end = {_toml(end)}" if end is not None else f"duration = {_toml(duration or '')}   # in s")
            session = self._find(_SESSION, [c for c in self._texts if c not in self._moments and self._is_unique(c)])
            lines.append('# id = "..."' if session is None else f"id = {_toml(session)}")
        else:
            at = self._moments[0] if self._moments else "COLUMN"
            lines += ["", "[reading]", f"at = {_toml(at)}"]
            if kind == "intervals":
                lines.append('stands_for = "start"   # or "end": what the time of a row is of its interval')
        for meter, column, written_in, unit in amounts:
            lines += [
                "",
                f"[amounts.{meter}]",
                f"column = {_toml(column)}",
                f'unit = "{unit}"   # what the meter counts',
            ]
            lines += [] if written_in == unit else [f'written_in = "{written_in}"']
        if kind == "sessions" and amounts[0][3] == "Wh":
            lines += ["", "[form]", 'kind = "ev_charger"', 'tariff = ["CURRENCY ?.?? per kWh"]']
        return "\n".join(lines) + "\n"

    def _times(self) -> tuple[str, list[str]]:
        """How times are written, and the columns that have them."""
        ways: list[tuple[str, Callable[[str], bool]]] = [("iso", lambda text: len(text) > 7 and _is_iso(text))]
        ways += [(pattern, partial(_fits, pattern)) for pattern in PATTERNS]
        ways += [("epoch_ms", lambda text: re.fullmatch(r"1[0-9]{12}", text) is not None)]
        ways += [("epoch_s", lambda text: re.fullmatch(r"1[0-9]{9}(\.0*)?", text) is not None)]
        for name, is_time in ways:
            found = [column for column, texts in self._texts.items() if texts and all(map(is_time, texts))]
            if found:
                return name, found
        return "iso", []

    def _machine(self) -> list[str]:
        names = [column for column in self._texts if column not in self._moments]
        site, station = self._find(_SITE, names), self._find(_MACHINE, names)
        columns = [column for column in (site, station) if column is not None]
        if not columns:
            return [f'machine_id = {_toml(self._path.stem)}   # or machine = ["COLUMN"]']
        return [f"machine = [{', '.join(_toml(column) for column in dict.fromkeys(columns))}]"]

    def _clock(self) -> list[str]:
        lines = [] if self._format == "iso" else [f"time_format = {_toml(self._format)}"]
        turned = self._format.replace("%d/%m/", "%m/%d/")
        if turned != self._format and all(_fits(turned, text) for c in self._moments for text in self._texts[c]):
            lines[0] += f"   # or {turned}: both fit, which comes first, day or month?"
        is_naive = self._format not in ("epoch_s", "epoch_ms") and not any(
            re.search(r"(Z|UTC|[+-][0-9]{2}:?[0-9]{2})$", text) for c in self._moments for text in self._texts[c][:5]
        )
        return (
            [*lines, 'zone = "UTC"   # the file has times without an offset: which clock is it?'] if is_naive else lines
        )

    def _file(self) -> list[str]:
        given = [
            f"{name} = {_toml(str(value)) if isinstance(value, str) else value}"
            for name, value in msgspec.structs.asdict(self._shape).items()
            if value != getattr(FileShape(), name)
        ]
        return ["", "[file]", *given] if given else []

    def _amounts(self, kind: Kind, duration: str | None) -> list[tuple[str, str, str, str]]:
        """(meter, column, written in, unit) of the columns that could be amounts, the likeliest alone."""
        for part, written_in, unit in _UNITS:
            is_power = written_in in ("kW", "W")
            for column in self._numbers:
                name = column.lower()
                if column != duration and part in name and not (is_power and kind == "sessions"):
                    return [("distance" if unit == "m" else "energy", column, written_in, unit)]
        column = next((c for c in self._numbers if c != duration), "COLUMN")
        return [("usage", column, "units", "units")]

    def _ascends(self, column: str) -> bool:
        """Whether a column never falls and rises mostly: a register."""
        values = [number_in(text, self._shape) for text in self._texts.get(column, [])]
        plain = [value for value in values if value is not None]
        steps = [b - a for a, b in pairwise(plain)]
        return len(steps) > 3 and min(steps) >= 0 and sum(step > 0 for step in steps) * 2 > len(steps)

    def _is_unique(self, column: str) -> bool:
        return len(set(self._texts[column])) == len(self._rows)

    def _find(self, pattern: str, columns: Sequence[str]) -> str | None:
        return next((column for column in columns if re.search(pattern, column.lower())), None)


def _is_iso(text: str) -> bool:
    return re.match(r"[0-9]{4}-?[0-9]{2}", text) is not None and moment_of(text.removesuffix(" UTC")) is not None


def _fits(pattern: str, text: str) -> bool:
    try:
        datetime.strptime(text, pattern)  # noqa: DTZ007 - only whether it can be read
    except ValueError:
        return False
    return True


def _toml(text: str) -> str:
    return msgspec.json.encode(text).decode()
