"""A mapping: which columns of a file of somebody else's say which machine, when, and how much. It is a TOML file.

`read_mapping` takes a path or the name of a mapping that ships with the project, and refuses what it doesn't know.
"""

import re
import tomllib
from collections.abc import Mapping as Table
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from deploy.importers.tables import exact
from deploy.importers.tariffs import zone_of
from deploy.machines.quantities import POWER, units_in, whole_units
from files.read import FileMissing, read_bytes
from schemas.errors import InvalidInput
from schemas.reading import MeterKind
from schemas.units import Id

Kind = Literal["sessions", "events", "intervals", "registers"]
"""What a row is: a session (spread over its time), an event (counted at its end), the usage of an interval, or what a
register showed."""

MAPPING_BYTES_MAX = 1 << 20
SHIPPED = Path(__file__).with_name("mappings")
REMEDY = "copy one of deploy/importers/mappings, or begin with `tallyroot ingest FILE --guess`"

Conditions = dict[str, tuple[str, ...]]
"""Column to the texts that it may have."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class FileShape(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the file is written. `records` is the path of the array in a JSON document ("data"), `decimal` the sign
    before decimals, `thousands` what stands between groups of three digits, if anything."""

    format: Literal["csv", "parquet", "jsonl", "json"] | None = None
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    thousands: Annotated[str, Meta(max_length=1)] = ""
    encoding: str = "utf-8"
    skip_lines: Annotated[int, Meta(ge=0, le=1_000)] = 0
    records: str = ""


