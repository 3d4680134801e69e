"""Order policies in words, both ways.

    [METER:] reorder N ITEM at LEFT left from ACCOUNT at EUR 1.20 each, budget EUR 500 in 30 days

Once the level meter shows LEFT or less, the machine orders N pieces of the item. Without a name before a colon the
meter is the level meter named like the item, else the only level meter.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from deploy.machines.quantities import whole_units
from deploy.machines.tariff_words import MICROS, amount_text
from schemas import parsing
from schemas.errors import InvalidInput
from schemas.registration import ORDERS_MAX, Meter, OrderPolicy
from schemas.units import COUNT_MAX

_MONEY = r"(?:([A-Z]{{3}})\s+{n}|{n}\s+([A-Z]{{3}}))".format(n=r"([0-9][0-9,]*(?:\.[0-9]+)?)")
_LINE = re.compile(
    r"(?:(?P<meter>[A-Za-z0-9._:*-]+):\s+)?reorder\s+(?P<quantity>[0-9][0-9,]*)\s+(?P<item>[A-Za-z0-9._:*-]{1,64})"
    r"\s+at\s+(?P<left>.+?)\s+left\s+from\s+(?P<supplier>0x[0-9A-Fa-f]{40})"
    rf"\s+at\s+(?P<price>{_MONEY})\s+each,?\s+(?:with\s+a\s+)?budget\s+(?P<budget>{_MONEY})\s+in\s+30\s+days"
)
_EXAMPLE = "reorder 100 bearings at 20 left from 0x... at EUR 1.20 each, budget EUR 500 in 30 days"


def orders_of(lines: Sequence[str], currency: str, levels: Mapping[str, str]) -> tuple[OrderPolicy, ...]:
    """The lines as policies; `levels` are the units of the machine's level meters by name. Raises InvalidInput."""
    policies = tuple(_policy(line.strip(), currency, levels) for line in lines)
    items = [policy.item for policy in policies]
    twice = next((item for item in items if items.count(item) > 1), None)
    if twice is not None:
        raise InvalidInput(f"two lines order {twice}: keep one, an item has one policy")
    if len(policies) > ORDERS_MAX:
        raise InvalidInput(f"{len(policies)} lines of orders: a machine has at most {ORDERS_MAX}")
    return policies


def _policy(line: str, currency: str, levels: Mapping[str, str]) -> OrderPolicy:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidInput(f"'{line}' is not an order: write one such as {_EXAMPLE}")
    meter = _meter(line, match["meter"], match["item"], levels)
    policy = OrderPolicy(
        item=match["item"],
        meter=meter,
        reorder_at=whole_units(match["left"], levels[meter]),
        quantity=int(match["quantity"].replace(",", "")),
        unit_price=_micros(line, match["price"], currency),
        supplier=parsing.account(match["supplier"]),
        budget=_micros(line, match["budget"], currency),
    )
    if not 1 <= policy.quantity <= COUNT_MAX or policy.quantity * policy.unit_price > COUNT_MAX:
        raise InvalidInput(f"'{line}': order 1 to 2^53 pieces, worth at most 2^53 millionths of {currency}")
    return policy


def _meter(line: str, named: str | None, item: str, levels: Mapping[str, str]) -> str:
    if named is not None and named not in levels:
        raise InvalidInput(f"'{line}': {named} is not a level meter; the machine's are {', '.join(levels) or 'none'}")
    found = named or (item if item in levels else next(iter(levels)) if len(levels) == 1 else None)
    if found is None:
        what = "begin the line with the meter's name and a colon" if levels else 'register one that counts = "level"'
        raise InvalidInput(f"'{line}': which level meter shows what is left? {what}")
    return found


def _micros(line: str, text: str, currency: str) -> int:
    """An amount such as "EUR 1.20" or "1.20 EUR" in micros."""
    words = text.split()
    named, amount = (words[0], words[1]) if words[0].isalpha() else (words[1], words[0])
    if named != currency:
        raise InvalidInput(f"'{line}' is in {named}, the log counts {currency}: write amounts in {currency}")
    micros = Fraction(amount.replace(",", "")) * MICROS
    if micros.denominator != 1 or micros > COUNT_MAX:
        raise InvalidInput(f"'{line}': an amount has at most six decimals, and fits 2^53 millionths")
    return int(micros)


def words_of_orders(policies: Iterable[OrderPolicy], currency: str, meters: Iterable[Meter]) -> list[str]:
    """Policies in the words that `orders_of` reads; what is left is in the meter's unit."""
    units = {meter.meter: meter.unit for meter in meters}
    return [
        f"{each.meter}: reorder {each.quantity:,} {each.item} at {each.reorder_at:,} {units[each.meter]} left from"
        f" {each.supplier} at {currency} {amount_text(each.unit_price)} each,"
        f" budget {currency} {amount_text(each.budget)} in 30 days"
        for each in policies
    ]
