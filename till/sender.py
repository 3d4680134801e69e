"""Steps (2) and (3) of a purchase: the authorisation goes to the token, by the till's own account or a facilitator.

Neither is believed: whether a transfer happened, the chain says.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import structs

from till.authorization import Asset, terms
from till.journal import Journal
from till.ports import ChainPort, FacilitatorPort
from till.purchase import Purchase

ATTEMPTS_MAX = 4
"""How often the gas of a purchase is paid at most: a payer can let a transfer fail by moving its tokens away."""

WAITED_BLOCKS = 5
"""A transaction that was not mined in so many blocks is replaced by one that offers more, a facilitator asked again."""

Crash = Callable[[int], None]
"""Called with the number of each step after it: where crash tests end the process."""


class Sender(Protocol):
    """Who sends transfers."""

    def send(self, purchase: Purchase) -> None:
        """Called again and again until the authorisation is used, or over. Raises InvalidInput where it must wait."""


class OwnGas:
    """The till's own account sends, and pays for the gas. Nobody else uses that account."""

    def __init__(self, journal: Journal, chain: ChainPort, after: Crash = lambda _: None) -> None:
        self._journal = journal
        self._chain = chain
        self._after = after
        self._sent_at: dict[str, int] = {}

    def send(self, purchase: Purchase) -> None:
        """Sends the transaction again, or signs one: the first, the next, or one that offers more."""
        attempt, nonce = purchase.attempt, self._chain.nonce()
        is_waiting = attempt is not None and attempt.nonce >= nonce
        if is_waiting and attempt is not None:
            block = self._chain.latest()[0]
            if block < self._sent_at.setdefault(attempt.transaction, block) + WAITED_BLOCKS:
                self._chain.send(attempt)
                return
        elif purchase.attempts >= ATTEMPTS_MAX or self._is_account_busy(purchase, nonce):
            return
        if self._chain.refuses(purchase.authorization) is not None:
            return
        new = self._chain.signed(purchase.authorization, attempt if is_waiting else None)
        paid = purchase.attempts + (0 if is_waiting else 1)
        self._journal.put(structs.replace(purchase, state="signed", attempt=new, attempts=paid))  # (2)
        self._after(2)
        self._chain.send(new)  # (3)
        self._after(3)

    def _is_account_busy(self, purchase: Purchase, nonce: int) -> bool:
        """Whether another purchase's transaction waits: one at a time, so that no nonce has two uses."""
        others = self._journal.in_state("signed")
        return any(
            other.attempt is not None and other.attempt.nonce >= nonce
            for other in others
            if other.session != purchase.session or other.authorization != purchase.authorization
        )


class Facilitated:
    """A facilitator sends, and pays for the gas; all at once, for it has its own nonces."""

    def __init__(
        self, journal: Journal, chain: ChainPort, facilitator: FacilitatorPort, asset: Asset, timeout_s: int,
        after: Crash = lambda _: None,
    ) -> None:  # fmt: skip
        self._journal = journal
        self._chain = chain
        self._facilitator = facilitator
        self._asset = asset
        self._timeout_s = timeout_s
        self._after = after
        self._asked_at: dict[str, int] = {}

    def send(self, purchase: Purchase) -> None:
        """Asks for the transfer, once more after some blocks: an authorisation pays once, however often it is sent."""
        signed, block = purchase.authorization, self._chain.latest()[0]
        if signed.nonce in self._asked_at and block < self._asked_at[signed.nonce] + WAITED_BLOCKS:
            return
        if self._chain.refuses(signed) is not None:
            return
        self._journal.put(structs.replace(purchase, state="signed"))  # (2)
        self._after(2)
        self._asked_at[signed.nonce] = block
        self._facilitator.settle(signed.payment(terms(self._asset, signed.value, self._timeout_s)))  # (3)
        self._after(3)
