"""Readings of which a share is wrong in ways that fleets know, and what is to become of each, known by construction."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

from schemas.units import HOUR_MS
from tests.bench.readings import ROW, SEED, START_MS, STEP_MS, Readings

OUTCOMES = {
    "undecodable": "undecodable",
    "malformed": "malformed",
    "ghost": "unknown_machine",
    "no_meter": "unknown_meter",
    "future": "from_the_future",
    "jump": "too_high",
    "other": "equivocation",
}
"""Wrong in one go: what it is, and the reason to refuse it."""

KINDS = (*OUTCOMES, "again", "again", "swapped", "restart")


class Meter:
    """One machine's meter as it is. `held` is a row that was overtaken and comes with the machine's next step."""

    __slots__ = ("boot", "held", "last", "level", "lowered", "readings", "seq", "top", "usage")

    def __init__(self) -> None:
        self.boot, self.seq, self.lowered, self.level = 1, 0, 0, -1
        self.readings = self.usage = 0
        self.last: tuple[int, int, int, int] = (0, 0, 0, 0)
        self.top = True
        self.held: tuple[int, int, int, int] | None = None


class DirtyReadings:
    """The clean readings, each of them with `share` (0 to 1) of a chance to come wrong: see KINDS.

    Each machine's first reading is clean. Read `by_machine`, `duplicates` and `rejects` once all were taken.
    """

    def __init__(self, readings: Readings, share: float) -> None:
        self._readings, self._share = readings, share
        self._meters = [Meter() for _ in range(readings.machines)]
        self.duplicates = 0
        self.rejects: Counter[str] = Counter()

    def by_machine(self) -> dict[str, tuple[int, int, int]]:
        """Accepted readings and usage of each machine, and 0."""
        pairs = zip(self._readings.names, self._meters, strict=True)
        return {name.decode(): (meter.readings, meter.usage, 0) for name, meter in pairs if meter.readings}

    def singles(self) -> Iterator[tuple[int, int, bytes, bytes]]:
        """(partition, moment, key, JSON value) of each reading."""
        source, share = self._readings, self._share
        draw = random.Random(SEED)
        chance, pick = draw.random, draw.choice
        owners = source.partitions.tolist()
        step, place, registers = -1, source.machines - 1, []
        for number in range(source.count):
            place += 1
            if place == source.machines:
                place, step = 0, step + 1
                registers = source.registers[step].tolist()
            moment = START_MS + step * STEP_MS + place * STEP_MS // source.machines
            name, meter = source.names[place], self._meters[place]
            register = registers[place] - meter.lowered
            if meter.held is not None:
                value, meter.held = ROW % (name, *meter.held), None
                meter.readings += 1
            elif step and chance() < share:
                value = self._wrong(pick(KINDS), name, meter, (moment, register, number))
            else:
                value = self._right(name, meter, moment, register)
            yield owners[place], moment, name, value

    def _right(self, name: bytes, meter: Meter, moment: int, register: int) -> bytes:
        if meter.level >= 0:
            meter.usage += register - meter.level
        meter.level, meter.top = register, True
        meter.readings += 1
        meter.last = meter.boot, meter.seq, moment, register
        meter.seq += 1
        return ROW % (name, *meter.last)

    def _wrong(self, kind: str, name: bytes, meter: Meter, at: tuple[int, int, int]) -> bytes:
        moment, register, number = at
        if kind == "again" or (kind == "other" and not meter.top):
            self.duplicates += 1
            return ROW % (name, *meter.last)
        if kind == "swapped":
            meter.held = meter.boot, meter.seq, moment, register
            meter.seq += 1
            return self._right(name, meter, moment + 1, register)
        if kind == "restart":
            meter.boot, meter.seq = meter.boot + 1, 0
            meter.lowered, meter.level = meter.lowered + register, -1
            return self._right(name, meter, moment, 0)
        self.rejects[OUTCOMES[kind]] += 1
        return _REFUSED[kind](name, meter, moment, register, number)


def _jump(name: bytes, meter: Meter, moment: int, register: int, number: int) -> bytes:
    # Each jump is further than the one before by more than capacity allows, so none can continue another.
    meter.seq, meter.top = meter.seq + 1, False
    return ROW % (name, meter.boot, meter.seq - 1, moment, register + 10**9 + number * 10**7)


def _other(name: bytes, meter: Meter, _moment: int, _register: int, _number: int) -> bytes:
    boot, seq, moment, register = meter.last
    return ROW % (name, boot, seq, moment, register + 1)


_REFUSED: dict[str, Callable[[bytes, Meter, int, int, int], bytes]] = {
    "undecodable": lambda name, meter, moment, register, _: (ROW % (name, meter.boot, meter.seq, moment, register))[
        :-9
    ],
    "malformed": lambda name, meter, moment, register, _: ROW % (name, meter.boot, meter.seq, moment, -1 - register),
    "ghost": lambda name, meter, moment, register, _: ROW % (b"x" + name, meter.boot, meter.seq, moment, register),
    "no_meter": lambda name, meter, moment, register, _: (
        ROW % (name, meter.boot, meter.seq, moment, register)
    ).replace(b"energy", b"energi"),
    "future": lambda name, meter, moment, register, _: ROW % (name, meter.boot, meter.seq, moment + HOUR_MS, register),
    "jump": _jump,
    "other": _other,
}
