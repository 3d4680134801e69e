"""What the devices of all lines offer, and a form to start from: everything but the form is a comment of it."""

import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil
from typing import NamedTuple, TextIO

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import convert, whole_part
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions, PointAddress, check_line, point_address
from tallyroot_gateway.modbus.line import Line, NoAnswer
from tallyroot_gateway.modbus.models import (
    DEFAULTS,
    HEADER_WORDS,
    Point,
    meter_unit,
    model_of,
    modulus_of,
    point_of,
    point_value,
    scale_of,
)  # fmt: skip
from tallyroot_gateway.modbus.poller import map_value
from tallyroot_gateway.modbus.sunspec import Block, Chain, find_chain
from tallyroot_gateway.modbus.values import WORDS, raw_integer
from tallyroot_gateway.reading import COUNT_MAX

_RATINGS = ("120.WRtg", "121.WMax", "702.WMaxRtg")
"""Where an inverter says how many watts it can feed in."""

_FORM = """
# A form for `tallyroot register`: check the names, the price, who is paid and each capacity, then register it.
zone = "UTC"
payees = [
    { account = "0x1111111111111111111111111111111111111111", name = "owner", share = "100 %" },
]
"""


class Found(NamedTuple):
    """A point of a device with a value: where it is, what it shows in its own unit, and its scale."""

    address: str
    point: Point
    value: Fraction
    scale: int


class Proposed(NamedTuple):
    """A meter for the form, and the point that it is read from."""

    name: str
    point: str
    unit: str
    kind: str
    capacity: str
    moves: list[str]


async def discover_lines(lines: Sequence[LineOptions], out: TextIO | None = None) -> None:
    """Asks each unit id of each line and prints what it says. Raises InvalidInput for a line that leads nowhere."""
    to = sys.stdout if out is None else out
    machines: list[tuple[str, list[Proposed]]] = []
    for options in lines:
        check_line(options)
        line = Line(options)
        known = {device.unit_id: device for device in options.devices}
        try:
            for unit_id in options.scan or list(known) or [1]:
                device = known.get(unit_id)
                print(f"# {options.name}, unit {unit_id}", file=to)
                try:
                    proposed = await _discover_device(line, unit_id, device, to)
                except NoAnswer as error:
                    print(f"#   {error}", file=to)
                    continue
                machine = device.machine if device is not None else f"device-{len(machines) + 1}"
                _print_gateway_lines(unit_id, machine, proposed, to)
                if proposed:
                    machines.append((machine, proposed))
        finally:
            line.close()
    _print_form(machines, to)


async def _discover_device(line: Line, unit_id: int, device: DeviceOptions | None, to: TextIO) -> list[Proposed]:
    if device is not None and device.registers:
        await _print_map(line, device, to)
        if not device.points:
            return [
                Proposed(name, "", one.meter_unit or one.unit, one.counts, _capacity(one.counts, "10 kW"), [])
                for name, one in device.registers.items()
            ]
    chain = await find_chain(line, unit_id, None if device is None else device.base_address)
    identity = chain.identity
    print(f"#   {identity.manufacturer} {identity.product} {identity.version}".rstrip(), file=to)
    if identity.serial_number:
        print(f"#   serial_number = {_quoted(identity.serial_number)}", file=to)
    if not chain.is_whole:
        print("#   the chain of models breaks off: what follows may be missing", file=to)
    found: list[Found] = []
    for block in chain.blocks:
        model = model_of(block.model)
        label = "not among the published ones" if model is None else model.label
        print(f"#   model {block.model} at {block.address}, {block.length} registers: {label}", file=to)
        try:
            found += await _print_block(line, unit_id, chain, block, to)
        except NoAnswer as error:
            print(f"#     {error}", file=to)
    return list(_proposed(device, found))


async def _print_block(line: Line, unit_id: int, chain: Chain, block: Block, to: TextIO) -> list[Found]:
    """Prints the points of a block that have a value, and returns them."""
    model = model_of(block.model)
    if model is None or block.model == 1:
        return []
    size = block.length + HEADER_WORDS
    words: list[int] = []
    while len(words) < size:
        words += await line.read(unit_id, block.address + len(words), min(100, size - len(words)))
    occurrence = [one for one in chain.blocks if one.model == block.model].index(block) + 1
    found: list[Found] = []
    for address in _addresses(block, occurrence, size):
        point = point_of(address)
        if point is None or max(point.offset + point.size, (point.scale_offset or 0) + 1) > size:
            continue
        value = point_value(point.type, raw_integer(words[point.offset : point.offset + point.size]))
        scale = point.scale if point.scale_offset is None else scale_of(words[point.scale_offset])
        if isinstance(value, str) or scale is None:
            continue
        text = _address_text(address)
        found.append(Found(text, point, value * Fraction(10) ** scale, scale))
        print(f"#     {text} = {_decimal(found[-1].value)} {point.unit} ({point.kind})", file=to)
    return found


