"""What is decoded once for a fleet says of each machine what its own text says."""

import json
import random
from collections.abc import Iterator

import msgspec
import pytest

from schemas.registration import Registration
from streams.core.machines import content_of
from streams.core.records import JSON, Record, decode_control, media_type
from streams.core.shared_text import Decoded, decode_registration
from streams.reference.vectors import read_document, records_of
from tests.fuzz.spoiled import spoiled_bytes, spoiled_json
from tests.support.mutated_vectors import FILES

NAMES = [
    "m-1", "kind", "machine", "route", "salt", "Wh", "energy", "register", "charger", "1", "0", "true", "a:b", "*", ":",
    ",", "tallyroot:somebody", "x" * 64, "x" * 65, "", "é", "a b",
]  # fmt: skip
SALTS = ["", "0" * 32, "ab" * 16, "AB" * 16, "ab" * 15]


def plainly(record: Record) -> object:
    """The definition."""
    decoded = decode_control(record.value, media_type(record), Registration)
    if not isinstance(decoded, tuple):
        return decoded
    registration, plain = decoded
    plain = {n: part for n, part in plain.items() if not (n in ("retired", "require_signature") and part is False)}
    return registration, plain, content_of(plain)


def found(record: Record) -> object:
    """What the shared text gives, three times: it is decoded, seen again, then remembered."""
    first, again, remembered = (decode_registration(record) for _ in range(3))
    assert first == again == remembered
    return tuple(first) if isinstance(first, Decoded) else first


def registrations() -> Iterator[Record]:
    for path in FILES[:: max(1, len(FILES) // 12)]:
        for record in records_of(read_document(path)):
            if dict(record.headers or ()).get("ce_type") == b"machine.registered":
                yield record


@pytest.mark.parametrize("seed", range(4))
def test_the_shared_text_says_what_each_text_says(seed: int) -> None:
    draw, shared = random.Random(seed), 0
    for record in registrations():
        try:
            document = json.loads(record.value or b"")
        except ValueError:
            continue
        for _ in range(6):
            name, changed = draw.choice(NAMES), document
            if isinstance(document, dict):
                changed = document | {"machine": name, "route": draw.choice((name, "elsewhere"))}
                changed |= {"salt": draw.choice(SALTS)} if draw.random() < 0.7 else {}
            if draw.random() < 0.3:
                changed = spoiled_json(draw, changed)
            value = msgspec.json.encode(changed) if draw.random() < 0.7 else json.dumps(changed, indent=1).encode()
            if draw.random() < 0.2:
                value = spoiled_bytes(draw, value)
            headers = [("ce_type", b"machine.registered"), ("content-type", draw.choice((JSON, "text/plain")).encode())]
            this = Record(0, 0, draw.choice((name, "m-1", "kind")).encode(), value, headers)
            result = found(this)
            assert result == plainly(this)
            shared += isinstance(result, tuple)
    assert shared > 50


@pytest.mark.parametrize(
    "twice", [b'"machine":"m-9","machine":"m-9"', b'"salt":"%b","salt":"%b"' % (b"a" * 32, b"b" * 32)]
)
def test_a_name_that_is_said_twice_is_not_taken_from_another_text(twice: bytes) -> None:
    record = next(record for record in registrations() if b'"machine"' in (record.value or b""))
    text = msgspec.json.encode(msgspec.json.decode(record.value or b"") | {"machine": "m-9", "route": "m-9"})
    for value in (text, b"{" + twice + b"," + text[1:]):
        this = Record(0, 0, b"m-9", value, [])
        assert found(this) == plainly(this)
