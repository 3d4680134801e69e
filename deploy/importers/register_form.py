"""A registration form for the machines of a file, to be filled in by a person: who is paid, at what price.

Capacities come from the file: of what is counted in sessions of Wh the smallest usual class of chargers that they fit,
otherwise the least usual size that 99 % of a machine's rows don't exceed. Accounts are blanks that `tallyroot register`
refuses, so nobody is paid by a form that was not read.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from deploy.importers.charger_class import charger_class_w
from deploy.importers.drafts import Draft, Drafts
from deploy.importers.log_readings import Lanes, meter_of
from deploy.importers.mapping import Mapping
from schemas.units import HOUR_MS, MINUTE_MS

SIZES: tuple[int, ...] = tuple(size * 10**power for power in range(16) for size in (1, 2, 3, 4, 5, 6, 8))


def register_form(found: Drafts, mapping: Mapping, currency: str) -> str:
    """The form as TOML, in the way of `deploy/machines/examples`."""
    tariff = [line.replace("CURRENCY", currency) for line in mapping.form.tariff] or _blank_tariff(mapping, currency)
    lines = [
        "# Fill in who is paid, the tariff, and check the capacities; then: tallyroot register THIS_FILE",
        f"kind = {_text(mapping.form.kind)}",
        f"zone = {_text(mapping.zone or 'UTC')}        # the clock of the tariff",
        "",
        "# What is earned goes to these accounts, in shares that add up to 100 %.",
        'payees = [{ account = "0x... YOUR ACCOUNT", name = "owner", share = "100 %" }]',
        "",
        "# The first line that fits a moment sets the price.",
        "tariff = [",
        *(f"    {_text(line)}," for line in tariff),
        "]",
    ]
    for machine in found.machines():
        lines += ["", *_machine(machine, found.names.get(machine, machine), found.of(machine), mapping, tariff)]
    return "\n".join(lines) + "\n"


def _blank_tariff(mapping: Mapping, currency: str) -> list[str]:
    words = {"Wh": "kWh", "m": "km", "s": "hour"}
    return [f"{meter}: {currency} ?.?? per {words.get(a.unit, a.unit)}" for meter, a in mapping.amounts.items()][:1]


def _machine(machine: str, name: str, drafts: list[Draft], mapping: Mapping, tariff: list[str]) -> list[str]:
    shown = [] if machine == name else [f"# {' '.join(name.split())}"]
    lines = [*shown, "[[machines]]", f"id = {_text(machine)}"]
    lanes = _lanes(drafts, mapping)
    if lanes > 1:
        lines += [f"# {lanes} of its sessions overlap: each has a meter of its own, at the same price.", "tariff = ["]
        lines += [f"    {_text(line)}," for line in _tariff_of_lanes(tariff, lanes, mapping)] + ["]"]
    for lane in range(1, lanes + 1):
        for meter, amount in mapping.amounts.items():
            highest = _per_hour(drafts, meter, mapping)
            capacity = amount.capacity or _capacity(_size(drafts, meter, highest, mapping), amount.unit)
            lines += [
                f"[machines.meters.{_key(meter_of(meter, lane))}]",
                f'counts = "{mapping.meter_kind}"',
                f"unit = {_text(amount.unit)}",
                f"capacity = {_text(capacity)}        # the file shows up to {highest:,} {amount.unit} per hour",
            ]
            if mapping.meter_kind == "register":
                first = min(drafts, key=lambda draft: draft.end_ms)
                lines.append(f'opening = "{first.amounts.get(meter, 0)}"        # the first that the file shows')
    return lines


def _tariff_of_lanes(tariff: list[str], lanes: int, mapping: Mapping) -> Iterator[str]:
    """Each line for each lane's meter by name."""
    for line in tariff:
        meter, colon, price = line.partition(": ")
        base, price = (meter, price) if colon else (next(iter(mapping.amounts)), line)
        for lane in range(1, lanes + 1):
            yield f"{meter_of(base, lane)}: {price}"


def _lanes(drafts: list[Draft], mapping: Mapping) -> int:
    """How many sessions of a machine overlap at most."""
    if mapping.kind != "sessions":
        return 1
    lanes, most = Lanes(), 1
    for draft in sorted(drafts, key=lambda draft: (draft.start_ms, draft.end_ms)):
        lane = lanes.first_free(draft.start_ms, draft.end_ms)
        lanes.take(lane, draft.start_ms, draft.end_ms)
        most = max(most, lane)
    return most


def _per_hour(drafts: list[Draft], meter: str, mapping: Mapping) -> int:
    """What 99 % of the rows don't exceed, per hour; of events, what an hour brought."""
    if mapping.kind == "events":
        hours: dict[int, int] = defaultdict(int)
        for draft in drafts:
            hours[draft.end_ms // HOUR_MS] += draft.amounts.get(meter, 0)
        rates = sorted(hours.values())
    elif mapping.kind == "registers":
        shown = sorted((draft.end_ms, draft.amounts[meter]) for draft in drafts if meter in draft.amounts)
        rates = sorted(max(0, b - a) * HOUR_MS // (later - at) for (at, a), (later, b) in pairwise(shown))
    else:
        rates = sorted(
            draft.amounts[meter] * HOUR_MS // max(draft.end_ms - draft.start_ms, MINUTE_MS)
            for draft in drafts
            if meter in draft.amounts
        )
    return rates[(len(rates) * 99 + 99) // 100 - 1] if rates else 0


def _size(drafts: list[Draft], meter: str, highest: int, mapping: Mapping) -> int:
    if mapping.kind == "sessions" and mapping.amounts[meter].unit == "Wh":
        return charger_class_w((d.amounts[meter], d.end_ms - d.start_ms) for d in drafts if meter in d.amounts)
    return next((size for size in SIZES if size >= highest), SIZES[-1])


def _capacity(size: int, unit: str) -> str:
    if unit == "Wh":
        return f"{size // 1_000} kW" if size % 1_000 == 0 else f"{size / 1_000:g} kW" if size > 1_000 else f"{size} W"
    return f"{size} {unit}/h" if unit.isalpha() else f"{size}/h"


def _text(value: str) -> str:
    """A TOML string."""
    return msgspec.json.encode(value).decode()


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _text(name)
