"""The shell of `tallyroot sql` on a terminal: history, completion, wide tables, statements over several lines.

A statement ends with `;`. Ctrl-C drops what is typed, or stops the query that runs; Ctrl-D leaves. Lines are edited by
Python's own readline; where Python has none, or libedit in its place, the shell works with less comfort.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb

from deploy.cli.sql_output import ROWS_SHOWN, Format, format_of, show_rows
from deploy.cli.terminal import Terminal
from deploy.explain.query import run
from schemas.errors import InvalidInput

try:
    import readline

    HAS_READLINE = True
except ImportError:  # a Python built without it
    HAS_READLINE = False

PROMPT, MORE = "sql> ", "...> "
HISTORY_LINES = 1_000
HELP = """\
A query ends with `;` and may take several lines; Tab completes names and keywords; the arrows bring back older lines.
  .tables   the views, and what each holds
  .help     this text
  .mode csv how rows are shown: table, line, csv, json or markdown
  .quit     leave, as Ctrl-D does
  DESCRIBE windows;   its columns
Ctrl-C drops what you typed, or stops a query."""
KEYWORDS = [
    "SELECT", "FROM", "WHERE", "GROUP", "BY", "ORDER", "LIMIT", "HAVING", "JOIN", "LEFT", "USING", "WITH", "AS", "AND",
    "OR", "NOT", "NULL", "IS", "IN", "BETWEEN", "LIKE", "CASE", "WHEN", "THEN", "ELSE", "END", "DISTINCT", "UNION",
    "ALL", "DESC", "ASC", "OVER", "PARTITION", "FILTER", "DESCRIBE", "SUMMARIZE", "EXPLAIN", "COUNT", "SUM", "MIN",
    "MAX", "AVG", "ROUND", "UNNEST",
]  # fmt: skip


class SqlShell:
    """Reads statements from the terminal until its end. Every statement sees the files as they are then."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, terminal: Terminal, history: Path, *, form: Format,
        allow_files: bool,
    ) -> None:  # fmt: skip
        """`connection` is that of `views`, and stays the caller's; `history` is a file, written when the shell ends."""
        self._connection, self._terminal, self._history = connection, terminal, history
        self._form, self._allow_files = form, allow_files
        names = connection.execute(
            "SELECT DISTINCT unnest([if(schema_name = 'main', table_name, schema_name || '.' || table_name),"
            " column_name]) FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        self._words = sorted({name for (name,) in names} | set(KEYWORDS) | {".help", ".mode", ".tables", ".quit"})

    def run(self) -> None:
        """Runs until Ctrl-D or `.quit`."""
        self._prepare()
        self._terminal.say("Queries on the views of this folder, each ended by `;`. `.help` says more, Ctrl-D leaves.")
        try:
            self._loop()
        finally:
            self._keep_history()

    def complete(self, text: str, state: int) -> str | None:
        """readline's protocol: the `state`-th word that begins as `text` does, keywords in the case that was typed."""
        found = [word for word in self._words if word.lower().startswith(text.lower())]
        if state >= len(found):
            return None
        word = found[state]
        return word.lower() if word in KEYWORDS and not text.isupper() else word

    def _loop(self) -> None:
        typed: list[str] = []
        while True:
            try:
                line = input(MORE if typed else PROMPT)
            except KeyboardInterrupt:
                self._terminal.say("")
                typed = []
                continue
            except EOFError:
                self._terminal.say("")
                return
            if not typed and line.strip().startswith("."):
                if line.strip() in (".quit", ".exit"):
                    return
                self._command(line.strip())
                continue
            if typed or line.strip():
                typed.append(line)
            if is_valid("\n".join(typed)):
                self._answer("\n".join(typed))
                typed = []

    def _command(self, line: str) -> None:
        if line == ".help":
            self._terminal.say(HELP)
        elif line == ".tables":
            self._answer(
                "SELECT view_name AS view, comment FROM duckdb_views()"
                " WHERE NOT internal AND schema_name = 'main' ORDER BY 1"
            )
        elif line.startswith(".mode "):
            try:
                self._form = format_of(line.removeprefix(".mode ").strip())
            except InvalidInput as error:
                self._terminal.say(str(error))
        else:
            self._terminal.say(f"{line}: no such command; .help lists them")

    def _answer(self, text: str) -> None:
        """Shows what the statements return, or DuckDB's own words about what is wrong with them."""
        try:
            columns, rows = self._interruptible(text)
        except duckdb.InterruptException:
            self._terminal.say("stopped")
        except (duckdb.Error, InvalidInput) as error:
            self._terminal.say(str(error))
        else:
            show_rows(self._terminal, self._form, columns, rows)

    def _interruptible(self, text: str) -> tuple[list[str], list[tuple[object, ...]]]:
        """Columns and first rows. Runs in a thread: DuckDB's own wait would see Ctrl-C only when the query is done."""

        def fetch() -> tuple[list[str], list[tuple[object, ...]]]:
            result = run(self._connection, text, allow_files=self._allow_files)
            return [column[0] for column in result.description or ()], result.fetchmany(ROWS_SHOWN + 1)

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(fetch)
            while True:
                try:
                    return running.result()
                except KeyboardInterrupt:
                    self._connection.interrupt()

    def _prepare(self) -> None:
        if not HAS_READLINE:
            return
        with contextlib.suppress(OSError):
            readline.read_history_file(self._history)
        readline.set_history_length(HISTORY_LINES)
        readline.set_completer(self.complete)
        readline.set_completer_delims(" \t\n\"'(),;=<>+-*/|")
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")

    def _keep_history(self) -> None:
        if HAS_READLINE:
            with contextlib.suppress(OSError):  # a read-only folder is no reason to fail
                readline.write_history_file(self._history)


def is_valid(text: str) -> bool:
    """Whether what was typed ends with a `;` outside a text, a name or a comment."""
    tokens = [place for place, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    return bool(tokens) and text[tokens[-1]] == ";"
