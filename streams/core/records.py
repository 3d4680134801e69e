"""Records of the log, and how a record's value becomes entries (rules 1-3). Each value is decoded by itself.

The definition: the type is read first, then the value is decoded to plain objects, then each row is converted by
itself.
`_KNOWN` is a short cut for values with known fields only; all others take the long way.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from schemas.order import GoodsReceived, OrderCancelled, OrderInvoiced
from schemas.payment import PaymentReceived
from schemas.reading import READING, ROWS_MAX, Correction, Reading
from schemas.registration import Registration
from schemas.reject import Reason
from streams.core.arrow_rows import decode_arrow

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"

SIGNATURE, KEY_ID = "signature", "key-id"
"""The headers of a signature."""

VALUE_MAX = 2**20
HEADERS_MAX, HEADERS_BYTES_MAX = 64, 64 * 1024
"""The largest value, and the most headers and bytes in them, that are looked into."""

DEPTH_MAX = 64
"""Deeper values are undecodable: otherwise the depth of the caller's stack would decide what can be decoded."""
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|[][{}]', re.DOTALL)
"""Possessive: once it has passed a character, it keeps nothing to come back to it, which took 120 bytes each."""

Rows = list[Reading | None]
"""The rows of one record in their order; None is a malformed row."""

Control = TypeVar("Control", Registration, Correction, GoodsReceived, OrderInvoiced, OrderCancelled, PaymentReceived)


class LogRecord(Protocol):
    """A record of the log as consumers yield it: `timestamp` in epoch ms, headers as (name, value)."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Record(NamedTuple):
    """A record of the log as a plain tuple: for the archive, replays and tests."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class _KnownReading(Reading, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """A reading without unknown fields: msgspec skips those undecoded, so only the long way can judge them."""


_KNOWN = msgspec.json.Decoder(_KnownReading | list[_KnownReading])


def header(record: LogRecord, name: str) -> bytes | None:
    """The value of the last header of that name (as Kafka's `lastHeader`), empty if null; None if there is no
    header.
    """
    found = None
    for header_name, value in record.headers or ():
        if header_name == name:
            found = value or b""
    return found


def headers(record: LogRecord, name: str) -> list[bytes]:
    """The values of all headers of that name, empty for null."""
    return [value or b"" for header_name, value in record.headers or () if header_name == name]


def has_signature(record: LogRecord) -> bool:
    """Whether a record claims to be signed, validly or not."""
    return any(name in (SIGNATURE, KEY_ID) for name, _ in record.headers or ())


def record_type(record: LogRecord) -> str:
    """The record's type: its header `ce_type`, by default a reading. Bytes that are not UTF-8 match no known type."""
    value = header(record, "ce_type")
    return READING if value is None else value.decode("utf-8", "replace")


def media_type(record: LogRecord) -> str:
    """The media type in the header `content-type`, without parameters and in lower case; JSON by default."""
    value = header(record, "content-type")
    return JSON if value is None else value.decode("utf-8", "replace").partition(";")[0].strip().lower()


def is_oversized(record: LogRecord) -> bool:
    """Rule 1: whether a value or the headers are too large to be looked into."""
    found = record.headers or ()
    size = sum(len(name.encode("utf-8", "surrogatepass")) + len(value or b"") for name, value in found)
    return len(record.value or b"") > VALUE_MAX or len(found) > HEADERS_MAX or size > HEADERS_BYTES_MAX


def decode_readings(value: bytes | None, content_type: str = JSON) -> Rows | Reason:
    """The rows of a reading record, or the reason why the whole record is refused."""
    if value is None:
        return "undecodable"
    if content_type == ARROW:
        objects = decode_arrow(value)
        return objects if isinstance(objects, str) else [_row(item) for item in objects]
    if content_type != JSON:
        return "undecodable"
    return _decode_known(value) or decode_plainly(value)


def decode_plainly(value: bytes) -> Rows | Reason:
    """The definition of a JSON value's rows: plain objects first, then row by row."""
    try:
        decoded = plain_object(value)
    except msgspec.DecodeError:
        return "undecodable"
    if isinstance(decoded, dict):
        return [_row(decoded)]
    if not isinstance(decoded, list) or not decoded:
        return "malformed"
    if len(decoded) > ROWS_MAX:
        return "too_many_entries"
    return [_row(item) for item in decoded]


def decode_control(value: bytes | None, content_type: str, struct: type[Control]) -> tuple[Control, Any] | Reason:
    """A control record and the plain object that it was decoded from, or the reason why it is refused."""
    if value is None or content_type != JSON:
        return "undecodable"
    try:
        decoded = plain_object(value)
    except msgspec.DecodeError:
        return "undecodable"
    try:
        control = msgspec.convert(decoded, struct)
    except msgspec.ValidationError:
        return "malformed"
    return (control, decoded) if control.is_valid() else "malformed"


def plain_object(value: bytes) -> Any:
    """A JSON value as dicts, lists and scalars. Raises msgspec.DecodeError if it is not one, or nests too deep."""
    if _has_deep_brackets(value):
        raise msgspec.DecodeError(f"deeper than {DEPTH_MAX} levels")
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise msgspec.DecodeError("not a JSON value") from None


def _has_deep_brackets(value: bytes) -> bool:
    """Whether brackets nest deeper than DEPTH_MAX, checked before a decoder recurses.

    The interpreter's recursion limit does not protect us: a library may lift it (eth-keyfile does, to 100,000), and
    then 50,000 open brackets overflow the C stack and end the process.
    """
    if value.count(b"[") + value.count(b"{") <= DEPTH_MAX:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(value):
        first = value[token.start()]
        if first in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _row(item: Any) -> Reading | None:
    try:
        reading = msgspec.convert(item, Reading)
    except msgspec.ValidationError:
        return None
    return reading if reading.is_valid() else None


def _decode_known(value: bytes) -> Rows | Reason | None:
    """The rows of a value that has known fields only, all of the right type; else None."""
    try:
        decoded = _KNOWN.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    rows = decoded if isinstance(decoded, list) else [decoded]
    if len(rows) > ROWS_MAX:
        return "too_many_entries"
    return [row if row.is_valid() else None for row in rows]
