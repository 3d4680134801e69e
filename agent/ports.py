"""What the agent needs of the world, a port for each kind: the log, the chain, its claims, the tills."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from schemas.payment import PaymentReceived
from till.authorization import Authorization
from till.purchase import Place


class Level(NamedTuple):
    """What a level meter showed last (in its unit), and when (epoch ms)."""

    value: int
    observed_ms: int


class Answer(NamedTuple):
    """What a till answered: the status of HTTP, the header of its terms ("" for none), the body."""

    status: int
    required: str
    body: bytes


class Away(Exception):
    """No whole answer: nobody listens, it took too long, or it is too long."""


class WebPort(Protocol):
    """HTTP with strangers: bounds for size and time hold for the whole answer, and nothing is followed elsewhere."""

    def ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request. Raises Away."""


class LogPort(Protocol):
    """What the log says. All raise InvalidInput where Kafka doesn't answer."""

    def refresh(self) -> None:
        """Reads on to the present end of the log."""

    def level(self) -> Level | None:
        """The newest level of the machine; None where there is none."""

    def payment(self, place: Place) -> PaymentReceived | None:
        """The payment of this transfer that the log accepted."""

    def is_open(self, machine: str, session: str) -> bool:
        """Whether a prepaid session is open, and its end was not reported."""


class ChainPort(Protocol):
    """The token. All raise InvalidInput where no node answers."""

    def latest(self) -> tuple[int, int]:
        """Number of the latest block, and the time (Unix seconds) of the next one."""

    def final(self) -> tuple[int, int]:
        """Number and time of the last final block; (-1, 0) where there is none yet."""

    def balance(self, payer: str) -> int:
        """Token units."""

    def transfer(self, authorization: Authorization, first: int, last: int) -> Place | None:
        """The transfer that used the nonce in the blocks `first` to `last`, whoever sent it."""


class PursePort(Protocol):
    """What the ledger owes the machine's account. All raise InvalidInput where that can't be said now."""

    def claim(self) -> int:
        """Claims all that is worth the gas; returns token units, 0 for nothing."""

    def refund(self, machine: str, session: str) -> int | None:
        """What came back of a session (micros) under a post that pays; None while it didn't."""
