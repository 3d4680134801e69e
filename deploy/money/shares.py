"""Shares of a machine's income: each step compares the contracts on the chain with what the log says."""

from datetime import UTC, datetime

from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.machine_facts import agreement_of
from deploy.money.shares_registration import SharesRegistered, register_shares
from deploy.money.treasury import Treasury
from deploy.texts import units
from schemas.errors import InvalidInput
from schemas.parsing import token_amount
from schemas.units import DAY_MS, SECOND_MS, TokenUnits
from settlement import service
from settlement.chain.claims import account_name
from settlement.chain.ledger import Ledger
from settlement.chain.shares import (
    Holder,
    Income,
    Issue,
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
"""Numbers of the development node's accounts."""


class Bought(Struct, frozen=True):
    """Who bought how many shares, and what they cost."""

    account: str
    shares: int
    cost: TokenUnits
    transaction: str


class Transferred(Struct, frozen=True):
    """Who sent shares to whom."""

    account: str
    recipient: str
    shares: int
    transaction: str


class Holders(Struct, frozen=True):
    """All holders of some shares; amounts of the token have `decimals`."""

    machine: str
    shares: str
    supply: int
    decimals: int
    holders: list[Holder]


class SharesIncome(Struct, frozen=True):
    """What the shares received, and what the ledger owes them: `claimable` now, `waiting` for a post to be active."""

    income: Income
    claimable: TokenUnits
    waiting: TokenUnits


class Collected(Struct, frozen=True):
    """What arrived at the shares."""

    shares: str
    arrived: TokenUnits
    transaction: str


class Withdrawn(Struct, frozen=True):
    """A holder's income, and the account that it was sent to."""

    account: str
    recipient: str
    amount: TokenUnits
    transaction: str


def holder_key(treasury: Treasury, name: str) -> Signer:
    """The operator's key, or by its number that of a development node's account. Raises InvalidInput."""
    if name == "operator":
        return treasury.keys.of("operator")
    if treasury.chain.chain_id == DEVELOPMENT_CHAIN_ID and name.isdigit() and int(name) in ACCOUNTS:
        return development_signer(int(name))
    raise InvalidInput(f"no key for '{name}': use --keystore, or --as operator")


def issue(
    treasury: Treasury, signer: Signer, machine: str, supply: int, symbol: str, policy: str | None, *, is_new: bool
) -> Issue:
    """Makes the shares of a machine; all of them are the signer's. Only an `is_new` machine may have no sealed window.

    Raises InvalidInput where the machine is unknown or the folder has shares of this symbol.
    """
    if not is_new:
        agreement_of(treasury.data, machine)
    return issue_shares(
        treasury.data_dir, treasury.chain, signer, machine=machine, symbol=symbol, supply=supply,
        policy=None if policy is None else account_name(policy),
    )  # fmt: skip


class MachineShares:
    """The shares of one machine, found by their symbol in the data folder or their address.

    Every method raises InvalidInput where the chain or the log does not allow it.
    """

    def __init__(self, treasury: Treasury, name: str) -> None:
        self.treasury, self.name = treasury, name
        self.data: DataFolder = treasury.data
        self.contract = Shares.open(treasury.data_dir, treasury.chain, name)

    def register(self, *, points: int, until: datetime, giver: str | None) -> SharesRegistered:
        """Makes the shares a payee of their machine in the log, locked until then."""
        return register_shares(
            self.data, self.contract.machine, self.contract.address, points=points, giver=giver,
            locked_until_ms=_seconds(until) * SECOND_MS,
        )  # fmt: skip

    def offer(self, signer: Signer, *, price: str, cap: int, until: datetime, days: int) -> Offering:
        """Opens an offering, if the log carries its terms."""
        contract, chain = self.contract, self.treasury.chain
        terms = share_terms(
            contract.machine, agreement_of(self.data, contract.machine), contract.address, _seconds(until)
        )
        return open_offering(
            self.treasury.data_dir, contract, signer, cap=cap, terms=terms,
            price=token_amount(price, self.treasury.decimals(), "a price"),
            closes_at_s=chain.time_s() + days * DAY_MS // SECOND_MS,
        )  # fmt: skip

    def buy(
        self, signer: Signer, amount: int, *, max_price: str | None, offering: str | None, demo_tokens: bool
    ) -> Bought:
        """Buys from an offering (None: the folder's latest), if the log carries its terms."""
        treasury, contract = self.treasury, self.contract
        ledger, decimals = Ledger.open(treasury.data_dir, treasury.chain), treasury.decimals()
        found = read_offering(treasury.chain, account_name(offering) if offering else self._latest_offering())
        if found.shares != contract.address:
            raise InvalidInput(f"the offering {found.address} sells other shares ({found.shares})")
        require_kept(contract.machine, agreement_of(self.data, contract.machine), contract.address, found.terms)
        if max_price is not None and found.price > token_amount(max_price, decimals, "a price"):
            raise InvalidInput(f"a share costs {units(found.price, decimals)}, more than --max-price {max_price}")
        if demo_tokens:
            self._make_tokens(ledger, signer.address, amount * found.price)
        cost, transaction = buy_shares(ledger, found, signer, amount)
        return Bought(signer.address, amount, cost, transaction)

    def transfer(self, signer: Signer, recipient: str, amount: int) -> Transferred:
        """Sends shares; what they have earned so far stays the sender's."""
        to = account_name(recipient)
        return Transferred(signer.address, to, amount, self.contract.transfer(signer, to, amount))

    def holders(self) -> Holders:
        """All holders."""
        contract = self.contract
        rows, supply = contract.holders(), contract.supply()
        return Holders(contract.machine, contract.address, supply, self.treasury.decimals(), rows)

    def income(self) -> SharesIncome:
        """What arrived, what is released, and what the ledger owes to the shares."""
        found = self.contract.income(Ledger.open(self.treasury.data_dir, self.treasury.chain).deployment)
        owed = service.payouts(self.treasury.data_dir, self.treasury.chain, self.contract.address)
        return SharesIncome(found, *((owed[0].claimable, owed[0].waiting) if owed else (0, 0)))

    def collect(self, signer: Signer) -> Collected:
        """Claims for the shares what an active post owes them, and starts the release of all that has arrived."""
        treasury, contract = self.treasury, self.contract
        return Collected(contract.address, *service.collect(treasury.data_dir, treasury.chain, contract, signer))

    def withdraw(self, signer: Signer, to: str | None) -> Withdrawn:
        """Withdraws a holder's released income, to its own account or to another."""
        recipient = signer.address if to is None else account_name(to)
        return Withdrawn(signer.address, recipient, *self.contract.withdraw(signer, recipient))

    def _latest_offering(self) -> str:
        known = ShareBook(self.treasury.data_dir).find(self.name)
        if known is None or not known.offerings:
            raise InvalidInput(f"no offering of {self.name} in this folder: name it with --offering")
        return known.offerings[-1]

    def _make_tokens(self, ledger: Ledger, account: str, needed: int) -> None:
        if not ledger.deployment.demo_token or self.treasury.chain.chain_id != DEVELOPMENT_CHAIN_ID:
            raise InvalidInput("--demo-tokens makes demo tokens on a development chain only")
        missing = needed - ledger.balance_of(account)
        if missing > 0:
            self.treasury.chain.transact(self.treasury.keys.of("operator"), ledger.mint(account, missing))


def _seconds(day: datetime) -> int:
    return int(day.replace(tzinfo=UTC).timestamp())
