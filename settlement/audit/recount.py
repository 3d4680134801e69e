"""The auditor's own arithmetic: trees, leaves, splits and carries, written apart from those of settlement.

It shares with them the records and keccak, and nothing else, so that one mistake can't hide in both. Slow and simple.

    for every machine and agreement: sum of nets = paid + held back + carry
    dues are paid whole, beside them: sum of nets + sum of dues = owed + outside + held back + carries
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from fractions import Fraction

from eth_abi.abi import encode
from eth_utils.address import is_checksum_address
from msgspec import Struct

from schemas.keccak import keccak
from schemas.registration import Agreement
from schemas.window import Window

WINDOW_TYPES = ("bytes32", "uint64", "uint64", "uint64", "int256", "bytes32")


class Sums(Struct):
    """The nets of one machine under one agreement and where they went, micros."""

    nets: int = 0
    paid: int = 0
    held: int = 0
    carry: int = 0

    def add_up(self) -> bool:
        """Whether nets = paid + held + carry."""
        return self.nets == self.paid + self.held + self.carry


class Recount:
    """Recounts everything owed since the first epoch. `take` must be called in the order in which windows settle.

    `ledger` is the account of the ledger, which can't be paid. `dues` are micros by kind, paid or not. `before` is what
    ledgers before this one owe, micros.
    """

    def __init__(self, ledger: str = "") -> None:
        self._ledger = ledger
        self.owed: dict[str, int] = {}
        self.before = 0
        self.outside: dict[tuple[str, str], int] = {}
        self.dues: dict[str, int] = {"expense": 0, "refund": 0}
        self.sums: dict[tuple[str, str], Sums] = {}

    def move(self, ledger: str) -> None:
        """From here on another ledger owes what is earned."""
        self.before += self.total()
        self.owed, self._ledger = {}, ledger

    def take(self, window: Window) -> None:
        """Adds one window."""
        for due in window.dues:
            self.dues[due.kind] += due.micros
            self._give(window.machine, due.account, due.micros)
        sums = self.sums.setdefault((window.machine, window.agreement.digest().hex()), Sums())
        sums.nets += window.net_micros
        if window.net_micros > 0 and window.trust < window.agreement.pays_trust:
            sums.held += window.net_micros
            return
        sums.carry += window.net_micros
        if sums.carry <= 0:
            return
        for payee, part in shares(sums.carry, window.agreement).items():
            self._give(window.machine, payee, part)
        sums.paid += sums.carry
        sums.carry = 0

    def _give(self, machine: str, payee: str, micros: int) -> None:
        if is_account(payee) and payee != self._ledger:
            self.owed[payee] = self.owed.get(payee, 0) + micros
        else:
            self.outside[machine, payee] = self.outside.get((machine, payee), 0) + micros

    def total(self) -> int:
        """The sum of everything owed to accounts, micros."""
        return sum(self.owed.values())

    def carries(self) -> list[dict[str, str]]:
        """The carries, in the form of `carries_digest`."""
        return [
            {"machine": machine, "agreement": agreement, "micros": str(sums.carry)}
            for (machine, agreement), sums in sorted(self.sums.items())
            if sums.carry
        ]

    def unsettled(self) -> dict[tuple[str, str, str], int]:
        """Micros that no account gets, by (reason, machine, payee), since the first epoch."""
        found = {("no_account", machine, payee): amount for (machine, payee), amount in self.outside.items()}
        for (machine, _), sums in self.sums.items():
            key = ("trust", machine, "")
            found[key] = found.get(key, 0) + sums.held
        return found

    def payout_leaves(self, decimals: int) -> dict[str, bytes]:
        """The leaves by account, of all accounts that were ever owed anything."""
        unit = 10**decimals // 10**6
        return {
            account: twice(encode(("address", "uint256"), (account, micros * unit)))
            for account, micros in self.owed.items()
            if micros
        }


def is_account(payee: str) -> bool:
    """Whether a payee, as `payee_name` returns it, is an account."""
    return re.fullmatch("0x[0-9a-f]{40}", payee) is not None and int(payee, 16) != 0


def payee_name(payee: str) -> str:
    """A payee that is an account, in lower case; any other payee, also one with a wrong checksum, unchanged."""
    shaped = re.fullmatch("0x([0-9a-fA-F]{40})", payee)
    if shaped is None:
        return payee
    one_case = shaped[1] in {shaped[1].lower(), shaped[1].upper()}
    return payee.lower() if one_case or is_checksum_address(payee) else payee


def shares(amount: int, agreement: Agreement) -> dict[str, int]:
    """Parts of an amount by largest remainder; of equal remainders the lower name comes first."""
    exact: dict[str, Fraction] = {}
    for payee, points in agreement.payees.items():
        name = payee_name(payee)
        exact[name] = exact.get(name, Fraction(0)) + Fraction(amount * points, 10_000)
    whole = {name: share.__floor__() for name, share in exact.items()}
    queue = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in queue[: amount - sum(whole.values())]:
        whole[name] += 1
    return whole


def window_leaf_of(window: Window) -> bytes:
    """The leaf of a window."""
    fields = (keccak(window.machine.encode()), window.start_ms, window.end_ms, window.adjusts_ms or 0)
    return twice(encode(WINDOW_TYPES, (*fields, window.net_micros, window.digest)))


def twice(data: bytes) -> bytes:
    """keccak of keccak."""
    return keccak(keccak(data))


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root of a standard-v1 tree: sorted leaves in a queue; the first two leave it, their parent joins its end."""
    queue = deque(sorted(leaves))
    while len(queue) > 1:
        pair = sorted((queue.popleft(), queue.popleft()))
        queue.append(keccak(pair[0] + pair[1]))
    return queue[0] if queue else b""


def leads_to(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof leads from a leaf to a root."""
    node = leaf
    for other in proof:
        node = keccak(min(node, other) + max(node, other))
    return node == root


def head_after_post(previous: bytes, words: Sequence[object]) -> bytes:
    """The ledger's head after a post; `words` are its arguments after the previous head, with the sequence first."""
    kind = keccak(
        b"Post(uint256 sequence,bytes32 previousHead,bytes32 windowsRoot,bytes32 payoutsRoot,bytes32 manifestHash,"
        b"uint64 epochStart,uint64 epochEnd,uint256 total,uint256 deposits)"
    )
    types = ("bytes32", "uint256", *("bytes32",) * 4, "uint64", "uint64", "uint256", "uint256")
    return keccak(encode(types, (kind, words[0], previous, *words[1:])))


def head_after_dispute(previous: bytes, sequence: int) -> bytes:
    """The ledger's head after a dispute."""
    kind = keccak(b"Dispute(bytes32 previousHead,uint256 sequence)")
    return keccak(encode(("bytes32", "bytes32", "uint256"), (kind, previous, sequence)))
