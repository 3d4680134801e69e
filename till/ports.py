"""What the till needs of the world, a port for each kind: the log, the chain, the gateways' topic, a clock."""

from typing import Protocol

from schemas.command import Command
from schemas.payout import ProofFile
from schemas.registration import Registration
from schemas.reject import Reason
from till.authorization import Authorization
from till.outcome import Sealed
from till.purchase import Attempt, Place
from till.wire import Payment


class Clock(Protocol):
    """The part of the module `time` that the till uses."""

    def time(self) -> float:
        """Unix seconds."""


class LogPort(Protocol):
    """The operator's hand on the log. All raise InvalidInput where Kafka doesn't answer."""

    def refresh(self) -> None:
        """Reads on to the present end of the log."""

    def registration(self, machine: str, now_ms: int) -> Registration | None:
        """The version in force (epoch ms)."""

    def next_version(self, machine: str) -> int:
        """The version that the machine's next payment has."""

    def payments(self, machine: str, after: int) -> list[str]:
        """The sessions of the machine's accepted payments, in their order, without the first `after`."""

    def holder(self, place: Place) -> str | None:
        """The machine that a payment in the log names with this transfer."""

    def signed(self, machine: str, value: bytes) -> bytes:
        """The operator's signature over a payment's record."""

    def sent(self, machine: str, value: bytes, signature: bytes) -> Reason | None:
        """Sends a payment and reads back what the log made of it; None if it was accepted, now or before."""

    def is_open(self, machine: str, session: str) -> bool:
        """Whether a prepaid session is open in the log."""

    def has_ended(self, machine: str, session: str) -> bool:
        """Whether the machine has reported the end of a session, as far as the log was read."""

    def is_used_up(self, machine: str, session: str, paid_micros: int) -> bool:
        """Whether a session has used what was paid, or will with its next reading, as far as the log was read."""

    def signed_offers(self, document: bytes) -> str:
        """The operator's signature (0x-hex) over a document of offers, which no record can have."""


class ChainPort(Protocol):
    """The token and the till's own account on the chain. All raise InvalidInput where no node answers."""

    def latest(self) -> tuple[int, int]:
        """Number and time (Unix seconds) of the latest block; the time is at least that of the next one's parent."""

    def final(self) -> tuple[int, int]:
        """The same of the last final block; (-1, 0) where there is none yet."""

    def balance(self, payer: str) -> int:
        """Token units."""

    def is_used(self, authorization: Authorization) -> bool:
        """Whether the nonce was used or cancelled, at the latest block."""

    def refuses(self, authorization: Authorization) -> str | None:
        """Why the token would refuse the transfer now; None if it wouldn't."""

    def is_contract(self, account: str) -> bool:
        """Whether an account has code, which may say what it signed."""

    def transfer(self, authorization: Authorization, first: int, last: int) -> Place | None:
        """The transfer that used the nonce in the blocks `first` to `last`, whoever sent it."""

    def is_cancelled(self, authorization: Authorization, first: int, last: int) -> bool:
        """Whether the payer cancelled the nonce in those blocks."""

    def nonce(self) -> int:
        """The next nonce of the till's account; pending transactions don't count."""

    def signed(self, authorization: Authorization, before: Attempt | None) -> Attempt:
        """A transaction that sends it, with the next nonce, or in the place of one that waits."""

    def send(self, attempt: Attempt) -> None:
        """Hands a transaction to the node; what the node has already counts as sent."""


class BooksPort(Protocol):
    """What was published and settled. All raise InvalidInput where that can't be read now."""

    def sealed(self, machine: str, session: str, payer: str) -> list[Sealed]:
        """What final windows say of a session of a payer; empty where none has sealed it."""

    def payout(self, account: str) -> ProofFile | None:
        """An account's payout under the last post that pays; None where none does."""


class FacilitatorPort(Protocol):
    """A facilitator of x402 somewhere else. Nothing that it says of a transfer counts."""

    def verify(self, payment: Payment) -> str | None:
        """Why it would not settle a payment, in the protocol's words; None if it would. Raises InvalidInput: away."""

    def settle(self, payment: Payment) -> None:
        """Asks for the transfer and doesn't wait for it; what becomes of that, the chain says."""


class CommandPort(Protocol):
    """The topic `machine.commands`."""

    def send(self, route: str, command: Command) -> None:
        """Returns once Kafka has acknowledged the command. Raises InvalidInput if it hasn't."""
