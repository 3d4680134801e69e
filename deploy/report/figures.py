"""What a report shows of all machines: figures, income by day, rejects, and which days it shows in detail.

All of it is read from the analysts' views, as anybody would.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from msgspec import Struct

from schemas.errors import InvalidInput
from schemas.units import DAY_MS, is_simulated

MACHINES = 300
"""Machines that are shown one by one, those with the highest income; the others as one."""
OTHERS, OTHERS_SIMULATED = "(others)", "(others, simulated)"
"""No machine can have these ids."""
SIMULATED_KIND = " (simulated)"
"""Behind a simulated machine's kind: no registration's kind can end so."""
STRETCHES = 42
"""Income is summed by day, or by stretches of equally many days where these would be more."""
DAYS = 6
"""Machine days that are embedded down to their readings, spread over the kinds of machines."""
DAY_READINGS = 400
"""A day with more readings isn't chosen by itself: it would make the file large."""
DAY_READINGS_MAX = 20_000
"""A day with more readings isn't embedded at all: no browser would like it."""


class Views:
    """The analysts' views of a data folder, opened once for many questions."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def ask(self, text: str) -> list[tuple[object, ...]]:
        """The rows of a query. Raises InvalidInput where a file under the views can't be read."""
        try:
            return self._connection.execute(text).fetchall()
        except duckdb.Error as error:
            raise InvalidInput(f"the views can't be read: {str(error).splitlines()[0]}") from None


class Wish(Struct, frozen=True):
    """What is to be embedded down to readings: days of this machine alone, this day (days since 1970) alone.

    `first` is a machine that comes before the others.
    """

    machine: str | None = None
    day: int | None = None
    first: str | None = None


class Figures(Struct, frozen=True):
    """Figures of the whole log; `rejects` are entries by reason, times epoch ms.

    What is earned is net: gross - expenses (what suppliers are owed) - uncollected (used beyond what was paid before).
    """

    entries: int
    accepted: int
    duplicates: int
    rejects: dict[str, int]
    machines: int
    windows: int
    adjustments: int
    readings: int
    earned_micros: str
    simulated_micros: str
    expenses_micros: str
    uncollected_micros: str
    collected_micros: str
    first_ms: int
    last_ms: int


class MachineRow(Struct, frozen=True):
    """One machine. Thousandths of a percent: `reporting_thousandths` is None where it has no reading yet,
    `uptime_thousandths` where no meter `availability` says when it was in service.
    """

    machine: str
    kind: str
    windows: int
    readings: int
    net_micros: str
    trust: int
    flags: tuple[str, ...]
    reporting_thousandths: int | None
    uptime_thousandths: int | None


class Places:
    """The index of each machine's row; machines without one are summed in the row of others of their sort."""

    def __init__(self, rows: Sequence[MachineRow]) -> None:
        self._places = {row.machine: at for at, row in enumerate(rows)}

    def of(self, machine: str) -> int:
        """The index of the row that shows the machine."""
        others = OTHERS_SIMULATED if is_simulated(machine) else OTHERS
        return self._places.get(machine, self._places.get(others, 0))


class DayChoice(Struct, frozen=True):
    """A day of a machine that can be embedded, `day` in days since 1970."""

    machine: str
    partition: int
    day: int
    readings: int
    priced: int
    net_micros: int


def read_figures(views: Views) -> Figures:
    """The figures of the log."""
    ((entries, accepted, duplicates),) = views.ask("SELECT sum(entries), sum(accepted), sum(duplicate) FROM epochs")
    ((machines, windows, adjustments, readings, first_ms, last_ms),) = views.ask(
        "SELECT count(DISTINCT machine), count(*) FILTER (adjusts IS NULL), count(*) FILTER (adjusts IS NOT NULL),"
        " sum(readings), min(start_ms), max(end_ms) FROM windows",
    )
    (amounts,) = views.ask(
        "SELECT sum(net_micros), sum(net_micros) FILTER (simulated), sum(expenses_micros), sum(uncollected_micros),"
        " sum(collected_micros) FROM windows",
    )
    reasons = views.ask("SELECT reason, count(*) FROM rejects GROUP BY 1 ORDER BY 2 DESC, 1")
    earned, simulated, expenses, uncollected, collected = (str(_int(amount)) for amount in amounts)
    return Figures(
        entries=_int(entries), accepted=_int(accepted), duplicates=_int(duplicates),
        rejects={str(reason): _int(n) for reason, n in reasons}, machines=_int(machines), windows=_int(windows),
        adjustments=_int(adjustments), readings=_int(readings), earned_micros=earned, simulated_micros=simulated,
        expenses_micros=expenses, uncollected_micros=uncollected, collected_micros=collected, first_ms=_int(first_ms),
        last_ms=_int(last_ms),
    )  # fmt: skip


