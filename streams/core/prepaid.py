"""Sessions that customers pay for before: their use, and the statement that closes each (rules 35 to 37)."""

from msgspec import Struct

from schemas.units import CARRY_BASE, COUNT_MAX, DAY_MS
from schemas.window import Statement
from streams.core.kernel.columns import NONE

TERM_MAX_MS = 7 * DAY_MS
OPEN_MAX = 256
"""The most open sessions of one machine."""


class PrepaidSession(Struct, array_like=True):
    """An open session. `use` is in 1/3,600,000 of a micro; `ends_in_ms` is the start of the window that its end chose.

    `valid_until` is epoch ms, `paid` micros.
    """

    payer: str
    valid_until: int
    paid: int
    use: int = 0
    ends_in_ms: int = NONE

    def can_use(self, more: int) -> bool:
        """Rule 21: the use stays within 2^53 micros."""
        return abs(self.use + more) <= COUNT_MAX * CARRY_BASE

    def statement(self, session: str) -> Statement:
        """Rule 37: what was used, rounded up, and what of the paid is left."""
        used = max(0, -(-self.use // CARRY_BASE))
        return Statement(session, self.payer, self.paid, used, max(0, self.paid - used))


def returned(session: str, payer: str, amount: int) -> Statement:
    """The statement of a payment that opens nothing and is added to nothing (rule 35)."""
    return Statement(session, payer, amount, 0, amount)
