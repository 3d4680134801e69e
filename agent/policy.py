"""What a machine may buy, from whom, and for how much at most."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from agent.purchase import Purchase
from schemas.units import DAY_MS, SECOND_MS

DAY_S = DAY_MS // SECOND_MS
MONTH_S = 30 * DAY_S

Limit = Literal["purchase", "day", "30 days"]


class Policy(Struct, frozen=True, kw_only=True):
    """One machine's need, its tills and its limits.

    `meter` is a level meter of the machine; it buys at `buy_at` or less, up to `until`, both in the meter's unit, each
    of which is `worth` units of what is sold (`unit`). A unit costs at most `price_micros` for every `per`, with the
    session's start; the other amounts (micros) limit a purchase, a day and 30 days. `operators` sign offers; where none
    is named, nobody needs to. Kinds of machines (none: any) and times are as the names say.
    """

    machine: str
    meter: str
    buy_at: int
    until: int
    unit: str
    worth: int
    tills: tuple[str, ...]
    operators: tuple[str, ...]
    kinds: tuple[str, ...]
    price_micros: int
    per: int
    purchase_micros: int
    day_micros: int
    month_micros: int
    valid_s: int
    patience_s: int
    avoid_s: int

    def allowed(self, purchases: Iterable[Purchase], now_s: int) -> tuple[int, Limit]:
        """What may be spent now (micros), and the limit that says so. `now_s` is the chain's time (Unix seconds)."""
        day = month = 0
        for purchase in purchases:
            if purchase.signed_s > now_s - MONTH_S:
                month += purchase.counted_micros
            if purchase.signed_s > now_s - DAY_S:
                day += purchase.counted_micros
        limits: dict[Limit, int] = {
            "purchase": self.purchase_micros, "day": self.day_micros - day, "30 days": self.month_micros - month,
        }  # fmt: skip
        tightest = min(limits, key=lambda name: limits[name])
        return max(0, limits[tightest]), tightest
