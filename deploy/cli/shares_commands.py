"""What the commands about shares do: the contracts on the chain, held against what the log says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from deploy.cli.machine_page import agreement_of
from deploy.cli.money_commands import Treasury, token_amount
from deploy.cli.shares_register import register_shares
from deploy.cli.terminal import Terminal, units
from deploy.data_folder import DataFolder
from schemas.errors import InvalidInput
from schemas.units import DAY_MS, SECOND_MS
from settlement import service
from settlement.chain.claims import account_name
from settlement.chain.contract import moment
from settlement.chain.ledger import Ledger
from settlement.chain.shares import (
    Offering,
    ShareBook,
    Shares,
    buy_shares,
    issue_shares,
    open_offering,
    read_offering,
)
from settlement.chain.signer import DEVELOPMENT_CHAIN_ID, Signer, development_signer
from settlement.shares import require_kept, share_terms

ACCOUNTS = range(10)


@dataclass(frozen=True)
class KeySource:
    """Whose key signs: the operator's, a development node's account by its number, or a keystore's."""

    name: str
    keystore: Path | None = None
    password_file: Path | None = None

    def signer(self, treasury: Treasury) -> Signer:
        """The key. Raises InvalidInput where there is none."""
        if self.keystore is not None:
            return Signer.from_keystore(self.keystore, self._password())
        if self.name == "operator":
            return treasury.keys.of("operator")
        if treasury.chain.chain_id == DEVELOPMENT_CHAIN_ID and self.name.isdigit() and int(self.name) in ACCOUNTS:
            return development_signer(int(self.name))
        raise InvalidInput(f"no key for '{self.name}': use --keystore, or --as operator")

    def _password(self) -> str:
        if self.password_file is None:
            return str(typer.prompt("password of the keystore", hide_input=True, err=True))
        try:
            return self.password_file.read_text().rstrip("\n")
        except OSError as error:
            raise InvalidInput(f"can't read {self.password_file}: {error.strerror}") from None


def issue(
    data: DataFolder, terminal: Terminal, source: KeySource, machine: str, supply: int, symbol: str,
    policy: str | None, *, new: bool,
) -> None:  # fmt: skip
    """Makes the shares of a machine."""
    if not new:
        agreement_of(data, machine)
    treasury = Treasury(data)
    made = issue_shares(
        data.data_dir, treasury.chain, source.signer(treasury), machine=machine, symbol=symbol, supply=supply,
        policy=None if policy is None else account_name(policy),
    )  # fmt: skip
    terminal.say(f"{supply:,} shares {symbol} of {machine} at {made.shares}, all of them {made.issuer}'s")
    terminal.say(f"next: `tallyroot shares register {symbol}` makes them a payee in the log, then `shares offer`")
    terminal.result(made)


def register(
    data: DataFolder, terminal: Terminal, name: str, *, points: int, until: datetime, giver: str | None
) -> None:
    """Makes the shares a payee of their machine in the log."""
    shares = Shares.open(data.data_dir, Treasury(data).chain, name)
    register_shares(
        data, terminal, shares.machine, shares.address, points=points, giver=giver,
        locked_until_ms=int(until.replace(tzinfo=UTC).timestamp()) * SECOND_MS,
    )  # fmt: skip


def offer(
    data: DataFolder, terminal: Terminal, source: KeySource, name: str, *, price: str, cap: int, until: datetime,
    days: int,
) -> None:  # fmt: skip
    """Opens an offering, if the log carries its terms."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    decimals = Ledger.open(data.data_dir, treasury.chain).deployment.decimals
    term_end_s = int(until.replace(tzinfo=UTC).timestamp())
    terms = share_terms(shares.machine, agreement_of(data, shares.machine), shares.address, term_end_s)
    offering = open_offering(
        data.data_dir, shares, source.signer(treasury), price=token_amount(price, decimals, "price"), cap=cap,
        closes_at_s=treasury.chain.time_s() + days * DAY_MS // SECOND_MS, terms=terms,
    )  # fmt: skip
    _show_offering(terminal, offering, decimals)
    terminal.result(offering)


def buy(
    data: DataFolder, terminal: Terminal, source: KeySource, name: str, amount: int, *, max_price: str | None,
    offering: str | None, demo_tokens: bool,
) -> None:  # fmt: skip
    """Buys, if the log carries the offering's terms."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    ledger = Ledger.open(data.data_dir, treasury.chain)
    found = read_offering(treasury.chain, account_name(offering) if offering else _latest(data, name))
    if found.shares != shares.address:
        raise InvalidInput(f"the offering {found.address} sells other shares ({found.shares})")
    require_kept(shares.machine, agreement_of(data, shares.machine), shares.address, found.terms)
    decimals = ledger.deployment.decimals
    if max_price is not None and found.price > token_amount(max_price, decimals, "price"):
        raise InvalidInput(f"a share costs {units(found.price, decimals)}, more than --max-price {max_price}")
    signer = source.signer(treasury)
    if demo_tokens:
        _make_tokens(treasury, ledger, signer.address, amount * found.price)
    cost, transaction = buy_shares(ledger, found, signer, amount)
    terminal.say(f"{signer.address} bought {amount} shares for {units(cost, decimals)}: {transaction}")
    terminal.result({"account": signer.address, "shares": amount, "cost": cost, "transaction": transaction})


