"""Commands that sell what machines do."""

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
