"""Commands of guardian and admin: each makes one call of the ledger, or prints it for the wallet that sends it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import DataDir, Json, treasury_of
from deploy.cli.terminal import Terminal
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from settlement.chain.contract import Call
    from settlement.chain.ledger import Ledger
    from settlement.chain.signer import Role

GRANTED: "tuple[Role, ...]" = ("poster", "auditor", "guardian")
"""The admin's own role changes hands in two steps with a delay, which only a wallet of the admin can take."""

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
    from schemas.parsing import duration_ms
    from schemas.units import SECOND_MS
    from settlement.chain.contract import moment
    from settlement.chain.ledger import Ledger

    seconds = duration_ms(duration) // SECOND_MS
    _call(data_dir, "guardian", lambda ledger: ledger.pause(seconds), json=json)
    treasury = treasury_of(data_dir)
    until_s = Ledger.open(treasury.data_dir, treasury.chain).state().paused_until_s
    Terminal(as_json=json).say(f"claims are paused until {moment(until_s)}")


@app.command()
def unpause(data_dir: DataDir = None, json: Json = False) -> None:
    """Allow claims again, with the guardian's key."""
    _call(data_dir, "guardian", lambda ledger: ledger.unpause(), json=json)
    Terminal(as_json=json).say("claims are possible again")


@app.command()
def revoke(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones stay.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Revoke an active post, so that it pays no more, with the admin's key."""
    _call(data_dir, "admin", lambda ledger: ledger.revoke(post), print_call=print_call, json=json)


@app.command()
def withdraw(
    amount: Annotated[str, typer.Argument(help="Such as 12.50, at most what is owed to nobody.")],
    to: Annotated[str, typer.Option(metavar="0x…", help="The account that receives it.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send tokens of the ledger that are owed to nobody, with the admin's key."""
    from schemas.parsing import token_amount
    from settlement.chain.claims import account_name

    recipient = account_name(to)

    def call(ledger: "Ledger") -> "Call":
        return ledger.withdraw(recipient, token_amount(amount, ledger.deployment.decimals))

    _call(data_dir, "admin", call, print_call=print_call, json=json)


@app.command("max-step")
def max_step(
    amount: Annotated[str, typer.Argument(help="The most that one post may add, such as 1000000.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change how much one post may add to what is owed, with the admin's key."""
    from schemas.parsing import token_amount

    def call(ledger: "Ledger") -> "Call":
        return ledger.set_max_step(token_amount(amount, ledger.deployment.decimals))

    _call(data_dir, "admin", call, print_call=print_call, json=json)


@app.command()
def roles(
    grant: Change = None,
    revoke: Change = None,
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show who holds which role; grant one or revoke one with the admin's key."""
    if grant and revoke:
        raise InvalidInput("one change at a time: first --revoke the old account, then --grant the new one")
    if grant or revoke:
        role, account = _change(grant or revoke or "")
        _call(
            data_dir, "admin", lambda ledger: ledger.change_role(role, account, grant=bool(grant)),
            print_call=print_call, json=json,
        )  # fmt: skip
        return
    from deploy.cli.results import RolesShown
    from settlement import service

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    found = service.roles(treasury.data_dir, treasury.chain)
    rows = [(row.role, row.account, "contract" if row.contract else "plain key") for row in found]
    terminal.table("roles", ["role", "account", "kind"], rows)
    terminal.result(RolesShown(list(found)))


def _call(
    data_dir: Path | None, role: "Role", call: "Callable[[Ledger], Call]", *, print_call: bool = False, json: bool
) -> None:
    from settlement import service
    from settlement.chain.ledger import Ledger

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    ledger = Ledger.open(treasury.data_dir, treasury.chain)
    keys = None if print_call else treasury.keys
    done = service.call_as_role(treasury.data_dir, treasury.chain, keys, role, call(ledger))
    if done.transaction is None:
        terminal.say(f"the {role} {done.sender} may send this; the ledger would accept it now")
        terminal.say(f"to    {done.to}")
        terminal.say("value 0")
        terminal.say(f"data  {done.data}")
    else:
        terminal.say(f"done by the {role}: {done.transaction}")
    terminal.result(done)


def _change(text: str) -> "tuple[Role, str]":
    from settlement.chain.claims import account_name

    name, _, account = text.partition("=")
    for role in GRANTED:
        if name == role and account:
            return role, account_name(account)
    raise InvalidInput(f"'{text}' is not a change of roles: write ROLE=0x… with one of {', '.join(GRANTED)}")
