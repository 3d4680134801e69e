"""How a meter moves, in words, both ways: "moves in steps of 1 kWh" is a burst of 1,000 Wh.

moves in steps of AMOUNT      a register's burst: it stands still, then moves by this much at once
up to AMOUNT at once          the burst of any meter: what may come at once beyond what time allows
rolls over at AMOUNT          a register's modulus: it runs from 0 to one below, and begins again
at most N starts an hour      how many session starts an hour are paid for; without it 60
"""

import re
from collections.abc import Iterable, Sequence

from msgspec import UNSET, Struct, UnsetType, structs

from deploy.machines.quantities import amount_words, whole_units
from schemas.errors import InvalidInput
from schemas.reading import MeterKind
from schemas.registration import Meter
from schemas.units import COUNT_MAX

_BURST = re.compile(r"(?:moves\s+in\s+steps\s+of\s+(?P<step>.+)|up\s+to\s+(?P<burst>.+)\s+at\s+once)")
_MODULUS = re.compile(r"rolls\s+over\s+at\s+(.+)")
_STARTS = re.compile(r"at\s+most\s+([0-9][0-9,]*)\s+starts?\s+(?:an|per)\s+hour")

MODULUS_MIN = 2


class Moves(Struct, frozen=True):
    """What a meter's words say, in its unit."""

    burst: int = 1
    modulus: int | UnsetType = UNSET
    starts_per_hour: int = 60


def moves_of(lines: Sequence[str], kind: MeterKind, unit: str) -> Moves:
    """The words of a meter. Raises InvalidInput for what is not understood, is said twice, or doesn't fit its kind."""
    found, said = Moves(), set[str]()
    for line in lines:
        name, value = _one(line.strip(), kind, unit)
        if name in said:
            raise InvalidInput(f"'{line}': {name} is said twice, keep one of the two")
        said.add(name)
        found = structs.replace(found, **{name: value})
    return found


def _one(line: str, kind: MeterKind, unit: str) -> tuple[str, int]:
    """The field that a line sets, and its value."""
    if (words := _BURST.fullmatch(line)) is not None:
        if kind == "level":
            raise InvalidInput(f"'{line}': a level is never billed, so nothing bounds how it moves")
        if words["step"] and kind != "register":
            raise InvalidInput(f"'{line}': only a register moves in steps; of a {kind} write 'up to 10 {unit} at once'")
        return "burst", _at_least(1, whole_units(words["step"] or words["burst"], unit), line, unit)
    if (words := _MODULUS.fullmatch(line)) is not None:
        if kind != "register":
            raise InvalidInput(f"'{line}': only a register rolls over, this is a {kind}")
        return "modulus", _at_least(MODULUS_MIN, whole_units(words[1], unit), line, unit)
    if (words := _STARTS.fullmatch(line)) is not None:
        return "starts_per_hour", _at_least(1, int(words[1].replace(",", "")), line, "starts")
    raise InvalidInput(
        f"'{line}' is not understood: write 'moves in steps of 10 {unit}', 'up to 10 {unit} at once',"
        f" 'rolls over at 65,536 {unit}' or 'at most 30 starts an hour'"
    )


def _at_least(least: int, value: int, line: str, unit: str) -> int:
    if not least <= value <= COUNT_MAX:
        raise InvalidInput(f"'{line}': write {least} to 2^53 {unit}")
    return value


def words_of_moves(meter: Meter) -> Iterable[str]:
    """What a registered meter says beyond the usual, in the words that `moves_of` reads."""
    if meter.burst != 1:
        burst = amount_words(meter.burst, meter.unit)
        yield f"moves in steps of {burst}" if meter.kind == "register" else f"up to {burst} at once"
    if meter.modulus is not UNSET:
        yield f"rolls over at {amount_words(meter.modulus, meter.unit)}"
    if meter.starts_per_hour != Meter("", "", "level", 1).starts_per_hour:
        yield f"at most {meter.starts_per_hour:,} starts an hour"
