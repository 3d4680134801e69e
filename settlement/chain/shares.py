"""The shares of machines on the chain, and which of them this data folder knows (shares.json).

Amounts of income are token units, shares are whole. Every function raises InvalidInput, with one line that says what to
do, for errors that the caller can fix.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from files.read import FileMissing, read_json
from files.write import write_json
from schemas.errors import InvalidInput
from schemas.payout import ProofFile
from schemas.units import TokenUnits
from settlement.accrual import NOBODY, account_of
from settlement.chain.contract import Call, Trial, artefact, moment
from settlement.chain.event_logs import PlainLog
from settlement.chain.ledger import Deployment, Ledger
from settlement.chain.node import Chain, plain_log
from settlement.chain.paying import hash_of
from settlement.chain.signer import Signer
from settlement.shares import ShareTerms

SHARES_FILE = "shares.json"
SUPPLY_MOST = 2**64 - 1


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """One contract of shares: machine, supply, issuer, its first block, and its offerings, the latest one last."""

    machine: str
    symbol: str
    shares: str
    issuer: str
    supply: int
    block: int
    offerings: tuple[str, ...] = ()


class Holder(msgspec.Struct, frozen=True):
    """One holder, its shares, and what it can withdraw now."""

    account: str
    shares: int
    withdrawable: TokenUnits


class Arrival(msgspec.Struct, frozen=True):
    """Income that the shares' contract has recorded, and in which block."""

    amount: TokenUnits
    block: int
    transaction: str


class Income(msgspec.Struct, frozen=True):
    """All income of the shares: received = released + to come; released = withdrawn + what holders can withdraw."""

    machine: str
    shares: str
    received: TokenUnits
    released: TokenUnits
    withdrawn: TokenUnits
    unseen: TokenUnits
    decimals: int
    arrivals: tuple[Arrival, ...]


class Offering(msgspec.Struct, frozen=True):
    """An offering now; `price` is for one share, `terms` are what the seller promises."""

    address: str
    shares: str
    seller: str
    price: TokenUnits
    cap: int
    sold: int
    available: int
    closes_at_s: int
    terms: ShareTerms
    terms_hash: str


