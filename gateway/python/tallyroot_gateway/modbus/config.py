"""The file of a Modbus gateway: lines, the devices on each, and what each device's registers are called in the log."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.config import GatewayConfig, Id
from tallyroot_gateway.field.units import UNITS, convert, number_of
from tallyroot_gateway.modbus.values import WORDS, Order, ValueType

UnitId = Annotated[int, Meta(ge=0, le=255)]
Kind = Literal["register", "level"]

DEVICES_MAX = 247
"""How many devices one line may have: as many as Modbus has addresses for."""

_POINT = re.compile(r"([0-9]{1,5})(?:#([1-9][0-9]?))?\.(?:([A-Za-z0-9_]+)\.([1-9][0-9]?)\.)?([A-Za-z0-9_]+)")
_TCP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+)):([0-9]{1,5})")


class PointOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A point of a SunSpec model, such as "103.WH", in the unit of a meter where that isn't the usual one."""

    point: str
    unit: Id | None = None


class RegisterOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value at an address. What is there × `scale` is in `unit`; the meter counts in `meter_unit` (absent: `unit`).

    `scale` is a whole number or a text such as "0.1": a float would be rounded before we see it. `absent` are raw
    integers by which the device says that it has no value.
    """

    address: Annotated[int, Meta(ge=0, le=65_535)]
    type: ValueType
    function: Literal[3, 4] = 3
    words: Order = "big"
    bytes: Order = "big"
    scale: int | str = 1
    unit: Id
    meter_unit: Id | None = None
    counts: Kind = "register"
    absent: list[int] = []


class DeviceOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device: `points` of SunSpec, or `registers` of its own, by the name of the meter.

    `route` is the machine's site where it has one. With `serial_number` nothing is taken from a device that says
    another. `poll_s` are seconds between two polls, on the clock's grid.
    """

    unit_id: UnitId
    machine: Id
    route: Id | None = None
    poll_s: Annotated[int, Meta(ge=1, le=86_400)] = 60
    serial_number: str | None = None
    base_address: Annotated[int, Meta(ge=0, le=65_533)] | None = None
    registers_max: Annotated[int, Meta(ge=4, le=125)] = 125
    points: dict[Id, str | PointOptions] = {}
    registers: dict[Id, RegisterOptions] = {}


class TlsOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Modbus/TCP security: whose certificates are believed, and our own where the device asks for one."""

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None


class LineOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What several devices share: a connection over `tcp` ("host:port") or a `serial` port.

    `framing` "rtu" is for converters that pass a serial line's bytes on over TCP as they are.
    `pause_ms` is how long the line is silent between two requests. `--discover` asks the unit ids of `scan`, or the
    devices' own.
    """

    tcp: str | None = None
    framing: Literal["tcp", "rtu"] = "tcp"
    tls: TlsOptions | None = None
    serial: str | None = None
    baud: Annotated[int, Meta(ge=300, le=4_000_000)] = 9_600
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 3.0
    pause_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    scan: Annotated[list[UnitId], Meta(max_length=256)] = []
    devices: Annotated[list[DeviceOptions], Meta(max_length=DEVICES_MAX)] = []

    @property
    def name(self) -> str:
        """How the line is called in messages."""
        return self.serial or self.tcp or ""

    def host_and_port(self) -> tuple[str, int]:
        """Where a line over TCP leads to. Raises InvalidInput."""
        match = _TCP.fullmatch(self.tcp or "")
        if match is None or not 0 < int(match[3]) < 65_536:
            raise InvalidInput(f"tcp: write a host and a port, such as 192.168.1.20:502, not {self.tcp!r}")
        return match[1] or match[2], int(match[3])


