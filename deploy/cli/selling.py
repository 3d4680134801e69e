"""Commands that sell what machines do, and buy what they need."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()


@app.command()
def till(
    config: Annotated[Path, typer.Option(metavar="FILE", help="The till's TOML file.")],
    offers: Annotated[bool, typer.Option("--offers", help="Show what it would offer now, signed; then end.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Sell sessions of machines over HTTP 402 (x402), until it is stopped."""
    from deploy.cli.results import TillEnded
    from deploy.till import run

    folder, terminal = data_folder(data_dir), Terminal(as_json=json)
    if offers:
        found = run.offers(folder, config)
        terminal.say(found.document)
        terminal.say(f"signed by the operator: {found.operator_signature}")
        terminal.result(found)
        return
    terminal.step("the till is open: SIGTERM ends it")
    left = run.run(folder, config)
    terminal.say(f"the till is closed; purchases under way: {left}")
    terminal.result(TillEnded(left))


@app.command()
def agent(
    machine: Annotated[str, typer.Option(metavar="ID", help="The machine that buys.")],
    policy: Annotated[Path, typer.Option(metavar="FILE", help="Its policy, in TOML.")],
    once: Annotated[bool, typer.Option("--once", help="Look once, do what can be done now, and end.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Act for a machine: claim what it earned, and buy what it needs within its policy."""
    from deploy.agent.run import run
    from deploy.texts import units

    terminal = Terminal(as_json=json)
    ended, decimals = run(data_folder(data_dir), machine, policy, terminal.step, once=once)
    for each in ended.purchases:
        terminal.say(f"purchase {each.number}: {each.units:,} of {each.machine} at {each.till}, {each.state}")
    terminal.say(f"{ended.machine} holds {units(ended.balance, decimals)} in {ended.account}")
    terminal.result(ended, decimals)
