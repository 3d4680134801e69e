"""Polls one device: its registers as readings of one moment, each value with the scale that came in the same answer.

1. The chain of blocks is walked at the first poll, and again where a block is no longer where it was.
2. Each answer begins with its block's header, so that a value is never read from another model's registers.
3. A value and its scale come in one answer. Where that is too long, the scale is read before and after the value, and
   all of it again where the two differ.
"""

import logging
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from msgspec import UNSET
from prometheus_client import Counter, Gauge

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.field.metrics import Metrics
from tallyroot_gateway.field.units import convert, number_of, whole_part
from tallyroot_gateway.modbus.config import DeviceOptions, Kind, PointAddress, RegisterOptions, point_address
from tallyroot_gateway.modbus.line import Line, NoAnswer
from tallyroot_gateway.modbus.models import (
    ASLEEP,
    HEADER_WORDS,
    Point,
    is_asleep,
    meter_unit,
    model_of,
    modulus_of,
    point_of,
    point_value,
    scale_of,
)  # fmt: skip
from tallyroot_gateway.modbus.sunspec import Block, Chain, find_chain
from tallyroot_gateway.modbus.values import WORDS, number, raw_integer
from tallyroot_gateway.reading import NewReading, Reading

TRIES = 3
"""How often what was torn is read, before it is left for the next poll."""

_log = logging.getLogger("tallyroot.gateway")


class PollMetrics:
    """What is counted of polls, beside what all gateways count."""

    def __init__(self, metrics: Metrics) -> None:
        self.polls = Counter(
            "tallyroot_gateway_modbus_polls", "Polls, by how they ended.", ["machine", "result"],
            registry=metrics.registry,
        )  # fmt: skip
        self.answered_at = Gauge(
            "tallyroot_gateway_modbus_answered_at_seconds", "When a device last answered, in epoch seconds.",
            ["machine"], registry=metrics.registry,
        )  # fmt: skip
        self.scale_changes = Counter(
            "tallyroot_gateway_modbus_scale_changes", "Scale factors that changed between two polls.", ["machine"],
            registry=metrics.registry,
        )  # fmt: skip


class Sample(NamedTuple):
    """What a meter showed, in its unit; or why there is no value, in a word."""

    meter: str
    kind: Kind
    value: Fraction | None
    reason: str = ""
    is_idle: bool = False
    """The device says that it feeds nothing in."""


class _Wanted(NamedTuple):
    """A point that a meter is read from, and where its block is."""

    meter: str
    point: Point
    unit: str
    block: Block
    state: int | None
    """Where in the block the device says whether it sleeps."""


