"""Commands about money: the ledger, posts, claims, proofs.

A command imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import keeper_cli
from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

app = typer.Typer()
app.add_typer(keeper_cli.app)

RUNWAY_DAYS = 7

Holder = Annotated[str | None, typer.Option(metavar="0x…", help="This role's account; else that of its key.")]
RunwayDays = Annotated[int, typer.Option(min=0, metavar="DAYS", help="Warn when free funds last for fewer days.")]


@app.command("deploy-contracts")
def deploy_contracts(
    token: Annotated[
        str | None, typer.Option(metavar="0x…", help="What is paid: an ERC-20 of 6 to 18 decimals.")
    ] = None,
    admin: Annotated[str | None, typer.Option(metavar="0x…", help="A timelock or a multisig: it can revoke.")] = None,
    poster: Holder = None,
    auditor: Holder = None,
    guardian: Holder = None,
    delay: Annotated[str | None, typer.Option(help="From a post to its first claim, such as 2d; fixed.")] = None,
    max_step: Annotated[int | None, typer.Option(min=1, help="Whole tokens that one post may add at most.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Deploy the ledger (and on a development chain a token) and remember where it stands."""
    from deploy.cli import money_commands

    named = {"admin": admin, "poster": poster, "auditor": auditor, "guardian": guardian}
    money_commands.deploy_contracts(
        data_folder(data_dir), Terminal(as_json=json), token=token, holders=named, delay=delay, max_step=max_step
    )


@app.command()
def fund(
    amount: Annotated[str | None, typer.Argument(help="Such as 12.50; without it, what is missing.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send tokens to the ledger, so that posts are covered."""
    from deploy.cli import money_commands

    money_commands.fund(data_folder(data_dir), Terminal(as_json=json), amount)


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be posted; send and write nothing.")
    ] = False,
    runway_days: RunwayDays = RUNWAY_DAYS,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Post what can be posted; run it again as often as you like."""
    from deploy.cli import money_commands
    from settlement.chain.job import SettleOptions

    options = SettleOptions(max_epochs=epochs, without=frozenset(without or ()), restate=restate)
    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if dry_run and follow:
        raise InvalidInput("--dry-run looks once: leave --follow away")
    if dry_run:
        money_commands.dry_run(data, terminal, options)
        return
    money_commands.settle(data, terminal, options, follow=follow, runway_days=runway_days)


@app.command()
def dispute(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones fall with it.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Kill a post that is not yet active, with the guardian's key."""
    from deploy.cli import money_commands

    money_commands.dispute(data_folder(data_dir), Terminal(as_json=json), post)


@app.command()
def settlements(runway_days: RunwayDays = RUNWAY_DAYS, data_dir: DataDir = None, json: Json = False) -> None:
    """The posts: epochs, roots, states, shortfall, and how long the funds last."""
    from deploy.cli import money_commands

    money_commands.settlements(data_folder(data_dir), Terminal(as_json=json), runway_days)


@app.command("restore-posts")
def restore_posts(
    without: Annotated[
        list[int] | None, typer.Option(metavar="PARTITION", help="Posts may have left it out; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a lost folder of posts anew, from the epochs and the chain."""
    from deploy.cli import money_commands

    money_commands.restore_posts(data_folder(data_dir), Terminal(as_json=json), without or [])


@app.command()
def payouts(
    account: Annotated[str | None, typer.Argument(help="Only this account.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What each account was ever owed, has claimed, and can claim."""
    from deploy.cli import money_commands

    money_commands.payouts(data_folder(data_dir), Terminal(as_json=json), account)


@app.command()
def claim(
    accounts: Annotated[list[str] | None, typer.Argument(help="The accounts that the money goes to.")] = None,
    all_accounts: Annotated[bool, typer.Option("--all", help="Every account that can claim.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="So many accounts in one transaction.")] = 100,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Claim all that accounts can; anyone may pay the gas."""
    from deploy.cli import money_commands

    if bool(accounts) == all_accounts:
        raise InvalidInput("name the accounts, or all of them with --all")
    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if accounts and len(accounts) == 1:
        money_commands.claim(data, terminal, accounts[0])
    else:
        money_commands.claim_many(data, terminal, accounts or None, batch)


@app.command()
def proof(
    account: Annotated[str | None, typer.Argument(help="The account.")] = None,
    all_accounts: Annotated[bool, typer.Option("--all", help="Every account, one file each: needs --out.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write it to this file; with --all to this folder.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print what `claim` needs for an account: leaf, proof and post."""
    from deploy.cli import money_commands

    data, terminal = data_folder(data_dir), Terminal(as_json=json)
    if account is not None and not all_accounts:
        money_commands.proof(data, terminal, account, out)
    elif all_accounts and out is not None and account is None:
        money_commands.all_proofs(data, terminal, out)
    else:
        raise InvalidInput("name one account, or all of them with --all --out FOLDER")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A file that `proof --out` wrote.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a proof against the chain."""
    from deploy.cli import money_commands

    money_commands.verify(data_folder(data_dir), Terminal(as_json=json), file)
