"""Rows of a file as drafts: which machine used how much when. A draft has no number in a log yet, and reads none.

Identity, for each machine and meter: the sum over its drafts = what the rows say, in whole units of the meter; of
sessions and events each row is rounded half up, of intervals the rest of a unit goes into the next row's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from deploy.importers.mapping import Amount, Mapping
from deploy.importers.names import cleaned, id_of
from deploy.importers.spool import Shelf, Spool
from deploy.importers.table_files import Fields, format_of, number_in, rows_in
from deploy.importers.tables import exact, half_up, localised, moment_of, to_ms
from deploy.importers.tariffs import zone_of
from deploy.machines.quantities import PER_HOUR, whole_units
from schemas.errors import InvalidInput
from schemas.units import COUNT_MAX, ELAPSED_MAX_MS, HOUR_MS

NO_VALUE = frozenset({"", "nan", "null", "none", "n/a", "-"})
TWICE = "the same row is in the file twice"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was read: a file, and its row from 1."""

    file: str
    row: int


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that is not sent. Reasons are few, so that they can be counted; `detail` is what this row has."""

    origin: Origin
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """One row. `amounts` are whole units by meter; moments are epoch ms, of what has no duration both are equal.

    `session` is None for rows that are known by their moment.
    """

    origin: Origin
    machine: str
    start_ms: int
    end_ms: int
    amounts: dict[str, int]
    session: str | None = None


class SkippedRows:
    """The rows that are not sent: how many for which reason, and each of them on disk."""

    def __init__(self, shelf: Shelf[SkippedRow]) -> None:
        self.reasons: Counter[str] = Counter()
        self._shelf = shelf

    def add(self, row: SkippedRow) -> None:
        """Adds a row."""
        self.reasons[row.reason] += 1
        self._shelf.add(row, row.origin.file, row.origin.row)

    def __iter__(self) -> Iterator[SkippedRow]:
        """By file, then row."""
        return self._shelf.by_machine()


class Drafts:
    """All that the files say, on disk by machine. `names` are the machines' names as the files write them, by id."""

    def __init__(self, spool: Spool) -> None:
        self.skipped = SkippedRows(spool.shelf("skipped", SkippedRow))
        self.names: dict[str, str] = {}
        self.rows = self.count = 0
        """Rows of the files, and drafts that they make."""
        self.twice_by_the_clock = 0
        """Moments without an offset in an hour that the clock had twice."""
        self.left_over: dict[str, Fraction] = {}
        """Of intervals, by meter: what didn't make a whole unit at the end of the files."""
        self.totals: Counter[str] = Counter()
        """What all drafts add up to, by meter."""
        self.first_ms = self.last_ms = 0
        """The first draft's start and the last one's end."""
        self._shelf: Shelf[Draft] = spool.shelf("drafts", Draft)

    def machines(self) -> list[str]:
        """The machines that have drafts, sorted."""
        return self._shelf.machines()

    def of(self, machine: str) -> list[Draft]:
        """A machine's drafts, in the order of the files or, of intervals and registers, of time."""
        return self._shelf.of(machine)

    def add(self, draft: Draft) -> None:
        """Adds a draft."""
        self.first_ms = min(self.first_ms, draft.start_ms) if self.count else draft.start_ms
        self.last_ms = max(self.last_ms, draft.end_ms)
        self.count += 1
        self.totals.update(draft.amounts)
        self._shelf.add(draft, draft.machine)


@dataclass(slots=True)
class _Point:
    """A row of an interval or register: its moment as written, and its exact amounts, as text (`3/4`)."""

    origin: Origin
    machine: str
    written: str
    amounts_written: dict[str, str]

    @property
    def moment(self) -> datetime:
        """Its moment, with its offset or without."""
        return datetime.fromisoformat(self.written)

    @property
    def amounts(self) -> dict[str, Fraction]:
        """Its amounts by meter."""
        return {meter: Fraction(text) for meter, text in self.amounts_written.items()}


class SkipRow(Exception):
    """Raised within the reading and placing of one row that can't be sent; never leaves these modules."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.why = (reason, detail)


def read_drafts(paths: Iterable[Path], mapping: Mapping, spool: Spool) -> Drafts:
    """The rows of the files, joined. Raises InvalidInput for a file that lacks a column or can't be read at all."""
    reader = _Reader(mapping, spool)
    for path in paths:
        reader.read(path)
    return reader.done()


