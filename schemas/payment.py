"""Payments that customers make before a session, as an operator saw them on the chain."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.units import Account, Count, Id, Positive

PAID = "payment.received"

Transaction = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{64}$(?!\n)")]


class PaymentReceived(Struct, frozen=True, forbid_unknown_fields=True):
    """A `payment.received` record: `payer` paid `amount` micros for a session, to be used before `valid_until`.

    `version` counts the payments of one machine from 1. Block, transaction and log index say where the transfer is;
    `valid_until` is epoch ms.
    """

    machine: Id
    version: Positive
    session: Id
    payer: Account
    amount: Positive
    valid_until: Count
    block: Count
    transaction: Transaction
    log_index: Count

    def is_valid(self) -> bool:
        """Types say all."""
        return True


class AcceptedPayment(Struct, frozen=True):
    """A payment that the rules accepted, and the offset of its record. Whether it was ever paid, the chain knows."""

    offset: int
    payment: PaymentReceived
