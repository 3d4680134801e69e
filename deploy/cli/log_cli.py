"""Commands about the log: servers, replay, workers, queries, receipts, the demo.

A command imports what it needs when it runs: Faust and web3 take seconds that `status` and `sql` shall not wait for.
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import local_commands
from deploy.cli.options import DataDir, Epoch, Json, Partitions, Rebase, Sources, Unit, Zone, data_folder, power_unit
from deploy.cli.terminal import Terminal

app = typer.Typer()

MetricsPort = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Serve /health and /metrics there; 0: on any free port.")
]


@app.command()
def up(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Also run so many workers, started again when they end.")
    ] = None,
    metrics_port: MetricsPort = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Start Kafka and the EVM node of this data folder, and workers if asked for."""
    local_commands.up(data_folder(data_dir), Terminal(as_json=json), workers, metrics_port)


@app.command()
def down(data_dir: DataDir = None, json: Json = False) -> None:
    """Stop the workers and servers of this data folder; its data stays."""
    local_commands.down(data_folder(data_dir), Terminal(as_json=json))


@app.command()
def status(data_dir: DataDir = None, json: Json = False) -> None:
    """What runs, and where the log, the windows and the posts stand."""
    local_commands.status(data_folder(data_dir), Terminal(as_json=json))


@app.command()
def replay(
    kind: Annotated[str | None, typer.Argument(help="acn-sessions, pv-power or chicago-taxi.")] = None,
    file: Annotated[Path | None, typer.Argument(help="CSV or Parquet.")] = None,
    source: Sources = None,
    days: Annotated[int | None, typer.Option(min=1, help="Only the first days of each file.")] = None,
    epoch: Epoch = "1d",
    partitions: Partitions = 4,
    unit: Unit = None,
    zone: Zone = None,
    rebase: Rebase = False,
    payee: Annotated[list[str] | None, typer.Option(metavar="ACCOUNT=POINTS", help="Who is paid; repeatable.")] = None,
    seed: Annotated[str | None, typer.Option(help="Makes the log reproducible; without it salts are random.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Turn data files into a new log, in the order of time."""
    from deploy.cli import log_commands

    files = log_commands.parse_sources(source or [], kind, file)
    options = log_commands.ReplayOptions(
        epoch=epoch, partitions=partitions, days=days, unit=power_unit(unit), zone=zone, rebase=rebase, seed=seed,
        payees=log_commands.parse_payees(payee or []),
    )  # fmt: skip
    terminal = Terminal(as_json=json)
    terminal.result(
        log_commands.replay(data_folder(data_dir), terminal, log_commands.read_sources(files, options), options)
    )


@app.command()
def stream(
    until_caught_up: Annotated[bool, typer.Option("--until-caught-up", help="Stop at the log's present end.")] = False,
    commit_records: Annotated[int | None, typer.Option(min=1, help="At most so many records in one commit.")] = None,
    metrics_port: MetricsPort = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="One JSON object a line on stderr: all events.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run one worker; start more of them to share the partitions."""
    from deploy.cli import log_commands

    terminal = Terminal(as_json=json)
    code = log_commands.stream(
        data_folder(data_dir), terminal, until_caught_up=until_caught_up, commit_records=commit_records,
        metrics_port=metrics_port, log_json=log_json,
    )  # fmt: skip
    terminal.result({"exit_code": code})
    if code:
        raise typer.Exit(code)


@app.command()
def machines(data_dir: DataDir = None, json: Json = False) -> None:
    """Machines and how they do: last seen, earnings, trust, flags, uptime."""
    local_commands.machines(data_folder(data_dir), Terminal(as_json=json))


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(help="A query; without one, a shell, or what standard input holds.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Query the windows, rejects, epochs and payouts with DuckDB."""
    local_commands.sql(data_folder(data_dir), Terminal(as_json=json), query)


@app.command()
def receipt(
    machine: Annotated[str, typer.Argument(help="The machine.")],
    meter: Annotated[str, typer.Argument(help="Its meter.")],
    boot: Annotated[int, typer.Argument(min=0, help="The reading's boot.")],
    seq: Annotated[int, typer.Argument(min=0, help="The reading's number in it.")],
    out: Annotated[Path | None, typer.Option(help="Write all of it with its proofs to this file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What became of one reading, at what price, and the proof that the log held it."""
    from deploy.explain import receipt as receipts
    from deploy.explain.reading_rows import ReadingName

    name = ReadingName(machine, meter, boot, seq)
    receipts.receipt(data_folder(data_dir), Terminal(as_json=json), name, out)


@app.command()
def demo(
    source: Sources = None,
    full: Annotated[bool, typer.Option("--full", help="All of the files instead of a fortnight.")] = False,
    epoch: Epoch = "1d",
    unit: Unit = None,
    zone: Zone = None,
    rebase: Rebase = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Real data end to end: Kafka, windows, posts, claims, audit."""
    from deploy.cli import log_commands
    from deploy.demo import demo as demo_run

    files = log_commands.parse_sources(source or [], None, None) if source else None
    days = None if full else demo_run.DAYS
    options = log_commands.ReplayOptions(
        epoch=epoch, days=days, unit=power_unit(unit), zone=zone, rebase=rebase, seed=demo_run.SEED
    )
    if not demo_run.run(data_folder(data_dir), Terminal(as_json=json), files, options):
        raise typer.Exit(1)
