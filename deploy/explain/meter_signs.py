"""Signs that a meter earns less than it could, and what mends it: a field of its registration, or its gateway.

Readings that are refused, or that add nothing, follow a pattern: a register that moves in steps above what its burst
allows, one that rolls over, one that begins again in each transaction, a rate above the capacity, numbers that began
again, a clock that steps, registers sent newest first. Each pattern is recognised from the readings themselves.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from math import gcd
from typing import Literal

from msgspec import UNSET, Struct

from deploy.machines.quantities import amount_words
from schemas.reading import Reading
from schemas.registration import Meter, Registration
from schemas.reject import Reason
from schemas.units import HOUR_MS, MINUTE_MS
from schemas.window import Flag
from streams.core.plausible_usage import PLAUSIBLE_PERCENT, time_needed_ms

SignKind = Literal[
    "begins_again", "capacity", "clock", "newest_first", "numbers_again", "rolls_over", "starts", "steps"
]  # fmt: skip

MODULI = sorted((*(10**digits for digits in range(3, 13)), *(1 << bits for bits in (16, 24, 31, 32, 48))))
"""Where registers usually roll over, in their unit."""

ROUND_STEPS = frozenset(digit * 10**zeros for digit in (1, 2, 5) for zeros in range(10)) - {1}
"""Steps in which displays move."""

KEPT = 512
"""So many steps, rates, falls and starts of a meter are looked at, the latest ones."""

REPEATED, REPEATED_UNKNOWN = 3, 10
"""So many refusals are a pattern, not a glitch: where the meter's registration is known, and where it isn't."""

GATEWAYS: dict[SignKind, str] = {
    "clock": "its clock stood still or stepped back, so that time is taken from the log: send observed_at in UTC, from"
    " a clock that NTP keeps and that knows no summer time; no field of the registration mends it",
    "newest_first": "registers came after later ones and added nothing, so what they show lies in a later window, at"
    " its price: send the oldest first, also after an outage; no field of the registration mends it",
}


class MeterSign(Struct, frozen=True, kw_only=True):
    """One pattern, in `count` readings; or in windows, where `meter` is None.

    `field` of the registration mends it with `value`, and `form` is the line of a form that says so; all are None where
    the gateway has to.
    """

    machine: str
    meter: str | None
    sign: SignKind
    count: int
    field: str | None = None
    value: int | None = None
    form: str | None = None
    advice: str

    @property
    def line(self) -> str:
        """The sign as one line for people, without its advice."""
        name = f"{self.machine} {self.meter}" if self.meter else self.machine
        times = f"{self.count:,} {'reading' if self.meter else 'window'}{'s' * (self.count != 1)}"
        mends = "" if self.field is None else f"; {self.field} = {self.value} mends it: write {self.form} into its form"
        return f"{name}: {self.sign.replace('_', ' ')}, {times}{mends}"


class _Seen:
    """What was seen of one meter, in the order of its numbers."""

    def __init__(self) -> None:
        self.registration: Registration | None = None
        self.refused: Counter[Reason] = Counter()
        self.steps: deque[int] = deque(maxlen=KEPT)
        self.rates: deque[int] = deque(maxlen=KEPT)
        """Units per hour from one move to the next."""
        self.stood_still = False
        self.falls: deque[tuple[Reading, Reading]] = deque(maxlen=KEPT)
        """The rows before and after each fall within a boot, from a register that was not refused."""
        self.new_sessions = self.highest = self.boot = 0
        self.starts: deque[int] = deque(maxlen=KEPT)
        self._last: tuple[Reading, bool] | None = None
        self._moved: Reading | None = None

    def see(self, row: Reading, reason: Reason | None) -> None:
        """A row, and why it was refused."""
        if reason is not None:
            self.refused[reason] += 1
        self.boot = max(self.boot, row.boot)
        self.new_sessions += reason == "too_low" and row.session_start
        last = None if self._last is None else self._last[0]
        if reason == "seq_reused" or (last is not None and (row.boot, row.seq) <= (last.boot, last.seq)):
            return
        if row.session_start and isinstance(row.session_started_at, int):
            self.starts.append(row.session_started_at)
        if row.kind == "register":
            self._see_register(row)
        elif row.kind == "quantity" and last is not None and row.value:
            self._see_rate(last, row, row.value)
        self._last = row, reason is not None

    def _see_register(self, row: Reading) -> None:
        last, was_refused = self._last or (row, False)
        step = row.value - last.value
        if not was_refused:
            self.highest = max(self.highest, last.value)
        if row.boot != last.boot or step < 0:
            if row.boot == last.boot and not was_refused:
                self.falls.append((last, row))
            self._moved = None
        elif step == 0:
            self.stood_still |= row is not last
        else:
            self.steps.append(step)
            if self._moved is not None:
                self._see_rate(self._moved, row, row.value - self._moved.value)
            self._moved = row

    def _see_rate(self, since: Reading, row: Reading, usage: int) -> None:
        lasted_ms = row.observed_at - since.observed_at
        if lasted_ms > 0:
            self.rates.append(-(-usage * HOUR_MS // lasted_ms))

    def rate(self) -> int:
        """Units per hour that nine of ten moves don't exceed."""
        return sorted(self.rates)[(len(self.rates) * 9 - 1) // 10] if self.rates else 0

    def step(self) -> int | None:
        """The step in which the register moves, None where it moves freely."""
        if len(self.steps) < 2:
            return None
        step = gcd(*self.steps)
        return step if step == min(self.steps) and step in ROUND_STEPS else None

    def modulus(self, registered: Meter) -> int | None:
        """Where the register seems to roll over: it falls from shortly below there, by what time allows."""
        modulus = next((modulus for modulus in MODULI if modulus > self.highest), None)
        if modulus is None or not self.falls or registered.modulus is not UNSET:
            return None
        fitting = sum(_rolls_over(before, after, modulus, registered) for before, after in self.falls)
        return modulus if 2 * fitting >= len(self.falls) else None


class MeterSigns:
    """Collects readings with their verdicts, and the flags of windows, then says what they show."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], _Seen] = defaultdict(_Seen)
        self._windows: Counter[tuple[str, Flag]] = Counter()

    def see(self, row: Reading, reason: Reason | None, registration: Registration | None) -> None:
        """A row in the order of the log, why it was refused (None: it wasn't), and the registration if that is known.

        Refused rows alone will do: some signs stay hidden then.
        """
        seen = self._meters[row.machine, row.meter]
        seen.registration = registration or seen.registration
        seen.see(row, reason)

    def see_flags(self, machine: str, flags: Iterable[Flag], count: int = 1) -> None:
        """The flags of a machine's window, or of so many windows."""
        for flag in flags:
            self._windows[machine, flag] += count

    def found(self) -> list[MeterSign]:
        """The signs, by machine and meter."""
        signs = [sign for (machine, meter), seen in self._meters.items() for sign in _signs_of(machine, meter, seen)]
        for (machine, flag), count in self._windows.items():
            if flag == "clock":
                signs.append(_of_gateway(machine, "clock", count))
            elif flag == "behind":
                signs.append(_of_gateway(machine, "newest_first", count))
            elif flag == "fees":
                signs.append(self._of_starts(machine, count))
        return sorted(signs, key=lambda sign: (sign.machine, sign.meter or "", sign.sign))

    def _of_starts(self, machine: str, count: int) -> MeterSign:
        most, value = 0, None  # type: int, int | None
        for (name, meter), seen in self._meters.items():
            found = _most_an_hour(seen.starts) if name == machine else 0
            known = _registered(seen, meter)
            if found > max(most, 60 if known is None else known.starts_per_hour):
                most = value = found
        return MeterSign(
            machine=machine, meter=None, sign="starts", count=count,
            field=None if value is None else "starts_per_hour", value=value,
            form=None if value is None else _moves(f"at most {value:,} starts an hour"),
            advice="sessions started that owe no fee: more than starts_per_hour allows, or told more than a day after",
        )  # fmt: skip


def _of_gateway(machine: str, kind: SignKind, count: int) -> MeterSign:
    return MeterSign(machine=machine, meter=None, sign=kind, count=count, advice=GATEWAYS[kind])


def _registered(seen: _Seen, name: str) -> Meter | None:
    meters = () if seen.registration is None else seen.registration.meters
    return next((meter for meter in meters if meter.meter == name), None)


def _signs_of(machine: str, name: str, seen: _Seen) -> Iterator[MeterSign]:
    """What the rows of one meter show."""
    registered = _registered(seen, name)
    if count := seen.refused["seq_reused"]:
        yield _of_numbers(machine, name, seen, count)
    if seen.new_sessions and 2 * seen.new_sessions >= len(seen.falls):
        yield MeterSign(
            machine=machine, meter=name, sign="begins_again", count=seen.new_sessions,
            advice="its register begins again in each transaction, so starts are refused and their fees are lost: have"
            " the gateway add the transactions up to a register that only grows, or raise boot with each; no field of"
            " the registration mends it",
        )  # fmt: skip
    elif registered is not None and (modulus := seen.modulus(registered)) is not None:
        yield MeterSign(
            machine=machine, meter=name, sign="rolls_over", count=len(seen.falls), field="modulus", value=modulus,
            form=_moves(f"rolls over at {amount_words(modulus, registered.unit)}"),
            advice="its register rolls over, and what it counted around that is lost",
        )  # fmt: skip
    if seen.refused["too_high"]:
        yield from _of_too_high(machine, name, seen, registered)


def _of_numbers(machine: str, name: str, seen: _Seen, count: int) -> MeterSign:
    """A boot that no version gave clears the numbers at once; one that was given must rise, and be sent."""
    is_given = seen.registration is not None and isinstance(seen.registration.boot, int)
    boot = seen.boot + is_given
    return MeterSign(
        machine=machine, meter=name, sign="numbers_again", count=count, field="boot", value=boot,
        form=f"boot = {boot}",
        advice="its numbers began again under the same boot: have the gateway raise boot at a restart, and keep boot"
        " and seq on disk; a boot that is registered anew clears the numbers, and the gateway has to send that boot",
    )  # fmt: skip


def _of_too_high(machine: str, name: str, seen: _Seen, registered: Meter | None) -> Iterator[MeterSign]:
    """Too much at once is a burst, too much an hour is a capacity; a few single refusals are neither."""
    count, unit = seen.refused["too_high"], registered.unit if registered else ""
    rate, step = seen.rate(), seen.step()
    is_fast = registered is None or rate * 100 > PLAUSIBLE_PERCENT * registered.capacity_per_hour
    is_stepping = step is not None and (registered is None or (seen.stood_still and step > registered.burst))
    if is_stepping and not (registered is not None and is_fast):
        yield MeterSign(
            machine=machine, meter=name, sign="steps", count=count, field="burst", value=step,
            form=_moves(f"moves in steps of {amount_words(step or 1, unit)}"),
            advice="its register moves in steps above what its burst allows at once",
        )  # fmt: skip
    elif is_fast and rate and count >= (REPEATED_UNKNOWN if registered is None else REPEATED):
        capacity = _rounded_up(rate)
        form = f'capacity = "{capacity / 1_000:g} kW"' if unit == "Wh" else f'capacity = "{capacity:,} {unit}/h"'
        yield MeterSign(
            machine=machine, meter=name, sign="capacity", count=count, field="capacity_per_hour", value=capacity,
            form=form, advice="it counts more an hour than its capacity allows, if that is not a wrong unit",
        )  # fmt: skip


def _rolls_over(before: Reading, after: Reading, modulus: int, registered: Meter) -> bool:
    usage = after.value + modulus - before.value
    needed_ms = time_needed_ms(usage, registered.capacity_per_hour)
    is_near = before.value * 5 >= modulus * 4 and after.value * 5 <= modulus
    return is_near and needed_ms <= max(0, after.observed_at - before.observed_at) + MINUTE_MS


def _moves(words: str) -> str:
    """The line of a form that says how a meter moves."""
    return f'moves = ["{words}"]'


def _rounded_up(rate: int) -> int:
    """To two digits."""
    unit = int(10 ** max(0, len(str(rate)) - 2))
    return -(-rate // unit) * unit


def _most_an_hour(starts: Iterable[int]) -> int:
    """The most starts within any hour."""
    ordered, most, first = sorted(starts), 0, 0
    for place, start in enumerate(ordered):
        while start - ordered[first] >= HOUR_MS:
            first += 1
        most = max(most, place - first + 1)
    return most
