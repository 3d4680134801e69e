"""Which offer is taken: the cheapest that fits the need and the policy."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from msgspec import Struct

from agent.policy import Policy
from schemas.units import COUNT_MAX
from till.offers import Offer, cost_micros, units_for


class Choice(Struct, frozen=True, kw_only=True):
    """So many units of a machine at a till, for `amount_micros` at most."""

    till: str
    machine: str
    units: int
    amount_micros: int

    @property
    def price(self) -> Fraction:
        """Micros a unit, with the session's start."""
        return Fraction(self.amount_micros, self.units)


def choices(
    offers: Iterable[tuple[str, Offer]], policy: Policy, currency: str, needed: int, money_micros: int
) -> list[Choice]:
    """The offers (with their till) that fit, the cheapest first; of equal ones the one that sells more.

    Where the money doesn't reach for all that is needed, it is as much as it reaches for.
    """
    found = [
        choice
        for till, offer in offers
        if offer.machine != policy.machine and offer.is_free and (offer.unit, offer.currency) == (policy.unit, currency)
        if not policy.kinds or offer.kind in policy.kinds
        for choice in _of(till, offer, policy, needed, money_micros)
    ]
    return sorted(found, key=lambda choice: (choice.price, -choice.units, choice.till, choice.machine))


def _of(till: str, offer: Offer, policy: Policy, needed: int, money_micros: int) -> Iterator[Choice]:
    price = offer.prices[0]  # the one of now
    units, amount = needed, cost_micros(price, needed)
    if amount > money_micros:
        units = min(needed, units_for(price, money_micros))
        amount = cost_micros(price, units)
    is_dear = amount * policy.per > policy.price_micros * units
    if 0 < units <= COUNT_MAX and 0 < amount <= money_micros and not is_dear:
        yield Choice(till=till, machine=offer.machine, units=units, amount_micros=amount)
