"""What a locked agreement protects, in words: why the stream would refuse a version as `agreement_locked` (rule 23)."""

from collections.abc import Iterable
from fractions import Fraction

from msgspec import UNSET

from schemas.registration import Registration


def what_a_lock_forbids(last: Registration, wanted: Registration) -> list[str]:
    """What `wanted` would change for the worse, a clause each; the lock of `last` is taken to hold."""
    return [*_of_payees(last, wanted), *_of_orders(last, wanted), *_of_prices(last, wanted)]


def _of_payees(last: Registration, wanted: Registration) -> Iterable[str]:
    before, after = last.agreement, wanted.agreement
    for payee, points in before.payees.items():
        if after.payees.get(payee, 0) < points:
            yield f"{payee} would fall from {points / 100:g} % to {after.payees.get(payee, 0) / 100:g} %"
    if after.locked_until is UNSET or (before.locked_until is not UNSET and after.locked_until < before.locked_until):
        yield "the lock would end earlier"
    if after.pays_trust > before.pays_trust:
        yield f"it would pay for trust {after.pays_trust} and above only"


def _of_orders(last: Registration, wanted: Registration) -> Iterable[str]:
    before = {policy.item: policy for policy in last.orders or ()}
    for policy in wanted.orders or ():
        known = before.get(policy.item)
        if known is None:
            yield f"it would order {policy.item}"
            continue
        for name in ("unit_price", "quantity", "budget"):
            if getattr(policy, name) > getattr(known, name):
                yield f"the {name.replace('_', ' ')} of {policy.item} would rise"
        if policy.supplier != known.supplier:
            yield f"the supplier of {policy.item} would change"


def _of_prices(last: Registration, wanted: Registration) -> Iterable[str]:
    before, after = _lowest(last), _lowest(wanted)
    for (meter, is_session), price in after.items():
        if price < 0 and price < before.get((meter, is_session), 0):
            yield f"the lowest price of {meter} {'per session ' if is_session else ''}would fall below zero"


def _lowest(registration: Registration) -> dict[tuple[str, bool], Fraction]:
    """The lowest price for a unit of each meter, and for its sessions, in micros."""
    found: dict[tuple[str, bool], Fraction] = {}
    for element in registration.tariff.elements:
        for part in element.components:
            price = Fraction(part.price, 1 if part.per is UNSET else part.per)
            key = part.meter, part.per_session
            found[key] = min(price, found.get(key, price))
    return found
