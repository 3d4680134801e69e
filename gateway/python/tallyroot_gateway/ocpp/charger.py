"""One charger: what is noted of it, and how a message of it is taken.

1. A message is read against the notes, and comes to readings and changed notes.
2. Both are taken as one delivery, under a key that the same message makes again.
3. Only then is it answered. What is killed before that is sent again, and either nothing or all of it was taken.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct
from prometheus_client import Counter, Gauge

from tallyroot_gateway.field.clocks import Moment
from tallyroot_gateway.field.intake import Intake, key_of
from tallyroot_gateway.ocpp.availability import Availability
from tallyroot_gateway.ocpp.config import ChargerOptions, Connector, ServerOptions, connectors_of
from tallyroot_gateway.ocpp.link import Link
from tallyroot_gateway.ocpp.signed import is_valid
from tallyroot_gateway.ocpp.transactions import Port, Step, Transaction
from tallyroot_gateway.ocpp.values import Fault
from tallyroot_gateway.reading import NewReading, fault_of, is_id

IDS_BEGIN_MS = 1_577_836_800_000
"""Transactions are numbered from the seconds since 2020: so no number comes back even where the notes are lost."""

ACTED_MAX = 64
"""How many commands of a charger are remembered as acted on."""

DROPPED = ("unsigned", "behind")
"""Faults that are as they should be: counted, not set aside."""

_log = logging.getLogger("tallyroot.gateway")

_Note = TypeVar("_Note")


class General(Struct, omit_defaults=True):
    """What is known of a charger as a whole: its last transaction's number, and the commands acted on."""

    last_id: int = 0
    acted: list[str] = []


class Counts:
    """What an OCPP gateway counts beside what every gateway does. Chargers and connectors are those of its file."""

    def __init__(self, intake: Intake) -> None:
        to = intake.metrics.registry
        port = ["charger", "connector"]
        self.messages = Counter("tallyroot_gateway_ocpp_messages", "Calls of chargers.", ["action"], registry=to)
        self.dropped = Counter("tallyroot_gateway_ocpp_dropped", "Values left out, by why.", ["reason"], registry=to)
        self.commands = Counter("tallyroot_gateway_ocpp_commands", "Commands, by outcome.", ["outcome"], registry=to)
        self.refused = Counter("tallyroot_gateway_ocpp_refused", "Refused connections, by why.", ["why"], registry=to)
        self.available = Gauge("tallyroot_gateway_ocpp_available", "1 while a port can be used.", port, registry=to)
        self.uptime = Gauge(
            "tallyroot_gateway_ocpp_uptime_ratio", "Uptime by 23 CFR 680.116, of 365 days.", port, registry=to
        )


