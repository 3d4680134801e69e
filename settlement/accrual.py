"""Accrues what accounts are owed from the nets and the dues of windows, in the order (epoch, partition, sealing).

    payable = max(0, carry + net)      carry' = min(0, carry + net)      net = payable + (carry' - carry)

There is one carry per (machine, agreement), and it changes at every window, so that the grouping of epochs into posts
changes no cumulative amount. A due (a supplier's invoice, a customer's refund) is paid in full to its account, beside
the split of net, whatever the window's trust and the carry. What can't be paid is counted as unsettled, by reason;
nothing is lost:

    sum of nets + sum of dues = paid to accounts + unsettled + sum of carries

Where the agreement doesn't pay for a window's trust, a net above zero is held; one below zero is carried all the same,
or readings without a signature would rid a machine of its expenses.
"""

import re
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from schemas.errors import InvariantBroken
from schemas.keccak import keccak
from schemas.payout import Carry, Unsettled, UnsettledReason
from schemas.registration import Agreement
from schemas.window import Due, DueKind
from settlement.split import split

ACCOUNT = re.compile(r"0x[0-9a-fA-F]{40}")
NOBODY = "0x" + "0" * 40
"""The zero address: tokens refuse to be sent there."""


class SealedWindow(Protocol):
    """The attributes of a schemas.window.Window that settlement reads."""

    machine: str
    start_ms: int
    end_ms: int
    adjusts_ms: int | None
    net_micros: int
    agreement: Agreement
    dues: tuple[Due, ...]
    trust: int
    digest: bytes


class Terms(Struct, frozen=True):
    """An agreement in the form of `split`: points by account or, for a payee that is not one (`outside`), by its id."""

    points: tuple[tuple[str, int], ...]
    outside: frozenset[str]
    pays_trust: int
    digest: str


class Earning(Struct, frozen=True, gc=False):
    """A sealed window, reduced to what settlement needs; `adjusts_ms` is 0 for a plain window."""

    machine: str
    start_ms: int
    end_ms: int
    adjusts_ms: int
    net_micros: int
    trust: int
    digest: bytes
    terms: Terms
    dues: tuple[Due, ...] = ()


class AccrualStep(Struct, frozen=True):
    """The effect of one window, in micros: carries, parts of net by account, dues paid, and what can't be paid."""

    carry_before: int
    payable: int
    carry_after: int
    parts: Mapping[str, int]
    dues: tuple[Due, ...]
    unsettled: Mapping[tuple[UnsettledReason, str], int]


def account_of(payee: str) -> str | None:
    """The account in lower case, or None if the payee is not an account.

    Accepts digits in one case, or with the checksum of ERC-55: a wrong checksum means a mistyped address, and money
    sent there would be lost. The zero address can't be paid.
    """
    if not ACCOUNT.fullmatch(payee):
        return None
    digits = payee[2:]
    account = payee.lower()
    if account == NOBODY:
        return None
    if digits not in (digits.lower(), digits.upper()) and digits != _checksummed(account[2:]):
        return None
    return account


def _checksummed(digits: str) -> str:
    pattern = keccak(digits.encode()).hex()
    return "".join(c.upper() if p >= "8" else c for c, p in zip(digits, pattern, strict=False))


def terms_of(agreement: Agreement) -> Terms:
    """An agreement's terms; two spellings of one account are one account."""
    points: dict[str, int] = {}
    outside = frozenset(payee for payee in agreement.payees if account_of(payee) is None)
    for payee, share in agreement.payees.items():
        name = account_of(payee) or payee
        points[name] = points.get(name, 0) + share
    return Terms(tuple(sorted(points.items())), outside, agreement.pays_trust, agreement.digest().hex())


def earning_of(window: SealedWindow) -> Earning:
    """A sealed window, reduced to what settlement needs."""
    return Earning(
        window.machine, window.start_ms, window.end_ms, window.adjusts_ms or 0, window.net_micros, window.trust,
        window.digest, terms_of(window.agreement), window.dues,
    )  # fmt: skip


