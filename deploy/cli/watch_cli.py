"""The command that watches the ledger for ever.

It imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="Look once, for cron; exit 1 if a person is needed.")] = False,
    from_archive: Annotated[bool, typer.Option("--from-archive", help="Read the archive instead of Kafka.")] = False,
    only_wrong: Annotated[
        bool, typer.Option("--only-wrong", help="Dispute what contradicts the log, not what is withheld.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long to rest between looks.")] = 10.0,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Audit every post as it comes: attest what is right, dispute what is wrong or withheld, with the keys given."""
    from deploy.cli import watch_commands

    data = data_folder(data_dir)
    terminal = Terminal(as_json=json)
    options = watch_commands.WatchOptions(from_archive=from_archive, only_wrong=only_wrong, every_s=every)
    if not watch_commands.watch(data, terminal, options, once=once):
        raise typer.Exit(1)
