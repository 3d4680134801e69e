"""Commands that start: the demo, the servers and workers of a data folder, and what runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import (
    Capacity,
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
    rated_w,
)
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from deploy.config import Origin
    from deploy.data_folder import DataFolder

app = typer.Typer()


@app.command()
def demo(
    source: Sources = None,
    full: Annotated[bool, typer.Option("--full", help="All of the files instead of a fortnight.")] = False,
    epoch: Epoch = "1d",
    unit: Unit = None,
    zone: Zone = None,
    capacity: Capacity = None,
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
        epoch=epoch, days=None if full else demo_run.DAYS, unit=power, zone=zone, capacity_w=rated_w(capacity),
        rebase=rebase, seed=demo_run.SEED,
    )  # fmt: skip
    if not demo_run.run(data_folder(data_dir), Terminal(as_json=json), files, options):
        raise typer.Exit(1)


@app.command()
def init(
    currency: Annotated[str | None, typer.Option(help="ISO 4217 code, such as EUR [USD].")] = None,
    window: Annotated[str | None, typer.Option(help="Length of an earnings window [15m].")] = None,
    epoch: Annotated[str | None, typer.Option(help="Length of an epoch, which is settled as one [1d].")] = None,
    grace: Annotated[
        str | None, typer.Option(help="How long after its end a window takes late readings [10m].")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="IANA zone of tariffs, such as Europe/Berlin [UTC].")] = None,
    partitions: Annotated[int | None, typer.Option(min=1, max=1024, help="Partitions of the topic [4].")] = None,
    begins: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="For recorded data: their first day; see `ingest`.")
    ] = None,
    operator: Annotated[
        str | None, typer.Option(metavar="KEYSTORE|URL#0x…", help="Who signs for the log [a new keystore].")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="The keystore's password.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a log: its topic, its operator's key; a log that is there is checked."""
    from deploy.machines.new_log import InitOptions
    from deploy.machines.new_log import init as make
    from schemas.parsing import day_number, duration_ms
    from schemas.units import DAY_MS

    options = InitOptions(
        currency=currency, partitions=partitions, zone=zone, operator=operator, password_file=password_file,
        window_ms=None if window is None else duration_ms(window),
        epoch_ms=None if epoch is None else duration_ms(epoch),
        grace_ms=None if grace is None else duration_ms(grace),
        begins_ms=None if begins is None else day_number(begins) * DAY_MS,
    )  # fmt: skip
    terminal = Terminal(as_json=json)
    made = make(data_folder(data_dir), options)
    log = made.log
    terminal.say(
        f"log {log.log_id} {'made' if made.is_new else 'is there'}: {log.currency}, {log.partitions} partitions"
    )
    terminal.say(f"topic {log.topic} on {made.kafka}")
    terminal.say(f"operator {made.operator}")
    if made.keystore is not None:
        terminal.step(f"its key is new, in {made.keystore}, with its password beside it: KEEP A COPY OF BOTH.")
        terminal.step("Anyone who has them can register machines and change who is paid; without them nobody can.")
    if made.is_new:
        terminal.say("next: tallyroot register --example ev_charger > machines.toml")
    terminal.result(made)


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
    """What runs, and how far each partition is; exit 1 where something that should run does not."""
    from deploy.stack.lifecycle import status as read_status

    terminal = Terminal(as_json=json)
    found = read_status(data_folder(data_dir))
    for name, address in found.servers.items():
        terminal.say(f"{name:8} {address}")
    if found.workers:
        rows = [(row.worker, row.pid, row.starts, row.state) for row in found.workers]
        terminal.table("workers", ["worker", "pid", "starts", "state"], rows)
    log = found.log
    terminal.say(f"log {log.log_id}: {log.partitions} partitions of topic {log.topic}, {log.currency}")
    columns = ["partition", "epochs", "next_offset", "end", "entries", "rejected"]
    terminal.table("epochs that ended", columns, [[getattr(row, name) for name in columns] for row in found.partitions])
    terminal.result(found)
    for fault in found.faults:
        terminal.step(fault)
    if found.faults:
        raise typer.Exit(1)


def _remembered(data: "DataFolder", setting: "Origin") -> "Origin":
    """A server that is not set: the folder's own, where one runs."""
    from deploy.config import Origin

    ask = {"KAFKA_BOOTSTRAP_SERVERS": data.kafka_servers, "CHAIN_RPC_URL": data.chain_rpc_url}.get(setting.name)
    if ask is None or setting.value:
        return setting
    try:
        return Origin(setting.name, str(ask()), "the folder's own server")
    except InvalidInput:
        return Origin(setting.name, "", "the folder's own server, which does not run")


@app.command()
def config(
    value: Annotated[str | None, typer.Option(metavar="NAME", help="Print one setting's value, for scripts.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Every setting, its value, and where it comes from; keys are not shown."""
    from deploy.cli.results import SettingsShown
    from deploy.config import origins

    terminal, data = Terminal(as_json=json), data_folder(data_dir)
    found = [_remembered(data, each) for each in origins(data_dir)]
    if value is not None:
        chosen = next((each for each in found if each.name == value), None)
        if chosen is None:
            raise InvalidInput(f"there is no setting {value}: `tallyroot config` lists all")
        terminal.say(chosen.value)
        terminal.result(chosen)
        return
    terminal.table("", ["setting", "value", "from"], [(each.name, each.value, each.origin) for each in found])
    terminal.result(SettingsShown(found))
