"""Commands of whoever checks: the audit, and attesting what it found right.

A command imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()


@app.command()
def audit(
    from_archive: Annotated[bool, typer.Option("--from-archive", help="Read the archive instead of Kafka.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Count every window once more, by a naive loop in fractions.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Recompute every window, root and sum from the log, and name the first that differs."""
    from deploy.cli import audit_commands

    if not audit_commands.audit(data_folder(data_dir), Terminal(as_json=json), from_archive=from_archive, slow=slow):
        raise typer.Exit(1)


@app.command()
def attest(data_dir: DataDir = None, json: Json = False) -> None:
    """Audit the log and, if all is right, attest the posts with the auditor's key."""
    from deploy.cli import audit_commands

    audit_commands.attest(data_folder(data_dir), Terminal(as_json=json))
