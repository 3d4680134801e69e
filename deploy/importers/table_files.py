"""Files of other people as rows of named texts: CSV in any dialect, JSON, JSON lines, Parquet.

A number stays the text that the file has, digit for digit: no float stands between it and a fraction. Of a Parquet
double, which has no text, it is the shortest decimal that means it.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from deploy.importers.mapping import FileShape
from deploy.importers.tables import columns_of, exact, rows_of
from files.read import open_regular, read_bytes
from schemas.errors import InvalidInput

DOCUMENT_BYTES_MAX = 1 << 30
FILE_BYTES_MAX = 1 << 40
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}  # fmt: skip
REMEDY = "check the path"

Fields = Mapping[str, str]
"""A row by column, as text; what is absent or null is missing or empty."""


def format_of(path: Path, shape: FileShape) -> str:
    """What kind of file it is. Raises InvalidInput where neither the mapping nor its name says so."""
    found = shape.format or _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise InvalidInput(f'{path.name}: what kind of file is it? Write format = "csv" under [file] of the mapping')
    return found


def rows_in(path: Path, shape: FileShape) -> Iterator[tuple[int, Fields | str]]:
    """(row number from 1, its fields or why there are none) for every row. Raises InvalidInput for another file."""
    match format_of(path, shape):
        case "csv":
            yield from _csv(path, shape)
        case "parquet":
            columns = columns_of(path)
            for number, row in rows_of(path, columns):
                yield number, row if isinstance(row, str) else dict(zip(columns, row, strict=True))
        case "jsonl":
            yield from _json_lines(path, shape)
        case _:
            for number, item in enumerate(_document(path, shape.records), 1):
                yield number, _flat(item)


def number_in(text: str, shape: FileShape) -> Fraction | None:
    """The number that a text writes in a file's way, exactly, or None for what is none."""
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    if shape.thousands and shape.thousands in plain:
        mark, point = re.escape(shape.thousands), re.escape(shape.decimal)
        if not re.fullmatch(rf"[+-]?[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+(?:{point}[0-9]*)?", plain):
            return None
        plain = plain.replace(shape.thousands, "")
    if shape.decimal == ",":
        if "." in plain:
            return None
        plain = plain.replace(",", ".")
    return exact(plain)


def _csv(path: Path, shape: FileShape) -> Iterator[tuple[int, Fields | str]]:
    with open_regular(path, remedy=REMEDY, max_bytes=FILE_BYTES_MAX) as file:
        try:
            text = (line.decode(shape.encoding) for line in file)
            lines = islice(text, shape.skip_lines, None)
            rows = filter(None, csv.reader(_unmarked(lines), delimiter=shape.delimiter, strict=True))
            header = _distinct([name.strip() for name in next(rows, ())])
            for number, row in enumerate(rows, 1):
                if len(row) == len(header):
                    yield number, {name: field.strip() for name, field in zip(header, row, strict=True)}
                else:
                    yield number, "another number of fields than the header"
        except LookupError:
            raise InvalidInput(f"there is no encoding '{shape.encoding}': write utf-8, latin-1 or cp1252") from None
        except (csv.Error, UnicodeError) as error:
            raise InvalidInput(f"{path.name} is not CSV in {shape.encoding}: {error}") from None


def _distinct(names: list[str]) -> list[str]:
    """The names of columns, where one comes again with a number behind it: `kWh`, `kWh#2`."""
    return [name if name not in names[:at] else f"{name}#{names[:at].count(name) + 1}" for at, name in enumerate(names)]


def _unmarked(lines: Iterator[str]) -> Iterator[str]:
    """The lines without the mark that some programs put before the first."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix("\ufeff")


def _json_lines(path: Path, shape: FileShape) -> Iterator[tuple[int, Fields | str]]:
    with open_regular(path, remedy=REMEDY, max_bytes=FILE_BYTES_MAX) as file:
        for number, line in enumerate((line for line in file if line.strip()), 1):
            try:
                yield number, _flat(_parsed(line.decode(shape.encoding)))
            except (ValueError, RecursionError):
                yield number, "not a line of JSON"


def _document(path: Path, records: str) -> list[Any]:
    """The rows of a JSON document: its array, the one at the path `records`, or the one object that it is."""
    content = read_bytes(path, remedy="write it as JSON lines", max_bytes=DOCUMENT_BYTES_MAX)
    try:
        found = _parsed(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}") from None
    for step in records.split(".") if records and isinstance(found, dict) else ():
        found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, dict):
        return [found]
    if not isinstance(found, list):
        raise InvalidInput(f"{path.name} has no array of rows at '{records}': write records = \"data\" under [file]")
    return found


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _flat(item: Any, prefix: str = "") -> dict[str, str] | str:
    """An object's scalars by their path (`cdr_location.evse_id`); an array is its JSON."""
    if not isinstance(item, dict):
        return "not an object"
    fields: dict[str, str] = {}
    for name, value in item.items():
        match value:
            case dict():
                inner = _flat(value, f"{prefix}{name}.")
                fields |= inner if isinstance(inner, dict) else {}
            case None:
                fields[prefix + name] = ""
            case bool():
                fields[prefix + name] = "true" if value else "false"
            case list():
                fields[prefix + name] = json.dumps(value, ensure_ascii=False)
            case _:
                fields[prefix + name] = str(value).strip()
    return fields
