"""Open windows: what they have collected so far, and how they seal (rules 6, 21, 26 and 38)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from schemas.log import Log
from schemas.units import CARRY_BASE, COUNT_MAX
from schemas.window import LINES_MAX, Due, Flag, Line, Statement, Window, flags_from
from streams.core.kernel.columns import NONE
from streams.core.machines import Machine, Version
from streams.core.rating import PER_SESSION


class LineKey(NamedTuple):
    """Usage is summed by it, and lines are sorted by it. `price` is micros for `per` units, or for a session (0)."""

    meter: str
    version: int
    price_micros: int
    per: int


WindowKey = tuple[int, str, int]
"""(start in ms, machine, start of the adjusted window in ms or NONE): the order in which windows seal."""

Billed = Sequence[tuple[LineKey, int]]
"""Usage to be added, by line; none of it 0."""


class Expense(Struct, frozen=True, array_like=True, order=True):
    """What an order settled for, in micros."""

    item: str
    number: int
    supplier: str
    micros: int


class Extras(Struct, array_like=True):
    """What few windows hold: statements of returned payments, expenses, refunds of corrections, as in the log."""

    statements: list[Statement] = []
    expenses: list[Expense] = []
    refunds: list[Due] = []

    @property
    def refunds_micros(self) -> int:
        """What it owes to customers."""
        return sum(due.micros for due in self.refunds) + sum(returned.refund_micros for returned in self.statements)


class OpenWindow(Struct):
    """What a window has collected, or an adjustment that lies in it. Offsets are NONE where no record lies in it.

    `flags` has one bit for each of FLAGS; `trust` is the lowest of the readings that billed something, or the highest
    if none did.
    """

    readings: int
    first_offset: int
    last_offset: int
    skipped: int
    flags: int
    trust: int
    usage: list[tuple[LineKey, int]]
    """Sorted by line."""
    extras: Extras


def can_bill(usage: Mapping[LineKey, int], billed: Billed) -> bool:
    """Rule 21: whether a window's lines can take more: 256 of them, each with usage and worth within 2^53."""
    new = 0
    for line, added in billed:
        total = usage.get(line, 0) + added
        new += line not in usage
        if abs(total) > COUNT_MAX or abs(total * line.price_micros) > COUNT_MAX * (line.per or 1):
            return False
    return len(usage) + new <= LINES_MAX


def version_of(machine: Machine, key: WindowKey) -> Version:
    """A window's version is the one in force at its start, or at the start of what it adjusts (rule 22)."""
    return machine.version_at(_moment_ms(key))


def _moment_ms(key: WindowKey) -> int:
    """The moment (epoch ms) that decides a window's version: its start, or the start of what it adjusts."""
    start_ms, _, adjusts_ms = key
    return start_ms if adjusts_ms == NONE else adjusts_ms


def seal(
    log: Log,
    machine: Machine,
    version: Version,
    key: WindowKey,
    window: OpenWindow,
    carry_in: int,
    closed: Sequence[Statement] = (),
) -> Window:
    """The sealed window with its digest. Its `carry_out` is the next carry of (machine, agreement).

    `closed` are the statements of sessions that close into it. Sum of usage × price × (3,600,000 / per) + carry in =
    gross × 3,600,000 + carry out.
    """
    start_ms, name, adjusts_ms = key
    lines, carry = _lines(machine, window, carry_in)
    sessions = tuple(sorted([*window.extras.statements, *closed], key=lambda statement: statement.session))
    gross_micros = sum(line.amount_micros for line in lines)
    expenses_micros = sum(expense.micros for expense in window.extras.expenses)
    uncollected_micros = sum(statement.uncollected_micros for statement in sessions)
    return Window(
        machine=name,
        start_ms=start_ms,
        end_ms=start_ms + log.window_ms,
        adjusts_ms=None if adjusts_ms == NONE else adjusts_ms,
        utc_offset_s=version.prices.utc_offset_s(_moment_ms(key)),
        gross_micros=gross_micros,
        expenses_micros=expenses_micros,
        uncollected_micros=uncollected_micros,
        net_micros=gross_micros - expenses_micros - uncollected_micros,
        collected_micros=sum(statement.paid_micros - statement.refund_micros for statement in sessions),
        lines=lines,
        sessions=sessions,
        dues=_dues(window, sessions),
        carry_in=carry_in,
        carry_out=carry,
        registration_version=version.number,
        agreement=version.content.template.agreement,
        readings=window.readings,
        first_offset=window.first_offset,
        last_offset=window.last_offset,
        skipped=window.skipped,
        flags=_flags(window, machine),
        trust=window.trust,
    ).sealed(version.salt)


def _lines(machine: Machine, window: OpenWindow, carry: int) -> tuple[tuple[Line, ...], int]:
    """Rule 21: the lines with their amounts, and the carry that they leave."""
    lines = []
    for key, usage in window.usage:
        if usage:
            amount, carry = divmod(usage * key.price_micros * parts(key.per) + carry, CARRY_BASE)
            unit = machine.unit_of(key.meter, key.version)
            lines.append(Line(key.meter, unit, key.version, usage, key.price_micros, key.per, amount))
    return tuple(lines), carry


def _dues(window: OpenWindow, sessions: Sequence[Statement]) -> tuple[Due, ...]:
    """Rule 38: suppliers by item and number, customers by session, then what corrections refund."""
    expenses = [
        Due("expense", expense.supplier, f"{expense.item}/{expense.number}", expense.micros)
        for expense in sorted(window.extras.expenses)
    ]
    refunds = [
        Due("refund", statement.payer, statement.session, statement.refund_micros)
        for statement in sessions
        if statement.refund_micros
    ]
    return (*expenses, *refunds, *window.extras.refunds)


def parts(per: int) -> int:
    """3,600,000 / per: the factor from usage × price to parts of 1/3,600,000 micro; a session counts as per 1."""
    return CARRY_BASE if per == PER_SESSION else CARRY_BASE // per


def worth(billed: Billed) -> int:
    """What usage is worth, in 1/3,600,000 of a micro."""
    return sum(usage * line.price_micros * parts(line.per) for line, usage in billed)


def _flags(window: OpenWindow, machine: Machine) -> tuple[Flag, ...]:
    flags = set(flags_from(window.flags))
    if machine.is_marked:
        flags.add("equivocation")
    return tuple(sorted(flags))
