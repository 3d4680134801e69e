"""What a meter shows, as it travels, and what can be wrong with it, in words for the caller."""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType, structs

from tallyroot_gateway.errors import InvalidInput

COUNT_MAX = 2**53
"""The largest integer on the wire: what a double still holds exactly."""

OLDEST_MS, NEWEST_MS = 946_684_800_000, 4_102_444_800_000
"""Times lie in the years 2000 to 2099 (epoch ms): others come from a clock that isn't set, or are in another unit."""

EVIDENCE_BYTES = 8_192
"""How long the signed values of a meter may be, in UTF-8."""

_ID = re.compile(r"[A-Za-z0-9._:*-]{1,64}")
_VALUES = ("register", "quantity", "level")
_FLAGS = ("session_start", "session_end", "reconstructed")


class Reading(Struct, frozen=True, omit_defaults=True, gc=False):
    """One reading. Times are epoch ms; the value is in the meter's unit; `boot` and `seq` are its number."""

    machine: str
    meter: str
    boot: int
    seq: int
    observed_at: int
    register: int | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    level: int | UnsetType = UNSET
    session: str | UnsetType = UNSET
    session_started_at: int | UnsetType = UNSET
    session_start: bool = False
    session_end: bool = False
    reconstructed: bool = False
    evidence: str | UnsetType = UNSET


class NewReading(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What a device delivered, without its number. Times are epoch ms; the value is in the meter's unit.

    With `may_fall` its register may be below the last one (it rolled over, the meter is new, a digit jitters): the
    log's rules judge it.
    """

    machine: str
    meter: str
    observed_at: int
    register: int | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    level: int | UnsetType = UNSET
    session: str | UnsetType = UNSET
    session_started_at: int | UnsetType = UNSET
    session_start: bool = False
    session_end: bool = False
    reconstructed: bool = False
    evidence: str | UnsetType = UNSET
    may_fall: bool = False

    def fields(self) -> dict[str, Any]:
        """What it states, as the fields of a reading whose number is still 0."""
        stated = structs.asdict(self)
        del stated["may_fall"]
        return {name: value for name, value in stated.items() if value is not UNSET} | {"boot": 0, "seq": 0}


def reading_of(fields: Mapping[str, Any]) -> Reading:
    """The reading of these fields. Raises InvalidInput, saying what is wrong, where the log would refuse it."""
    fault = fault_of(fields)
    if fault is not None:
        raise refused(fault)
    return Reading(**fields)


def refused(fault: str) -> InvalidInput:
    """The error for a reading with a fault."""
    return InvalidInput(f"this reading was not taken: {fault}")


def fault_of(fields: Mapping[str, Any]) -> str | None:
    """Why these fields, which must include a Reading's required ones, are not a whole reading; None if they are."""
    values = [name for name in _VALUES if name in fields]
    faults = [
        *(_id_fault(name, fields.get(name)) for name in ("machine", "meter")),
        *(_id_fault(name, fields[name]) for name in ("session",) if name in fields),
        *(_count_fault(name, fields.get(name)) for name in ("boot", "seq", *values)),
        _time_fault("observed_at", fields.get("observed_at")),
        *(_time_fault(name, fields[name]) for name in ("session_started_at",) if name in fields),
        *(flag_fault(name, fields[name]) for name in _FLAGS if name in fields),
        *(_evidence_fault(fields[name], "register" in fields) for name in ("evidence",) if name in fields),
    ]
    fault = next((fault for fault in faults if fault is not None), None)
    if fault is not None:
        return fault
    if len(values) != 1:
        return f"give exactly one of register, quantity and level, not {' and '.join(values) or 'none'}"
    return _session_fault(fields)


def receipt_fault(machine: object, item: object, number: object, quantity: object, observed_at: object) -> str | None:
    """What the log would refuse about a receipt of goods; None if nothing."""
    fault = _id_fault("machine", machine) or _id_fault("item", item) or _count_fault("number", number)
    fault = fault or ("number: orders are numbered from 1" if number == 0 else None)
    return fault or _count_fault("quantity", quantity) or _time_fault("observed_at", observed_at)


def is_id(value: object) -> bool:
    """Whether a value can name a log, a route, a machine, a meter, a session or a key."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def flag_fault(name: str, value: object) -> str | None:
    """What is wrong with a value that must be true or false; None if nothing is."""
    return None if isinstance(value, bool) else f"{name}: use true or false, not {value!r}"


def _id_fault(name: str, value: object) -> str | None:
    return None if is_id(value) else f"{name}: use 1 to 64 of A-Z a-z 0-9 . _ : * -, not {value!r}"


def _evidence_fault(value: object, is_register: bool) -> str | None:
    if not isinstance(value, str) or not value:
        return f"evidence: use the text that the meter signed, not {value!r}"
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > EVIDENCE_BYTES:
        return f"evidence: {size} bytes are more than {EVIDENCE_BYTES}"
    return None if is_register else "evidence needs a register"


def _count_fault(name: str, value: object) -> str | None:
    if type(value) is not int:  # a bool is an int by inheritance only
        return f"{name}: use an integer in the meter's unit, not {value!r}"
    return None if 0 <= value <= COUNT_MAX else f"{name}: use 0 to 2^53, not {value}"


def _time_fault(name: str, value: object) -> str | None:
    if type(value) is not int:
        return f"{name}: use an integer, milliseconds since 1970 (UTC), not {value!r}"
    if OLDEST_MS <= value < NEWEST_MS:
        return None
    for unit, in_ms in (("seconds", value * 1_000), ("microseconds", value // 1_000), ("nanoseconds", value // 10**6)):
        if OLDEST_MS <= in_ms < NEWEST_MS:
            return f"{name}: {value} looks like {unit}: use milliseconds since 1970 (UTC)"
    when = "before the year 2000" if value < OLDEST_MS else "after the year 2099"
    return f"{name}: {value} is {when}: set the clock, and use milliseconds since 1970 (UTC)"


def _session_fault(fields: Mapping[str, Any]) -> str | None:
    if ("session" in fields) != ("session_started_at" in fields):
        return "give session and session_started_at together"
    if "session" not in fields:
        marks = (name for name in ("session_start", "session_end") if fields.get(name))
        return next((f"{mark} needs a session" for mark in marks), None)
    is_before = fields["session_started_at"] <= fields["observed_at"]
    return None if is_before else "session_started_at: use a time that is not after observed_at"
