"""Takes what a message of a mapped topic says: each reading once, whatever the broker repeats.

A broker repeats in three ways. What was not acknowledged comes again after a connection, marked DUP; a retained message
comes again with each new subscription, and may be old; a device, bridge or broker of little memory sends again, and
nothing marks it. So:

1. A delivery's key is made of its topic and the device's own id or time, with what it says: known ones are dropped.
2. A retained message counts by its own time alone, and only if that is later than the last one's. Without a time it is
   dropped: nobody knows of when it is.
3. Without id and time, a message that may be a repeated one is dropped if it says what one of the last did: one that is
   marked DUP, or that comes soon after a connection, when a broker that was killed sends what it had saved. That loses
   nothing of a register or a level. A quantity is never taken without id or time.
"""

from fractions import Fraction
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.clocks import AHEAD_MS, Moment
from tallyroot_gateway.field.intake import Intake, key_of
from tallyroot_gateway.field.units import whole_part, whole_quantity
from tallyroot_gateway.mqtt.config import RECEIVE_MAX, Kind
from tallyroot_gateway.mqtt.mapping import Finding, Mappings, Refusal, Value, names_of
from tallyroot_gateway.reading import NewReading
from tallyroot_gateway.spool import Notes

USUAL_MAX = 10_000
"""Of how many sources it is remembered that what is usual of them has been said."""


class Message(NamedTuple):
    """One message as it arrived, at `arrived_ms`. `mid` is its number on this connection; QoS 0 has none."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    is_retained: bool
    is_repeated: bool
    arrived_ms: int
    is_prompt: bool
    """Whether it surely did not wait at the broker, nor is sent again: it came long after the connection, unmarked."""


class Restart(Struct, array_like=True):
    """A register that begins again at 0: what it showed last and what it had counted before, as fractions."""

    shown: str
    before: str


class Memory(Struct, omit_defaults=True):
    """What is kept of a source: its last own time (epoch ms), its registers, and what its last messages said."""

    at: int = 0
    registers: dict[str, Restart] = {}
    said: list[str] = []


def new_reading(machine: str, meter: str, kind: Kind, value: int, moment: Moment) -> NewReading:
    """A reading of a meter of this kind; the log judges a register that falls."""
    return NewReading(
        machine=machine,
        meter=meter,
        observed_at=moment.observed_at,
        reconstructed=moment.reconstructed,
        register=value if kind == "register" else UNSET,
        quantity=value if kind == "quantity" else UNSET,
        level=value if kind == "level" else UNSET,
        may_fall=True,
    )


class Rejecting:
    """Sets aside what can't be used; what is usual (a device nobody knows) is kept once for each source."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._usual: set[tuple[str, str]] = set()

    def refuse(self, refusal: Refusal, raw: bytes) -> None:
        """Keeps it with its reason, or only counts it."""
        about = (refusal.source, refusal.reason)
        if refusal.is_usual and (about in self._usual or len(self._usual) >= USUAL_MAX):
            self._intake.metrics.rejected.labels(refusal.reason).inc()
            return
        if refusal.is_usual:
            self._usual.add(about)
        self._intake.reject(refusal.source, refusal.reason, refusal.detail, raw)


class Taking:
    """Takes messages of mapped topics."""

    def __init__(self, intake: Intake, mappings: Mappings, rejecting: Rejecting) -> None:
        self._intake, self._mappings, self._rejecting = intake, mappings, rejecting

    def take(self, message: Message) -> set[str]:
        """Writes what a message says; returns the routes that must be synced before it is acknowledged.

        Raises SpoolFull or InvalidInput where the disk doesn't take it: it must not be acknowledged.
        """
        findings, refusals = self._mappings.read(message.topic, message.payload, message.arrived_ms)
        for refusal in refusals:
            self._rejecting.refuse(refusal, message.payload)
        return {finding.route for finding in findings if self._take(finding, message)}

    def _take(self, finding: Finding, message: Message) -> bool:
        """Whether the route must be synced first: also for a copy of what may be written and not synced yet."""
        name = f"mqtt/{key_of(finding.source)}"
        memory = self._memory(finding.route, name)
        said = names_of(finding.values)
        try:
            if (why := _copy(finding, message, memory, said)) is not None:
                self._rejecting.refuse(Refusal(finding.source, why, _COPIES[why], is_usual=True), message.payload)
                return True
            key = _key(finding, said)
            if key is not None and self._intake.is_known(finding.route, key):
                self._intake.metrics.repeated.inc()
                return True
            readings = self._readings(finding, message, memory)
        except InvalidInput as error:
            self._rejecting.refuse(Refusal(finding.source, "not_a_reading", str(error)), message.payload)
            return False
        if finding.time is not None and finding.time.ms <= message.arrived_ms + AHEAD_MS:
            memory.at = max(memory.at, finding.time.ms)
        if key is None:
            memory.said = [*memory.said, said][-RECEIVE_MAX:]
        notes: Notes = {name: msgspec.json.encode(memory).decode()}
        self._intake.write(finding.route, readings, key=key, notes=notes)
        return True

    def _readings(self, finding: Finding, message: Message, memory: Memory) -> list[NewReading]:
        """A finding's readings; `memory` learns of registers that restart."""
        moment = Moment(message.arrived_ms, reconstructed=False)
        if finding.time is not None:
            moment = self._intake.clocks.moment(finding.time.ms, message.arrived_ms)
            if message.is_prompt:
                self._intake.clocks.compare(finding.device, finding.time.ms, message.arrived_ms)
        readings = []
        for value in finding.values:
            whole = whole_quantity(value.value) if value.kind == "quantity" else whole_part(_total(value, memory))
            readings.append(new_reading(finding.machine, value.meter, value.kind, whole, moment))
        return readings

    def _memory(self, route: str, name: str) -> Memory:
        noted = self._intake.note(route, name)
        return Memory() if noted is None else msgspec.json.decode(noted, type=Memory)


_COPIES = {
    "retained_without_time": "a retained message without a time of its own: nobody knows of when it is",
    "retained": "a retained message that is not later than the last one",
    "repeated": "delivered again, and says what one of the last messages did",
    "out_of_order": "a register that restarts, and a time before the last one's",
}


def _copy(finding: Finding, message: Message, memory: Memory, said: str) -> str | None:
    """Why a message is a copy of another, or comes too late to be understood; None if it is neither."""
    at = None if finding.time is None else finding.time.ms
    if message.is_retained and (at is None or at <= memory.at):
        return "retained_without_time" if at is None else "retained"
    restarts = any(value.restarts for value in finding.values)
    may_repeat = message.is_repeated or not (message.is_prompt or restarts)
    if at is None and finding.id is None and may_repeat and said in memory.said:
        return "repeated"
    if at is not None and at < memory.at and restarts:
        return "out_of_order"
    return None


def _key(finding: Finding, said: str) -> str | None:
    """What tells a delivery from every other; None where the device says nothing that does."""
    if finding.id is not None:
        return key_of("mqtt", finding.source, "id", finding.id)
    if finding.time is not None:
        return key_of("mqtt", finding.source, "at", finding.time.ms, said)
    return None


def _total(value: Value, memory: Memory) -> Fraction:
    """A register as it would be had it never begun again; `memory` learns what it shows."""
    if not value.restarts:
        return value.value
    last = memory.registers.get(value.meter, Restart("0", "0"))
    shown, before = Fraction(last.shown), Fraction(last.before)
    if value.value < shown:
        before += shown
    memory.registers[value.meter] = Restart(str(value.value), str(before))
    return before + value.value