def _addresses(block: Block, occurrence: int, size: int) -> Iterator[PointAddress]:
    """Every point that a block may have."""
    model = model_of(block.model)
    if model is None:
        return
    for name in model.points:
        yield PointAddress(block.model, occurrence, None, 1, name)
    if model.group is not None and model.group_size:
        for index in range(1, min(99, (size - model.size) // model.group_size) + 1):
            for name in model.group_points:
                yield PointAddress(block.model, occurrence, model.group, index, name)


def _address_text(address: PointAddress) -> str:
    model = f"{address.model}" + ("" if address.occurrence == 1 else f"#{address.occurrence}")
    return ".".join((model, *([] if address.group is None else [address.group, str(address.index)]), address.name))


def _proposed(device: DeviceOptions | None, found: Sequence[Found]) -> Iterator[Proposed]:
    """The device's own points, or what most would want, each name once: the first model that has it."""
    by_address = {one.address: one for one in found}
    rating = next((by_address[name] for name in _RATINGS if name in by_address), None)
    capacity = "10 kW" if rating is None or rating.value < 1 else f"{ceil(rating.value)} W"
    own = {} if device is None else device.points
    wanted = {
        name: (one, None) if isinstance(one, str) else (one.point, one.unit) for name, one in own.items()
    } or _usual(found)
    for name, (text, unit) in wanted.items():
        one = by_address.get(text)
        if one is None:
            continue
        to = unit or meter_unit(one.point)
        if not 0 <= convert(one.value, one.point.unit, to) <= COUNT_MAX:
            continue
        moves = list(_moves(one, to))
        yield Proposed(name, text, to, one.point.kind, _capacity(one.point.kind, capacity), moves)


def _usual(found: Sequence[Found]) -> dict[str, tuple[str, str | None]]:
    wanted: dict[str, tuple[str, str | None]] = {}
    for one in found:
        address = point_address(one.address)
        names = DEFAULTS.get(address.model, {})
        for name in (name for name, point in names.items() if point == address.name and address.group is None):
            wanted.setdefault(name if address.occurrence == 1 else f"{name}-{address.occurrence}", (one.address, None))
    return wanted


def _capacity(kind: str, of_register: str) -> str:
    return of_register if kind == "register" else "1000 per hour"


def _moves(one: Found, unit: str) -> Iterator[str]:
    """How a counter moves, for the form: in which steps, and where it begins again."""
    if one.point.kind != "register":
        return
    step = convert(Fraction(1), one.point.unit, unit, scale=one.scale)
    if one.point.type == "float32":  # 24 bits of it are exact
        step = convert(Fraction(2) ** max(0, int(one.value).bit_length() - 24), one.point.unit, unit)
    if step > 1:
        yield f"moves in steps of {ceil(step)} {unit}"
    modulus = modulus_of(one.point, one.scale)
    if modulus is not None:
        rolls_over = convert(modulus, one.point.unit, unit)
        if rolls_over <= COUNT_MAX:
            yield f"rolls over at {ceil(rolls_over)} {unit}"


async def _print_map(line: Line, device: DeviceOptions, to: TextIO) -> None:
    for name, options in device.registers.items():
        try:
            words = await line.read(device.unit_id, options.address, WORDS[options.type], options.function)
        except NoAnswer as error:
            if not error.reason.startswith("exception_"):
                raise
            print(f"#   {name} at {options.address}: {error}", file=to)
            continue
        value, reason = map_value(options, words)
        try:
            said = reason if value is None else f"{whole_part(value)} {options.meter_unit or options.unit}"
        except InvalidInput as error:
            said = str(error)
        print(f"#   {name} at {options.address}: {' '.join(f'{word:04x}' for word in words)} = {said}", file=to)


def _print_gateway_lines(unit_id: int, machine: str, proposed: Sequence[Proposed], to: TextIO) -> None:
    """The device's table for the gateway's own file, where its meters are SunSpec's."""
    points = [one for one in proposed if one.point]
    if not points:
        return
    print(
        f'#   for the gateway\'s file:\n#   [[lines.devices]]\n#   unit_id = {unit_id}\n#   machine = "{machine}"',
        file=to,
    )
    print(f"#   points = {{ {', '.join(f'{one.name} = {_point_toml(one)}' for one in points)} }}", file=to)


def _point_toml(one: Proposed) -> str:
    point = point_of(point_address(one.point))
    if point is not None and meter_unit(point) != one.unit:
        return f'{{ point = "{one.point}", unit = "{one.unit}" }}'
    return f'"{one.point}"'


def _print_form(machines: Sequence[tuple[str, Sequence[Proposed]]], to: TextIO) -> None:
    if not machines:
        print("# no device offers anything to register", file=to)
        return
    print(_FORM, file=to)
    for machine, proposed in machines:
        is_feeding = any(one.name == "energy" for one in proposed)
        print(f'[[machines]]\nid = "{machine}"\nkind = "{"pv_inverter" if is_feeding else "meter"}"', file=to)
        registers = [one.name for one in proposed if one.kind == "register"]
        tariff = f'"{registers[0]}: EUR 0.081 per kWh"' if registers else ""
        print(f"tariff = [{tariff}]", file=to)
        for one in proposed:
            print(f'[machines.meters.{one.name}]\ncounts = "{one.kind}"\nunit = "{one.unit}"', file=to)
            print(f'capacity = "{one.capacity}"', file=to)
            if one.moves:
                print("moves = [" + ", ".join(f'"{move}"' for move in one.moves) + "]", file=to)


def _decimal(value: Fraction) -> str:
    """A number for people; what a float has beyond nine digits is not shown."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{round(value, 9).numerator / round(value, 9).denominator:.9f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + "".join("?" if letter in '"\\' else letter for letter in text) + '"'
