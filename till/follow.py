"""What a session has used so far, by its readings as they come: so that it ends when what was paid is used up.

An estimate that ends sessions and decides no money: the core judges the same readings, and bills.
"""

from msgspec import UNSET, Struct, UnsetType

from schemas.units import CARRY_BASE
from streams.core.rating import Prices


class Row(Struct, frozen=True):
    """A reading, as far as it is of a session. Registers and quantities are in the meter's unit."""

    machine: str
    meter: str
    boot: int
    seq: int
    observed_at: int
    register: int | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    session: str | UnsetType = UNSET
    session_start: bool = False
    session_end: bool = False


class Use:
    """The use of one session, at the prices with which it began."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._last: dict[str, tuple[tuple[int, int], int]] = {}
        self._use = self._step = 0
        self.has_ended = False

    def take(self, row: Row) -> None:
        """Adds a row of the session; one that comes late or twice adds nothing."""
        self.has_ended |= row.session_end
        at, shown = (row.boot, row.seq), 0 if row.register is UNSET else row.register
        before = self._last.get(row.meter)
        if before is not None and at <= before[0]:
            return
        self._last[row.meter] = at, shown
        if row.quantity is not UNSET:
            usage = row.quantity
        else:
            usage = 0 if before is None or row.session_start else max(0, shown - before[1])
        price = self._prices.of_usage(row.meter, max(0, row.observed_at - 1))
        fee = self._prices.of_session(row.meter, row.observed_at) if before is None and row.session_start else None
        self._step = usage * price.micros * (CARRY_BASE // price.per)
        self._use += self._step + (0 if fee is None else fee.micros * CARRY_BASE)

    def is_used_up(self, paid_micros: int) -> bool:
        """Whether another reading like the last one would use more than was paid (micros)."""
        return self._use + max(0, self._step) >= paid_micros * CARRY_BASE
