"""The command that asks the views."""

import sys
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
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Query the windows, rejects, epochs and payouts with DuckDB."""
    if query is not None and command is not None:
        raise InvalidInput("write one query: as the argument, or after -c")
    text = query if query is not None else command
    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if text is None and not json and sys.stdin.isatty() and sys.stdout.isatty():
        from deploy.cli.sql_shell import SqlShell
        from deploy.explain.query import views

        with views(data) as connection:
            SqlShell(connection, terminal, data.data_dir / ".sql_history").run()
        return
    from deploy.explain.query import query as run

    found = run(data, text if text is not None else sys.stdin.read())
    terminal.table("", found.columns, found.rows)
    terminal.result({"columns": found.columns, "rows": found.rows})