class Charger:
    """A charger of the file. Its messages are handled one after another, under `lock`, on whatever connection."""

    def __init__(self, id: str, options: ChargerOptions, server: ServerOptions, intake: Intake, counts: Counts) -> None:
        self.id, self.server, self.intake, self.counts = id, server, intake, counts
        self.connectors = connectors_of(options)
        self.route = options.route or options.machine
        self.machine = options.machine
        self.lock = asyncio.Lock()
        self.link: Link | None = None
        """The newest connection; None while there is none."""
        self.was_connected = False
        self.raw = ""
        """The message that is being handled, for what is set aside."""
        self._excluded = [tuple(int(time.timestamp() * 1000) for time in pair) for pair in options.excluded]
        self._warned: set[str] = set()

    # Notes

    def general(self) -> General:
        """What is noted of the charger."""
        return self._noted("", General) or General()

    def port(self, number: int) -> Port:
        """What is noted of a connector."""
        return self._noted(f":{number}", Port) or Port()

    def availability(self) -> Availability:
        """What is noted of its availability."""
        return self._noted(":up", Availability) or Availability()

    def find(self, id: str) -> int | None:
        """The connector that has a transaction of this id."""
        return next((number for number in self.connectors if self.port(number).find(id) is not None), None)

    def next_id(self) -> int:
        """A number that no transaction of this charger ever had, if it is noted with the transaction."""
        return max(self.general().last_id + 1, (self.intake.now_ms() - IDS_BEGIN_MS) // 1_000)

    # What is taken

    def step(self, number: int) -> Step:
        """A step of a connector that is in the file, from what is noted of it."""
        return Step(self.connectors[number], self.port(number), self.intake.clocks, self.intake.now_ms())

    async def take(
        self, number: int, step: Step, key: str | None, faults: Sequence[Fault] = (), general: General | None = None
    ) -> None:
        """Takes what a step came to. Raises InvalidInput or SpoolFull where the disk doesn't: don't answer then."""
        notes: dict[str, str] = {self._name(f":{number}"): msgspec.json.encode(step.port).decode()}
        if general is not None:
            notes[self._name("")] = msgspec.json.encode(general).decode()
        changed = {name: text for name, text in notes.items() if self.intake.note(self.route, name) != text}
        for fault in (*faults, *step.faults):
            self.set_aside(fault)
        readings = [reading for reading in step.readings if self._is_whole(reading)]
        await self.intake.take(self.route, readings, key=key if readings or changed else None, notes=changed)
        self._check_signatures(self.connectors[number], readings)

    async def settle(self) -> None:
        """Returns once all that was taken before is on disk: a repeated message may follow one that was not."""
        await self.intake.take(self.route, [])

    def connector_number(self, value: object) -> int | None:
        """The connector of a number that a message says, if it is in the file."""
        return value if type(value) is int and value in self.connectors else None

    def set_aside(self, fault: Fault) -> None:
        """Counts what could not be mapped, and keeps it unless it is as it should be."""
        if fault.reason in DROPPED:
            self.counts.dropped.labels(fault.reason).inc()
        else:
            self.intake.reject(self.id, fault.reason, fault.detail, self.raw)
            if fault.reason == "begins_at_zero":
                self.warn_once(f"{fault.reason}", f"{self.id}: {fault.detail}")

    def warn_once(self, what: str, text: str) -> None:
        """Writes a warning to the log, once for this charger and process."""
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("%s", text)

    def session_of(self, transaction: str) -> str:
        """The session of a transaction, unique in the charger's machine."""
        name = f"{self.id}-{transaction}"
        return name if is_id(name) else key_of(self.id, transaction)

    def accepts(self, id_tag: str) -> bool:
        """Whether a card or an app may charge: it is listed, or all are, or a command named it."""
        if self.server.authorize == "any" or id_tag in self.server.id_tags:
            return True
        awaited = (self.port(number).awaited.get(id_tag) for number in self.connectors)
        return any(each is not None and self.intake.now_ms() <= each.until for each in awaited)

    # Availability

    async def say_status(self, name: str, status: str, at_ms: int | None) -> None:
        """A status of a connector (`1`, or `2.1`: the plug 1 of EVSE 2) or of the charger (`0`)."""
        availability = self.availability()
        availability.say(name, status)
        now_ms = self.intake.now_ms()
        if at_ms is not None:
            self.intake.clocks.compare(self.id, at_ms, now_ms)
        at = Moment(now_ms, reconstructed=True) if at_ms is None else self.intake.clocks.moment(at_ms, now_ms)
        await self._take_availability(availability, at)

    async def say_connected(self, is_connected: bool, at_ms: int) -> None:
        """The connection is there, or has been lost since a moment."""
        availability = self.availability()
        availability.is_lost = not is_connected
        await self._take_availability(availability, Moment(at_ms, reconstructed=False))

    def show_uptime(self) -> None:
        """Sets the gauges of its ports, which grow old by themselves."""
        for number, port in self.availability().ports.items():
            ratio = port.uptime.ratio(self.intake.now_ms(), self._excluded)  # type: ignore[arg-type]
            self.counts.uptime.labels(self.id, number).set(ratio)
            self.counts.available.labels(self.id, number).set(port.level or 0)

    async def _take_availability(self, availability: Availability, at: Moment) -> None:
        readings = availability.readings(self.connectors, at, self._excluded)  # type: ignore[arg-type]
        name, text = self._name(":up"), msgspec.json.encode(availability).decode()
        if self.intake.note(self.route, name) != text:
            await self.intake.take(self.route, readings, notes={name: text})
        self.show_uptime()

    # Inside

    def _name(self, suffix: str) -> str:
        return f"ocpp:{self.id}{suffix}"

    def _noted(self, suffix: str, kind: type[_Note]) -> _Note | None:
        text = self.intake.note(self.route, self._name(suffix))
        return None if text is None else msgspec.json.decode(text, type=kind)

    def _is_whole(self, reading: NewReading) -> bool:
        """Whether the log would take a reading; one that it wouldn't is set aside, and the charger goes on."""
        fault = fault_of(reading.fields())
        if fault is not None:
            self.set_aside(Fault("malformed", fault))
        return fault is None

    def _check_signatures(self, connector: Connector, readings: Sequence[NewReading]) -> None:
        """Says where a record isn't signed by the meter of the file; the log judges it."""
        if connector.public_key is None:
            return
        for record in {reading.evidence for reading in readings if isinstance(reading.evidence, str)}:
            if is_valid(record, connector.public_key) is not True:
                self.set_aside(Fault("bad_signature", "the record was not signed by the meter's public key"))
                self.warn_once(f"signature {connector.number}", f"{self.id}: a signature is not of the meter's key")


def sole_open(charger: Charger) -> tuple[int, Transaction] | None:
    """The connector and the transaction, where just one of a charger is open."""
    found = [(number, each) for number in charger.connectors for each in charger.port(number).open()]
    return found[0] if len(found) == 1 else None
