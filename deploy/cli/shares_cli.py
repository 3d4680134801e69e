"""Commands about the shares of machines: issue, offer, buy, hold, withdraw; and what one should know before.

A command imports what it needs when it runs: web3 takes a second that `--help` shall not wait for.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder
from deploy.cli.terminal import Terminal

app = typer.Typer()
shares = typer.Typer(no_args_is_help=True, help="Shares of a machine's income.")
app.add_typer(shares, name="shares")

Name = Annotated[str, typer.Argument(metavar="SHARES", help="Their symbol in this folder, or their address.")]
Machine = Annotated[str, typer.Argument(help="The machine.")]
As = Annotated[
    str,
    typer.Option(
        "--as", help="Whose key: operator, or on a development chain the number of a node's account (5 to 9)."
    ),
]
Keystore = Annotated[Path | None, typer.Option(help="A key file (Web3 secret storage) instead of --as.")]
PasswordFile = Annotated[Path | None, typer.Option(help="The file with the keystore's password; else it is asked for.")]


@shares.command()
def issue(
    machine: Machine,
    supply: Annotated[int, typer.Option(help="How many whole shares, for ever.")],
    symbol: Annotated[str, typer.Option(help="The token's symbol, such as PV1.")],
    policy: Annotated[str | None, typer.Option(help="A contract that is asked before every transfer; fixed.")] = None,
    new: Annotated[bool, typer.Option("--new", help="The machine has no sealed window yet.")] = False,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make the shares of a machine; all of them are the issuer's at first."""
    from deploy.cli import shares_commands

    holder = shares_commands.KeySource(as_, keystore, password_file)
    shares_commands.issue(
        data_folder(data_dir), Terminal(as_json=json), holder, machine, supply, symbol, policy, new=new
    )  # fmt: skip


@shares.command()
def register(
    name: Name,
    points: Annotated[int, typer.Option(help="Basis points of the machine's income that the shares are paid.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The agreement is locked until then (UTC).")],
    giver: Annotated[str | None, typer.Option("--from", help="The payee that gives them; else the largest.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make the shares a payee of their machine, locked: the operator's next registration in the log."""
    from deploy.cli import shares_commands

    shares_commands.register(
        data_folder(data_dir), Terminal(as_json=json), name, points=points, until=until, giver=giver
    )  # fmt: skip


@shares.command()
def offer(
    name: Name,
    price: Annotated[str, typer.Option(help="For one share, in the ledger's token, such as 12.50.")],
    cap: Annotated[int, typer.Option(help="The most shares to sell.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="End of the term (UTC); locked at least so.")],
    days: Annotated[int, typer.Option(min=1, help="Days that the sale is open.")] = 30,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Offer shares at one price, if the log shows the machine's agreement locked for the term."""
    from deploy.cli import shares_commands

    holder = shares_commands.KeySource(as_, keystore, password_file)
    shares_commands.offer(
        data_folder(data_dir), Terminal(as_json=json), holder, name, price=price, cap=cap, until=until, days=days
    )


@shares.command()
def buy(
    name: Name,
    amount: Annotated[int, typer.Argument(help="How many shares.")],
    max_price: Annotated[str | None, typer.Option(help="Refuse to pay more than this for a share.")] = None,
    offering: Annotated[str | None, typer.Option(help="The offering's address; else the folder's latest.")] = None,
    demo_tokens: Annotated[
        bool, typer.Option("--demo-tokens", help="Development chain: make the tokens that the buyer lacks.")
    ] = False,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Buy shares, if the log stands behind the offering's terms."""
    from deploy.cli import shares_commands

    holder = shares_commands.KeySource(as_, keystore, password_file)
    shares_commands.buy(
        data_folder(data_dir), Terminal(as_json=json), holder, name, amount,
        max_price=max_price, offering=offering, demo_tokens=demo_tokens,
    )  # fmt: skip


@shares.command()
def transfer(
    name: Name,
    recipient: Annotated[str, typer.Argument(help="The account that gets them.")],
    amount: Annotated[int, typer.Argument(help="How many shares.")],
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send shares; what they earned so far stays the sender's."""
    from deploy.cli import shares_commands

    holder = shares_commands.KeySource(as_, keystore, password_file)
    shares_commands.transfer(data_folder(data_dir), Terminal(as_json=json), holder, name, recipient, amount)


@shares.command()
def holders(name: Name, data_dir: DataDir = None, json: Json = False) -> None:
    """Who holds shares, and what each could withdraw now."""
    from deploy.cli import shares_commands

    shares_commands.holders(data_folder(data_dir), Terminal(as_json=json), name)


@shares.command()
def income(name: Name, data_dir: DataDir = None, json: Json = False) -> None:
    """What arrived, what of it is released, and what the ledger still owes."""
    from deploy.cli import shares_commands

    shares_commands.income(data_folder(data_dir), Terminal(as_json=json), name)


@shares.command()
def collect(
    name: Name,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Claim what the ledger owes to the shares, so that its release begins; anyone may."""
    from deploy.cli import shares_commands

    holder = shares_commands.KeySource(as_, keystore, password_file)
    shares_commands.collect(data_folder(data_dir), Terminal(as_json=json), holder, name)


@shares.command()
def withdraw(
    name: Name,
    to: Annotated[str | None, typer.Option(help="The account that gets the money; else the holder's own.")] = None,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Withdraw a holder's released income."""
    from deploy.cli import shares_commands

    holder = shares_commands.KeySource(as_, keystore, password_file)
    shares_commands.withdraw(data_folder(data_dir), Terminal(as_json=json), holder, name, to)


@shares.command("machine")
def machine_page(machine: Machine, data_dir: DataDir = None, json: Json = False) -> None:
    """What one should know of a machine before one buys: income, funded, shortfall, uptime, trust, agreement."""
    from deploy.cli import machine_page as pages

    pages.machine_page(data_folder(data_dir), Terminal(as_json=json), machine)