class Poller:
    """Polls the devices of a line for one intake; what it must remember of them over a restart is in the spool."""

    def __init__(self, line: Line, intake: Intake, metrics: PollMetrics) -> None:
        self._line, self._intake, self._metrics = line, intake, metrics
        self._chains: dict[int, Chain] = {}
        self._scales: dict[tuple[int, str], int] = {}
        self._said: dict[tuple[int, str], str] = {}

    async def poll_once(self, device: DeviceOptions, now_ms: int) -> list[Reading]:
        """Takes what a device shows as observed at `now_ms` (epoch ms); returns it numbered, once it is on disk.

        Raises NoAnswer where the device is silent, asleep or another, and InvalidInput where the disk takes nothing.
        """
        try:
            samples = await self._samples(device)
        except NoAnswer as error:
            self._metrics.polls.labels(device.machine, error.reason).inc()
            self._chains.pop(device.unit_id, None)
            raise
        readings, notes = list[NewReading](), dict[str, str | None]()
        for sample in samples:
            reading = self._reading_of(device, sample, now_ms, notes)
            if reading is not None:
                readings.append(reading)
        route = device.route or device.machine
        taken = await self._intake.take(route, readings, notes=notes) if readings else []
        self._metrics.polls.labels(device.machine, "answered").inc()
        self._metrics.answered_at.labels(device.machine).set(now_ms / 1000)
        return taken

    def _reading_of(
        self, device: DeviceOptions, sample: Sample, now_ms: int, notes: dict[str, str | None]
    ) -> NewReading | None:
        """A sample as a reading; None for one that is counted and left out. `notes` gets what must be remembered."""
        reason, detail, value = sample.reason, "", 0
        if sample.value is not None:
            try:
                value = whole_part(sample.value)
            except InvalidInput as error:
                reason, detail = "out_of_range", str(error)
        note = f"counted:{device.machine}/{sample.meter}"
        if not reason and sample.kind == "register":
            has_counted = self._intake.note(device.route or device.machine, note) is not None
            if value == 0 and sample.is_idle and has_counted:
                reason = "asleep"
            elif value > 0 and not has_counted:
                notes[note] = "yes"
        self._say(device, sample, reason, detail)
        if reason:
            return None
        is_register = sample.kind == "register"
        return NewReading(
            machine=device.machine,
            meter=sample.meter,
            observed_at=now_ms,
            register=value if is_register else UNSET,
            level=UNSET if is_register else value,
            may_fall=is_register,
        )

    def _say(self, device: DeviceOptions, sample: Sample, reason: str, detail: str) -> None:
        """Counts what was left out. It is written down where the reason is new: at night nothing else changes."""
        key = (device.unit_id, sample.meter)
        if reason and reason == self._said.get(key):
            self._intake.metrics.rejected.labels(reason).inc()
        elif reason:
            self._intake.reject(device.machine, reason, f"meter {sample.meter}: {detail or reason}", str(sample.value))
        self._said[key] = reason

    async def _samples(self, device: DeviceOptions) -> list[Sample]:
        samples = await self._sunspec_samples(device) if device.points else []
        for meter, register in device.registers.items():
            samples.append(await self._map_sample(device, meter, register))
        return samples

    # SunSpec

    async def _sunspec_samples(self, device: DeviceOptions) -> list[Sample]:
        for is_again in (False, True):
            chain = self._chains.get(device.unit_id)
            if chain is None:
                chain = self._chains[device.unit_id] = await self._checked_chain(device)
            try:
                return await self._read_points(device, chain)
            except _Moved as error:
                self._chains.pop(device.unit_id)
                if is_again:
                    raise NoAnswer("moved", f"{device.machine}: {error}") from None
        return []

    async def _checked_chain(self, device: DeviceOptions) -> Chain:
        chain = await find_chain(self._line, device.unit_id, device.base_address)
        said = chain.identity.serial_number
        if device.serial_number is not None and said != device.serial_number:
            detail = f"unit {device.unit_id} of {self._line.options.name} has the serial number {said!r}, not"
            raise NoAnswer("wrong_device", f"{detail} {device.serial_number!r}: nothing is taken from it")
        return chain

    async def _read_points(self, device: DeviceOptions, chain: Chain) -> list[Sample]:
        """All points, block by block: in one request where the block is short enough, else point by point."""
        samples: list[Sample] = []
        by_block: dict[Block, list[_Wanted]] = {}
        for meter, options in device.points.items():
            text, unit = (options, None) if isinstance(options, str) else (options.point, options.unit)
            wanted = _wanted(chain, meter, point_address(text), unit)
            if isinstance(wanted, Sample):
                samples.append(wanted)
            else:
                by_block.setdefault(wanted.block, []).append(wanted)
        for block, all_wanted in by_block.items():
            end = max(max(_offsets(wanted)) for wanted in all_wanted) + 1
            if end <= device.registers_max:
                words = await self._block_words(device, block, end)
                samples += [self._sample(device, wanted, words) for wanted in all_wanted]
            else:
                samples += [await self._far_sample(device, wanted) for wanted in all_wanted]
        return samples

    async def _block_words(self, device: DeviceOptions, block: Block, end: int) -> dict[int, int]:
        """A block's registers from its header on, by their offset. Raises _Moved where it isn't that block."""
        words = await self._line.read(device.unit_id, block.address, max(end, HEADER_WORDS))
        if (words[0], words[1]) != (block.model, block.length):
            raise _Moved(f"model {block.model} is no longer at {block.address}")
        return dict(enumerate(words))

    async def _far_sample(self, device: DeviceOptions, wanted: _Wanted) -> Sample:
        """A point that lies farther from its scale than one answer reaches."""
        unit_id, block, point = device.unit_id, wanted.block, wanted.point
        await self._block_words(device, block, HEADER_WORDS)
        for _ in range(TRIES):
            words: dict[int, int] = {}
            if wanted.state is not None:
                words[wanted.state] = (await self._line.read(unit_id, block.address + wanted.state, 1))[0]
            before = await self._scale_word(device, wanted)
            values = await self._line.read(unit_id, block.address + point.offset, point.size)
            words |= {point.offset + number: word for number, word in enumerate(values)}
            if before == await self._scale_word(device, wanted):
                return self._sample(device, wanted, words | before)
        return Sample(wanted.meter, point.kind, None, "torn")

    async def _scale_word(self, device: DeviceOptions, wanted: _Wanted) -> dict[int, int]:
        at = wanted.point.scale_offset
        return {} if at is None else {at: (await self._line.read(device.unit_id, wanted.block.address + at, 1))[0]}

    def _sample(self, device: DeviceOptions, wanted: _Wanted, words: Mapping[int, int]) -> Sample:
        point = wanted.point
        value = point_value(point.type, raw_integer([words[point.offset + number] for number in range(point.size)]))
        scale = point.scale if point.scale_offset is None else scale_of(words[point.scale_offset])
        if isinstance(value, str):
            return Sample(wanted.meter, point.kind, None, value)
        if scale is None:
            return Sample(wanted.meter, point.kind, None, "bad_scale")
        self._note_scale(device, wanted, scale)
        is_idle = wanted.state is not None and is_asleep(wanted.block.model, words[wanted.state])
        return Sample(
            wanted.meter, point.kind, convert(value, point.unit, wanted.unit, scale=scale), is_idle=is_idle
        )  # fmt: skip

    def _note_scale(self, device: DeviceOptions, wanted: _Wanted, scale: int) -> None:
        key = (device.unit_id, wanted.meter)
        last, self._scales[key] = self._scales.get(key, scale), scale
        if last == scale:
            return
        self._metrics.scale_changes.labels(device.machine).inc()
        modulus = modulus_of(wanted.point, scale)
        if modulus is not None:  # of a level the scale may change with every value
            _log.warning(
                "%s: the scale of %s changed from 10^%d to 10^%d, and with it where it rolls over: now at %s %s",
                device.machine, wanted.meter, last, scale, f"{float(modulus):,.0f}", wanted.point.unit,
            )  # fmt: skip

    # A map of its own

    async def _map_sample(self, device: DeviceOptions, meter: str, options: RegisterOptions) -> Sample:
        try:
            words = await self._line.read(device.unit_id, options.address, WORDS[options.type], options.function)
        except NoAnswer as error:
            if error.reason in ("exception_2", "exception_3"):  # no such register: the others are there
                return Sample(meter, options.counts, None, error.reason)
            raise
        return Sample(meter, options.counts, *map_value(options, words))


