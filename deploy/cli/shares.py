"""Commands about the shares of machines: issue, offer, buy, hold, withdraw; and what one should know before."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.options import DataDir, Json, data_folder, treasury_of
from deploy.cli.terminal import Terminal

if TYPE_CHECKING:
    from deploy.explain.machine_facts import MachineFacts
    from deploy.money.shares import MachineShares
    from deploy.money.treasury import Treasury
    from settlement.chain.signer import Signer

app = typer.Typer(no_args_is_help=True, help="Shares of a machine's income.")

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


@app.command()
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
    from deploy.money import shares

    treasury, terminal = treasury_of(data_dir), Terminal(as_json=json)
    signer = _signer(treasury, as_, keystore, password_file)
    made = shares.issue(treasury, signer, machine, supply, symbol, policy, is_new=new)
    terminal.say(f"{supply:,} shares {symbol} of {machine} at {made.shares}, all of them {made.issuer}'s")
    terminal.say(f"next: `tallyroot shares register {symbol}` makes them a payee in the log, then `shares offer`")
    terminal.result(made)


@app.command()
def register(
    name: Name,
    points: Annotated[int, typer.Option(help="Basis points of the machine's income that the shares are paid.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The agreement is locked until then (UTC).")],
    giver: Annotated[
        str | None, typer.Option("--from", help="The payee whose part they come from; otherwise the largest.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make the shares a payee of their machine, locked: the operator's next registration in the log."""
    contract, terminal = _shares(data_dir, name), Terminal(as_json=json)
    done = contract.register(points=points, until=until, giver=giver)
    terminal.say(
        f"version {done.version} of {done.machine} is in the log:"
        f" {points / 100:.2f} % for {contract.contract.address}, locked"
    )
    terminal.say("an offering can be made once a window has sealed under it")
    terminal.result(done)


@app.command()
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
    from deploy.texts import units
    from settlement.chain.contract import moment

    contract, terminal = _shares(data_dir, name), Terminal(as_json=json)
    signer = _signer(contract.treasury, as_, keystore, password_file)
    found, decimals = contract.offer(signer, price=price, cap=cap, until=until, days=days), contract.treasury.decimals()
    terminal.say(
        f"offering {found.address}: {found.available} of {found.cap} shares at"
        f" {units(found.price, decimals)}, until {moment(found.closes_at_s)}"
    )
    terms = found.terms
    terminal.say(
        f"terms {found.terms_hash}: {terms.points / 100:.2f} % of the income until {moment(terms.term_end_s)},"
        f" locked until {moment(terms.locked_until_s)}"
    )
    terminal.result(found, decimals)


@app.command()
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
    from deploy.texts import units

    contract, terminal = _shares(data_dir, name), Terminal(as_json=json)
    signer = _signer(contract.treasury, as_, keystore, password_file)
    done = contract.buy(signer, amount, max_price=max_price, offering=offering, demo_tokens=demo_tokens)
    decimals = contract.treasury.decimals()
    terminal.say(f"{done.account} bought {amount} shares for {units(done.cost, decimals)}: {done.transaction}")
    terminal.result(done, decimals)


