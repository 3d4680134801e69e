"""Payments of the log against the chain: what an operator says that customers paid, and what arrived.

    each accepted payment = one Transfer of its amount from its payer to the ledger, at its place, final, used once

Before the post that settles it, too: a record can't know of a transfer that comes after. What arrived by an
authorisation (EIP-3009) and stands in no record is no theft: a customer paid and waits, so it is named, not disputed.

A payment that the chain contradicts is made good by whoever pays its amount to the ledger under the nonce that names
it: its refund and what its machine kept of it then come from money that is there. Without that one mistake of an
operator would hold up all posts after it for good, for a record can't be taken back.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from schemas.keccak import keccak
from schemas.payment import AcceptedPayment, PaymentReceived
from schemas.units import TokenUnits
from settlement.audit.sources import SourceMissing
from settlement.audit.verdict import Finding

RECORDED_WITHIN_S = 3_600
"""So long after a transfer its record may come: until it is final, and for a till that was restarted."""

RECEIPTS_MAX = 1_000
"""The most transactions and nonces that an audit asks a node about one by one."""

Place = tuple[int, int]
"""Block and log index."""


def make_good_nonce(log_id: str, machine: str, version: int) -> bytes:
    """The nonce (32 bytes) of an authorisation that pays in the place of a machine's payment of this version."""
    return keccak(f"tallyroot makes good 1\n{log_id}\n{machine}\n{version}".encode())


class Transfer(Struct, frozen=True):
    """Tokens that arrived at the ledger, and where the chain has them; `payer` in lower case."""

    payer: str
    amount: TokenUnits
    block: int
    transaction: str
    log_index: int

    @property
    def text(self) -> str:
        """The transfer in words."""
        return (
            f"{self.amount} token units from {self.payer} in block {self.block}, transaction {self.transaction}, log"
            f" {self.log_index}"
        )

    @property
    def place(self) -> Place:
        """No two transfers have the same."""
        return self.block, self.log_index


class MoneyIn(Protocol):
    """What a node says of tokens that arrived at a ledger. All raise InvalidInput where it does not answer."""

    def final_block(self) -> int:
        """The last block that can't be undone."""
        ...

    def transfers(self) -> Sequence[Transfer]:
        """All transfers to the ledger up to the latest block."""
        ...

    def of_transaction(self, transaction: str) -> Sequence[Transfer]:
        """Those in the receipt of a transaction; none where the node has none."""
        ...

    def is_authorised(self, transfer: Transfer) -> bool:
        """Whether its payer had signed it, for somebody else to send (EIP-3009)."""
        ...

    def under_nonce(self, nonce: bytes) -> Sequence[Transfer]:
        """All that was paid by an authorisation with this nonce, of any payer."""
        ...

    def block_time_s(self, number: int) -> int:
        """A block's time, Unix seconds."""
        ...


class PaymentFault(Struct, frozen=True):
    """A payment that the chain does not have as the log says. `is_early` if it may yet become final."""

    finding: Finding
    is_early: bool = False