class _Moved(Exception):
    """A block is no longer where the walk found it."""


def map_value(options: RegisterOptions, words: list[int]) -> tuple[Fraction | None, str]:
    """The registers of a map as a value in its meter's unit; else None, and why."""
    bits = raw_integer(words, options.words, options.bytes)
    value = number(options.type, bits)
    if value is None:
        return None, "not_implemented"
    if bits in options.absent or value in options.absent:
        return None, "not_implemented"
    return convert(value * number_of(options.scale), options.unit, options.meter_unit or options.unit), ""


def _wanted(chain: Chain, meter: str, address: PointAddress, unit: str | None) -> _Wanted | Sample:
    """Where a meter's point is on a device; a sample without a value where the device doesn't have it."""
    point, block = point_of(address), chain.block(address.model, address.occurrence)
    if point is None or block is None:
        return Sample(meter, "register", None, "no_point" if point is None else "no_model")
    state: int | None = None
    model = model_of(address.model)
    if address.model in ASLEEP and model is not None:
        state = model.offsets[ASLEEP[address.model][0]]
    wanted = _Wanted(meter, point, unit or meter_unit(point), block, state)
    if max(_offsets(wanted)) >= block.length + HEADER_WORDS:
        return Sample(meter, point.kind, None, "no_point")
    return wanted


def _offsets(wanted: _Wanted) -> list[int]:
    """The last registers that a point needs, from its block's first."""
    point = wanted.point
    others = [offset for offset in (point.scale_offset, wanted.state) if offset is not None]
    return [point.offset + point.size - 1, *others]