def transfer(data: DataFolder, terminal: Terminal, source: KeySource, name: str, recipient: str, amount: int) -> None:
    """Sends shares."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    signer, to = source.signer(treasury), account_name(recipient)
    transaction = shares.transfer(signer, to, amount)
    terminal.say(f"{signer.address} sent {amount} shares to {to}: {transaction}")
    terminal.result({"account": signer.address, "recipient": to, "shares": amount, "transaction": transaction})


def holders(data: DataFolder, terminal: Terminal, name: str) -> None:
    """All holders."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    decimals = Ledger.open(data.data_dir, treasury.chain).deployment.decimals
    rows, supply = shares.holders(), shares.supply()
    shown = [
        (row.account, row.shares, f"{100 * row.shares / supply:.2f} %", units(row.withdrawable, decimals))
        for row in rows
    ]
    terminal.table(f"shares of {shares.machine}: {supply:,}", ["account", "shares", "part", "can withdraw"], shown)
    terminal.result({"shares": shares.address, "supply": supply, "decimals": decimals, "holders": rows})


def income(data: DataFolder, terminal: Terminal, name: str) -> None:
    """What arrived, what is released, and what the ledger owes to the shares."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    found = shares.income(Ledger.open(data.data_dir, treasury.chain).deployment)
    owed = service.payouts(data.data_dir, treasury.chain, shares.address)
    claimable, waiting = (owed[0].claimable, owed[0].waiting) if owed else (0, 0)
    amounts = [
        ("received", found.received), ("released", found.released), ("withdrawn", found.withdrawn),
        ("arrived, not noted", found.unseen), ("claimable of the ledger", claimable), ("not active yet", waiting),
    ]  # fmt: skip
    terminal.table(
        f"income of the shares of {found.machine}", ["", "token"],
        [(text, units(amount, found.decimals)) for text, amount in amounts],
    )  # fmt: skip
    terminal.result({"income": found, "claimable": claimable, "waiting": waiting})


def collect(data: DataFolder, terminal: Terminal, source: KeySource, name: str) -> None:
    """Claims for the shares what an active post owes them, and takes note of whatever has arrived."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    owed = service.payouts(data.data_dir, treasury.chain, shares.address)
    due = bool(owed and owed[0].claimable)
    proof = service.proof(data.data_dir, treasury.chain, shares.address, owed[0].sequence) if due else None
    amount, transaction = shares.collect(source.signer(treasury), proof)
    decimals = Ledger.open(data.data_dir, treasury.chain).deployment.decimals
    terminal.say(f"{units(amount, decimals)} arrived; it is released over 7 days: {transaction}")
    terminal.result({"shares": shares.address, "arrived": amount, "transaction": transaction})


def withdraw(data: DataFolder, terminal: Terminal, source: KeySource, name: str, to: str | None) -> None:
    """Withdraws a holder's income."""
    treasury = Treasury(data)
    shares = Shares.open(data.data_dir, treasury.chain, name)
    signer = source.signer(treasury)
    recipient = signer.address if to is None else account_name(to)
    amount, transaction = shares.withdraw(signer, recipient)
    decimals = Ledger.open(data.data_dir, treasury.chain).deployment.decimals
    terminal.say(f"{recipient} got {units(amount, decimals)}: {transaction}")
    terminal.result({"account": signer.address, "recipient": recipient, "amount": amount, "transaction": transaction})


def _show_offering(terminal: Terminal, offering: Offering, decimals: int) -> None:
    terms = offering.terms
    terminal.say(
        f"offering {offering.address}: {offering.available} of {offering.cap} shares at"
        f" {units(offering.price, decimals)}, until {moment(offering.closes_at_s)}"
    )
    terminal.say(
        f"terms {offering.terms_hash}: {terms.points / 100:.2f} % of the income until {moment(terms.term_end_s)},"
        f" locked until {moment(terms.locked_until_s)}"
    )


def _latest(data: DataFolder, name: str) -> str:
    known = ShareBook(data.data_dir).find(name)
    if known is None or not known.offerings:
        raise InvalidInput(f"no offering of {name} in this folder: name it with --offering")
    return known.offerings[-1]


def _make_tokens(treasury: Treasury, ledger: Ledger, account: str, needed: int) -> None:
    if not ledger.deployment.demo_token or treasury.chain.chain_id != DEVELOPMENT_CHAIN_ID:
        raise InvalidInput("--demo-tokens makes demo tokens on a development chain only")
    missing = needed - ledger.balance_of(account)
    if missing > 0:
        treasury.chain.transact(treasury.keys.of("operator"), ledger.mint(account, missing))
