"""What a person or a script sees: text or JSON on stdout, progress and errors on stderr.

Nothing heavy is imported before it is needed: `--help` and usage errors come through here as well.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

PIPE_COLUMNS = 250
"""Width of a table where stdout is not a terminal: another program reads it, and expects a row a line."""

CONTROLS = dict.fromkeys((7, 8, 11, 12, 13, 27))
"""Bell, backspace, vertical tab, form feed, carriage return and escape: ids of machines don't steer a terminal."""


class Terminal:
    """Where one command writes. With `as_json` stdout holds JSON only, one object a line, the result last."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def step(self, text: str) -> None:
        """One line of progress, on stderr."""
        sys.stderr.write(text.translate(CONTROLS) + "\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """One line of the result, for people only."""
        if not self.as_json:
            sys.stdout.write(text.translate(CONTROLS) + "\n")
            sys.stdout.flush()

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table of the result, for people only; numbers are aligned to the right."""
        if self.as_json:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        kept = [["" if cell is None else str(cell) for cell in row] for row in rows]
        table = Table(
            title=Text(title) if title else None, title_justify="left", header_style="bold", box=None, pad_edge=False
        )
        for index, column in enumerate(columns):
            numbers = all(_is_number(row[index]) for row in kept)
            table.add_column(column, justify="right" if kept and numbers else "left", overflow="fold")
        for row in kept:
            table.add_row(*(Text(cell.translate(CONTROLS)) for cell in row))
        Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)

    def result(self, value: object) -> None:
        """The command's result as one JSON object on a line of its own, for scripts only."""
        if self.as_json:
            sys.stdout.write(json.dumps(_plain(value)) + "\n")  # integers of any size
            sys.stdout.flush()


def fail(text: str) -> None:
    """One line on stderr, however many lines the text has."""
    sys.stderr.write("tallyroot: " + " ".join(text.split()) + "\n")


def _is_number(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "").replace("-", "").split(" ")[0].isdigit()


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: bytes as 0x-hex, structs and dataclasses as objects."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case bytes():
            return "0x" + value.hex()
        case Decimal():
            return int(value) if value == value.to_integral_value() else str(value)
        case datetime() | date() | Path():
            return str(value)
    names = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None)
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}
