"""Who signed a record: the trust of a row by its record's signature, or its refusal (rule 27)."""

from functools import cached_property
from typing import Protocol

from schemas.window import SELF_REPORTED
from streams.core.machines import Version
from streams.core.records import JSON, KEY_ID, SIGNATURE, LogRecord, has_signature, header, headers, record_type
from streams.core.signature import is_signed_by, operator_of, reading_message


class Trusting(Protocol):
    """A record's signature, to be held against the keys of a version."""

    def trust_by(self, version: Version) -> int | None:
        """The trust of the version's key that made the signature; None if none of its keys did."""


class RecordSignature:
    """The signature of one record by a device. It is verified on demand, once for each public key."""

    def __init__(self, log_id: str, record: LogRecord) -> None:
        self._log_id = log_id
        self._record = record
        self._signatures, self._key_ids = headers(record, SIGNATURE), headers(record, KEY_ID)
        self._known: dict[bytes, bool] = {}

    def trust_by(self, version: Version) -> int | None:
        """As `Trusting`."""
        if len(self._signatures) != 1 or len(self._key_ids) != 1:
            return None
        key = version.keys.get(self._key_ids[0])
        return key.trust if key is not None and self._is_by(key.public_key) else None

    def _is_by(self, public_key: bytes) -> bool:
        found = self._known.get(public_key)
        if found is None:
            found = self._known[public_key] = is_signed_by(public_key, self._signatures[0], self._message)
        return found

    @cached_property
    def _message(self) -> bytes:
        record = self._record
        kind, value = record_type(record), record.value or b""
        return reading_message(self._log_id, record.key or b"", kind, _content_type(record), value)


class Signatures:
    """Looks at the signatures of a log's records."""

    def __init__(self, log_id: str) -> None:
        self._log_id = log_id

    def of_device(self, record: LogRecord) -> Trusting | None:
        """The signature of a reading or a receipt, valid or not; None if it has none."""
        return RecordSignature(self._log_id, record) if has_signature(record) else None

    def account_of(self, record: LogRecord) -> str | None:
        """The account (lower case) of the operator or supplier who signed a control record; None if nobody did."""
        signatures = headers(record, SIGNATURE)
        signature = signatures[0] if len(signatures) == 1 else b""
        kind, value = record_type(record), record.value or b""
        return operator_of(signature, self._log_id, record.key or b"", kind, _content_type(record), value)


def _content_type(record: LogRecord) -> bytes:
    content_type = header(record, "content-type")
    return JSON.encode() if content_type is None else content_type


def trust_of(signature: Trusting | None, version: Version) -> int | None:
    """The trust of a row of a record with this signature, under this version; None if the row must be refused."""
    if signature is not None:
        return signature.trust_by(version)
    return None if version.registration.require_signature else SELF_REPORTED
