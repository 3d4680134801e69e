"""Drafts as readings of a log: what is new, on which meter, with which number, and what can't be sent and why. Pure.

The readings of one draft follow from the draft alone: so a file read again is recognised value by value, and of a row
that a killed run sent in part, the rest is sent.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec
from msgspec import UNSET

from deploy.importers.drafts import Draft, SkippedRow, SkipRow
from deploy.importers.log_readings import Lanes, LogReadings, lane_of, meter_of
from deploy.importers.mapping import Kind
from schemas.errors import InvalidInput
from schemas.reading import MeterKind, Reading
from schemas.registration import Meter, Registration
from schemas.units import MINUTE_MS
from streams.core.plausible_usage import SLACK_MS, time_needed_ms

QUARTER_MS = 15 * MINUTE_MS

UNREGISTERED = "its machine is not registered"
TOO_MUCH = "more than the registered capacity allows in that time"
TOO_OLD = "too old: the log's time is more than 35 days ahead of it"
IN_FUTURE = "its time lies ahead"
OVERLAPS = "it overlaps with another session of the machine, and no further meter is registered"
CHANGED = "it was read before with other values: `tallyroot correct` adjusts what stands in the log"
BEHIND = "a later register of the meter stands in the log"


class Registered(Protocol):
    """What is asked of registrations. Each is None for a machine that the log doesn't know."""

    def at(self, machine: str, moment_ms: int) -> Registration | None:
        """The one in force at a moment (epoch ms)."""
        ...

    def last(self, machine: str) -> Registration | None:
        """The newest, in force or not."""
        ...


class Limits(NamedTuple):
    """Between which moments (epoch ms) a partition takes rows: `is_late` is what lies before its time."""

    oldest_ms: int
    time_ms: int
    newest_ms: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A reading without its number, and the route that its record is keyed by."""

    route: str
    reading: Reading


@dataclass
class Placement:
    """What becomes of one machine's drafts: readings by ascending time, numbered on from the log's last."""

    readings: list[Placed] = field(default_factory=list)
    skipped: list[SkippedRow] = field(default_factory=list)
    there_already: int = 0
    """Rows whose readings all stand in the log."""
    sent_rows: int = 0
    late: int = 0
    """Rows of `sent_rows` that lie before the log's time."""
    totals: Counter[str] = field(default_factory=Counter)
    """What the new readings add up to, by meter; of registers nothing."""


def place(
    drafts: Sequence[Draft], kind: Kind, units: Mapping[str, str], known: LogReadings, registered: Registered,
    limits: Mapping[str, Limits],
) -> Placement:  # fmt: skip
    """Of one machine, whose readings in the log are `known`; of another nothing depends on it. `units` are the meters'
    by name, `limits` those of each machine. Raises InvalidInput for a meter that is registered as another kind or with
    another unit."""
    return _Placing(kind, units, known, registered, limits).place(drafts)


