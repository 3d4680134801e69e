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
    from settlement.chain.ledger import Ledger, Pausable
    from settlement.chain.signer import Role

GRANTED: "tuple[Role, ...]" = ("poster", "auditor", "guardian")
"""The admin's own role changes hands in two steps with a delay, which only a wallet of the admin can take."""

PAUSABLE: "tuple[Pausable, ...]" = ("claims", "posting")

app = typer.Typer()

PrintCall = Annotated[
    bool, typer.Option("--print-call", help="Print the call for a timelock or multisig, after trying it out.")
]
Change = Annotated[str | None, typer.Option(metavar="ROLE=0x…", help="poster, auditor or guardian.")]


@app.command()
def pause(
    what: Annotated[str, typer.Argument(help="claims or posting.")],
    duration: Annotated[str, typer.Argument(help="Such as 2d, at most 7d; it ends by itself.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Stop all claims, or all posts, for a while, with a guardian's key."""
    from schemas.parsing import duration_ms
    from schemas.units import SECOND_MS
    from settlement.chain.contract import moment
    from settlement.chain.ledger import Ledger

    paused, seconds = _pausable(what), duration_ms(duration) // SECOND_MS
    _call(data_dir, "guardian", lambda ledger: ledger.pause(paused, seconds), json=json)
    treasury = treasury_of(data_dir)
    state = Ledger.open(treasury.data_dir, treasury.chain).state()
    until_s = state.claims_paused_until_s if paused == "claims" else state.posting_paused_until_s
    verb = "are" if paused == "claims" else "is"
    Terminal(as_json=json).say(f"{paused} {verb} paused until {moment(until_s)}")


@app.command()
def unpause(
    what: Annotated[str, typer.Argument(help="claims or posting.")], data_dir: DataDir = None, json: Json = False
) -> None:
    """Allow claims, or posts, again, with a guardian's key."""
    paused = _pausable(what)
    _call(data_dir, "guardian", lambda ledger: ledger.resume(paused), json=json)
    Terminal(as_json=json).say(f"{paused} can go on again")


@app.command()
def revoke(
    post: Annotated[int, typer.Argument(help="The post's sequence; later ones stay.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Revoke an active post, so that it pays no more, with the admin's key."""
    _call(data_dir, "admin", lambda ledger: ledger.revoke(post), print_call=print_call, json=json)


@app.command("max-rate")
def max_rate(
    amount: Annotated[str, typer.Argument(help="The most that a day's epochs may add, such as 1000000.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change how much posts may add to what is owed for each day that they settle, with the admin's key."""
    from schemas.parsing import token_amount

    def call(ledger: "Ledger") -> "Call":
        return ledger.set_max_rate(token_amount(amount, ledger.deployment.decimals))

    _call(data_dir, "admin", call, print_call=print_call, json=json)


@app.command()
def quorum(
    auditors: Annotated[int, typer.Argument(min=1, help="How many auditors must attest a post.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change how many auditors must attest a post before it pays, with the admin's key."""
    _call(data_dir, "admin", lambda ledger: ledger.set_quorum(auditors), print_call=print_call, json=json)


@app.command("close-ledger")
def close_ledger(
    to: Annotated[str, typer.Option(metavar="0x…", help="The account that receives it.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send what the ledger owes to nobody, 400 days after its last post, with the admin's key."""
    from settlement.chain.claims import account_name

    recipient = account_name(to)
    _call(data_dir, "admin", lambda ledger: ledger.close(recipient), print_call=print_call, json=json)


@app.command("recover-token")
def recover_token(
    token: Annotated[str, typer.Argument(metavar="0x…", help="Another token than the ledger's own.")],
    units: Annotated[int, typer.Argument(min=1, help="How much, in that token's smallest units.")],
    to: Annotated[str, typer.Option(metavar="0x…", help="The account that receives it.")],
    print_call: PrintCall = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send on tokens of another kind that somebody sent to the ledger by mistake, with the admin's key."""
    from settlement.chain.claims import account_name

    foreign, recipient = account_name(token), account_name(to)
    _call(data_dir, "admin", lambda ledger: ledger.recover(foreign, recipient, units), print_call=print_call, json=json)


@app.command("cancel-announced")
def cancel_announced(
    step: Annotated[str, typer.Argument(metavar="0x…", help="The announced step, as `watch` names it.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Cancel what the admin's timelock has announced, with a guardian's key."""
    from settlement import service

    try:
        bytes.fromhex(step.removeprefix("0x"))
    except ValueError:
        raise InvalidInput(f"'{step}' is not a step's id: take the 0x… that `tallyroot watch` names") from None
    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    done = service.cancel_announced(treasury.data_dir, treasury.chain, treasury.keys, step)
    terminal.say(f"cancelled: {done.transaction}")
    terminal.result(done)


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
    elif done.ready_s is not None:
        from settlement.chain.contract import moment

        terminal.say(f"announced by the {role}: {done.transaction}")
        terminal.say(f"it may be carried out from {moment(done.ready_s)} on: run this again then")
    else:
        terminal.say(f"done by the {role}: {done.transaction}")
    terminal.result(done)


def _pausable(what: str) -> "Pausable":
    for known in PAUSABLE:
        if what == known:
            return known
    raise InvalidInput(f"'{what}' can't be paused: write claims or posting")


def _change(text: str) -> "tuple[Role, str]":
    from settlement.chain.claims import account_name

    name, _, account = text.partition("=")
    for role in GRANTED:
        if name == role and account:
            return role, account_name(account)
    raise InvalidInput(f"'{text}' is not a change of roles: write ROLE=0x… with one of {', '.join(GRANTED)}")
