"""What a log holds already of a file's machines: so the same row is never sent twice, and a killed run goes on.

Nothing is remembered outside the log: what is on disk is an index of it, made at each run. Each reading counts that
stands in it, accepted or refused.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec import UNSET

from deploy.importers.spool import Shelf, Spool
from schemas.reading import READING, Reading
from schemas.units import ELAPSED_MAX_MS
from streams.core.records import LogRecord, decode_readings, media_type, record_type
from streams.storage.log_reader import LogReader

SessionKey = tuple[str, str, int]
"""Machine, session, its start (epoch ms)."""

PointKey = tuple[str, str, int]
"""Machine, meter, moment (epoch ms)."""


KnownReading = tuple[str, str | None, int, int, int]
"""Meter, session or None, its start (epoch ms), moment (epoch ms), value."""


@dataclass
class LogReadings:
    """The readings of one machine between two moments."""

    numbers: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """The highest (boot, seq) of each machine's meter."""
    last_registers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """The moment of the latest register of each machine's meter."""
    sessions: dict[SessionKey, dict[tuple[str, int], int]] = field(default_factory=lambda: defaultdict(dict))
    """The values of each session by (meter, moment)."""
    points: dict[PointKey, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """How often each value stands at a moment, of readings without a session."""


class LogIndex:
    """The readings of some machines between two moments (epoch ms, both included), on disk by machine."""

    def __init__(self, machines: Iterable[str], first_ms: int, last_ms: int, spool: Spool) -> None:
        self._machines = frozenset(machines)
        self._first_ms, self._last_ms = first_ms, last_ms
        self._numbers: dict[tuple[str, str], tuple[int, int]] = {}
        self._last_registers: dict[tuple[str, str], int] = {}
        self._shelf: Shelf[KnownReading] = spool.shelf("known", KnownReading)

    def note(self, record: LogRecord) -> None:
        """Takes a record of the log into account."""
        if record_type(record) != READING:
            return
        rows = decode_readings(record.value, media_type(record))
        for row in rows if isinstance(rows, list) else ():
            if row is not None and row.machine in self._machines:
                self._note(row)

    def of(self, machine: str) -> LogReadings:
        """What stands there of one machine."""
        found = LogReadings(self._numbers, self._last_registers)
        for meter, session, start_ms, at_ms, value in self._shelf.of(machine):
            if session is not None:
                found.sessions[machine, session, start_ms][meter, at_ms] = value
            else:
                found.points[machine, meter, at_ms][value] += 1
        return found

    def _note(self, row: Reading) -> None:
        meter = (row.machine, row.meter)
        self._numbers[meter] = max(self._numbers.get(meter, (0, 0)), (row.boot, row.seq))
        if row.register is not UNSET:
            self._last_registers[meter] = max(self._last_registers.get(meter, 0), row.observed_at)
        if isinstance(row.session, str) and isinstance(row.session_started_at, int):
            if self._first_ms - ELAPSED_MAX_MS <= row.session_started_at <= self._last_ms:
                known = (row.meter, row.session, row.session_started_at, row.observed_at, row.value)
                self._shelf.add(known, row.machine)
        elif self._first_ms <= row.observed_at <= self._last_ms:
            self._shelf.add((row.meter, None, 0, row.observed_at, row.value), row.machine)


class NotingReader(LogReader):
    """A LogReader that shows each record to somebody on its way: a log is read once for two who need it."""

    def __init__(self, reader: LogReader, note: Callable[[LogRecord], None]) -> None:
        self._reader = reader
        self._note = note

    def read(self, partition: int, first: int, next: int) -> Iterator[LogRecord]:
        """As the reader's, each record noted before it is handed on."""
        for record in self._reader.read(partition, first, next):
            self._note(record)
            yield record

    def range(self, partition: int) -> tuple[int, int]:
        """As the reader's."""
        return self._reader.range(partition)

    def topic_id(self) -> str:
        """As the reader's."""
        return self._reader.topic_id()

    def close(self) -> None:
        """As the reader's."""
        self._reader.close()


class Lanes:
    """Sessions of one machine that overlap lie on different lanes, each with meters of its own, from lane 1 on."""

    def __init__(self) -> None:
        self._busy: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def take(self, lane: int, start_ms: int, end_ms: int) -> None:
        """Marks a lane as busy from start to end."""
        insort(self._busy[lane], (start_ms, end_ms))

    def first_free(self, start_ms: int, end_ms: int) -> int:
        """The first lane on which nothing overlaps."""
        lane = 1
        while not self._is_free(lane, start_ms, end_ms):
            lane += 1
        return lane

    def _is_free(self, lane: int, start_ms: int, end_ms: int) -> bool:
        busy = self._busy[lane]
        place = bisect_left(busy, (start_ms, end_ms))
        is_free_before = place == 0 or busy[place - 1][1] <= start_ms
        return is_free_before and (place == len(busy) or busy[place][0] >= end_ms)


def meter_of(meter: str, lane: int) -> str:
    """A meter's name on a lane: `energy`, `energy.2`, ..."""
    return meter if lane == 1 else f"{meter}.{lane}"


def lane_of(meter: str) -> int:
    """The lane of a meter's name."""
    _, dot, number = meter.rpartition(".")
    return int(number) if dot and number.isdecimal() and not number.startswith("0") else 1
