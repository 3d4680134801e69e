"""What guardian and admin do: each command makes one call of the ledger, or prints it for whoever sends it."""

from collections.abc import Callable

from deploy.cli.log_commands import duration_ms
from deploy.cli.money_commands import Treasury, token_amount
from deploy.cli.terminal import Terminal
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from schemas.units import SECOND_MS
from settlement import service
from settlement.chain.claims import account_name
from settlement.chain.contract import Call, moment
from settlement.chain.ledger import Ledger
from settlement.chain.signer import Role
from settlement.results import KeeperCall, RoleHolder

GRANTED: tuple[Role, ...] = ("poster", "auditor", "guardian")
"""The admin's own role changes hands in two steps with a delay, which only a wallet of the admin can take."""


def pause(data: DataFolder, terminal: Terminal, duration: str) -> KeeperCall:
    """Stops claims for a while."""
    seconds = duration_ms(duration) // SECOND_MS
    done = _call(data, terminal, "guardian", lambda ledger: ledger.pause(seconds))
    treasury = Treasury(data)
    until = Ledger.open(treasury.data_dir, treasury.chain).state().paused_until_s
    terminal.say(f"claims are paused until {moment(until)}")
    return done


def unpause(data: DataFolder, terminal: Terminal) -> KeeperCall:
    """Ends a pause."""
    done = _call(data, terminal, "guardian", Ledger.unpause)
    terminal.say("claims go on")
    return done


def revoke(data: DataFolder, terminal: Terminal, sequence: int, *, print_call: bool) -> KeeperCall:
    """Takes an active post back."""
    return _call(data, terminal, "admin", lambda ledger: ledger.revoke(sequence), print_call=print_call)


def withdraw(data: DataFolder, terminal: Terminal, amount: str, to: str, *, print_call: bool) -> KeeperCall:
    """Sends what is owed to nobody."""
    recipient = account_name(to)

    def call(ledger: Ledger) -> Call:
        return ledger.withdraw(recipient, token_amount(amount, ledger.deployment.decimals))

    return _call(data, terminal, "admin", call, print_call=print_call)


def max_step(data: DataFolder, terminal: Terminal, amount: str, *, print_call: bool) -> KeeperCall:
    """Changes what one post may add."""

    def call(ledger: Ledger) -> Call:
        return ledger.set_max_step(token_amount(amount, ledger.deployment.decimals))

    return _call(data, terminal, "admin", call, print_call=print_call)


def roles(
    data: DataFolder, terminal: Terminal, *, grant: str | None, revoke: str | None, print_call: bool
) -> list[RoleHolder] | KeeperCall:
    """Shows who holds which role, or changes one."""
    if grant and revoke:
        raise InvalidInput("one change at a time: first --revoke the old account, then --grant the new one")
    if grant or revoke:
        role, account = _change(grant or revoke or "")
        return _call(
            data, terminal, "admin", lambda ledger: ledger.change_role(role, account, grant=bool(grant)),
            print_call=print_call,
        )  # fmt: skip
    treasury = Treasury(data)
    found = service.roles(treasury.data_dir, treasury.chain)
    rows = [(row.role, row.account, "contract" if row.contract else "plain key") for row in found]
    terminal.table("roles", ["role", "account", "kind"], rows)
    terminal.result({"roles": found})
    return found


def _call(
    data: DataFolder, terminal: Terminal, role: Role, call: Callable[[Ledger], Call], *, print_call: bool = False
) -> KeeperCall:
    treasury = Treasury(data)
    ledger = Ledger.open(treasury.data_dir, treasury.chain)
    done = service.keep(treasury.data_dir, treasury.chain, None if print_call else treasury.keys, role, call(ledger))
    if done.transaction is None:
        terminal.say(f"the {role} {done.sender} may send this; the ledger would take it now")
        terminal.say(f"to    {done.to}")
        terminal.say("value 0")
        terminal.say(f"data  {done.data}")
    else:
        terminal.say(f"done by the {role}: {done.transaction}")
    terminal.result(done)
    return done


def _change(text: str) -> tuple[Role, str]:
    name, _, account = text.partition("=")
    for role in GRANTED:
        if name == role:
            return role, account_name(account)
    raise InvalidInput(f"'{text}' is no change: write ROLE=0x… with one of {', '.join(GRANTED)}")