class Balances:
    """The balances of all accounts and carries, in micros. `accrue` adds one window.

    `dues` is what of `cumulative` was paid as dues, by kind and account. `ledger` is the account of the ledger itself,
    which like NOBODY can't be paid.
    """

    def __init__(
        self,
        cumulative: Mapping[str, int] | None = None,
        carry: Mapping[tuple[str, str], int] | None = None,
        unsettled: Mapping[tuple[UnsettledReason, str, str], int] | None = None,
        dues: Mapping[tuple[DueKind, str], int] | None = None,
        *,
        ledger: str = NOBODY,
    ) -> None:
        self.cumulative = dict(cumulative or {})
        self.carry = dict(carry or {})
        self.unsettled = dict(unsettled or {})
        self.dues = dict(dues or {})
        self._ledger = ledger

    @property
    def ledger(self) -> str:
        """The account of the ledger."""
        return self._ledger

    def copy(self) -> "Balances":
        """A copy, which can accrue without changing these."""
        return Balances(self.cumulative, self.carry, self.unsettled, self.dues, ledger=self._ledger)

    def accrue(self, earning: Earning) -> AccrualStep:
        """Adds one window to the balances; returns its effect."""
        key = (earning.machine, earning.terms.digest)
        step = self._step(self.carry.get(key, 0), earning)
        self._book(key, step)
        return step

    def _step(self, carry: int, earning: Earning) -> AccrualStep:
        is_held = earning.trust < earning.terms.pays_trust and earning.net_micros > 0
        unsettled: dict[tuple[UnsettledReason, str], int] = {}
        if is_held:
            unsettled["trust", ""] = earning.net_micros
        standing = carry + (0 if is_held else earning.net_micros)
        payable, after = max(0, standing), min(0, standing)
        parts = split(payable, dict(earning.terms.points)) if payable else {}
        for name in (*earning.terms.outside, self._ledger):
            part = parts.pop(name, 0)
            if part:
                unsettled["no_account", name] = part
        paid: list[Due] = []
        for due in earning.dues:
            if due.account in (NOBODY, self._ledger):
                unsettled["no_account", due.account] = unsettled.get(("no_account", due.account), 0) + due.micros
            else:
                paid.append(due)
        step = AccrualStep(carry, payable, after, parts, tuple(paid), unsettled)
        _require_whole(earning, step)
        return step

    def _book(self, key: tuple[str, str], step: AccrualStep) -> None:
        if step.carry_after:
            self.carry[key] = step.carry_after
        else:
            self.carry.pop(key, None)
        for account, part in step.parts.items():
            self.cumulative[account] = self.cumulative.get(account, 0) + part
        for due in step.dues:
            self.cumulative[due.account] = self.cumulative.get(due.account, 0) + due.micros
            self.dues[due.kind, due.account] = self.dues.get((due.kind, due.account), 0) + due.micros
        for (reason, payee), part in step.unsettled.items():
            part_key = (reason, key[0], payee)
            self.unsettled[part_key] = self.unsettled.get(part_key, 0) + part

    def payouts(self) -> dict[str, int]:
        """Cumulative micros of every account that was ever owed anything, ascending by account."""
        return {account: amount for account, amount in sorted(self.cumulative.items()) if amount}

    def dues_of(self, kind: DueKind) -> int:
        """All dues of a kind that were ever paid, micros."""
        return sum(amount for (each, _), amount in self.dues.items() if each == kind)

    def carries(self) -> tuple[Carry, ...]:
        """The carries that are not zero, sorted."""
        return tuple(Carry(machine, digest, str(amount)) for (machine, digest), amount in sorted(self.carry.items()))

    def unsettled_since(self, before: "Balances") -> tuple[Unsettled, ...]:
        """What became unsettled after `before`, sorted."""
        return tuple(
            Unsettled(*part_key, str(amount - before.unsettled.get(part_key, 0)))
            for part_key, amount in sorted(self.unsettled.items())
            if amount != before.unsettled.get(part_key, 0)
        )


def _require_whole(earning: Earning, step: AccrualStep) -> None:
    """The identity, for one window. Raises InvariantBroken."""
    given = earning.net_micros + sum(due.micros for due in earning.dues)
    paid = sum(step.parts.values()) + sum(due.micros for due in step.dues)
    if given != paid + sum(step.unsettled.values()) + step.carry_after - step.carry_before:
        raise InvariantBroken(f"the window of {earning.machine} at {earning.start_ms} ms lost money")
