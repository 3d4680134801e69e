"""The command that cheats, to show what catches it."""

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()


@app.command()
def attack(data_dir: DataDir = None, json: Json = False) -> None:
    """Run named cheats on a copy of this folder: what catches each, how fast, who would lose; and what nothing does."""
    from deploy.attack.attack import attack as run

    if not run(data_folder(data_dir), Terminal(as_json=json)).ok:
        raise typer.Exit(1)