class _Placing:
    def __init__(
        self, kind: Kind, units: Mapping[str, str], known: LogReadings, registered: Registered,
        limits: Mapping[str, Limits],
    ) -> None:  # fmt: skip
        self._kind = kind
        self._meter_kind: MeterKind = "register" if kind == "registers" else "quantity"
        self._units = units
        self._known = known
        self._registered = registered
        self._limits = limits
        self._lanes = _busy_lanes(known)
        self._events = {where: Counter(values) for where, values in known.points.items()}
        self._found = Placement()

    def place(self, drafts: Sequence[Draft]) -> Placement:
        new: list[tuple[str, Reading]] = []
        for draft in sorted(drafts, key=lambda d: (d.start_ms, d.end_ms, d.machine, d.origin.file, d.origin.row)):
            try:
                readings = self._new_of(draft)
            except SkipRow as skip:
                self._found.skipped.append(SkippedRow(draft.origin, *skip.why))
                continue
            if not readings:
                self._found.there_already += 1
                continue
            new += readings
            self._found.sent_rows += 1
            self._found.late += draft.end_ms < self._limits[draft.machine].time_ms
        new.sort(key=lambda item: (item[1].observed_at, item[1].machine, item[1].meter))
        numbers = dict(self._known.numbers)
        for route, reading in new:
            meter = (reading.machine, reading.meter)
            boot, seq = max(numbers.get(meter, (0, 0)), (self._boot(reading), 0))
            numbers[meter] = (boot, seq + 1)
            self._found.readings.append(Placed(route, msgspec.structs.replace(reading, boot=boot, seq=seq + 1)))
            if self._meter_kind == "quantity":
                self._found.totals[reading.meter] += reading.value
        return self._found

    def _boot(self, reading: Reading) -> int:
        """The boot that the registration gives; where it gives none, that of the log's last reading, else 1."""
        registration = self._registered.last(reading.machine)
        if registration is not None and isinstance(registration.boot, int):
            return registration.boot
        return self._known.numbers.get((reading.machine, reading.meter), (1, 0))[0]

    def _new_of(self, draft: Draft) -> list[tuple[str, Reading]]:
        """What the log lacks of a draft; nothing where it stands there. Raises SkipRow."""
        registration = self._registered.at(draft.machine, draft.end_ms)
        if registration is None:
            raise SkipRow(UNREGISTERED, draft.machine)
        limits = self._limits[draft.machine]
        if draft.end_ms > limits.newest_ms:
            raise SkipRow(IN_FUTURE)
        new = self._new_of_session(draft, registration) if draft.session is not None else self._new_points(draft)
        if not new:
            return []
        self._check_meters(registration, {reading.meter for reading in new})
        if new[0].observed_at < limits.oldest_ms:
            raise SkipRow(TOO_OLD)
        if self._kind in ("sessions", "intervals"):
            self._check_plausible(draft, registration)
        return [(registration.route, reading) for reading in new]

    def _new_of_session(self, draft: Draft, registration: Registration) -> list[Reading]:
        known = self._known.sessions.get((draft.machine, draft.session or "", draft.start_ms), {})
        lanes = self._lanes[draft.machine]
        if known:
            lane = lane_of(next(iter(known))[0]) if self._kind == "sessions" else 1
        else:
            lane = lanes.first_free(draft.start_ms, draft.end_ms) if self._kind == "sessions" else 1
        wanted = list(self._readings(draft, lane))
        values = {(reading.meter, reading.observed_at): reading.value for reading in wanted}
        if any(values.get(where) != value for where, value in known.items()):
            raise SkipRow(CHANGED, draft.session or "")
        new = [reading for reading in wanted if (reading.meter, reading.observed_at) not in known]
        if new and not known and self._kind == "sessions":
            meters = {meter.meter for meter in registration.meters}
            missing = sorted({reading.meter for reading in new} - meters)
            if missing and lane > 1:
                raise SkipRow(OVERLAPS, ", ".join(missing))
        if new and self._kind == "sessions":
            lanes.take(lane, draft.start_ms, draft.end_ms)
        return new

    def _new_points(self, draft: Draft) -> list[Reading]:
        new = []
        for reading in self._readings(draft, 1):
            there = self._events.get((reading.machine, reading.meter, reading.observed_at), Counter())
            if self._kind == "events":  # Two trips may be equal: as many as stand there are there.
                if there[reading.value] > 0:
                    there[reading.value] -= 1
                    continue
            elif there:
                near = (
                    1 if self._kind == "intervals" else 0
                )  # The rest of a unit falls elsewhere if a file begins later.
                if not any(abs(value - reading.value) <= near for value in there):
                    raise SkipRow(CHANGED, f"{reading.value} instead of {', '.join(map(str, there))}")
                continue
            elif reading.observed_at <= self._known.last_registers.get((reading.machine, reading.meter), -1):
                raise SkipRow(BEHIND)
            new.append(reading)
        return new

    def _readings(self, draft: Draft, lane: int) -> Iterator[Reading]:
        """All that a draft makes, by meter and time."""
        for meter, amount in draft.amounts.items():
            for at_ms, value, is_start, is_made_up in self._steps(draft, amount):
                reading = Reading(
                    machine=draft.machine, meter=meter_of(meter, lane), boot=0, seq=0, observed_at=at_ms,
                    reconstructed=is_made_up,
                    quantity=value if self._meter_kind == "quantity" else UNSET,
                    register=value if self._meter_kind == "register" else UNSET,
                )  # fmt: skip
                if draft.session is not None:
                    reading = msgspec.structs.replace(
                        reading, session=draft.session, session_started_at=draft.start_ms, session_start=is_start
                    )
                yield reading

    def _steps(self, draft: Draft, amount: int) -> Iterator[tuple[int, int, bool, bool]]:
        """(moment, value, whether it starts the session, whether it is reconstructed)."""
        if self._kind != "sessions":
            yield _observed_ms(draft) if self._kind == "events" else draft.end_ms, amount, True, False
            return
        yield draft.start_ms, 0, True, False
        lasted, before = draft.end_ms - draft.start_ms, 0
        for at_ms in range((draft.start_ms // QUARTER_MS + 1) * QUARTER_MS, draft.end_ms, QUARTER_MS):
            so_far = amount * (at_ms - draft.start_ms) // lasted
            if so_far > before:
                yield at_ms, so_far - before, False, True
            before = so_far
        yield draft.end_ms, amount - before, False, False

    def _check_meters(self, registration: Registration, meters: Iterable[str]) -> None:
        known = {meter.meter: meter for meter in registration.meters}
        for name in sorted(meters):
            meter = known.get(name)
            if meter is None:
                raise InvalidInput(
                    f"{registration.machine} has no meter {name}: register it, or leave [amounts.{name}] out"
                )
            unit = self._units.get(name) or self._units[name.rpartition(".")[0]]
            if (meter.kind, meter.unit) != (self._meter_kind, unit):
                raise InvalidInput(
                    f"{registration.machine} counts {name} as a {meter.kind} in {meter.unit}, the file is a"
                    f" {self._meter_kind} in {unit}: name another meter in the mapping, and register it"
                )

    def _check_plausible(self, draft: Draft, registration: Registration) -> None:
        """A row that the stream would find too high is not sent: in part or whole refused, it would stand in the log
        for good. Raises SkipRow."""
        known: dict[str, Meter] = {meter.meter: meter for meter in registration.meters}
        lasted_ms = draft.end_ms - draft.start_ms
        for name, amount in draft.amounts.items():
            capacity = known[name].capacity_per_hour
            burst_ms = time_needed_ms(known[name].burst, capacity)
            if time_needed_ms(amount, capacity) > lasted_ms + SLACK_MS + burst_ms:
                raise SkipRow(TOO_MUCH, f"{name} {amount}, up to {capacity} per hour")


def _observed_ms(event: Draft) -> int:
    """Its end; of one with a session, a millisecond before that: a row that starts a session is its own moment (5a)."""
    return event.end_ms - (event.session is not None and event.end_ms > event.start_ms)


def _busy_lanes(known: LogReadings) -> dict[str, Lanes]:
    lanes: dict[str, Lanes] = defaultdict(Lanes)
    for (machine, _, start_ms), values in known.sessions.items():
        ends: dict[int, int] = defaultdict(int)
        for meter, at_ms in values:
            ends[lane_of(meter)] = max(ends[lane_of(meter)], at_ms)
        for lane, end_ms in ends.items():
            lanes[machine].take(lane, start_ms, end_ms)
    return lanes
