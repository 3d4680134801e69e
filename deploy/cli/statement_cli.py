"""The command that explains a payout.

It imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()


@app.command()
def why(
    account: Annotated[str, typer.Argument(help="The account.")],
    window: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="MACHINE START", help="The readings of one window, such as cp-7 2019-09-01T17:00Z."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write a Parquet file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Why an account is owed what it is: every window that it has a part in, and down to the readings of one."""
    from deploy.cli import statement_commands

    statement_commands.why(data_folder(data_dir), Terminal(as_json=json), account, window=window, out=out)
