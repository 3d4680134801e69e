"""Commands about money: the ledger, posts, claims, proofs.

A command imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.options import DataDir, Json, workplace
from deploy.terminal import Terminal

app = typer.Typer()


@app.command("deploy-contracts")
def deploy_contracts(data_dir: DataDir = None, json: Json = False) -> None:
    """Deploy the ledger (and on a development chain a token) and remember where it stands."""
    from deploy import money_commands

    money_commands.deploy_contracts(workplace(data_dir), Terminal(as_json=json))


@app.command()
def fund(
    amount: Annotated[str | None, typer.Argument(help="Such as 12.50; without it, what is missing.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send tokens to the ledger, so that posts are covered."""
    from deploy import money_commands

    money_commands.fund(workplace(data_dir), Terminal(as_json=json), amount)


@app.command()
def settle(
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many epochs into one post.")] = None,
    without: Annotated[
        list[int] | None, typer.Option(metavar="PARTITION", help="A dead partition; repeatable.")
    ] = None,
    restate: Annotated[
        bool, typer.Option("--restate", help="Post anew what was disputed and has been mended.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as epochs end.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Post what can be posted; run it again as often as you like."""
    from deploy import money_commands
    from settlement.adapters.job import SettleOptions

    options = SettleOptions(max_epochs=epochs, without=frozenset(without or ()), restate=restate)
    money_commands.settle(workplace(data_dir), Terminal(as_json=json), options, follow=follow)


@app.command()
def dispute(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones fall with it.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Kill a post that is not yet active, with the guardian's key."""
    from deploy import money_commands

    money_commands.dispute(workplace(data_dir), Terminal(as_json=json), post)


@app.command()
def settlements(data_dir: DataDir = None, json: Json = False) -> None:
    """The posts: epochs, roots, states, shortfall."""
    from deploy import money_commands

    money_commands.settlements(workplace(data_dir), Terminal(as_json=json))


@app.command()
def payouts(
    account: Annotated[str | None, typer.Argument(help="Only this account.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What each account was ever owed, has claimed, and can claim."""
    from deploy import money_commands

    money_commands.payouts(workplace(data_dir), Terminal(as_json=json), account)


@app.command()
def claim(
    account: Annotated[str, typer.Argument(help="The account that the money goes to.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Claim all that an account can; anyone may pay the gas."""
    from deploy import money_commands

    money_commands.claim(workplace(data_dir), Terminal(as_json=json), account)


@app.command()
def proof(
    account: Annotated[str, typer.Argument(help="The account.")],
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print what `claim` needs for an account: leaf, proof and post."""
    from deploy import money_commands

    money_commands.proof(workplace(data_dir), Terminal(as_json=json), account, out)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A file that `proof --out` wrote.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a proof against the chain."""
    from deploy import money_commands

    money_commands.verify(workplace(data_dir), Terminal(as_json=json), file)
