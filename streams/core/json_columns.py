"""JSON values as columns. Each value is decoded by itself; anything unusual is left to `records.decode_readings`."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import attrgetter

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from schemas.reading import ROWS_MAX, Reading
from schemas.reject import WHOLE_RECORD
from schemas.units import Count
from streams.core.columns import IS_RECONSTRUCTED, IS_START, Ints, Mask, Part, Refused, is_id, mark_bad_names
from streams.core.meters import NONE
from streams.core.records import JSON, decode_readings


class _Flat(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A reading with NONE for an absent integer. Whether strings are ids is checked later, once for each meter."""

    machine: str
    meter: str
    boot: Count
    seq: Count
    observed_at: Count
    register: Count = NONE
    quantity: Count = NONE
    level: Count = NONE
    session: str | UnsetType = UNSET
    session_started_at: Count = NONE
    session_start: bool = False
    reconstructed: bool = False


_decode: Callable[[bytes], _Flat | list[_Flat]] = msgspec.json.Decoder(_Flat | list[_Flat]).decode


def json_part(
    records: Sequence[int],
    values: Sequence[bytes | None],
    index_of: Mapping[tuple[str, str], int],
    refused: list[Refused],
) -> Part:
    """The rows of the values of `records` (indices in the run); refused records and rows go to `refused`."""
    items, record, row = _items(records, [_decoded(value) for value in values], values, refused)
    texts = _ObjectTexts(items)
    get = index_of.get
    meter = np.array([get((item.machine, item.meter), NONE) for item in items], np.int64)
    is_bad = np.zeros(len(items), np.bool_)
    mark_bad_names(meter, texts, is_bad)
    return Part(
        record=record,
        row=row,
        meter=meter,
        boot=_ints(items, "boot"),
        seq=_ints(items, "seq"),
        observed_at=_ints(items, "observed_at"),
        registers=_ints(items, "register"),
        quantities=_ints(items, "quantity"),
        levels=_ints(items, "level"),
        started_at=_ints(items, "session_started_at"),
        has_session=_sessions(items, is_bad),
        marks=_marks(items),
        is_bad=is_bad,
        texts=texts,
    )


def is_known_reading(value: bytes) -> bool:
    """Whether a value is one reading that has known fields only, all of the right type."""
    return isinstance(_decoded(value), _Flat)


class _ObjectTexts:
    def __init__(self, items: Sequence[_Flat]) -> None:
        self._items = items

    def names(self, at: int) -> tuple[str, str]:
        item = self._items[at]
        return item.machine, item.meter

    def session(self, at: int) -> str:
        session = self._items[at].session
        return session if isinstance(session, str) else ""


def _decoded(value: bytes | None) -> _Flat | list[_Flat] | None:
    """A value with known fields of the right types only, or None: then `decode_readings` decides."""
    try:
        return _decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _items(
    records: Sequence[int],
    decoded: Sequence[_Flat | list[_Flat] | None],
    values: Sequence[bytes | None],
    refused: list[Refused],
) -> tuple[list[_Flat], Ints, Ints]:
    """All rows, with the indices of their records and their numbers within these."""
    if list(map(type, decoded)).count(_Flat) == len(decoded):
        return decoded, np.asarray(records, np.int64), np.zeros(len(decoded), np.int64)  # type: ignore[return-value]
    items: list[_Flat] = []
    record: list[int] = []
    row: list[int] = []
    for index, rows, value in zip(records, decoded, values, strict=True):
        if isinstance(rows, _Flat):
            items.append(rows)
            record.append(index)
            row.append(0)
        elif rows and len(rows) <= ROWS_MAX:
            items += rows
            record += repeat(index, len(rows))
            row += range(len(rows))
        else:
            whole = decode_readings(value, JSON)
            if isinstance(whole, str):
                refused.append((index, WHOLE_RECORD, whole))
                continue
            for number, reading in enumerate(whole):
                if reading is None:
                    refused.append((index, number, "malformed"))
                else:
                    items.append(_flat_of(reading))
                    record.append(index)
                    row.append(number)
    return items, np.array(record, np.int64), np.array(row, np.int64)


def _flat_of(reading: Reading) -> _Flat:
    return _Flat(
        reading.machine,
        reading.meter,
        reading.boot,
        reading.seq,
        reading.observed_at,
        _or_none(reading.register),
        _or_none(reading.quantity),
        _or_none(reading.level),
        reading.session,
        _or_none(reading.session_started_at),
        reading.session_start,
        reading.reconstructed,
    )


def _or_none(value: int | UnsetType) -> int:
    return NONE if value is UNSET else value


def _ints(items: Sequence[_Flat], name: str) -> Ints:
    return np.fromiter(map(attrgetter(name), items), np.int64, len(items))


def _sessions(items: Sequence[_Flat], is_bad: Mask) -> Mask:
    """Which rows have a session. A session that is not an id marks its row as bad."""
    sessions = [item.session for item in items]
    if sessions.count(UNSET) == len(sessions):
        return np.zeros(len(items), np.bool_)
    wrong = {session for session in set(sessions) if isinstance(session, str) and not is_id(session)}
    if wrong:
        is_bad |= np.fromiter((session in wrong for session in sessions), np.bool_, len(sessions))
    return np.fromiter((session is not UNSET for session in sessions), np.bool_, len(sessions))


def _marks(items: Sequence[_Flat]) -> Ints:
    starts, reconstructed = [item.session_start for item in items], [item.reconstructed for item in items]
    if True not in starts and True not in reconstructed:
        return np.zeros(len(items), np.int64)
    return np.array(starts, np.int64) * IS_START + np.array(reconstructed, np.int64) * IS_RECONSTRUCTED