class ModbusConfig(GatewayConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`, `[serve]` and one `[[lines]]` for each connection."""

    lines: Annotated[list[LineOptions], Meta(min_length=1, max_length=64)]

    def in_folder(self, folder: Path) -> Self:
        """Itself with the certificates' paths relative to a folder."""
        lines = [replace(line, tls=None if line.tls is None else _files_in(line.tls, folder)) for line in self.lines]
        return replace(self, lines=lines)


def _files_in(tls: TlsOptions, folder: Path) -> TlsOptions:
    return TlsOptions(
        ca_file=None if tls.ca_file is None else str(folder / tls.ca_file),
        certificate_file=None if tls.certificate_file is None else str(folder / tls.certificate_file),
        key_file=None if tls.key_file is None else str(folder / tls.key_file),
    )


class PointAddress(Struct, frozen=True):
    """Where a point is: the n-th model of a number, perhaps in the n-th group of a kind, under a name."""

    model: int
    occurrence: int
    group: str | None
    index: int
    name: str


def point_address(text: str) -> PointAddress:
    """ "103.WH", "203#2.TotWhImp" (the second 203) or "714.Prt.1.DCWhInj" (its first port). Raises InvalidInput."""
    match = _POINT.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text!r} is no point: write one such as 103.WH, 203#2.TotWhImp or 714.Prt.1.DCWhInj")
    return PointAddress(int(match[1]), int(match[2] or 1), match[3], int(match[4] or 1), match[5])


def check_devices(config: ModbusConfig) -> None:
    """Raises InvalidInput for lines and devices that can't be right, naming them."""
    meters: set[tuple[str, str]] = set()
    for line in config.lines:
        check_line(line)
        if not line.devices:
            raise InvalidInput(f"the line {line.name} has no [[lines.devices]]: --discover with scan prints some")
        units = [device.unit_id for device in line.devices]
        if len(set(units)) < len(units):
            raise InvalidInput(f"the line {line.name} has a unit_id twice: write one device with all its meters")
        for device in line.devices:
            for meter in [*device.points, *device.registers]:
                if (device.machine, meter) in meters:
                    raise InvalidInput(f"{device.machine}'s meter {meter} stands twice: one meter, one register")
                meters.add((device.machine, meter))
            try:
                _check_device(device)
            except InvalidInput as error:
                raise InvalidInput(f"unit {device.unit_id} of {line.name}: {error}") from None


def check_line(line: LineOptions) -> None:
    """Raises InvalidInput for a line that leads nowhere."""
    if (line.tcp is None) == (line.serial is None):
        raise InvalidInput("a line has either tcp or serial: name one of the two")
    if line.tcp is not None:
        line.host_and_port()
    elif line.tls is not None:
        raise InvalidInput(f"the line {line.name} is serial: tls is for tcp")
    if line.tls is not None and line.framing == "rtu":
        raise InvalidInput(f"the line {line.name}: tls goes with framing tcp")
    for file in () if line.tls is None else (line.tls.ca_file, line.tls.certificate_file, line.tls.key_file):
        if file is not None and not Path(file).is_file():
            raise InvalidInput(f"there is no file {file}, which the tls of {line.name} names")


def _check_device(device: DeviceOptions) -> None:
    if not device.points and not device.registers:
        raise InvalidInput("it has no points and no registers: --discover prints what it offers")
    if not device.points and (device.serial_number is not None or device.base_address is not None):
        raise InvalidInput("serial_number and base_address are SunSpec's: a device with points has them")
    for point in device.points.values():
        point_address(point if isinstance(point, str) else point.point)
    for name, register in device.registers.items():
        if register.address + WORDS[register.type] > 65_536:
            raise InvalidInput(f"the meter {name} reaches beyond address 65535")
        if number_of(register.scale) <= 0:
            raise InvalidInput(f"the meter {name}: a scale is above 0")
        if register.unit not in UNITS and register.meter_unit not in (None, register.unit):
            raise InvalidInput(f"the meter {name}: unknown unit {register.unit}")
        convert(number_of(1), register.unit, register.meter_unit or register.unit)