def read_machines(views: Views, kinds: Mapping[str, str]) -> list[MachineRow]:
    """The machines by income, those behind the first MACHINES as one."""
    rows = views.ask(
        "SELECT m.machine, m.windows, m.readings, (SELECT sum(net_micros) FROM windows w WHERE w.machine = m.machine),"
        " m.trust, m.flags, (m.reporting * 1000)::BIGINT, (m.uptime * 1000)::BIGINT FROM machines AS m"
        " ORDER BY 4 DESC, 1",
    )
    found = [
        MachineRow(
            str(name), kinds.get(str(name), "machine"), _int(windows), _int(readings), str(_int(net)), _int(trust),
            tuple(str(flag) for flag in _list(flags)), _int_or_none(reporting), _int_or_none(uptime),
        )
        for name, windows, readings, net, trust, flags, reporting, uptime in rows
    ]  # fmt: skip
    return found[:MACHINES] + _others(found[MACHINES:])


def _others(rows: Sequence[MachineRow]) -> list[MachineRow]:
    """The sums of recorded and of simulated machines, as far as there are any."""
    sums = []
    for name, kind, simulated in ((OTHERS, "others", False), (OTHERS_SIMULATED, "others" + SIMULATED_KIND, True)):
        rest = [row for row in rows if is_simulated(row.machine) == simulated]
        if rest:
            net = str(sum(int(row.net_micros) for row in rest))
            counts = sum(row.windows for row in rest), sum(row.readings for row in rest)
            sums.append(MachineRow(name, kind, *counts, net, min(row.trust for row in rest), (), None, None))
    return sums


def stretch_days(figures: Figures) -> int:
    """How many days a stretch of the incomes has."""
    days = (figures.last_ms - 1) // DAY_MS - figures.first_ms // DAY_MS + 1
    return -(-days // STRETCHES)


def read_incomes(views: Views, figures: Figures, places: Places) -> list[tuple[int, int, str]]:
    """Income in micros: (index of the machine, number of the stretch of days, amount as a decimal string)."""
    first = figures.first_ms // DAY_MS
    rows = views.ask(
        f"SELECT machine, (start_ms // {DAY_MS} - {first}) // {stretch_days(figures)}, sum(net_micros)"  # noqa: S608
        " FROM windows GROUP BY 1, 2"
    )
    sums: dict[tuple[int, int], int] = {}
    for machine, stretch, net in rows:
        key = (_int(stretch), places.of(str(machine)))
        sums[key] = sums.get(key, 0) + _int(net)
    return [(at, stretch, str(net)) for (stretch, at), net in sorted(sums.items()) if net]


def choose_days(views: Views, kinds: Mapping[str, str], wish: Wish) -> list[DayChoice]:
    """The days to embed: those asked for, else of each kind of machines the ones with the most windows that earn.

    A day counts once all of its windows are final. Raises InvalidInput where what is asked for is too large.
    """
    rows = views.ask(
        f'SELECT machine, any_value("partition"), start_ms // {DAY_MS}, sum(readings),'  # noqa: S608
        " count(*) FILTER (net_micros > 0), sum(net_micros)"
        ' FROM windows GROUP BY 1, 3 HAVING bool_and(final) AND count(DISTINCT "partition") = 1',
    )
    choices = [DayChoice(str(name), *(_int(cell) for cell in rest)) for name, *rest in rows]
    if wish.machine is None and wish.day is None:
        fitting = [choice for choice in choices if choice.readings <= DAY_READINGS]
    else:
        fitting = [c for c in choices if wish.machine in (None, c.machine) and wish.day in (None, c.day)]
        if fitting and min(choice.readings for choice in fitting) > DAY_READINGS_MAX:
            raise InvalidInput(
                f"such a day has over {DAY_READINGS_MAX:,} readings, too many for a page: choose another"
            )
        fitting = [choice for choice in fitting if choice.readings <= DAY_READINGS_MAX]
    best: dict[str, DayChoice] = {}
    for choice in sorted(fitting, key=lambda c: (-c.priced, -c.net_micros, c.day)):
        best.setdefault(choice.machine, choice)
    by_kind: dict[str, list[DayChoice]] = {}
    for choice in sorted(best.values(), key=lambda c: c.machine != wish.first):
        by_kind.setdefault(kinds.get(choice.machine, ""), []).append(choice)
    share = max(1, DAYS // max(1, len(by_kind)))
    # A fleet's largest kind comes first, unless there is a wish.
    in_order = sorted(by_kind, key=lambda kind: (by_kind[kind][0].machine != wish.first, -len(by_kind[kind]), kind))
    return [choice for kind in in_order for choice in by_kind[kind][:share]][:DAYS]


def read_kinds(views: Views) -> dict[str, str]:
    """The kind of each machine, as its last registration says; with SIMULATED_KIND if it is simulated."""
    return {
        str(name): str(kind) + (SIMULATED_KIND if is_simulated(str(name)) else "")
        for name, kind in views.ask("SELECT machine, kind FROM machines")
    }


def _int(value: object) -> int:
    return int(str(value or 0))


def _int_or_none(value: object) -> int | None:
    return None if value is None else _int(value)


def _list(value: Any) -> Sequence[object]:
    return list(value or ())
