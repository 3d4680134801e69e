"""The command that makes a fleet up."""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, Partitions, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def simulate(
    machines: Annotated[int, typer.Option(min=1, max=100_000, help="Size of the fleet.")] = 6,
    seed: Annotated[str, typer.Option(help="The same seed gives the same fleet, days and faults.")] = "1",
    live: Annotated[bool, typer.Option("--live", help="In real time (default, or as the log is).")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="A backfill, as fast as possible.")] = False,
    days: Annotated[int | None, typer.Option(min=1, help="Days of a backfill (implies --fast).")] = None,
    start: Annotated[str, typer.Option(help="First day of a backfill.")] = "2026-06-01",
    runs_for: Annotated[str | None, typer.Option("--for", help="How long a live fleet runs [until Ctrl-C].")] = None,
    every: Annotated[str | None, typer.Option(help="Time between readings [5s live, 1m fast].")] = None,
    speed: Annotated[int, typer.Option(min=1, max=60, help="Life runs so many times as fast: days are short.")] = 1,
    faults: Annotated[
        str, typer.Option(help="clock, reset, duplicate, offline, equivocate, glitch (with commas), or all.")
    ] = "",
    form: Annotated[str, typer.Option("--format", help="json, array or arrow.")] = "json",
    unsigned: Annotated[bool, typer.Option("--unsigned", help="No gateway signs.")] = False,
    window: Annotated[str | None, typer.Option(help="A new log's window [1m live, 15m fast].")] = None,
    grace: Annotated[str | None, typer.Option(help="A new log's grace [5s live, 10m fast].")] = None,
    epoch: Annotated[str | None, typer.Option(help="A new log's epoch [10m live, 1d fast].")] = None,
    partitions: Partitions = 4,
    payee: Annotated[list[str] | None, typer.Option(metavar="ACCOUNT=POINTS", help="Who is paid; repeatable.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a fleet up: realistic days, and faults if asked for."""
    from deploy.cli.log_commands import parse_payees
    from deploy.simulate import run as simulate_commands
    from deploy.simulate.fleet_faults import faults_of
    from deploy.simulate.simulation import form_of

    if live and (fast or days is not None):
        raise InvalidInput("a fleet is live or fast: choose one of --live and --fast (or --days)")
    options = simulate_commands.SimulateOptions(
        machines=machines, seed=seed, mode="live" if live else "fast" if fast or days is not None else None,
        days=days, start=start, runs_for=runs_for, every=every, speed=speed, faults=faults_of(faults),
        form=form_of(form), is_signed=not unsigned, window=window, grace=grace, epoch=epoch, partitions=partitions,
        payees=parse_payees(payee or []),
    )  # fmt: skip
    terminal = Terminal(as_json=json)
    terminal.result(simulate_commands.simulate(data_folder(data_dir), terminal, options))
