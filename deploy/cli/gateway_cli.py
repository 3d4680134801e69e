"""Commands for who writes a gateway."""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()


@app.command("check-gateway")
def check_gateway(
    machine: Annotated[str | None, typer.Option(help="Only this machine, and records that may be its own.")] = None,
    from_now: Annotated[bool, typer.Option("--from-now", help="Watch what arrives from now on, until Ctrl-C.")] = False,
    records: Annotated[
        int | None, typer.Option(min=1, help="With --from-now: end after so many records of readings.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many problems; all are counted.")] = 100,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What is wrong with each record of a gateway, and what it would have earned; exit 1 if anything is wrong."""
    from deploy.cli import gateway_commands

    options = gateway_commands.CheckOptions(machine=machine, from_now=from_now, records=records, limit=limit)
    if not gateway_commands.check_gateway(data_folder(data_dir), Terminal(as_json=json), options):
        raise typer.Exit(1)
