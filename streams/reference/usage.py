"""What a meter counted: registers, quantities, and what is plausible of them (rules 11 to 17)."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple, TypeGuard

from schemas.units import DAY_MS, HOUR_MS
from streams.reference.entries import Plain
from streams.reference.evidence import Proof

SLACK_MS = 60_000
ELAPSED_MAX_MS = 35 * DAY_MS
FAR = Fraction(135, 100)
OPENING = (-1, -1)
"""The number of an opening register: it comes before every register (rule 13)."""


class Standing(NamedTuple):
    """A register to continue from (rule 12), proven or not (42). `number` is (boot, seq); times are epoch ms."""

    number: tuple[int, int]
    value: int
    time: int
    seen: int
    proven: bool = False


@dataclass(frozen=True)
class Gauge:
    """What is remembered of a meter's values. `span` is the oldest and the newest quantity accepted."""

    base: Standing | None = None
    suspect: Standing | None = None
    displaced: Standing | None = None
    slack: int = SLACK_MS
    span: tuple[int, int] | None = None

    def with_boot(self, boot: int) -> "Gauge":
        """After a registered boot acted (rule 10)."""
        if self.base is not None and self.base.number[0] > boot:
            return replace(self, base=None, suspect=None, displaced=None, slack=SLACK_MS)
        return replace(self, suspect=None, displaced=None)

    def with_opening(self, value: int, time: int, seen: int) -> "Gauge":
        """After an opening register (rule 13)."""
        return replace(self, base=Standing(OPENING, value, time, seen), suspect=None, displaced=None, slack=SLACK_MS)


class Judged(NamedTuple):
    """What a value comes to: the gauge after it, its usage, its flags, and why it is refused, if it is."""

    after: Gauge
    usage: int = 0
    flags: frozenset[str] = frozenset()
    reason: str | None = None
    proven: bool = False


class Way(NamedTuple):
    """One plausible way from an origin to a register."""

    usage: int
    rank: int
    origin: Standing
    elapsed: int
    clock: bool


def need(usage: int, meter: Plain) -> int:
    """The ms that a meter needs for some usage (rule 15)."""
    capacity: int = meter["capacity_per_hour"]
    return math.ceil(usage * HOUR_MS / (FAR * capacity))


def is_plausible(usage: int, slack: int, elapsed: int, meter: Plain) -> bool:
    """Whether a meter can have counted `usage` in `elapsed` ms (rule 15)."""
    return usage == 0 or slack + elapsed - need(usage, meter) >= -need(meter.get("burst", 1), meter)


def judge(
    gauge: Gauge, row: Plain, meter: Plain, now: int, current_boot: int, proof: Proof | None = None
) -> Judged:  # fmt: skip
    """What the value of a row comes to. `meter` is as registered; `now` is stream time."""
    if meter["kind"] == "register":
        judged = judge_register(gauge, row, meter, now, current_boot, proof or Proof(False))
        return judged if proof is None or proof.is_proven else judged._replace(flags=judged.flags | {"evidence"})
    return judge_quantity(gauge, row, meter) if meter["kind"] == "quantity" else Judged(gauge)


def judge_register(
    gauge: Gauge, row: Plain, meter: Plain, now: int, current_boot: int, proof: Proof
) -> Judged:  # fmt: skip
    """What a register comes to (rules 11 to 16 and 42)."""
    own = proof.is_proven
    number, value, at, base = (row["boot"], row["seq"]), row["register"], row["observed_at"], gauge.base
    if "modulus" in meter and value >= meter["modulus"]:
        return Judged(gauge, reason="too_high")
    if row["boot"] != current_boot:
        return Judged(gauge, flags=frozenset({"behind"}), proven=own)
    if base is None:
        return Judged(replace(gauge, base=Standing(number, value, at, now, own)), proven=own)
    if number < base.number or (base.number == OPENING and at < base.time):
        return Judged(gauge, flags=frozenset({"behind"}), proven=own)
    here = Standing(number, value, max(at, base.time), now, own)
    if base.number != OPENING and number[0] > base.number[0] and value < base.value:  # rule 14
        after = replace(gauge, base=here, suspect=None, displaced=None)
        return Judged(after, flags=frozenset({"reset"}), proven=own)
    ways = ways_to(here, gauge, at, meter)
    if not ways:
        return Judged(replace(gauge, suspect=here), reason="too_low" if value < base.value else "too_high")
    best = min(ways)
    flags = {"clock"} if best.clock else set()
    displaced = gauge.displaced
    if best.origin is not base:
        flags.add("rebaselined")
        if best.origin is not gauge.suspect:
            displaced = None
        elif not _is_near(displaced, at) or displaced.value <= base.value:
            displaced = base
    after = replace(
        gauge,
        base=here._replace(time=max(here.time, best.origin.time + best.elapsed)),
        suspect=None,
        displaced=displaced,
        slack=min(SLACK_MS, gauge.slack + best.elapsed - need(best.usage, meter)),
    )
    is_bound = best.usage == 0 or best.origin.proven or best.origin.value == proof.begin
    return Judged(after, best.usage, frozenset(flags), proven=own and is_bound)


def ways_to(here: Standing, gauge: Gauge, at: int, meter: Plain) -> list[Way]:
    """The plausible ways to a register that was observed at a moment (rule 16)."""
    suspect = gauge.suspect if gauge.suspect is not None and here.number > gauge.suspect.number else None
    displaced = gauge.displaced if _is_near(gauge.displaced, at) else None
    ways = []
    for rank, origin in enumerate((gauge.base, suspect, displaced)):
        usage = None if origin is None else usage_between(origin.value, here.value, meter.get("modulus"))
        if origin is None or usage is None:
            continue
        stood = at <= origin.time
        elapsed = min(HOUR_MS, here.seen - origin.seen) if stood else min(ELAPSED_MAX_MS, at - origin.time)
        if is_plausible(usage, gauge.slack, elapsed, meter):
            ways.append(Way(usage, rank, origin, elapsed, at < origin.time))
    return ways


def usage_between(before: int, after: int, modulus: int | None) -> int | None:
    """The usage between two registers, perhaps over the end of the register; None if there is none (rule 16)."""
    if before <= after:
        return after - before
    if modulus is None or before >= modulus or 2 * (after + modulus - before) > modulus:
        return None
    return after + modulus - before


def judge_quantity(gauge: Gauge, row: Plain, meter: Plain) -> Judged:
    """What a quantity comes to (rule 17)."""
    usage, at = row["quantity"], row["observed_at"]
    first, last = gauge.span or (at, at)
    widened = DAY_MS if gauge.span is None else max(0, first - at, at - last)
    elapsed = min(ELAPSED_MAX_MS, widened)
    if not is_plausible(usage, gauge.slack, elapsed, meter):
        return Judged(gauge, reason="too_high")
    slack = min(ELAPSED_MAX_MS, gauge.slack + elapsed - need(usage, meter))
    return Judged(replace(gauge, span=(min(first, at), max(last, at)), slack=slack), usage)


def _is_near(displaced: Standing | None, at: int) -> TypeGuard[Standing]:
    """Whether there is a displaced baseline that a register can still continue from."""
    return displaced is not None and at - displaced.time <= ELAPSED_MAX_MS
