"""Commands that start: the demo, the servers and workers of a data folder, and what runs."""

from typing import Annotated

import typer

from deploy.cli.options import (
    DataDir,
    Epoch,
    Json,
    MetricsPort,
    Rebase,
    Sources,
    Unit,
    Zone,
    data_folder,
    named_files,
    power_unit,
)
from deploy.cli.terminal import Terminal

app = typer.Typer()


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
    files = named_files(source) if source else None
    power = power_unit(unit)
    from deploy.demo import demo as demo_run
    from deploy.importers.recording import ReplayOptions

    options = ReplayOptions(
        epoch=epoch, days=None if full else demo_run.DAYS, unit=power, zone=zone, rebase=rebase, seed=demo_run.SEED
    )
    if not demo_run.run(data_folder(data_dir), Terminal(as_json=json), files, options):
        raise typer.Exit(1)


@app.command()
def up(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Also run this many workers, restarted when they end.")
    ] = None,
    metrics_port: MetricsPort = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Start Kafka and the EVM node of this data folder, and workers if asked for."""
    from deploy.stack.lifecycle import start

    terminal = Terminal(as_json=json)
    running = start(data_folder(data_dir), terminal.step, workers, metrics_port)
    terminal.say(f"Kafka      {running.kafka}")
    terminal.say(f"EVM node   {running.chain}")
    for worker in running.workers:
        terminal.say(f"worker {worker.worker}   {worker.address}/health, log {worker.log}")
    terminal.result(running)


@app.command()
def down(data_dir: DataDir = None, json: Json = False) -> None:
    """Stop the workers and servers of this data folder; its data stays."""
    from deploy.stack.lifecycle import stop

    terminal = Terminal(as_json=json)
    stopped = stop(data_folder(data_dir))
    terminal.say("stopped; the data stays")
    terminal.result(stopped)


@app.command()
def status(data_dir: DataDir = None, json: Json = False) -> None:
    """What runs, and how far the log, the windows and the posts are."""
    from deploy.stack.lifecycle import status as read_status

    terminal = Terminal(as_json=json)
    found = read_status(data_folder(data_dir))
    terminal.say("servers run" if found.running else "no servers run: start them with `tallyroot up`")
    for name, address in found.servers.items():
        terminal.say(f"  {name:8} {address}")
    if found.supervised is False:
        terminal.say("the supervisor of the workers has ended: run `tallyroot up --workers` again")
    if found.supervised is not None:
        rows = [(row.worker, row.pid, row.starts, row.state) for row in found.workers]
        terminal.table("workers", ["worker", "pid", "starts", "state"], rows)
    log = found.log
    terminal.say(f"log {log.log_id}: {log.partitions} partitions of topic {log.topic}, {log.currency}")
    columns = ["partition", "epochs", "next_offset", "end", "entries", "rejected"]
    terminal.table("epochs that ended", columns, [[row[name] for name in columns] for row in found.partitions])
    terminal.result(found)
