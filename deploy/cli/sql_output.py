"""What a query returned, as a table, lines, CSV, JSON or Markdown, on standard output."""

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum

from deploy.cli.dialect import plain
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

ROWS_SHOWN = 200
"""Rows that a terminal shows; one query may have millions."""


class Format(StrEnum):
    """The formats; `line` is a line for each value."""

    TABLE = "table"
    LINE = "line"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


def format_of(word: str) -> Format:
    """The format that a person names. Raises InvalidInput."""
    try:
        return Format(word)
    except ValueError:
        raise InvalidInput(f"'{word}' is not an output format: choose one of {', '.join(Format)}") from None


def show_rows(terminal: Terminal, form: Format, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Writes the rows; on a terminal a table has its first rows and says how many rows and columns there are."""
    if form is Format.TABLE:
        is_cut = sys.stdout.isatty() and len(rows) > ROWS_SHOWN
        shown = terminal.table("", columns, rows[:ROWS_SHOWN] if is_cut else rows)
        if sys.stdout.isatty():
            terminal.say(_counts(len(rows), min(len(rows), ROWS_SHOWN), len(columns), shown))
    elif form is Format.LINE:
        margin = max(map(len, columns), default=0)
        for number, row in enumerate(rows, 1):
            terminal.say(f"- row {number}")
            for column, cell in zip(columns, row, strict=True):
                terminal.say(f"{column:>{margin}}  {'' if cell is None else cell}")
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(cell) for cell in row] for row in rows)
    elif form is Format.JSON:
        objects = (json.dumps(plain(dict(zip(columns, row, strict=True)))) for row in rows)
        sys.stdout.write("[" + ",\n ".join(objects) + "]\n")
    elif form is Format.MARKDOWN:
        for cells in (columns, ["---"] * len(columns), *rows):
            escaped = [_text(cell).replace("|", "\\|").replace("\n", " ") for cell in cells]
            sys.stdout.write("| " + " | ".join(escaped) + " |\n")


def _counts(rows: int, rows_shown: int, columns: int, columns_shown: int) -> str:
    counts = "1 row" if rows == 1 else f"{rows:,} rows"
    if rows_shown < rows:
        counts += f" (the first {rows_shown} shown; LIMIT and OFFSET show others)"
    if columns_shown < columns:
        counts += f", {columns} columns ({columns_shown} shown; name some, or use --format line)"
    return counts


def _text(value: object) -> str:
    found = plain(value)
    return "" if found is None else found if isinstance(found, str) else json.dumps(found)