class Payments:
    """All payments that an audit has judged, each by a transfer that no other may use."""

    def __init__(self, log_id: str, unit: int) -> None:
        """`unit` is how many token units a micro is."""
        self._log_id, self._unit = log_id, unit
        self._users: dict[Place, str] = {}
        self._money_in: MoneyIn | None = None
        self._transfers: Mapping[Place, Transfer] = {}
        self._final = -1
        self._asked = 0
        self.count = 0
        """How many payments were taken."""
        self._made_good: dict[str, str] = {}

    @property
    def made_good(self) -> tuple[str, ...]:
        """Payments that the chain contradicts and that somebody made good, in words."""
        return tuple(self._made_good.values())

    def look(self, money_in: MoneyIn | None) -> None:
        """Asks the chain, once for a run; None where no chain is asked."""
        self._money_in, self._asked = money_in, 0
        if money_in is None:
            return
        self._final = money_in.final_block()
        self._transfers = {transfer.place: transfer for transfer in money_in.transfers()}

    def note(self, partition: int, accepted: AcceptedPayment) -> None:
        """Takes a payment that a ledger before this one settled: its transfer can't be used again."""
        self.count += 1
        payment = accepted.payment
        self._users.setdefault((payment.block, payment.log_index), _where(partition, accepted))

    def fault_of(
        self, sequence: int, partition: int, accepted: AcceptedPayment, before_block: int | None
    ) -> PaymentFault | None:
        """Why the chain contradicts a payment of post `sequence`, which lies in `before_block` (None: not posted).

        Raises SourceMissing where the node contradicts itself. Without a look at a chain there is no fault.
        """
        self.count += 1
        if self._money_in is None:
            return None
        payment, place = accepted.payment, (accepted.payment.block, accepted.payment.log_index)
        found = self._transfers.get(place)
        if before_block is not None and payment.block >= before_block:
            return self._fault(sequence, partition, accepted, f"names a block that is not before {before_block}, which"
                               " has the post that settles it")  # fmt: skip
        if payment.block > self._final:
            text = f"is not final: the last block that can't be undone is {self._final}"
            return self._fault(sequence, partition, accepted, text, is_early=True)
        if found is None or found.transaction != payment.transaction:
            return self._fault(sequence, partition, accepted, "was never made: the ledger got no such transfer")
        if found.payer != payment.payer:
            return self._fault(sequence, partition, accepted, "was made by another payer")
        if found.amount != payment.amount * self._unit:
            return self._fault(sequence, partition, accepted, "was of another amount")
        user = self._users.setdefault(place, _where(partition, accepted))
        if user != _where(partition, accepted):
            return self._fault(sequence, partition, accepted, f"is used twice, first by the {user}")
        return None

    def unrecorded(self, recorded_until_s: int) -> tuple[Transfer, ...]:
        """What was paid by an authorisation, is final and in no record, though the records up to that moment (Unix
        seconds) were read.
        """
        money_in, found = self._money_in, []
        if money_in is None:
            return ()
        for place, transfer in sorted(self._transfers.items()):
            if place in self._users or transfer.block > self._final or self._asked >= RECEIPTS_MAX:
                continue
            self._asked += 1
            if not money_in.is_authorised(transfer):
                continue
            if money_in.block_time_s(transfer.block) + RECORDED_WITHIN_S < recorded_until_s:
                found.append(transfer)
        return tuple(found)

    def _fault(
        self, sequence: int, partition: int, accepted: AcceptedPayment, text: str, *, is_early: bool = False
    ) -> PaymentFault | None:
        payment = accepted.payment
        instead = None if is_early else self._instead(partition, accepted)
        if instead is not None:
            where = _where(partition, accepted)
            self._made_good[where] = f"the {where} {text}; made good by {instead.text}"
            return None
        finding = Finding(
            kind="payment", sequence=sequence, text=f"the {_where(partition, accepted)} {text}",
            machine=payment.machine, partition=partition, offset=accepted.offset, session=payment.session,
            found=self._stated(payment), expected=self._on_chain(payment),
        )  # fmt: skip
        return PaymentFault(finding, is_early)

    def _instead(self, partition: int, accepted: AcceptedPayment) -> Transfer | None:
        """The transfer that makes a payment good: final, of its amount at least, and used for nothing else."""
        payment, user = accepted.payment, _where(partition, accepted)
        if self._money_in is None or self._asked >= RECEIPTS_MAX:
            return None
        self._asked += 1
        nonce = make_good_nonce(self._log_id, payment.machine, payment.version)
        for transfer in self._money_in.under_nonce(nonce):
            is_enough = transfer.amount >= payment.amount * self._unit and transfer.block <= self._final
            if is_enough and self._users.setdefault(transfer.place, user) == user:
                return transfer
        return None

    def _stated(self, payment: PaymentReceived) -> str:
        amount = payment.amount * self._unit
        return Transfer(payment.payer, amount, payment.block, payment.transaction, payment.log_index).text

    def _on_chain(self, payment: PaymentReceived) -> str:
        """What the chain has instead: in the transaction, or else at the place.

        The receipt is a second answer of the node: one that has what the list of transfers lacks proves it wrong.
        """
        within: Sequence[Transfer] = ()
        if self._money_in is not None and self._asked < RECEIPTS_MAX:
            self._asked += 1
            within = self._money_in.of_transaction(payment.transaction)
            listed = [each for each in self._transfers.values() if each.transaction == payment.transaction]
            if any(each.block <= self._final and each not in listed for each in within):
                text = f"this node has transfers in the receipt of {payment.transaction} that it does not list"
                raise SourceMissing(f"{text}: ask another (CHAIN_RPC_URL)", withheld=False)
        at_place = self._transfers.get((payment.block, payment.log_index))
        return "; ".join(each.text for each in within or ([] if at_place is None else [at_place]))


def _where(partition: int, accepted: AcceptedPayment) -> str:
    payment = accepted.payment
    return (
        f"payment for session {payment.session} of {payment.machine} (partition {partition}, offset {accepted.offset})"
    )
