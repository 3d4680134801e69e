"""What somebody without a key makes of records that others have signed."""

import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from streams.core.records import JSON, Record
from streams.core.signature import sign_control

THIEF = b"\x66" * 32
WORTH: Mapping[str, Any] = {
    "amount": 10**9, "payer": "0x" + "66" * 20, "unit_price": 1, "quantity": 10**6, "difference": -1,
    "refund_to": "0x" + "66" * 20, "number": 1, "valid_until": 2**52, "log_index": 2**40, "block": 2**40,
}  # fmt: skip
"""Fields that a thief would like to have otherwise."""


def forged(draw: random.Random, record: Record, kind: str, log_id: str) -> tuple[str, Record]:
    """A forgery of a signed record of a type, and what kind of one it is."""
    match draw.randrange(4):
        case 0:
            return "changed", record._replace(value=_changed(draw, record.value or b""))
        case 1:
            return "unsigned", record._replace(value=_changed(draw, record.value or b""), headers=_unsigned(record))
        case 2:
            return "of another type", _retyped(draw, record)
        case _:
            key, value = record.key or b"", _next(_changed(draw, record.value or b""))
            signature = sign_control(THIEF, log_id, key, kind, JSON, value)
            return "signed by a thief", record._replace(
                value=value, headers=[*_unsigned(record), ("signature", signature)]
            )


def _changed(draw: random.Random, value: bytes) -> bytes:
    """At least one field of worth is another; where there is none, a blank is added: the bytes are others."""
    with suppress(msgspec.DecodeError):
        document = msgspec.json.decode(value)
        names = [
            name for name in WORTH if isinstance(document, dict) and document.get(name, WORTH[name]) != WORTH[name]
        ]
        if names:
            chosen = draw.sample(names, draw.randint(1, len(names)))
            return msgspec.json.encode(document | {name: WORTH[name] for name in chosen})
    return value + b" "


def _next(value: bytes) -> bytes:
    with suppress(msgspec.DecodeError, KeyError, TypeError):
        document = msgspec.json.decode(value)
        return msgspec.json.encode(document | {"version": document["version"] + 1})
    return value


def _unsigned(record: Record) -> list[tuple[str, bytes | None]]:
    return [header for header in record.headers if header[0] not in ("signature", "key-id")]


def _retyped(draw: random.Random, record: Record) -> Record:
    kinds = (b"machine.registered", b"usage.corrected", b"payment.received", b"goods.received", b"order.invoiced",
             b"order.cancelled")  # fmt: skip
    before = dict(record.headers).get("ce_type")
    other = draw.choice([kind for kind in kinds if kind != before])
    return record._replace(headers=[(name, other if name == "ce_type" else value) for name, value in record.headers])
