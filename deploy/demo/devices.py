"""The demo's recorded chargers and one of its inverters as devices: what they say goes through real gateways.

A simulated charge point plays the recorded sessions over OCPP 1.6, a simulated SunSpec inverter shows the recorded
energy as its register over Modbus, and the gateways of `tallyroot_gateway` take it: numbered, on disk, then
acknowledged. Only the devices and the clock are simulated. What waits in the gateways' spools is a source like the
recorded files, so that the replay sends all of them in the order of time.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from deploy.importers.source_log import SourceLog, SourceMachine, SourceRecord
from schemas.errors import InvariantBroken
from schemas.reading import READING, Reading
from schemas.registration import Meter
from schemas.units import HOUR_MS
from tallyroot_gateway.field.config import LogOptions
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.modbus.config import DeviceOptions, LineOptions, ModbusConfig
from tallyroot_gateway.modbus.inverter import UNIT_ID, SimulatedInverter, Step
from tallyroot_gateway.modbus.line import Line
from tallyroot_gateway.modbus.poller import Poller, PollMetrics
from tallyroot_gateway.ocpp.central_system import CentralSystem
from tallyroot_gateway.ocpp.charge_point import Session, play
from tallyroot_gateway.ocpp.config import ChargerOptions, ConnectorOptions, OcppConfig, ServerOptions
from tallyroot_gateway.spool import Spool

POINTS_AT_ONCE = 8
"""How many quarter hours a charge point collects before it sends them."""

SESSIONS_AT_ONCE = 4
"""How many sessions a charge point plays in one connection: their names are told to the central system before."""

COUNTER_MODULUS = 2**32
"""Where the inverter's register rolls over: a 32-bit counter of Wh."""


def _log(log_id: str, folder: Path) -> LogOptions:
    """No servers: readings wait in the spools. The records are older than the gateways' own count of boots."""
    return LogOptions(bootstrap_servers="", log_id=log_id, spool=str(folder), boot=1)


class Clock:
    """The clock of the devices and their gateways: it stands where the records are."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def set(self, now_ms: int) -> None:
        """It is this moment now (epoch ms)."""
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what a gateway says of its own: that it lets any charger in, and that readings wait."""
    logger = logging.getLogger("tallyroot.gateway")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def through_ocpp(source: SourceLog, log_id: str, folder: Path) -> SourceLog:
    """The source's chargers as charge points: the same machines, with the readings that their gateway took."""
    sessions = _sessions(source)
    chargers = {
        machine.machine: ChargerOptions(
            machine=machine.machine,
            connectors={
                str(number): ConnectorOptions(meter=meter.meter, availability="", opening=0)
                for number, meter in enumerate(machine.meters, 1)
            },
        )
        for machine in source.machines
    }
    config = OcppConfig(
        log=_log(log_id, folder),
        ocpp=ServerOptions(port=0, security_profile=0),
        chargers=chargers,
    )
    with _quietly():
        asyncio.run(_play(config, sessions, Clock(source.start_ms)))
    return _from_spools(source, source.machines, log_id, folder)


async def _play(config: OcppConfig, sessions: dict[str, list[tuple[str, Session]]], clock: Clock) -> None:
    async with Intake(config, now_ms=clock) as intake:
        central = CentralSystem(config, intake)
        url = await central.start()
        for charger, named in sorted(sessions.items()):
            for first in range(0, len(named), SESSIONS_AT_ONCE):
                some = named[first : first + SESSIONS_AT_ONCE]
                for name, session in some:
                    await central.expect(charger, session.connector, session.id, name)
                await play(url, charger, [session for _, session in some], at=clock.set, at_once=POINTS_AT_ONCE)
        await central.close()


def _sessions(source: SourceLog) -> dict[str, list[tuple[str, Session]]]:
    """The recorded sessions of each charger, with their names, by their start."""
    connectors = {
        (machine.machine, meter.meter): number
        for machine in source.machines
        for number, meter in enumerate(machine.meters, 1)
    }
    rows: dict[tuple[str, str, str], list[Reading]] = defaultdict(list)
    for record in source.records():
        reading = msgspec.json.decode(record.value, type=Reading)
        rows[reading.machine, reading.meter, str(reading.session)].append(reading)
    found: dict[str, list[tuple[str, Session]]] = defaultdict(list)
    for (machine, meter, name), (first, *between, last) in rows.items():
        session = Session(
            id=f"card-{len(found[machine]) + 1}",
            connector=connectors[machine, meter],
            started_at=first.observed_at,
            meter_start=first.value,
            ended_at=last.observed_at,
            meter_stop=last.value,
            points=tuple((reading.observed_at, reading.value) for reading in between),
        )
        found[machine].append((name, session))
    return {machine: sorted(those, key=lambda one: one[1].started_at) for machine, those in found.items()}


def through_modbus(source: SourceLog, log_id: str, folder: Path) -> SourceLog:
    """The source's one inverter as a SunSpec device: its energy is a register now, read at each recorded moment."""
    [machine] = source.machines
    steps: list[Step] = []
    energy_wh, before_ms = 0, 0
    for record in source.records():
        produced = msgspec.json.decode(record.value, type=list[Reading])[0]
        energy_wh += produced.value
        power_w = produced.value * HOUR_MS // (produced.observed_at - before_ms)
        before_ms = produced.observed_at
        steps.append(Step(produced.observed_at, energy_wh, power_w))
    with _quietly():
        asyncio.run(_poll(machine.machine, steps, log_id, folder))
    capacity_w = machine.meters[0].capacity_per_hour
    energy = Meter("energy", "Wh", "register", capacity_w, opening_register=0, modulus=COUNTER_MODULUS)
    return _from_spools(source, (replace(machine, meters=(energy,)),), log_id, folder)


async def _poll(machine: str, steps: Sequence[Step], log_id: str, folder: Path) -> None:
    device = DeviceOptions(unit_id=UNIT_ID, machine=machine, points={"energy": "103.WH"})
    async with SimulatedInverter(steps) as inverter:
        line = LineOptions(tcp=f"127.0.0.1:{inverter.port}", devices=[device])
        config, clock = ModbusConfig(log=_log(log_id, folder), lines=[line]), Clock(steps[0].at_ms)
        async with Intake(config, now_ms=clock) as intake:
            connection = Line(line)
            poller = Poller(connection, intake, PollMetrics(intake.metrics))
            for step in steps:
                clock.set(step.at_ms)
                inverter.advance(step.at_ms)
                await poller.poll_once(device, step.at_ms)
            connection.close()


def _from_spools(source: SourceLog, machines: tuple[SourceMachine, ...], log_id: str, folder: Path) -> SourceLog:
    """The source with the readings that wait in the spools of its machines' gateways, by ascending time."""
    records: list[SourceRecord] = []
    for machine in machines:
        spool = Spool(folder / machine.route, log_id, machine.route, now_ms=source.start_ms)
        try:
            rows, _ = spool.read(spool.acked, spool.count, 1 << 40)
        finally:
            spool.close()
        for row in rows:
            reading = msgspec.json.decode(row, type=Reading)
            records.append(SourceRecord(reading.observed_at, machine.route, READING, row, 1))
    records.sort(key=lambda record: record.timestamp_ms)  # stable: each gateway's order stays

    def make(shift_ms: int) -> Iterator[SourceRecord]:
        if shift_ms != source.shift_ms:
            raise InvariantBroken(f"{source.name} went through its gateway before it was moved")
        return iter(records)

    return replace(source, machines=machines, make=make)
