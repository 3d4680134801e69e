"""What a person or a script sees: text or JSON on stdout, progress and errors on stderr.

Nothing heavy is imported before it is needed: `--help` and usage errors come through here as well.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

CONTROLS = dict.fromkeys((7, 8, 11, 12, 13, 27))
"""Bell, backspace, vertical tab, form feed, carriage return and escape: ids of machines don't steer a terminal."""

BAR_CELLS = 30


class Terminal:
    """Where one command writes. With `as_json` stdout holds JSON only, one object a line, the result last."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._has_bar = False

    def progress(self, fraction: float, text: str, line: str | None = None) -> None:
        """How much is done (0 to 1), on stderr: a bar on a terminal until something else is said; else a line."""
        if not sys.stderr.isatty():
            self.step(f"  {text if line is None else line}")
            return
        done = round(BAR_CELLS * min(max(fraction, 0.0), 1.0))
        shown = f"  {'█' * done}{'░' * (BAR_CELLS - done)}  {text.translate(CONTROLS)}"
        sys.stderr.write(f"\r{shown[: shutil.get_terminal_size().columns - 1]}\033[K")
        sys.stderr.flush()
        self._has_bar = True

    def _end_bar(self) -> None:
        if self._has_bar:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._has_bar = False

    def step(self, text: str) -> None:
        """One line of progress, on stderr."""
        self._end_bar()
        sys.stderr.write(text.translate(CONTROLS) + "\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """One line of the result, for people only."""
        self._end_bar()
        if not self.as_json:
            sys.stdout.write(text.translate(CONTROLS) + "\n")
            sys.stdout.flush()

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table of the result, for people only; numbers are aligned to the right."""
        self._end_bar()
        if self.as_json:
            return
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else sys.maxsize  # a pipe: a row a line
        kept = [["" if cell is None else str(cell).translate(CONTROLS) for cell in row] for row in rows]
        heading, *lines = _table_lines(columns, kept, width)
        for line in ([title] if title else []) + [f"\033[1m{heading}\033[0m" if is_terminal else heading] + lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def result(self, value: object) -> None:
        """The command's result as one JSON object on a line of its own, for scripts only."""
        self._end_bar()
        if self.as_json:
            sys.stdout.write(json.dumps(_plain(value)) + "\n")  # integers of any size
            sys.stdout.flush()


def fail(text: str) -> None:
    """One line on stderr, however many lines the text has."""
    sys.stderr.write(("\r\033[K" if sys.stderr.isatty() else "") + "tallyroot: " + " ".join(text.split()) + "\n")


def _table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The heading and the rows, two blanks between columns; the widest columns fold until a line fits the width."""
    cells = [columns, *rows]
    widths = [max(len(part) for row in cells for part in row[index].split("\n")) for index in range(len(columns))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    is_right = [bool(rows) and all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
    lines = []
    for row in cells:
        folded = [
            [part[at : at + room] for part in cell.split("\n") for at in range(0, max(len(part), 1), max(room, 1))]
            for cell, room in zip(row, widths, strict=True)
        ]
        for parts in zip_longest(*folded, fillvalue=""):
            aligned = zip(parts, widths, is_right, strict=True)
            lines.append("  ".join(part.rjust(room) if right else part.ljust(room) for part, room, right in aligned))
    return [line.rstrip() for line in lines] or [""]


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
