"""What a person or a script sees: text or JSON on stdout, progress and errors on stderr.

Nothing heavy is imported before it is needed: `--help` and usage errors come through here as well.
"""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence

from deploy.cli.tables import table_lines

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

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """A table of the result, for people only; numbers are aligned to the right. Returns how many columns fitted."""
        self._end_bar()
        if self.as_json:
            return len(columns)
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else sys.maxsize  # a pipe: a row a line
        kept = [[_cell(cell) for cell in row] for row in rows]
        (heading, *lines), shown = table_lines(columns, kept, width)
        for line in ([title] if title else []) + [f"\033[1m{heading}\033[0m" if is_terminal else heading] + lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        return shown

    def result(self, value: object, decimals: int | None = None) -> None:
        """The command's result as one JSON object on a line of its own, for scripts only: see `deploy.cli.dialect`."""
        self._end_bar()
        if self.as_json:
            from deploy.cli.dialect import plain

            sys.stdout.write(json.dumps(plain(value, decimals)) + "\n")  # integers of any size
            sys.stdout.flush()


def fail(text: str) -> None:
    """One line on stderr, however many lines the text has."""
    sys.stderr.write(("\r\033[K" if sys.stderr.isatty() else "") + "tallyroot: " + " ".join(text.split()) + "\n")


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return "" if value is None else str(value).translate(CONTROLS)
