"""The trust of rows by their record's signature, or their refusal (rule 27)."""

from functools import cached_property

from schemas.reading import READING
from schemas.window import SELF_REPORTED
from streams.core.machines import Version
from streams.core.records import JSON, KEY_ID, SIGNATURE, LogRecord, has_signature, header, headers
from streams.core.signature import is_signed_by, reading_message


class RecordSignature:
    """The signature of one reading record. It is verified on demand, once for each public key."""

    def __init__(self, log_id: str, record: LogRecord) -> None:
        self._log_id = log_id
        self._record = record
        self._signatures, self._key_ids = headers(record, SIGNATURE), headers(record, KEY_ID)
        self._known: dict[bytes, bool] = {}

    def trust_by(self, version: Version) -> int | None:
        """The trust of the version's key that made the signature; None if none of its keys did."""
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
        record, content_type = self._record, header(self._record, "content-type")
        content_type = JSON.encode() if content_type is None else content_type
        return reading_message(self._log_id, record.key or b"", READING, content_type, record.value or b"")


def signature_of(log_id: str, record: LogRecord) -> RecordSignature | None:
    """The signature of a reading record, valid or not; None if it has none."""
    return RecordSignature(log_id, record) if has_signature(record) else None


def trust_of(signature: RecordSignature | None, version: Version) -> int | None:
    """The trust of a row of a record with this signature, under this version; None if the row must be refused."""
    if signature is not None:
        return signature.trust_by(version)
    return None if version.registration.require_signature else SELF_REPORTED
