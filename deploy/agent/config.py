"""The policy's file: what a machine needs, from which tills, within which limits, and where its key is."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import UNSET, Meta, Struct

from agent.policy import Policy
from deploy.config import KeySettings
from deploy.machines.quantities import whole_units
from deploy.machines.tariff_words import element_of
from deploy.toml_file import read_toml
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.parsing import account, duration_ms, token_amount
from schemas.registration import Registration
from schemas.units import MICROS_DECIMALS, SECOND_MS

VALID_LEAST_S, VALID_MOST_S = 60, 3_600
SOLD = "sold"


class Need(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`buy_at` and `until` in words of the meter ("20 kWh"); `unit` is what is sold, `worth` so much of it a step."""

    meter: str
    buy_at: str
    until: str
    unit: str = ""
    worth: Annotated[int, Meta(ge=1, le=10**9)] = 1


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amounts in the log's currency, and the price as a tariff writes one."""

    price: str
    per_purchase: str
    per_day: str
    per_30_days: str


class PolicyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`operator` signs offers (left out: the log's operators), `gas` pays for claims (left out: the machine's `key`).

    Durations are such as 2m.
    """

    tills: Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)]
    need: Need
    limits: Limits
    kinds: tuple[str, ...] = ()
    operator: str | None = None
    key: KeySettings = KeySettings()
    gas: KeySettings = KeySettings()
    claim_from: str = "1.00"
    valid_for: str = "2m"
    patience: str = "10m"
    avoid_for: str = "1h"
    look_every: str = "5s"


def read_policy(path: Path) -> PolicyFile:
    """The file. Raises InvalidInput for what it has wrong, without showing a key."""
    found = read_toml(path, PolicyFile, "docs/how-to/agents.md")
    for till in found.tills:
        parts = urlsplit(till)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InvalidInput(f"{path}: {till} is no till: write its address, such as https://till.example")
    return found


def policy_of(file: PolicyFile, registration: Registration, log: Log) -> Policy:
    """The policy in base units, by the machine's registration. Raises InvalidInput."""
    name, need = registration.machine, file.need
    unit = next((m.unit for m in registration.meters if m.meter == need.meter and m.kind == "level"), None)
    if unit is None:
        raise InvalidInput(f"{name} has no level meter {need.meter}: register one, or name another in the policy")
    buy_at, until = whole_units(need.buy_at, unit), whole_units(need.until, unit)
    if buy_at >= until:
        raise InvalidInput(f"the policy buys at {need.buy_at} until {need.until}: the second must be more")
    sold = need.unit or unit
    price, per = _price(file.limits.price, log.currency, sold)
    amounts = [_micros(text) for text in (file.limits.per_purchase, file.limits.per_day, file.limits.per_30_days)]
    valid_s, patience_s, avoid_s = (
        duration_ms(t) // SECOND_MS for t in (file.valid_for, file.patience, file.avoid_for)
    )
    if not VALID_LEAST_S <= valid_s <= VALID_MOST_S:
        raise InvalidInput(
            f"valid_for is {file.valid_for}: a till needs a minute, and nothing else is bought meanwhile"
        )
    return Policy(
        machine=name, meter=need.meter, buy_at=buy_at, until=until, unit=sold, worth=need.worth,
        tills=tuple(till.rstrip("/") for till in file.tills), kinds=file.kinds,
        operators=log.rulesets[-1].operators if file.operator is None else (account(file.operator),),
        price_micros=price, per=per, purchase_micros=amounts[0], day_micros=amounts[1], month_micros=amounts[2],
        valid_s=valid_s, patience_s=patience_s, avoid_s=avoid_s,
    )  # fmt: skip


def _price(text: str, currency: str, unit: str) -> tuple[int, int]:
    """Micros for so many units, from words such as "EUR 0.60 per kWh"."""
    element = element_of(text, currency, {SOLD: unit})
    (component,) = element.components
    if component.per is UNSET or component.price <= 0:
        raise InvalidInput(f"'{text}' is no limit: write the dearest price of a unit, such as {currency} 0.60 per kWh")
    return component.price, component.per


def _micros(text: str) -> int:
    return token_amount(text, MICROS_DECIMALS)
