"""Open windows: what they have collected so far, and how they seal (rules 6, 21 and 26)."""

from msgspec import Struct

from schemas.errors import InvariantBroken
from schemas.log import Log
from schemas.units import CARRY_BASE
from schemas.window import HARDWARE_BACKED, Flag, Line, Window
from streams.core.machines import Machine, Version
from streams.core.meters import NONE
from streams.core.rating import PER_SESSION, Price

FLAGS: tuple[Flag, ...] = ("equivocation", "rebaselined", "reconstructed", "reset")
USAGE_MIN, USAGE_MAX = -(2**63), 2**63 - 1

LineKey = tuple[str, int, int, int]
"""(meter, version, price in micros, per): usage is summed by it, and lines are sorted by it."""

WindowKey = tuple[int, str, int]
"""(start in ms, machine, start of the adjusted window in ms or NONE): the order in which windows seal."""


class OpenWindow(Struct):
    """A window of one machine, or an adjustment that lies in one. Offsets are NONE until it holds something."""

    readings: int = 0
    first_offset: int = NONE
    last_offset: int = NONE
    skipped: int = 0
    flags: int = 0
    """One bit for each of FLAGS."""
    trust: int = HARDWARE_BACKED
    """The lowest of its readings, or the highest if it has none."""
    usage: dict[LineKey, int] = {}

    def note_offset(self, offset: int) -> None:
        """Notes that something of the record at `offset` lies here. Calls may come in any order of offsets."""
        if self.first_offset == NONE or offset < self.first_offset:
            self.first_offset = offset
        self.last_offset = max(self.last_offset, offset)

    def join(
        self, readings: int, offsets: tuple[int, int], skipped: int, flags: int, trust: int, line: LineKey, usage: int
    ) -> None:
        """Adds many readings between the first and the last of `offsets`, with their usage in one line."""
        self.readings += readings
        first, last = offsets
        if self.first_offset == NONE or first < self.first_offset:
            self.first_offset = first
        self.last_offset = max(self.last_offset, last)
        self.skipped += skipped
        self.flags |= flags
        self.note_trust(trust)
        if usage:
            self._add(line, usage)

    def set_flag(self, flag: Flag) -> None:
        """Marks the window."""
        self.flags |= flag_bit(flag)

    def note_trust(self, trust: int) -> None:
        """Notes that a reading of this trust lies here."""
        self.trust = min(self.trust, trust)

    def add_usage(self, meter: str, version: int, price: Price, usage: int) -> None:
        """Adds usage, summed by meter, version and price. Raises InvariantBroken if a sum leaves 64 bits (rule 21)."""
        self._add((meter, version, price.micros, price.per), usage)

    def _add(self, line: LineKey, usage: int) -> None:
        total = self.usage.get(line, 0) + usage
        if not USAGE_MIN <= total <= USAGE_MAX:
            raise InvariantBroken(f"the usage of meter {line[0]} in one window leaves 64 bits")
        self.usage[line] = total


def flag_bit(flag: Flag) -> int:
    """The bit of a flag."""
    return 1 << FLAGS.index(flag)


def version_of(machine: Machine, key: WindowKey) -> Version:
    """A window's version is the one in force at its start, or at the start of what it adjusts (rule 22)."""
    return machine.version_at(_moment_ms(key))


def _moment_ms(key: WindowKey) -> int:
    """The moment (epoch ms) that decides a window's version: its start, or the start of what it adjusts."""
    start_ms, _, adjusts_ms = key
    return start_ms if adjusts_ms == NONE else adjusts_ms


def seal(log: Log, machine: Machine, version: Version, key: WindowKey, window: OpenWindow, carry_in: int) -> Window:
    """The sealed window with its digest. Its `carry_out` is the next carry of (machine, agreement).

    Sum of usage × price × (3,600,000 / per) + carry in = gross × 3,600,000 + carry out.
    """
    start_ms, name, adjusts_ms = key
    carry = carry_in
    lines = []
    for (meter, priced_by, micros, per), usage in sorted(window.usage.items()):
        if usage:
            amount, carry = divmod(usage * micros * _parts(per) + carry, CARRY_BASE)
            unit = machine.unit_of(meter, priced_by)
            lines.append(Line(meter, unit, priced_by, usage, micros, per, amount))
    gross_micros = sum(line.amount_micros for line in lines)
    expenses_micros = 0
    return Window(
        machine=name,
        start_ms=start_ms,
        end_ms=start_ms + log.window_ms,
        adjusts_ms=None if adjusts_ms == NONE else adjusts_ms,
        utc_offset_s=version.prices.utc_offset_s(_moment_ms(key)),
        gross_micros=gross_micros,
        expenses_micros=expenses_micros,
        uncollected_micros=0,
        net_micros=gross_micros - expenses_micros,
        collected_micros=0,
        lines=tuple(lines),
        sessions=(),
        dues=(),
        carry_in=carry_in,
        carry_out=carry,
        registration_version=version.number,
        agreement=version.registration.agreement,
        readings=window.readings,
        first_offset=window.first_offset,
        last_offset=window.last_offset,
        skipped=window.skipped,
        flags=_flags(window, machine),
        trust=window.trust,
    ).sealed(version.registration.salt)


def _parts(per: int) -> int:
    """3,600,000 / per: the factor from usage × price to parts of 1/3,600,000 micro; a session counts as per 1."""
    return CARRY_BASE if per == PER_SESSION else CARRY_BASE // per


def _flags(window: OpenWindow, machine: Machine) -> tuple[Flag, ...]:
    flags = {flag for bit, flag in enumerate(FLAGS) if window.flags >> bit & 1}
    if machine.is_marked:
        flags.add("equivocation")
    return tuple(sorted(flags))
