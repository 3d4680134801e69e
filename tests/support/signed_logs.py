"""Logs whose readings are signed, rightly and wrongly, by keys that come, go and change with versions of machines."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.reading import READING, REGISTERED
from streams.core.records import JSON, Record, header, plain_object, record_type
from streams.core.signature import reading_key, sign_reading

Headers = Sequence[tuple[str, bytes | None]]


def private_key(number: int) -> bytes:
    """A device's key by its number, 1 to 255."""
    return bytes([number]) * 32


def key_of(key_id: str, number: int, *, hardware: bool = False) -> dict[str, Any]:
    """A key as a registration names it."""
    marked = {"hardware_backed": True} if hardware else {}
    return {"key_id": key_id, "public_key": reading_key(private_key(number)), **marked}


def signed(log_id: str, record: Record, key_id: str, number: int) -> Record:
    """A reading record with a signature by a key, beside its other headers."""
    return record._replace(headers=[*record.headers, *signature_headers(log_id, record, key_id, number)])


def signature_headers(log_id: str, record: Record, key_id: str, number: int) -> Headers:
    """The two headers of a signature."""
    content_type = header(record, "content-type")
    parts = (record.key or b"", READING, JSON if content_type is None else content_type, record.value or b"")
    return (("signature", sign_reading(private_key(number), log_id, *parts)), ("key-id", key_id.encode()))


class SignedLog:
    """Signs a log. `share` (0 to 1) of its records are signed, `dirt` (0 to 1) of these wrongly.

    A registration names some of the keys `a`, `b` and `c`, may change the one that `a` stands for, may have it in
    hardware, and may require signatures. Machines differ in that. The same seed gives the same log.
    """

    def __init__(self, log_id: str, seed: int, *, share: float, dirt: float) -> None:
        self.log_id = log_id
        self.draw = random.Random(seed)
        self.share, self.dirt = share, dirt
        self.keys = [("a", 1), ("a", 1), ("a", 2), ("b", 3)]
        self.registered: dict[bytes, bytes] = {}
        self.earlier: list[Headers] = [(("signature", bytes(64)), ("key-id", b"a"))]

    def of(self, records: Sequence[Record]) -> list[Record]:
        """The records, signed."""
        return [self.record(record) for record in records]

    def record(self, record: Record) -> Record:
        if record.value is not None and record_type(record) == REGISTERED:
            return record._replace(value=self.registration(record.value))
        if record_type(record) != READING or self.draw.random() >= self.share:
            return record
        right = signature_headers(self.log_id, record, *self.draw.choice(self.keys))
        headers = self.spoilt(record, right) if self.draw.random() < self.dirt else right
        self.earlier.append(right)
        return record._replace(headers=[*record.headers, *headers])

    def registration(self, value: bytes) -> bytes:
        """The same value always with the same keys, so that what was sent twice stays a duplicate."""
        if value not in self.registered:
            self.registered[value] = self.with_keys(value)
        return self.registered[value]

    def with_keys(self, value: bytes) -> bytes:
        try:
            document = plain_object(value)
        except msgspec.DecodeError:
            return value
        if not isinstance(document, dict):
            return value
        keys = [key_of("a", self.draw.choice((1, 1, 1, 2)), hardware=self.draw.random() < 0.3)]
        keys += [key_of("b", 3, hardware=self.draw.random() < 0.5)] if self.draw.random() < 0.7 else []
        keys += [key_of("c", 1)] if self.draw.random() < 0.2 else []
        keys = keys if self.draw.random() < 0.8 else keys[1:]
        asked: dict[str, Any] = {"keys": [*document.get("keys", []), *keys]}
        if self.draw.random() < 0.3:
            asked["require_signature"] = self.draw.random() < 0.9
        return msgspec.json.encode(document | asked)

    def spoilt(self, record: Record, right: Headers) -> Headers:
        """Headers that are wrong, or right and unusual."""
        signature, key_id = right
        value = signature[1] or b""
        return self.draw.choice(
            (
                self.draw.choice(self.earlier),
                (signature,),
                (key_id,),
                (key_id, signature),
                (signature, signature, key_id),
                (signature, key_id, key_id),
                (("signature", value[:-1]), key_id),
                (("signature", value[:40] + bytes([value[40] ^ 1]) + value[41:]), key_id),
                (("signature", None), key_id),
                (("signature", b""), key_id),
                (signature, ("key-id", None)),
                (signature, ("key-id", b"c")),
                (signature, ("key-id", b"\xff")),
                signature_headers("another", record, "a", 1),
                signature_headers(self.log_id, record._replace(key=b"x"), "a", 1),
            )
        )