@app.command()
def transfer(
    name: Name,
    recipient: Annotated[str, typer.Argument(help="The account that receives them.")],
    amount: Annotated[int, typer.Argument(help="How many shares.")],
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send shares; what they earned so far stays the sender's."""
    contract, terminal = _shares(data_dir, name), Terminal(as_json=json)
    done = contract.transfer(_signer(contract.treasury, as_, keystore, password_file), recipient, amount)
    terminal.say(f"{done.account} sent {amount} shares to {done.recipient}: {done.transaction}")
    terminal.result(done)


@app.command()
def holders(name: Name, data_dir: DataDir = None, json: Json = False) -> None:
    """Who holds shares, and what each could withdraw now."""
    from deploy.texts import units

    found, terminal = _shares(data_dir, name).holders(), Terminal(as_json=json)
    rows = [
        (row.account, row.shares, f"{100 * row.shares / found.supply:.2f} %", units(row.withdrawable, found.decimals))
        for row in found.holders
    ]
    columns = ["account", "shares", "part", "can withdraw"]
    terminal.table(f"shares of {found.machine}: {found.supply:,}", columns, rows)
    terminal.result(found)


@app.command()
def income(name: Name, data_dir: DataDir = None, json: Json = False) -> None:
    """What arrived, what of it is released, and what the ledger still owes."""
    from deploy.texts import units

    found, terminal = _shares(data_dir, name).income(), Terminal(as_json=json)
    amounts = [
        ("received", found.income.received), ("released", found.income.released),
        ("withdrawn", found.income.withdrawn), ("arrived, not noted", found.income.unseen),
        ("claimable of the ledger", found.claimable), ("not active yet", found.waiting),
    ]  # fmt: skip
    rows = [(text, units(amount, found.income.decimals)) for text, amount in amounts]
    terminal.table(f"income of the shares of {found.income.machine}", ["", "token"], rows)
    terminal.result(found, found.income.decimals)


@app.command()
def collect(
    name: Name,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Claim what the ledger owes to the shares, so that its release begins; anyone may."""
    from deploy.texts import units

    contract, terminal = _shares(data_dir, name), Terminal(as_json=json)
    done = contract.collect(_signer(contract.treasury, as_, keystore, password_file))
    decimals = contract.treasury.decimals()
    terminal.say(f"{units(done.arrived, decimals)} arrived; it is released over 7 days: {done.transaction}")
    terminal.result(done, decimals)


@app.command()
def withdraw(
    name: Name,
    to: Annotated[
        str | None, typer.Option(help="The account that receives the money; otherwise the holder's own.")
    ] = None,
    as_: As = "operator",
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Withdraw a holder's released income."""
    from deploy.texts import units

    contract, terminal = _shares(data_dir, name), Terminal(as_json=json)
    done = contract.withdraw(_signer(contract.treasury, as_, keystore, password_file), to)
    decimals = contract.treasury.decimals()
    terminal.say(f"{done.recipient} got {units(done.amount, decimals)}: {done.transaction}")
    terminal.result(done, decimals)


@app.command("machine")
def machine_page(machine: Machine, data_dir: DataDir = None, json: Json = False) -> None:
    """What one should know of a machine before one buys: income, funding, reporting, uptime, trust, agreement."""
    from deploy.explain.machine_facts import machine_facts

    terminal = Terminal(as_json=json)
    facts = machine_facts(data_folder(data_dir), machine)
    _show_machine(terminal, facts)
    terminal.result(facts)


def _show_machine(terminal: Terminal, found: "MachineFacts") -> None:
    from msgspec import UNSET

    from deploy.texts import machine_text, moment_text, units

    facts, agreement, funding = found.machine, found.agreement, found.funding
    terminal.say(f"{machine_text(facts.machine)}: seen {facts.first_seen} to {facts.last_seen} (UTC)")
    terminal.say(f"  earned    gross {facts.gross}, net {facts.net} {facts.currency} in {facts.windows} windows")
    terminal.say(f"  reporting {facts.reporting} % of {facts.reporting_from} to {facts.reporting_until}")
    uptime = (
        "unknown: no level meter `availability` says when it was in service"
        if facts.uptime is None
        else f"{facts.uptime} % of {facts.uptime_minutes:,} minutes in service (23 CFR 680.116)"
    )
    terminal.say(f"  uptime    {uptime}")
    terminal.say(
        f"  trust     {facts.trust} (0 unsigned, 1 signed, 2 signed in hardware);"
        f" flags: {', '.join(facts.flags or ()) or 'none'}; equivocations {facts.equivocations}"
    )
    lock = "not locked" if agreement.locked_until is UNSET else f"locked until {moment_text(agreement.locked_until)}"
    terminal.say(f"  agreement {lock}; it pays for trust {agreement.pays_trust} and above")
    for payee, points in sorted(agreement.payees.items()):
        terminal.say(f"            {payee}: {points / 100:.2f} %")
    states = ", ".join(f"{post.sequence} {post.state}" for post in found.posts[-3:]) or "none yet"
    terminal.say(f"  posts     {states}")
    if funding is None:
        terminal.say("  funding   unknown: nothing has been settled from this folder")
    else:
        text = (
            f"{units(funding.shortfall, funding.decimals)} earned, not funded"
            if funding.shortfall
            else "all that is earned is funded"
        )
        terminal.say(f"  funding   {text}, as of {moment_text(funding.at_ms)} (all machines of the ledger)")
    columns = ["month", "windows", "readings", "gross", "expenses", "net"]
    terminal.table(
        f"income, {facts.currency}", columns, [[getattr(row, name) for name in columns] for row in found.months]
    )


def _shares(data_dir: Path | None, name: str) -> "MachineShares":
    from deploy.money.shares import MachineShares

    return MachineShares(treasury_of(data_dir), name)


def _signer(treasury: "Treasury", name: str, keystore: Path | None, password_file: Path | None) -> "Signer":
    """The key that --keystore or --as names. Raises InvalidInput where there is none."""
    if keystore is None:
        from deploy.money.shares import holder_key

        return holder_key(treasury, name)
    from deploy.config import KeySettings
    from deploy.keys import open_key

    asked = None
    if password_file is None:
        asked = str(typer.prompt("password of the keystore", hide_input=True, err=True))
    return open_key(KeySettings(keystore=keystore, password=asked, password_file=password_file))
