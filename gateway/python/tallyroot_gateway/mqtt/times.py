"""A device's time from what it wrote: epoch seconds or milliseconds, or ISO 8601 with or without a zone.

A time without a zone is ambiguous for an hour each autumn. A live message is of the one that is nearer to its arrival;
so such a time tells no two messages apart, and no quantity may be counted by it.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import number_of
from tallyroot_gateway.reading import NEWEST_MS

_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_OFFSET = re.compile(r"([+-])([0-9]{2}):?([0-9]{2})")

SECONDS_BELOW = NEWEST_MS // 1000
"""A number below is of seconds: as milliseconds it were a day of 1970, which no clock that is set shows."""


class DeviceTime(NamedTuple):
    """A device's time, epoch ms; `is_sure` where no other moment has the same text."""

    ms: int
    is_sure: bool


def zone_of(name: str) -> tzinfo:
    """The zone that a file names: an offset such as +01:00, UTC, or one of the IANA's. Raises InvalidInput."""
    found = _OFFSET.fullmatch(name)
    if found is not None:
        return _offset(name)
    if name in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise InvalidInput(f"zone {name!r}: use an offset such as +01:00, or a name such as Europe/Berlin") from None


def device_time(written: Any, zone: tzinfo | None, arrived_ms: int) -> DeviceTime:
    """The time that a device wrote; `zone` is its clock's where it names none. Raises InvalidInput for no time."""
    if isinstance(written, int | Decimal) and not isinstance(written, bool):
        number = number_of(written)
        if 0 <= number < SECONDS_BELOW:
            number *= 1000
        if not 0 <= number < NEWEST_MS:
            raise InvalidInput(f"not a time: {str(written)[:40]}")
        return DeviceTime(number.numerator // number.denominator, is_sure=True)
    found = _ISO.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None:
        raise InvalidInput(f"not a time: {str(written)[:40]!r}")
    day, clock, fraction, offset = found.groups()
    ms = int((fraction or "0").ljust(3, "0")[:3])
    try:
        local = datetime.fromisoformat(f"{day}T{clock}")
        if offset is not None or zone is not None:
            given = zone if offset is None else UTC if offset == "Z" else _offset(offset)
            return _in_zone(local, given or UTC, ms, arrived_ms)
    except (ValueError, OverflowError):
        raise InvalidInput(f"not a time: {written[:40]!r}") from None
    raise InvalidInput(f"{written[:40]!r} names no zone: say zone = in [mqtt] or in the mapping")


def _in_zone(local: datetime, zone: tzinfo, ms: int, arrived_ms: int) -> DeviceTime:
    both = [_epoch_ms(local.replace(tzinfo=zone, fold=fold)) + ms for fold in (0, 1)]
    return DeviceTime(min(both, key=lambda moment: abs(moment - arrived_ms)), is_sure=both[0] == both[1])


def _epoch_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _offset(text: str) -> tzinfo:
    found = _OFFSET.fullmatch(text)
    if found is None or int(found.group(2)) > 14 or int(found.group(3)) > 59:
        raise InvalidInput(f"not an offset: {text!r}")
    minutes = int(found.group(2)) * 60 + int(found.group(3))
    return timezone(timedelta(minutes=minutes if found.group(1) == "+" else -minutes))
