"""What a machine offers: its unit, its price now and when it changes, and what so much of it costs."""

from msgspec import UNSET, Struct

from schemas.errors import InvalidInput
from schemas.registration import Registration, Tariff
from schemas.units import COUNT_MAX, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from streams.core.rating import Price, Prices

OFFERED = "machine.offered"
"""The type in the message that an operator signs over offers: no record has it."""


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that the till sells: the meter that is billed (the first with a price), and where it stands."""

    machine: str
    place: str = ""
    meter: str = ""
    connector: int = 1
    at_once: int = 1
    """How many sessions may be open at once."""


class PriceFrom(Struct, frozen=True, kw_only=True):
    """A price from a moment on (epoch ms): micros for every `per` units, and micros for the session's start."""

    from_ms: int
    price_micros: int
    per: int
    per_session_micros: int


def cost_micros(price: PriceFrom, units: int) -> int:
    """What so many units cost with the session's start, micros rounded up."""
    return -(-units * price.price_micros // price.per) + price.per_session_micros


def units_for(price: PriceFrom, money_micros: int) -> int:
    """How many units an amount pays for beside the session's start; 0 where units are free."""
    left = max(0, money_micros - price.per_session_micros)
    return left * price.per // price.price_micros if price.price_micros else 0


class Offer(Struct, frozen=True, kw_only=True):
    """One machine: `prices` begins with the one of now, and lists the changes of a day."""

    machine: str
    kind: str
    place: str
    meter: str
    unit: str
    currency: str
    prices: tuple[PriceFrom, ...]
    is_free: bool


class Quote(Struct, frozen=True, kw_only=True):
    """What a buyer gets for an amount (micros): about so many units, at the price of now. The rest is refunded."""

    machine: str
    meter: str
    unit: str
    units: int
    amount_micros: int


def offer(item: Item, registration: Registration, currency: str, now_ms: int, *, is_free: bool) -> Offer:
    """The offer of a machine. Raises InvalidInput where the machine has no meter to sell by."""
    meter, unit = sold_meter(item, registration)
    prices = Prices(registration.tariff)
    return Offer(
        machine=item.machine, kind=registration.kind, place=item.place, meter=meter, unit=unit, currency=currency,
        prices=_of_a_day(prices, registration.tariff, meter, now_ms), is_free=is_free and not registration.retired,
    )  # fmt: skip


def sold_meter(item: Item, registration: Registration) -> tuple[str, str]:
    """The meter that is billed, and its unit. Raises InvalidInput."""
    priced = {part.meter for element in registration.tariff.elements for part in element.components}
    for meter in registration.meters:
        if meter.kind != "level" and meter.meter == (item.meter or meter.meter) and meter.meter in priced:
            return meter.meter, meter.unit
    wanted = f"no meter {item.meter} with a price" if item.meter else "no meter with a price"
    raise InvalidInput(f"{item.machine} has {wanted}: sell it by another, or register a tariff")


def quote(item: Item, registration: Registration, now_ms: int, *, units: int | None, money_micros: int | None) -> Quote:
    """What units or money (one of them) come to, at the price of now and with the session's start.

    Raises InvalidInput where there is nothing to pay, or more than a payment can say.
    """
    meter, unit = sold_meter(item, registration)
    now = _price(Prices(registration.tariff), meter, now_ms)
    if now.price_micros < 0 or now.per_session_micros < 0 or not (now.price_micros or now.per_session_micros):
        raise InvalidInput(f"{item.machine} has nothing to pay for now: see its prices")
    if units is None:
        amount = money_micros or 0
        units = units_for(now, amount)
    else:
        amount = cost_micros(now, units)
    if not 0 < amount <= COUNT_MAX or units > COUNT_MAX:
        raise InvalidInput(f"that comes to {amount} micros: ask for another amount")
    return Quote(machine=item.machine, meter=meter, unit=unit, units=units, amount_micros=amount)


def _price(prices: Prices, meter: str, at_ms: int) -> PriceFrom:
    usage, start = prices.of_usage(meter, at_ms), prices.of_session(meter, at_ms) or Price(0, 0)
    return PriceFrom(from_ms=at_ms, price_micros=usage.micros, per=usage.per, per_session_micros=start.micros)


def _of_a_day(prices: Prices, tariff: Tariff, meter: str, now_ms: int) -> tuple[PriceFrom, ...]:
    """The price of now and its changes."""
    found = [_price(prices, meter, now_ms)]
    for at_ms in _turns(tariff, now_ms):
        next_ = _price(prices, meter, at_ms)
        if (next_.price_micros, next_.per, next_.per_session_micros) != (
            found[-1].price_micros, found[-1].per, found[-1].per_session_micros,
        ):  # fmt: skip
            found.append(next_)
    return tuple(found)


def _turns(tariff: Tariff, now_ms: int) -> list[int]:
    """The moments of a day from now at which a price can change: local midnights, times of restrictions, offsets."""
    limits = [element.restrictions for element in tariff.elements]
    words = [word for each in limits for word in (each.start_time, each.end_time) if word is not UNSET]
    times_ms = {0, *(int(word[:2]) * HOUR_MS + int(word[3:]) * MINUTE_MS for word in words)}
    found = {start_ms for start_ms, _ in tariff.offsets}
    for offset_s in {offset_s for _, offset_s in tariff.offsets}:
        midnight_ms = now_ms - (now_ms + offset_s * SECOND_MS) % DAY_MS
        found |= {midnight_ms + days * DAY_MS + time_ms for days in (0, 1) for time_ms in times_ms}
    return sorted(at_ms for at_ms in found if now_ms < at_ms < now_ms + DAY_MS)
