"""What the recount judges: entries, and what stands between them and the records of a log (rules 1 and 27).

An entry says its own type and value, who signed it, and whether it lies where its route belongs. `GivenEntry` is one of
a vector, where signatures are judged before; `RecordEntry` is a record of the log, with its bytes and headers.
"""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

import msgspec

from schemas.log import Log
from streams.core.murmur2 import partition_of
from streams.core.records import (
    ARROW,
    JSON,
    LogRecord,
    decode_readings,
    has_signature,
    header,
    headers,
    media_type,
    plain_object,
    record_type,
)
from streams.core.signature import is_signed_by, operator_of, reading_message

Plain = dict[str, Any]

VALUE_BYTES_MAX = 2**20
HEADERS_MAX = 64
HEADER_BYTES_MAX = 2**16


class Refused(Exception):
    """An entry that does not count, and why; a duplicate is one too."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Entry(Protocol):
    """One record, ready to be judged. `timestamp` is epoch ms."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def type(self) -> str: ...

    def check_size(self) -> None:
        """Raises Refused if the record is larger than a record may be (rule 1)."""

    def content(self) -> Any:
        """The value as dicts, lists and scalars. Raises Refused if it has none."""

    def trust_by(self, version: Plain) -> int | None:
        """The trust that a machine's version puts into the record; None if it must be refused (rule 27)."""

    def is_by_one_of(self, accounts: Collection[str]) -> bool:
        """Whether one of these EVM accounts signed the record."""

    def is_at(self, route: str) -> bool:
        """Whether the record's key is the route and belongs into this partition (rule 23)."""


class GivenEntry(NamedTuple):
    """An entry of a vector. `body` is its JSON; `trust` is None for a device's signature that does not verify."""

    offset: int
    timestamp: int
    type: str
    body: bytes
    trust: int | None = 0
    signer: str | None = None

    def check_size(self) -> None:
        """Raises Refused if the value is larger than one may be (rule 1)."""
        if len(self.body) > VALUE_BYTES_MAX:
            raise Refused("undecodable")

    def content(self) -> Any:
        """The value as dicts, lists and scalars. Raises Refused if it is not JSON."""
        return _json(self.body)

    def trust_by(self, version: Plain) -> int | None:
        """The trust given, except that nothing unsigned counts where a signature is required."""
        return None if self.trust == 0 and version.get("require_signature") else self.trust

    def is_by_one_of(self, accounts: Collection[str]) -> bool:
        """Whether one of these EVM accounts is the signer given."""
        return self.signer in accounts

    def is_at(self, route: str) -> bool:
        """A vector is one partition, and each of its records is where it belongs."""
        return True


class RecordEntry:
    """A record of the log of one partition."""

    def __init__(self, record: LogRecord, log: Log, partition: int) -> None:
        self._record, self._log, self._partition = record, log, partition
        self.offset, self.timestamp, self.type = record.offset, record.timestamp, record_type(record)

    def check_size(self) -> None:
        """Raises Refused if the value or the headers are larger than they may be (rule 1)."""
        named = self._record.headers or ()
        sizes = [len(name.encode()) + len(value or b"") for name, value in named]
        if (
            len(self._record.value or b"") > VALUE_BYTES_MAX
            or len(named) > HEADERS_MAX
            or sum(sizes) > HEADER_BYTES_MAX
        ):
            raise Refused("undecodable")

    def content(self) -> Any:
        """The value as dicts, lists and scalars; rows of Arrow as dicts, None for a malformed one. Raises Refused."""
        media, value = media_type(self._record), self._record.value
        if self.type == "reading" and media == ARROW:
            rows = decode_readings(value, media)
            if isinstance(rows, str):
                raise Refused(rows)
            return [msgspec.to_builtins(row) for row in rows]
        if value is None or media != JSON:
            raise Refused("undecodable")
        return _json(value)

    def trust_by(self, version: Plain) -> int | None:
        """The trust of the key of this version that signed the record; None if a signature is bad or missing."""
        if not has_signature(self._record):
            return None if version.get("require_signature") else 0
        signatures, names = headers(self._record, "signature"), headers(self._record, "key-id")
        keys = [key for key in version.get("keys", ()) if [key["key_id"].encode()] == names]
        if not keys or len(signatures) != 1:
            return None
        message = reading_message(self._log.log_id, *self._signed())
        if not is_signed_by(bytes.fromhex(keys[0]["public_key"]), signatures[0], message):
            return None
        return 2 if keys[0].get("hardware_backed") else 1

    def is_by_one_of(self, accounts: Collection[str]) -> bool:
        """Whether the one signature of the record is by one of these EVM accounts."""
        signatures = headers(self._record, "signature")
        return len(signatures) == 1 and operator_of(signatures[0], self._log.log_id, *self._signed()) in accounts

    def is_at(self, route: str) -> bool:
        """Whether the record's key is the route and Java's partitioner puts it into this partition."""
        key = self._record.key
        return key == route.encode() and partition_of(key, self._log.partitions) == self._partition

    def _signed(self) -> tuple[bytes, str, bytes | str, bytes]:
        """Key, type, content type and value, as both kinds of signatures cover them."""
        content_type = header(self._record, "content-type")
        kind = JSON if content_type is None else content_type
        return self._record.key or b"", self.type, kind, self._record.value or b""


def _json(body: bytes) -> Any:
    try:
        return plain_object(body)
    except msgspec.DecodeError:
        raise Refused("undecodable") from None
