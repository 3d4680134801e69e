"""SunSpec's models: which register of a block is which point, as the alliance's own files (pysunspec2) say.

A point's value is an integer × 10^scale factor, where the scale factor is a register of the same block. Each type has a
value that means "not implemented"; an accumulator says it with 0.
"""

import importlib.resources
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any, Literal, NamedTuple

import sunspec2

from tallyroot_gateway.field.units import UNITS
from tallyroot_gateway.modbus.config import Kind, PointAddress
from tallyroot_gateway.modbus.values import exact_float
from tallyroot_gateway.reading import is_id

HEADER_WORDS = 2
"""A block begins with its model's number and its length, which doesn't count these two."""

SCALE_MAX = 10
"""Scale factors are -10 to 10."""

_ABSENT = {
    "int16": 0x8000, "uint16": 0xFFFF, "acc16": 0, "sunssf": 0x8000, "int32": 0x8000_0000, "uint32": 0xFFFF_FFFF,
    "acc32": 0, "int64": 1 << 63, "uint64": (1 << 64) - 1, "acc64": 0,
}  # fmt: skip
"""The bits by which a type says that it has no value."""

_FLOATS = {"float32": (8, 23), "float64": (11, 52)}

NUMBERS = {*_ABSENT, *_FLOATS} - {"sunssf"}
"""Types of which a reading can be made."""

_UNITS = {
    "WH": "Wh", "Varh": "varh", "VARh": "varh", "Var": "var", "VAr": "var", "Pct": "Percent", "%WHRtg": "Percent",
    "Secs": "s",
}  # fmt: skip

_ENERGY_OF_FLOATS = re.compile(r"WH|Tot(?:Wh|VAh|VArh|Varh)\w*|DCWh(?:Inj|Abs)")
"""Counters that the models of 11x, 21x and 70x keep in a float32 or a uint64."""

_COUNTERS = ("acc16", "acc32", "acc64")

ASLEEP: dict[int, tuple[str, frozenset[int]]] = {
    **{
        model: ("St", frozenset({1, 2, 3, 6, 8}))  # off, sleeping, starting, shutting down, standby
        for model in (101, 102, 103, 111, 112, 113)
    },
    701: ("InvSt", frozenset({0, 1, 2, 5, 7})),
}
"""By which point an inverter says that it feeds nothing in: a counter that is 0 then is a placeholder."""

DEFAULTS: dict[int, dict[str, str]] = {
    **{model: {"energy": "WH"} for model in (101, 102, 103, 111, 112, 113)},
    **{model: {"export": "TotWhExp", "import": "TotWhImp"} for model in (*range(201, 205), *range(211, 215))},
    701: {"energy": "TotWhInj", "import": "TotWhAbs"},
    713: {"charge": "SoC"},
    714: {"dc_energy": "DCWhInj"},
    802: {"charge": "SoC"},
}
"""What `--discover` proposes: meters by name, of the models that most devices have."""


class Point(NamedTuple):
    """Where a point lies in its block (in registers from the block's first), and how it is read."""

    name: str
    type: str
    offset: int
    size: int
    scale: int | None
    """A scale factor that never changes."""
    scale_offset: int | None
    unit: str
    kind: Kind


class Model(NamedTuple):
    """A model: its own points, and those of the groups that repeat behind them."""

    label: str
    size: int
    points: dict[str, Point]
    offsets: dict[str, int]
    group: str | None
    group_size: int
    group_points: dict[str, Point]


@cache
def model_of(number: int) -> Model | None:
    """A model as its file says; None for one that is not among the published ones."""
    folder = importlib.resources.files(sunspec2) / "models" / "json"
    try:
        top = json.loads((folder / f"model_{number}.json").read_text(encoding="utf-8"))["group"]
    except FileNotFoundError:
        return None
    points, offsets, size = _points(number, top, {}, 0)
    groups = top.get("groups", [])
    group, group_size, group_points = None, 0, dict[str, Point]()
    if len(groups) == 1 and not groups[0].get("groups"):
        group = groups[0]["name"]
        group_points, _, end = _points(number, groups[0], offsets, size)
        group_size = end - size
    return Model(str(top.get("label", "")), size, points, offsets, group, group_size, group_points)


def point_of(address: PointAddress) -> Point | None:
    """The point of an address; None where its model has none of that name, or a reading can't be made of it."""
    model = model_of(address.model)
    if model is None:
        return None
    if address.group is None:
        return model.points.get(address.name)
    found = model.group_points.get(address.name) if address.group == model.group else None
    return None if found is None else found._replace(offset=found.offset + (address.index - 1) * model.group_size)


def meter_unit(point: Point) -> str:
    """The unit of a meter for a point: whole, and small enough to be worth counting."""
    return "permille" if point.unit == "Percent" else point.unit


Absent = Literal["not_implemented", "not_accumulated"]


def point_value(kind: str, bits: int) -> Fraction | Absent:
    """The number that the bits of a point's type say, without its scale; or why there is none."""
    if kind in _FLOATS:
        exact = exact_float(bits, *_FLOATS[kind])
        return "not_implemented" if exact is None else exact
    if bits == _ABSENT[kind]:
        return "not_accumulated" if kind in _COUNTERS else "not_implemented"
    size = int(re.sub(r"\D", "", kind) or 16)
    return Fraction(bits - (1 << size) if kind.startswith("int") and bits >> (size - 1) else bits)


def scale_of(bits: int) -> int | None:
    """A scale factor; None where there is none, or none that a device can mean."""
    scale = bits - (1 << 16) if bits >> 15 else bits
    return scale if abs(scale) <= SCALE_MAX else None


def modulus_of(point: Point, scale: int) -> Fraction | None:
    """Where a counter begins again, in the point's unit: 2^bits × 10^scale; None for what isn't one."""
    if point.type not in _COUNTERS:
        return None
    return Fraction(1 << int(point.type[3:])) * Fraction(10) ** scale


def text_of(registers: Sequence[int]) -> str:
    """A string of a device, without what fills it up; a `?` for each character that can't be printed."""
    data = b"".join(word.to_bytes(2, "big") for word in registers)
    text = data.split(b"\0")[0].decode("latin-1").strip()
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)


def _points(
    number: int, group: dict[str, Any], outer: dict[str, int], begin: int
) -> tuple[dict[str, Point], dict[str, int], int]:
    """A group's points from an offset on, every name's offset, and the end."""
    offsets: dict[str, int] = {}
    end = begin
    for raw in group["points"]:
        offsets[raw["name"]] = end
        end += raw["size"]
    points: dict[str, Point] = {}
    for raw in group["points"]:
        if raw["type"] not in NUMBERS or raw["name"] in ("ID", "L"):
            continue
        scale, scale_offset = raw.get("sf", 0), None
        if isinstance(scale, str):
            scale_offset = offsets.get(scale, outer.get(scale))
            if scale_offset is None:
                continue
            scale = None
        name, unit = raw["name"], raw.get("units", "count")
        unit = _UNITS.get(unit, unit if unit in UNITS or is_id(unit) else "count")
        is_energy = unit in ("Wh", "varh", "VAh") and _ENERGY_OF_FLOATS.fullmatch(name) is not None
        kind: Kind = "register" if raw["type"] in _COUNTERS or is_energy else "level"
        offset = offsets[name]
        points[name] = Point(name, raw["type"], offset, raw["size"], scale, scale_offset, unit, kind)
    return points, offsets, end


def is_asleep(number: int, state: int) -> bool:
    """Whether an inverter of this model says with its state that it feeds nothing in."""
    return number in ASLEEP and state in ASLEEP[number][1]
