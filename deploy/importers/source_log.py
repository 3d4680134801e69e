"""A recorded file as a log would have held it: machines, and their readings by ascending time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from msgspec import UNSET

from schemas.errors import InvalidInput
from schemas.reading import READING, Reading
from schemas.registration import Agreement, Key, Meter, OrderPolicy, Registration, Tariff
from schemas.units import DAY_MS
from streams.core.encode import json_row, json_value


class SourceRecord(NamedTuple):
    """One record to produce: timestamp in epoch ms, its key (the route), its type, its value, and its entries.

    `headers` are those of one that its device or a supplier signed: the operator signs what has none and is no reading.
    """

    timestamp_ms: int
    key: str
    type: str
    value: bytes
    entries: int
    headers: tuple[tuple[str, bytes], ...] = ()


class Skipped(NamedTuple):
    """A row (from 1) of a file that is impossible, and why: it is named, never dropped in silence."""

    row: int
    reason: str


def nothing_read(file: str, what: str, skipped: Sequence[Skipped]) -> InvalidInput:
    """The error for a file without anything to use: `what` it has, and why its first row was skipped."""
    first = f" {file}, row {skipped[0].row}: {skipped[0].reason}" if skipped else ""
    return InvalidInput(f"{file} has {what}{first}")


def is_no(kind: str, column: str, text: str) -> str:
    """Why a row is skipped whose `column` can't be read as a `kind`; a long text is cut."""
    return f"{column} is not a {kind}: {text[:40]!r}"


@dataclass(frozen=True)
class SourceOptions:
    """What a file does not say itself. `capacity_w` is the rated power in W of a plant, or of each station; `days`
    keeps what begins in the first `days` days (UTC) of the file."""

    unit: Literal["W", "kW"] | None = None
    zone: str | None = None
    machine: str | None = None
    capacity_w: int | None = None
    days: int | None = None

    def end_ms(self, start_ms: int) -> int | None:
        """Where what is kept of a file ends (epoch ms), if it begins at `start_ms`; None without such an end."""
        return None if self.days is None else start_ms - start_ms % DAY_MS + self.days * DAY_MS


@dataclass(frozen=True)
class SourceMachine:
    """A registration but for what its operator adds."""

    machine: str
    kind: str
    meters: tuple[Meter, ...]
    tariff: Tariff
    keys: tuple[Key, ...] = ()
    orders: tuple[OrderPolicy, ...] = ()

    @property
    def route(self) -> str:
        """The key of all its records: its own id."""
        return self.machine

    def registration(self, agreement: Agreement, salt: str, effective_from_ms: int) -> Registration:
        """Its first version. Raises InvalidInput where the agreement's points don't add up to 10,000."""
        whole = Registration(
            machine=self.machine,
            route=self.route,
            version=1,
            kind=self.kind,
            effective_from=effective_from_ms,
            meters=self.meters,
            tariff=self.tariff,
            agreement=agreement,
            keys=self.keys,
            orders=self.orders or UNSET,
            salt=salt,
        )
        if not whole.is_valid():
            raise InvalidInput(
                f"the agreement of {self.machine} is not a split: its basis points must add up to 10,000"
            )
        return whole


@dataclass(frozen=True)
class SourceLog:
    """A file's machines and records. Moments are epoch ms, `start_ms` of the first reading, `end_ms` of the last.

    `totals` is what the file says, by meter and unit ("energy Wh"): rows that the stream will reject included, those
    skipped or left out (beyond the first days asked for) not.
    """

    name: str
    machines: tuple[SourceMachine, ...]
    rows: int
    left_out: int
    skipped: tuple[Skipped, ...]
    totals: Mapping[str, int]
    start_ms: int
    end_ms: int
    make: Callable[[int], Iterator[SourceRecord]]
    """Makes the records, all their moments moved by that many ms."""
    shift_ms: int = 0
    notes: tuple[str, ...] = ()
    """What one should know of it before it is sent, a line each."""

    def records(self) -> Iterator[SourceRecord]:
        """The records of readings by ascending timestamp; a new iterator over the same ones at each call."""
        return self.make(self.shift_ms)

    def moved(self, shift_ms: int) -> "SourceLog":
        """The same log, all of its moments later by `shift_ms` (earlier where negative)."""
        return replace(
            self,
            start_ms=self.start_ms + shift_ms,
            end_ms=self.end_ms + shift_ms,
            shift_ms=self.shift_ms + shift_ms,
        )


class Source(Protocol):
    """One kind of file."""

    def read(self, path: Path, options: SourceOptions) -> SourceLog:
        """The file as a log. Raises InvalidInput, in one line, naming the missing column or the row that is wrong."""
        ...


class Places:
    """Numbers the readings of each machine's meter, from 1 on and without a gap."""

    def __init__(self) -> None:
        self._last: Counter[tuple[str, str]] = Counter()

    def next(self, machine: str, meter: str) -> int:
        """The number after this meter's last one."""
        self._last[machine, meter] += 1
        return self._last[machine, meter]


def reading_record(readings: tuple[Reading, ...]) -> SourceRecord:
    """One record of readings of one machine and moment: an object for one, an array for more."""
    value = json_value([json_row(reading) for reading in readings])
    return SourceRecord(readings[0].observed_at, readings[0].machine, READING, value, len(readings))