class ShareBook:
    """The issues that this data folder knows, in shares.json; others are named by their address."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / SHARES_FILE

    def issues(self) -> list[Issue]:
        """All of them, in the order of their issue."""
        try:
            return read_json(self._path, list[Issue], what="a list of shares", remedy="restore it from a copy")
        except FileMissing:
            return []

    def put(self, issue: Issue) -> None:
        """Stores an issue, replacing an older entry of the same contract."""
        known = self.issues()
        if any(other.shares == issue.shares for other in known):
            found = [issue if other.shares == issue.shares else other for other in known]
        else:
            found = [*known, issue]
        write_json(self._path, found)

    def find(self, name: str) -> Issue | None:
        """An issue by its symbol or address."""
        return next((issue for issue in self.issues() if name.lower() in (issue.symbol.lower(), issue.shares)), None)


class Shares:
    """One MachineShares contract."""

    def __init__(self, chain: Chain, address: str, first_block: int) -> None:
        self.chain = chain
        self.address = address
        self._first_block = first_block
        self.machine = str(self._view("machine"))

    @classmethod
    def open(cls, data_dir: Path, chain: Chain, name: str) -> "Shares":
        """Shares by the symbol of an issue of this folder, or by address. Raises InvalidInput."""
        deployment = Ledger.open(data_dir, chain).deployment
        issue = ShareBook(data_dir).find(name)
        account = account_of(name)
        if issue is None and account is None:
            raise InvalidInput(
                f"no shares {name} in this folder: name a symbol of `tallyroot shares issue`, or an address 0x…"
            )
        address = issue.shares if issue is not None else str(account)
        shares = cls(chain, address, issue.block if issue is not None else deployment.block)
        if str(shares._view("ledger")).lower() != deployment.ledger:
            raise InvalidInput(
                f"the shares {address} are paid by another ledger than this folder's: use its own folder"
            )
        return shares

    def supply(self) -> int:
        """How many shares there are."""
        return int(self._view("totalSupply"))

    def balance_of(self, account: str) -> int:
        """The account's shares."""
        return int(self._view("balanceOf", account))

    def withdrawable(self, account: str) -> int:
        """What the account can withdraw now, token units."""
        return int(self._view("withdrawable", account))

    def holders(self) -> list[Holder]:
        """All accounts with shares or income to withdraw, by descending shares."""
        seen = {values["to"].lower() for name, values, _ in self._decoded() if name == "Transfer"}
        found = [Holder(name, self.balance_of(name), self.withdrawable(name)) for name in sorted(seen - {NOBODY})]
        return sorted((h for h in found if h.shares or h.withdrawable), key=lambda h: (-h.shares, h.account))

    def income(self, deployment: Deployment) -> Income:
        """All income; `unseen` has arrived, but the contract has not recorded it yet: its release has not begun."""
        received, withdrawn = int(self._view("received")), int(self._view("withdrawn"))
        balance = int(self.chain.ask(artefact("DemoDollar").call(deployment.token, "balanceOf", self.address)))
        return Income(
            self.machine, self.address, received, int(self._view("released")), withdrawn,
            max(0, balance + withdrawn - received), deployment.decimals, tuple(self._arrivals()),
        )  # fmt: skip

    def transfer(self, signer: Signer, recipient: str, amount: int) -> str:
        """Sends shares of the signer; returns the transaction."""
        own = self.balance_of(signer.address)
        if amount < 1 or amount > own:
            raise InvalidInput(f"{signer.address} has {own} shares and can't send {amount}")
        return self._transact(signer, self.call("transfer", recipient, amount))

    def withdraw(self, signer: Signer, recipient: str) -> tuple[int, str]:
        """Sends the signer's income to the recipient; returns the amount and the transaction."""
        if not self.withdrawable(signer.address):
            raise InvalidInput(
                f"nothing is released for {signer.address} yet: income is released over 7 days from its arrival;"
                " see `tallyroot shares income`"
            )
        receipt = self.chain.transact(signer, self.call("withdraw", recipient))
        return sum(v["amount"] for n, v in self._of_receipt(receipt) if n == "IncomeWithdrawn"), hash_of(receipt)

    def collect(self, signer: Signer, proof: ProofFile | None) -> tuple[int, str]:
        """Claims what the ledger owes to the shares, given a proof, and records all income that arrived; returns its
        sum.
        """
        call = self.call("sync")
        if proof is not None:
            path = [bytes.fromhex(node[2:]) for node in proof.proof]
            call = self.call("collect", proof.sequence, int(proof.cumulative), path)
        receipt = self.chain.transact(signer, call)
        return sum(v["amount"] for n, v in self._of_receipt(receipt) if n == "IncomeArrived"), hash_of(receipt)

    def call(self, function: str, *arguments: Any) -> Call:
        """A call of the contract."""
        return artefact("MachineShares").call(self.address, function, *arguments)

    def _view(self, function: str, *arguments: Any) -> Any:
        return self.chain.ask(self.call(function, *arguments), at="pending")  # as of now, on a quiet chain as well

    def _transact(self, signer: Signer, call: Call) -> str:
        return hash_of(self.chain.transact(signer, call))

    def _arrivals(self) -> list[Arrival]:
        return [
            Arrival(values["amount"], log.block, log.transaction)
            for name, values, log in self._decoded()
            if name == "IncomeArrived"
        ]

    def _decoded(self) -> list[tuple[str, dict[str, Any], Any]]:
        return _events(self.chain.logs(self.address, self._first_block), self.address)

    def _of_receipt(self, receipt: Any) -> list[tuple[str, dict[str, Any]]]:
        return [(name, values) for name, values, _ in _events(map(plain_log, receipt["logs"]), self.address)]


def issue_shares(
    data_dir: Path, chain: Chain, signer: Signer, *, machine: str, symbol: str, supply: int, policy: str | None = None
) -> Issue:
    """Deploys the shares of a machine, all of them the signer's, and stores the issue."""
    book = ShareBook(data_dir)
    if book.find(symbol) is not None:
        raise InvalidInput(f"there are shares {symbol} already: choose another symbol")
    if not 1 <= supply <= SUPPLY_MOST:
        raise InvalidInput(f"a supply is 1 to {SUPPLY_MOST} whole shares, not {supply}")
    ledger = Ledger.open(data_dir, chain).deployment.ledger
    address, block = chain.deploy(
        signer, "MachineShares", f"Shares of {machine}", symbol, machine, ledger, signer.address, supply,
        policy or NOBODY,
    )  # fmt: skip
    issue = Issue(
        machine=machine, symbol=symbol, shares=address, issuer=signer.address, supply=supply, block=block
    )  # fmt: skip
    book.put(issue)
    return issue


