"""The command that asks the views."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(help="A query; without one, a shell, or what standard input holds.")
    ] = None,
    command: Annotated[str | None, typer.Option("-c", metavar="QUERY", help="The same: a query.")] = None,
    file: Annotated[Path | None, typer.Option(help="The query is in this file.")] = None,
    form: Annotated[str, typer.Option("--format", help="table, line, csv, json or markdown.")] = "table",
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="The query may read and write files (COPY, read_csv, ATTACH).")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Query the windows, rejects, epochs and payouts with DuckDB."""
    texts = [text for text in (query, command, file) if text is not None]
    if len(texts) > 1:
        raise InvalidInput("write one query: as the argument, after -c, or in a --file")
    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    from deploy.cli.sql_output import format_of, show_rows

    shown_as = format_of(form)
    if not texts and not json and sys.stdin.isatty() and sys.stdout.isatty():
        from deploy.cli.sql_shell import SqlShell
        from deploy.explain.query import views

        with views(data, allow_files=allow_files) as connection:
            history = data.data_dir / ".sql_history"
            SqlShell(connection, terminal, history, form=shown_as, allow_files=allow_files).run()
        return
    from deploy.explain.query import query as run

    text = texts[0] if texts else sys.stdin.read()
    found = run(data, text if isinstance(text, str) else _read(text), allow_files=allow_files)
    if json:
        terminal.result(found)
    else:
        show_rows(terminal, shown_as, found.columns, found.rows)


def _read(path: Path) -> str:
    from files.read import read_bytes

    try:
        return read_bytes(path, remedy="name a file with one query").decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8: save it as that") from None
