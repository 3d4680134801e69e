"""What a person or a script sees: text or one JSON object on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from schemas.units import DAY_MS, SECOND_MS

PIPE_COLUMNS = 250
"""So wide is a table where no terminal says how wide it is: another program reads it, and wants a row a line."""


class Terminal:
    """Where one command speaks. With `as_json` stdout holds JSON only, one object a line, the result last."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def step(self, text: str) -> None:
        """One line of progress, on stderr."""
        self._errors.print(text, markup=False)

    def say(self, text: str) -> None:
        """One line of the result, for people only."""
        if not self.as_json:
            self._console.print(text, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table of the result, for people only; numbers stand to the right."""
        if self.as_json:
            return
        kept = [["" if cell is None else str(cell) for cell in row] for row in rows]
        table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for index, column in enumerate(columns):
            numbers = all(_is_number(row[index]) for row in kept)
            table.add_column(column, justify="right" if kept and numbers else "left", overflow="fold")
        for row in kept:
            table.add_row(*row)
        self._console.print(table, markup=False)

    def result(self, value: object) -> None:
        """The command's result as one JSON object on a line of its own, for scripts only."""
        if self.as_json:
            sys.stdout.write(json.dumps(_plain(value)) + "\n")  # integers of any size
            sys.stdout.flush()


def fail(text: str) -> None:
    """One line on stderr, whatever the text holds."""
    sys.stderr.write("tallyroot: " + " ".join(text.split()) + "\n")


def money(micros: int, currency: str) -> str:
    """Micros as an amount with two decimals, rounded towards zero: for reading, never for adding."""
    sign, whole = ("-", -micros) if micros < 0 else ("", micros)
    return f"{sign}{whole // 1_000_000:,}.{whole % 1_000_000 // 10_000:02d} {currency}"


def units(amount: int, decimals: int) -> str:
    """Token units as whole tokens, exact."""
    whole, part = divmod(abs(amount), 10**decimals)
    return f"{'-' if amount < 0 else ''}{whole:,}.{part:0{decimals}d}"


def moment_text(moment_ms: int) -> str:
    """An epoch ms as 2019-09-01 17:05 UTC."""
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day_text(moment_ms: int) -> str:
    """An epoch ms as its day, with the time where it isn't midnight."""
    return datetime.fromtimestamp(moment_ms // SECOND_MS, UTC).strftime(
        "%Y-%m-%d" if moment_ms % DAY_MS == 0 else "%Y-%m-%d %H:%M"
    )


def _is_number(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "").replace("-", "").split(" ")[0].isdigit()


def _plain(value: Any) -> Any:
    """The value with bytes as 0x-hex, so that JSON can hold it."""
    match value:
        case msgspec.Struct():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        case _ if is_dataclass(value):
            return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
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
        case _:
            return value