def open_offering(
    data_dir: Path, shares: Shares, signer: Signer, *, price: int, cap: int, closes_at_s: int, terms: ShareTerms
) -> Offering:
    """Deploys an offering of the signer's shares, and approves it for as many as the cap."""
    own = shares.balance_of(signer.address)
    if not 1 <= cap <= own:
        raise InvalidInput(f"{signer.address} has {own} shares and can't offer {cap}")
    if price < 1:
        raise InvalidInput("a share must cost something: choose --price")
    if not shares.chain.time_s() < closes_at_s <= terms.term_end_s:
        raise InvalidInput("the sale must end in the future, and not after the term: change --days or --until")
    address, _ = shares.chain.deploy(
        signer, "ShareOffering", shares.address, price, cap, closes_at_s,
        (terms.points, terms.term_end_s, terms.locked_until_s, terms.agreement),
    )  # fmt: skip
    shares.chain.transact(signer, shares.call("approve", address, cap))
    book = ShareBook(data_dir)
    issue = book.find(shares.address)
    if issue is not None:
        book.put(msgspec.structs.replace(issue, offerings=(*issue.offerings, address)))
    return read_offering(shares.chain, address)


def read_offering(chain: Chain, address: str) -> Offering:
    """An offering as it stands now."""

    def view(function: str) -> Any:
        return chain.ask(artefact("ShareOffering").call(address, function), at="pending")

    points, term_end_s, locked_until_s, agreement = view("terms")
    return Offering(
        address, str(view("shares")).lower(), str(view("seller")).lower(), view("price"), view("cap"), view("sold"),
        view("available"), view("closesAt"), ShareTerms(points, term_end_s, locked_until_s, bytes(agreement)),
        "0x" + bytes(view("termsHash")).hex(),
    )  # fmt: skip


def require_offering_code(chain: Chain, offering: Offering) -> None:
    """Raises InvalidInput unless an open offering has this version's code."""
    t = offering.terms
    terms = (t.points, t.term_end_s, t.locked_until_s, t.agreement)
    arguments = (offering.shares, offering.price, offering.cap, offering.closes_at_s, terms)
    _require_code(chain, "ShareOffering", offering.address, arguments, offering.seller)


def buy_shares(ledger: Ledger, offering: Offering, signer: Signer, amount: int) -> tuple[int, str]:
    """Buys shares at the offering's price; returns the cost and the transaction."""
    chain, cost = ledger.chain, amount * offering.price
    if not offering.available:
        raise InvalidInput(
            f"the offering {offering.address} is closed: sold out, ended ({moment(offering.closes_at_s)}) or withdrawn"
        )
    if not 1 <= amount <= offering.available:
        raise InvalidInput(f"the offering has {offering.available} shares left, not {amount}: buy fewer")
    require_offering_code(chain, offering)
    own = ledger.balance_of(signer.address)
    if own < cost:
        raise InvalidInput(f"{signer.address} holds {own} token units and needs {cost}: send it some first")
    chain.transact(signer, artefact("DemoDollar").call(ledger.deployment.token, "approve", offering.address, cost))
    receipt = chain.transact(signer, artefact("ShareOffering").call(offering.address, "buy", amount, cost))
    return cost, hash_of(receipt)


def _require_code(
    chain: Chain, name: str, address: str, arguments: tuple[Any, ...], creator: str | None = None
) -> None:
    trial = Trial(None, artefact(name).creation(*arguments).data, ("bytes",))
    if chain.ask(trial, creator, at="pending") != chain.code(address):
        raise InvalidInput(f"the contract at {address} is not a {name} of this version: don't trust it")


def _events(logs: Iterable[PlainLog], address: str) -> list[tuple[str, dict[str, Any], PlainLog]]:
    found = []
    for log in logs:
        if log.address != address:
            continue
        event = artefact("MachineShares").event(log.topics, log.data)
        if event is not None:
            found.append((*event, log))
    return found