class SessionColumns(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A session's or an event's columns. Its end is a column, or its start and a duration; an event may have an end
    alone. Without an id it is named by its start."""

    start: str | None = None
    end: str | None = None
    duration: str | None = None
    duration_in: Literal["s", "min", "h"] = "s"
    id: str | None = None


class MomentColumn(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When an interval or a register was read: of an interval its start or its end. `step` such as "15 min" is how
    long an interval lasts, where that isn't the most frequent time between two rows."""

    at: str
    stands_for: Literal["start", "end"] = "end"
    step: str | None = None


class Amount(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one meter counts: a column, or a constant `value` for each row.

    The file writes it in `written_in` (kWh of a meter that counts Wh; kW or W of an interval's average power), or
    else `times` turns it into the meter's unit. `part` takes what is above or below zero. Rows that `not_where` fits
    have none of it.
    """

    unit: Id
    column: str | None = None
    value: str | None = None
    written_in: str | None = None
    times: str | None = None
    part: Literal["positive", "negative"] | None = None
    not_where: Conditions = {}
    capacity: str | None = None

    def is_power(self, kind: Kind) -> bool:
        """Whether the column holds an interval's average power."""
        return kind == "intervals" and self.unit == "Wh" and self.written_in in POWER

    def factor(self, kind: Kind) -> Fraction:
        """How many of the meter's unit one of the file's is; of power, how many Wh an hour of it is."""
        if self.times is not None:
            return exact(self.times) or Fraction(0)
        if self.written_in is None:
            return Fraction(1)
        return POWER[self.written_in] if self.is_power(kind) else units_in(self.written_in, self.unit) or Fraction(0)


class FormHints(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a registration form begins with: the kind of the machines, and their tariff in words."""

    kind: Id = "machine"
    tariff: tuple[str, ...] = ()


class Mapping(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole mapping. The machine is named by one or more columns, or the file has one `machine_id`.

    `time_format` is "iso", "epoch_s", "epoch_ms" or a pattern such as "%d.%m.%Y %H:%M"; `zone` (IANA) is for moments
    without an offset. `only` keeps the rows that it fits; `aliases` are other names that a column may have.
    """

    kind: Kind
    machine: tuple[str, ...] = ()
    machine_id: str | None = None
    zone: str | None = None
    time_format: str = "iso"
    file: FileShape = FileShape()
    session: SessionColumns | None = None
    reading: MomentColumn | None = None
    amounts: dict[Id, Amount]
    only: Conditions = {}
    aliases: dict[str, tuple[str, ...]] = {}
    form: FormHints = FormHints()

    @property
    def meter_kind(self) -> MeterKind:
        """What the meters of such a file are in their registration."""
        return "register" if self.kind == "registers" else "quantity"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a row must have, each once."""
        found: list[str | None] = [*self.machine, *self.only]
        if self.session is not None:
            found += [self.session.id, self.session.start, self.session.end, self.session.duration]
        if self.reading is not None:
            found.append(self.reading.at)
        for amount in self.amounts.values():
            found += [amount.column, *amount.not_where]
        return tuple(dict.fromkeys(column for column in found if column is not None))

    def column_in(self, present: Table[str, object] | tuple[str, ...], column: str) -> str | None:
        """The name under which a file has a column, or None."""
        return next((name for name in (column, *self.aliases.get(column, ())) if name in present), None)


def shipped() -> dict[str, Path]:
    """The mappings that ship with the project, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def read_mapping(name_or_path: str | Path) -> Mapping:
    """A shipped mapping by its name, else a file. Raises InvalidInput, naming the file and what is wrong with it."""
    path = shipped().get(str(name_or_path), Path(name_or_path))
    try:
        text = read_bytes(path, remedy=REMEDY, max_bytes=MAPPING_BYTES_MAX).decode()
        mapping = msgspec.convert(tomllib.loads(text), Mapping)
        check(mapping)
    except FileMissing:
        raise InvalidInput(f"no mapping {name_or_path}: give a file, or one of {', '.join(shipped())}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path}: {error}; {REMEDY}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
    return mapping


def check(mapping: Mapping) -> None:
    """Raises InvalidInput for a mapping whose parts don't fit together."""
    if bool(mapping.machine) == (mapping.machine_id is not None):
        raise InvalidInput('name the machine by columns, machine = ["site", "station"], or by machine_id = "roof-1"')
    if not mapping.amounts:
        raise InvalidInput("no [amounts.METER]: say which column a meter counts")
    if mapping.zone is not None:
        zone_of(mapping.zone)
    _check_times(mapping)
    for meter, amount in mapping.amounts.items():
        if re.search(r"\.[0-9]+$", meter):
            raise InvalidInput(f"[amounts.{meter}]: names with a number behind a dot are for sessions that overlap")
        _check_amount(mapping.kind, meter, amount)


def _check_times(mapping: Mapping) -> None:
    session, reading = mapping.session, mapping.reading
    if mapping.kind in ("intervals", "registers"):
        if reading is None or session is not None:
            raise InvalidInput(f'{mapping.kind} need [reading] with at = "COLUMN", and no [session]')
        if reading.step is not None and whole_units(reading.step, "s") < 1:
            raise InvalidInput(f"the step '{reading.step}' is no time at all")
        return
    if session is None or reading is not None:
        raise InvalidInput(f"{mapping.kind} need [session] with start and end, and no [reading]")
    if session.end is not None and session.duration is not None:
        raise InvalidInput("[session] has end and duration: keep one of the two")
    if session.start is None and (mapping.kind == "sessions" or session.end is None):
        raise InvalidInput("[session] has no start: name its column")
    if session.end is None and session.duration is None:
        raise InvalidInput("[session] has neither end nor duration: name the column of one")


def _check_amount(kind: Kind, meter: str, amount: Amount) -> None:
    where = f"[amounts.{meter}]"
    if (amount.column is None) == (amount.value is None):
        raise InvalidInput(f"{where} needs a column or a value, one of the two")
    if amount.times is not None and amount.written_in is not None:
        raise InvalidInput(f"{where} has times and written_in: keep one of the two")
    if amount.value is not None and exact(amount.value) is None:
        raise InvalidInput(f"{where} value '{amount.value}' is not a number")
    if amount.factor(kind) <= 0:
        hint = '; a power needs kind = "intervals"' if amount.written_in in POWER else ""
        raise InvalidInput(f"{where}: '{amount.times or amount.written_in}' can't become {amount.unit}{hint}")
    if kind == "registers" and (amount.part is not None or amount.value is not None):
        raise InvalidInput(f"{where}: a register has neither part nor value")
