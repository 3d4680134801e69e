"""A row of a request as a reading of the log: checked whole, and its value exact from the text of the number."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.clocks import AHEAD_MS
from tallyroot_gateway.field.config import Id
from tallyroot_gateway.field.units import convert, number_of, whole_part, whole_quantity
from tallyroot_gateway.http.config import ROWS_MAX, MachineOptions
from tallyroot_gateway.http.problems import Problem
from tallyroot_gateway.reading import COUNT_MAX, EVIDENCE_BYTES, NEWEST_MS, OLDEST_MS, NewReading, fault_of

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Moment = Annotated[int, Meta(ge=OLDEST_MS, lt=NEWEST_MS, description="Milliseconds since 1970 (UTC).")]
Number = Annotated[
    Any,
    Meta(
        description="A number in `unit`, as text or as a JSON number; exact either way.",
        extra_json_schema={
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{1,12}([.][0-9]{1,6})?$"},
                {"type": "number", "minimum": 0, "maximum": 10**9},
            ]
        },
    ),
]

VALUES = ("register", "quantity", "level", "value")
_INTEGERS = ("register", "quantity", "level", "observed_at", "session_started_at")
_DIGITS_MAX = 20


class ReadingIn(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A reading. It has exactly one of register, quantity, level (integers in the meter's unit) and value.

    `value` needs the meter in the gateway's file; without `unit` it is in the meter's. Without `observed_at` it is of
    the moment in which it arrives, or of an event's `time`.
    """

    machine: Id
    meter: Id
    observed_at: Moment | UnsetType = UNSET
    register: Count | UnsetType = UNSET
    quantity: Count | UnsetType = UNSET
    level: Count | UnsetType = UNSET
    value: Number | UnsetType = UNSET
    unit: Id | UnsetType = UNSET
    session: Id | UnsetType = UNSET
    session_started_at: Moment | UnsetType = UNSET
    session_start: bool = False
    session_end: bool = False
    reconstructed: bool = False
    evidence: Annotated[str, Meta(min_length=1, max_length=EVIDENCE_BYTES)] | UnsetType = UNSET


class Rows(NamedTuple):
    """What one request delivers: readings of one route."""

    route: str
    readings: list[NewReading]


def rows_of(
    items: Sequence[Any],
    machines: Mapping[str, MachineOptions],
    now_ms: int,
    *,
    at_ms: int | None = None,
    first_row: int = 1,
) -> Rows:
    """The readings of a request, all of them; `machines` are those that its token speaks for.

    `at_ms` is when they were observed where they don't say. Raises Problem, which names the row.
    """
    if not items:
        raise Problem(422, "there is no reading in it: send one, or a list of them")
    if len(items) > ROWS_MAX:
        raise Problem(413, f"{len(items):,} readings are more than {ROWS_MAX:,}: send fewer at once")
    readings: list[NewReading] = []
    route: str | None = None
    for number, item in enumerate(items, first_row):
        try:
            machine, reading = _reading(item, machines, now_ms, now_ms if at_ms is None else at_ms)
        except InvalidInput as error:
            raise Problem(422, str(error), row=number) from None
        except Problem as problem:
            problem.row = number
            raise
        of = machine.route or machine.id
        if route not in (None, of):
            raise Problem(422, f"{machine.id} is of {of}, other rows of {route}: send one site at once", row=number)
        route = of
        readings.append(reading)
    return Rows(route or "", readings)


def _reading(
    item: Any, machines: Mapping[str, MachineOptions], now_ms: int, at_ms: int
) -> tuple[MachineOptions, NewReading]:
    try:
        row = msgspec.convert(_whole_numbers(item), ReadingIn)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error).replace("`", "")) from None
    machine = machines.get(row.machine)
    if machine is None:
        raise Problem(403, f"this token doesn't speak for {row.machine}: see [[tokens]] in the gateway's file")
    if machine.meters and row.meter not in machine.meters:
        raise InvalidInput(f"{row.machine} has no meter {row.meter}: it has {', '.join(sorted(machine.meters)[:10])}")
    fields: dict[str, Any] = {name: value for name, value in msgspec.structs.asdict(row).items() if value is not UNSET}
    if sum(name in fields for name in VALUES) != 1:
        raise InvalidInput("give exactly one of register, quantity, level and value")
    unit = fields.pop("unit", None)
    if "value" in fields:
        kind, integer = _converted(machine, row.meter, fields.pop("value"), unit)
        fields[kind] = integer
    elif unit is not None:
        raise InvalidInput("unit goes with value; register, quantity and level are integers in the meter's unit")
    elif row.meter in machine.meters and machine.meters[row.meter].counts not in fields:
        raise InvalidInput(f"{row.machine}'s meter {row.meter} is a {machine.meters[row.meter].counts}")
    fields.setdefault("observed_at", at_ms)
    if fields["observed_at"] > now_ms + AHEAD_MS:
        raise InvalidInput("observed_at: it is more than four minutes ahead of this gateway's clock: set the clock")
    _check_texts(fields)
    fault = fault_of(fields | {"boot": 0, "seq": 0})
    if fault is not None:
        raise InvalidInput(fault)
    return machine, NewReading(**fields, may_fall="register" in fields)


def _converted(machine: MachineOptions, meter: str, value: Any, unit: str | None) -> tuple[str, int]:
    """A value in a unit as what its meter counts: exactly, from the number's text."""
    options = machine.meters.get(meter)
    if options is None:
        raise InvalidInput(f"value: the gateway's file has no meter {meter} of {machine.id}: send register or quantity")
    exact = convert(number_of(value), unit or options.unit, options.unit)
    return options.counts, whole_quantity(exact) if options.counts == "quantity" else whole_part(exact)


def _whole_numbers(item: Any) -> Any:
    """A row whose whole numbers with a point or an exponent (1.0, 1e3) are integers, where an integer belongs."""
    if not isinstance(item, dict):
        return item
    whole = {
        name: int(value)
        for name, value in item.items()
        if name in _INTEGERS and isinstance(value, Decimal) and abs(value.adjusted()) < _DIGITS_MAX and value % 1 == 0
    }
    return item | whole


def _check_texts(fields: Mapping[str, Any]) -> None:
    """Raises InvalidInput for half of a surrogate pair, which no UTF-8 can carry."""
    try:
        fields.get("evidence", "").encode()
    except UnicodeEncodeError:
        raise InvalidInput("evidence: it has half of a surrogate pair, which is no text") from None
