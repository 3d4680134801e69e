"""Faults of a simulated fleet, as they really happen, each with how the stream judges it.

| fault | what happens | the stream's verdict |
|---|---|---|
| clock | a clock steps an hour forth, or back past a sealed window, once | `from_the_future`; an adjustment |
| reset | a machine starts again: a higher boot, registers from 0 | a window with the flag `reset`, nothing rejected |
| duplicate | the readings of the moment before are sent again | duplicates |
| offline | readings are kept for twelve moments, then sent at once, out of order | all accepted, late ones adjust |
| equivocate | another value under the number just used | `equivocation`, and the flag on the machine's windows |
| glitch | one register a billion too high, one quantity of 2^32 - 1, or a reading cut off | `too_high`, `undecodable` |
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec
from msgspec import UNSET

from deploy.simulate.fleet_days import Life, draw
from schemas.errors import InvalidInput
from schemas.log import Log
from schemas.reading import Reading
from schemas.units import HOUR_MS
from streams.core.encode import json_row

Fault = Literal["clock", "reset", "duplicate", "offline", "equivocate", "glitch"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

Item = Reading | bytes
"""A reading, or the value of a record that is not a reading."""

EVERY = 24
"""Each kind of fault happens once in this many moments, for every hundred machines (at least once)."""

FIRST, APART = 4, 3
OFFLINE = 12
"""Moments that a machine is offline."""

LOOKS = 200
"""Machines that are tried for a fault; if none of them suits, it does not happen."""

SPIKE, SENTINEL = 10**9, 2**32 - 1


def faults_of(text: str) -> tuple[Fault, ...]:
    """The faults that an option names, such as `clock,reset`, or `all`. Raises InvalidInput."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in (*FAULTS, "all")]
    if unknown:
        raise InvalidInput(f"'{unknown[0]}' is not a fault: choose from {', '.join(FAULTS)}, or all")
    return FAULTS if "all" in names else tuple(fault for fault in FAULTS if fault in names)


@dataclass
class Expected:
    """What the faults so far cause: how often each happened, entries rejected by reason, and duplicates."""

    happened: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0


class Faults:
    """Spoils what a fleet sends. The same seed, fleet and moments have the same faults."""

    def __init__(self, seed: str, log: Log, lives: Sequence[Life], faults: Sequence[Fault]) -> None:
        self.expected = Expected()
        self._seed, self._lives = seed, lives
        self._back_ms = 2 * (log.window_ms + log.ruleset_at(0).grace_ms)
        self._turns: list[tuple[int, Fault]] = [(FIRST + APART * FAULTS.index(fault), fault) for fault in faults]
        self._busy: dict[int, int] = {}
        self._kept: dict[int, tuple[int, list[Item]]] = {}
        self._before: Mapping[int, list[Item]] = {}
        self._acts: dict[Fault, Callable[[str, int, list[Item]], list[Item] | None]] = {
            "clock": self._clock,
            "reset": self._reset,
            "duplicate": self._duplicate,
            "equivocate": self._equivocate,
            "glitch": self._glitch,
        }

    def spoil(self, moment: int, shown: dict[int, list[Item]]) -> dict[int, list[Item]]:
        """What goes out at a moment (counted from 0), of what machines (by number) have to show."""
        sent = dict(shown)
        for turn, fault in self._turns:
            if moment % EVERY == turn:
                for number in range(max(1, len(self._lives) // 100)):
                    self._happen(moment, fault, f"{fault} {moment // EVERY} {number}", sent)
        for machine, (until, items) in list(self._kept.items()):
            items.extend(sent.pop(machine, []))
            if moment >= until:
                sent[machine] = self._burst(machine)
        self._before = shown
        return sent

    def rest(self) -> dict[int, list[Item]]:
        """What machines that are offline still keep, at the end."""
        return {machine: self._burst(machine) for machine in list(self._kept)}

    def _happen(self, moment: int, fault: Fault, name: str, sent: dict[int, list[Item]]) -> None:
        machines = len(self._lives)
        first = draw(self._seed, name, machines)
        for step in range(min(LOOKS, machines)):
            machine = (first + step) % machines
            if self._busy.get(machine, 0) > moment or not sent.get(machine):
                continue
            if fault == "offline":
                self._kept[machine] = moment + OFFLINE, []
            else:
                spoilt = self._acts[fault](name, machine, sent[machine])
                if spoilt is None:
                    continue
                sent[machine] = spoilt
            self._busy[machine] = moment + EVERY
            self.expected.happened[fault] += 1
            return

    def _burst(self, machine: int) -> list[Item]:
        _, items = self._kept.pop(machine)
        order = sorted(range(len(items)), key=lambda at: draw(self._seed, f"burst {machine} {at}", 2**32))
        return [items[at] for at in order]

    def _clock(self, name: str, machine: int, items: list[Item]) -> list[Item] | None:
        readings = _readings(items)
        if draw(self._seed, f"{name} forth", 2):
            self.expected.rejects["from_the_future"] += len(readings)
            return [_changed(one, observed_at=one.observed_at + HOUR_MS) for one in readings]
        if any(one.session is not UNSET for one in readings):
            return None
        return [_changed(one, observed_at=one.observed_at - self._back_ms) for one in readings]

    def _reset(self, name: str, machine: int, items: list[Item]) -> list[Item] | None:
        # It shows in what the machine says next; what it says now is from before.
        life = self._lives[machine]
        if not any(gauge.kind == "register" and gauge.total for gauge in life.gauges.values()):
            return None
        life.restart()
        return items

    def _duplicate(self, name: str, machine: int, items: list[Item]) -> list[Item] | None:
        before = self._before.get(machine)
        if not before:
            return None
        self.expected.duplicates += len(before)
        return [*items, *before]

    def _equivocate(self, name: str, machine: int, items: list[Item]) -> list[Item] | None:
        last = _readings(items)[-1]
        self.expected.rejects["equivocation"] += 1
        return [*items, _valued(last, last.value + 1)]

    def _glitch(self, name: str, machine: int, items: list[Item]) -> list[Item] | None:
        *first, last = _readings(items)
        kind = draw(self._seed, f"{name} kind", 3)
        if kind == 0:
            self.expected.rejects["undecodable"] += 1
            return [*first, json_row(last)[:-9]]
        wanted, value = ("register", last.value + SPIKE) if kind == 1 else ("quantity", SENTINEL)
        if last.kind != wanted:
            return None
        self.expected.rejects["too_high"] += 1
        return [*first, _valued(last, value)]


def _readings(items: Sequence[Item]) -> list[Reading]:
    return [item for item in items if isinstance(item, Reading)]


def _changed(reading: Reading, observed_at: int) -> Reading:
    return msgspec.structs.replace(reading, observed_at=observed_at)


def _valued(reading: Reading, value: int) -> Reading:
    return msgspec.structs.replace(reading, **{reading.kind: value})
