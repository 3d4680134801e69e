"""Commands of guardian and admin: stop claims, take a post back, withdraw, change hands.

A command imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()

PrintCall = Annotated[
    bool, typer.Option("--print-call", help="Print the call for a timelock or multisig, after trying it out.")
]
Change = Annotated[str | None, typer.Option(metavar="ROLE=0x…", help="poster, auditor or guardian.")]


@app.command()
def pause(
    duration: Annotated[str, typer.Argument(help="Such as 2d, at most 7d; it ends by itself.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Stop all claims for a while, with the guardian's key."""
    from deploy.cli import keeper_commands

    keeper_commands.pause(data_folder(data_dir), Terminal(as_json=json), duration)


@app.command()
def unpause(data_dir: DataDir = None, json: Json = False) -> None:
    """Let claims go on, with the guardian's key."""
    from deploy.cli import keeper_commands

    keeper_commands.unpause(data_folder(data_dir), Terminal(as_json=json))


@app.command()
def revoke(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones stay.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take an active post back, so that it pays no more, with the admin's key."""
    from deploy.cli import keeper_commands

    keeper_commands.revoke(data_folder(data_dir), Terminal(as_json=json), post, print_call=print_call)


@app.command()
def withdraw(
    amount: Annotated[str, typer.Argument(help="Such as 12.50, at most what is owed to nobody.")],
    to: Annotated[str, typer.Option(metavar="0x…", help="Who gets it.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send tokens of the ledger that are owed to nobody, with the admin's key."""
    from deploy.cli import keeper_commands

    keeper_commands.withdraw(data_folder(data_dir), Terminal(as_json=json), amount, to, print_call=print_call)


@app.command("max-step")
def max_step(
    amount: Annotated[str, typer.Argument(help="Such as 1000000: what one post may add at most.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change by how much one post may raise what is owed, with the admin's key."""
    from deploy.cli import keeper_commands

    keeper_commands.max_step(data_folder(data_dir), Terminal(as_json=json), amount, print_call=print_call)


@app.command()
def roles(
    grant: Change = None,
    revoke: Change = None,
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show who holds which role; grant one or revoke one with the admin's key."""
    from deploy.cli import keeper_commands

    keeper_commands.roles(
        data_folder(data_dir), Terminal(as_json=json), grant=grant, revoke=revoke, print_call=print_call
    )