class _Reader:
    def __init__(self, mapping: Mapping, spool: Spool) -> None:
        self._mapping = mapping
        self._zone: ZoneInfo | None = zone_of(mapping.zone) if mapping.zone else None
        self._found = Drafts(spool)
        self._is_timed = mapping.session is not None
        self._rows: Shelf[Any] = spool.shelf("read_rows", Draft if self._is_timed else _Point)

    def read(self, path: Path) -> None:
        names: dict[str, str] = {}
        is_json = format_of(path, self._mapping.file) in ("json", "jsonl")
        for number, fields in rows_in(path, self._mapping.file):
            origin = Origin(path.name, number)
            self._found.rows += 1
            if isinstance(fields, str):
                self._skip(origin, fields)
                continue
            if is_json or not names:  # objects of JSON differ, rows of a table don't
                names = self._columns(path, fields, is_json)
            try:
                self._take(origin, {name: fields.get(present, "") for name, present in names.items()})
            except SkipRow as skip:
                self._skip(origin, *skip.why)

    def done(self) -> Drafts:
        """What was read, machine by machine, with intervals and registers in the order of time."""
        for machine in self._rows.machines():
            rows = self._rows.of(machine)
            for draft in self._told_apart(rows) if self._is_timed else self._in_order(rows):
                self._found.add(draft)
        return self._found

    def _told_apart(self, rows: list[Draft]) -> Iterator[Draft]:
        """One machine's sessions or events: of those with one name and start the first."""
        seen: dict[tuple[str, int], dict[str, int]] = {}
        for draft in rows:
            before = None if draft.session is None else seen.setdefault((draft.session, draft.start_ms), draft.amounts)
            if before is None or before is draft.amounts:
                yield draft
            else:
                reason = TWICE if before == draft.amounts else "another row has the same session and start"
                self._skip(draft.origin, reason, draft.session or "")

    def _skip(self, origin: Origin, reason: str, detail: str = "") -> None:
        self._found.skipped.add(SkippedRow(origin, reason, detail[:80]))

    def _columns(self, path: Path, fields: Fields, is_json: bool) -> dict[str, str]:
        """Each column of the mapping by its name in the file. JSON leaves out what is absent: there none is missed."""
        found = {}
        for column in self._mapping.columns:
            present = self._mapping.column_in(fields, column)
            if present is None and not is_json:
                raise InvalidInput(f"{path.name} has no column {column}; it has {', '.join(list(fields)[:20])}")
            found[column] = present or column
        return found

    def _take(self, origin: Origin, fields: Fields) -> None:
        for column, allowed in self._mapping.only.items():
            if fields[column] not in allowed:
                raise SkipRow(f"{column} is none of {', '.join(allowed)}", fields[column])
        machine = self._machine(fields)
        if self._mapping.session is not None:
            self._rows.add(self._timed(origin, machine, fields), machine)
            return
        amounts = {meter: self._exact(amount, fields) for meter, amount in self._mapping.amounts.items()}
        kept = {meter: value for meter, value in amounts.items() if value is not None}
        if not kept:
            raise SkipRow("no value")
        if self._mapping.reading is not None:
            moment = self._moment(self._mapping.reading.at, fields)
            written = {meter: str(value) for meter, value in kept.items()}
            self._rows.add(_Point(origin, machine, moment.isoformat(), written), machine)

    def _machine(self, fields: Fields) -> str:
        if self._mapping.machine_id is not None:
            names = [self._mapping.machine_id]
        else:
            names = [fields[column] for column in self._mapping.machine]
        if not all(cleaned(name) for name in names):
            raise SkipRow("the machine has no name")
        machine = id_of(*names)
        self._found.names.setdefault(machine, " / ".join(cleaned(name) for name in names))
        return machine

    def _exact(self, amount: Amount, fields: Fields) -> Fraction | None:
        """What a row says of a meter in the meter's unit, or None where it says nothing. Raises SkipRow."""
        if any(fields[column] in refused for column, refused in amount.not_where.items()):
            return None
        if amount.column is None:
            value = exact(amount.value or "")
        else:
            text = fields[amount.column]
            if text.lower() in NO_VALUE:
                return None
            value = number_in(text, self._mapping.file)
            if value is None:
                raise SkipRow(f"{amount.column} is not a number", text)
        result = (value or Fraction(0)) * amount.factor(self._mapping.kind)
        if abs(result) > COUNT_MAX:
            raise SkipRow(f"{amount.column} is out of range", str(result))
        if amount.part is not None:
            return max(result, Fraction(0)) if amount.part == "positive" else max(-result, Fraction(0))
        if result < 0:
            raise SkipRow(f"{amount.column} is negative", str(result))
        return result

    def _timed(self, origin: Origin, machine: str, fields: Fields) -> Draft:
        """A session or an event. Raises SkipRow."""
        columns = self._mapping.session
        start_ms, end_ms = self._span(fields)
        amounts = {}
        for meter, amount in self._mapping.amounts.items():
            value = self._exact(amount, fields)
            if value is not None:
                amounts[meter] = half_up(value)
        if not amounts:
            raise SkipRow("no value")
        session = None
        if columns is not None and columns.id is not None:
            if not cleaned(fields[columns.id]):
                raise SkipRow(f"{columns.id} is empty")
            session = id_of(fields[columns.id])
        elif self._mapping.kind == "sessions":
            session = f"s-{start_ms}"
        return Draft(origin, machine, start_ms, end_ms, amounts, session)

    def _span(self, fields: Fields) -> tuple[int, int]:
        """Start and end in epoch ms. Raises SkipRow for what can't be."""
        columns = self._mapping.session
        if columns is None:
            raise SkipRow("no session")
        end_ms = None if columns.end is None else self._ms(columns.end, fields)
        start_ms = end_ms if columns.start is None else self._ms(columns.start, fields)
        if columns.start is not None and columns.duration is not None and start_ms is not None:
            lasted = number_in(fields[columns.duration] or "0", self._mapping.file)
            if lasted is None or not 0 <= lasted <= COUNT_MAX:
                raise SkipRow(f"{columns.duration} is not a duration", fields[columns.duration])
            end_ms = start_ms + half_up(lasted * HOUR_MS / PER_HOUR[columns.duration_in])
        if start_ms is None or end_ms is None:
            raise SkipRow("no moment")
        if columns.end is not None and end_ms < start_ms:  # The clock was put back within: the end is the second one.
            end_ms = self._ms(columns.end, fields, after_ms=start_ms)
        if end_ms < start_ms or (self._mapping.kind == "sessions" and end_ms == start_ms):
            raise SkipRow("the end is not after the start")
        if end_ms - start_ms > ELAPSED_MAX_MS:
            raise SkipRow("longer than 35 days")
        # What took no time ends a millisecond later: what a row says was used before it (rule 5a).
        return start_ms, max(end_ms, start_ms + 1) if columns.start is not None else end_ms

    def _moment(self, column: str, fields: Fields) -> datetime:
        """The moment as the file writes it, with its offset or without. Raises SkipRow."""
        text = fields[column]
        if not text:
            raise SkipRow(f"{column} is empty")
        moment = _moment_in(text, self._mapping.time_format)
        if moment is None:
            raise SkipRow(f"{column} is not a time", text)
        if moment.tzinfo is None and self._zone is None:
            raise InvalidInput(f"{column} has times without an offset ('{text}'): write zone = \"Europe/Berlin\"")
        return moment

    def _ms(self, column: str, fields: Fields, after_ms: int | None = None) -> int:
        moment = self._moment(column, fields)
        if after_ms is None:
            self._note_twice(moment)
        return self._absolute(moment, column, after_ms)

    def _note_twice(self, moment: datetime) -> None:
        if moment.tzinfo is None:
            first, second = (moment.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1))
            self._found.twice_by_the_clock += first != second

    def _absolute(self, moment: datetime, column: str, after_ms: int | None) -> int:
        """Epoch ms of a moment; in an hour that comes twice the first, unless that is at or before `after_ms`."""
        if moment.tzinfo is not None or self._zone is None:
            at_ms = to_ms(moment)
        else:
            found = localised(moment, self._zone, after_ms)
            if found is None:
                raise SkipRow(f"{column} lies in an hour that the clock skipped", moment.isoformat())
            at_ms = found
        if at_ms < 0:
            raise SkipRow(f"{column} lies before 1970", moment.isoformat())
        return at_ms

    def _in_order(self, points: list[_Point]) -> Iterator[Draft]:
        """One machine's points by ascending time, with whole amounts. A file that begins with the newest is turned."""
        stamps = [point.moment.replace(tzinfo=None) for point in points]
        ascents = sum(1 if after > before else -1 for before, after in pairwise(stamps) if after != before)
        placed: dict[int, _Point] = {}
        before_ms: int | None = None
        column = self._mapping.reading.at if self._mapping.reading else ""
        for point in points if ascents >= 0 else reversed(points):
            try:
                at_ms = self._absolute(point.moment, column, before_ms)
                if at_ms in placed:
                    same = placed[at_ms].amounts_written == point.amounts_written
                    raise SkipRow(TWICE if same else "another row has the same machine and time")
            except SkipRow as skip:
                self._skip(point.origin, *skip.why)
                continue
            placed[at_ms] = point
            before_ms = at_ms
            self._note_twice(point.moment)
        ordered = sorted(placed.items())
        if self._mapping.kind == "registers":
            return (
                Draft(p.origin, p.machine, at, at, {meter: floor(value) for meter, value in p.amounts.items()})
                for at, p in ordered
            )
        return self._intervals(ordered)

    def _intervals(self, ordered: list[tuple[int, _Point]]) -> Iterator[Draft]:
        """Each row's whole units; the rest goes on to the next."""
        reading = self._mapping.reading
        step_ms = self._step_ms([at for at, _ in ordered])
        at_start = reading is not None and reading.stands_for == "start"
        rests: dict[str, Fraction] = defaultdict(Fraction)
        for place, (at_ms, point) in enumerate(ordered):
            near = place + 1 if at_start else place - 1
            gap_ms = abs(ordered[near][0] - at_ms) if 0 <= near < len(ordered) else step_ms
            lasted_ms = min(gap_ms, step_ms)
            amounts = {}
            for meter, value in point.amounts.items():
                is_power = self._mapping.amounts[meter].is_power("intervals")
                used = value * lasted_ms / HOUR_MS if is_power else value
                amounts[meter], rests[meter] = divmod(rests[meter] + used, 1)
            start_ms = at_ms if at_start else at_ms - lasted_ms
            yield Draft(point.origin, point.machine, start_ms, start_ms + lasted_ms, amounts)
        for meter, rest in rests.items():
            self._found.left_over[meter] = self._found.left_over.get(meter, Fraction(0)) + rest

    def _step_ms(self, moments: list[int]) -> int:
        """How long a row lasts: as the mapping says, else the most frequent time between two; of several the least."""
        reading = self._mapping.reading
        if reading is not None and reading.step is not None:
            return whole_units(reading.step, "s") * 1_000
        steps = Counter(after - before for before, after in pairwise(moments))
        if not steps:
            raise InvalidInput('one row alone doesn\'t say how long it lasted: write step = "15 min" under [reading]')
        return min(steps, key=lambda step_ms: (-steps[step_ms], step_ms))


def _moment_in(text: str, time_format: str) -> datetime | None:
    """A moment as a file writes it, or None for what is none."""
    if time_format in ("epoch_s", "epoch_ms"):
        value = exact(text)
        if value is None or not 0 <= value < 1 << 53:
            return None
        milliseconds = half_up(value * (1_000 if time_format == "epoch_s" else 1))
        return _from_ms(milliseconds)
    if time_format == "iso":
        return moment_of(text.removesuffix(" UTC") + "+00:00" if text.endswith(" UTC") else text)
    try:
        return datetime.strptime(text, time_format)  # noqa: DTZ007 - without an offset it is the zone's
    except ValueError:
        return None


def _from_ms(milliseconds: int) -> datetime | None:
    seconds, rest = divmod(milliseconds, 1_000)
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1_000)
    except (OverflowError, ValueError, OSError):
        return None
