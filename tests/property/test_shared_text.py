"""What is decoded once for a fleet says of each machine what its own text says."""

import json
import random
from collections.abc import Iterator

import msgspec
import pytest

from schemas.registration import Registration
from streams.core.machines import content_of
from streams.core.records import JSON, Record, decode_control, media_type
from streams.core.shared_text import Decoded, SharedTexts
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


def found(texts: SharedTexts, record: Record) -> object:
    """What the shared text gives, three times: it is decoded, seen again, then remembered."""
    first, again, remembered = (texts.decode(record) for _ in range(3))
    assert first == again == remembered
    return tuple(first) if isinstance(first, Decoded) else first


def registrations() -> Iterator[Record]:
    for path in FILES[:: max(1, len(FILES) // 12)]:
        for record in records_of(read_document(path)):
            if dict(record.headers or ()).get("ce_type") == b"machine.registered":
                yield record


@pytest.mark.parametrize("seed", range(4))
def test_the_shared_text_says_what_each_text_says(seed: int) -> None:
    draw, shared, texts = random.Random(seed), 0, SharedTexts()
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
            result = found(texts, this)
            assert result == plainly(this)
            shared += isinstance(result, tuple)
    assert shared > 50


@pytest.mark.parametrize(
    "twice",
    [
        b'"machine":"m-9","machine":"m-9"',
        b'"salt":"%b","salt":"%b"' % (b"a" * 32, b"b" * 32),
        b'"salt":"","salt":"%b"' % (b"a" * 32),
        b'"salt":"%b","salt":""' % (b"a" * 32),
    ],
)
def test_a_name_that_is_said_twice_is_not_taken_from_another_text(twice: bytes) -> None:
    record, texts = next(record for record in registrations() if b'"machine"' in (record.value or b"")), SharedTexts()
    plain = msgspec.json.decode(record.value or b"")
    plain.pop("salt", None)
    text = msgspec.json.encode(plain | {"machine": "m-9", "route": "m-9"})
    for value in (text, b"{" + twice + b"," + text[1:], text[:-1] + b"," + twice + b"}"):
        this = Record(0, 0, b"m-9", value, [])
        assert found(texts, this) == plainly(this)


def test_what_an_escape_says_is_not_what_fills_a_hole() -> None:
    """A value that says, in escapes, what stands in a remembered text for a machine, and a machine's name elsewhere."""
    said = {"machine": "@", "route": "@", "version": 1, "kind": "m-1", "effective_from": 0}
    said |= {"meters": [{"meter": "m-1", "unit": "Wh", "kind": "register", "capacity_per_hour": 1}]}
    said |= {"tariff": {"elements": [], "offsets": [[0, 0]]}, "agreement": {"payees": {"a": 10_000}}}
    for escaped in (b"tallyroot\\u003amachine", b"tallyroot\\u003aroute", b"tallyroot\\u003asomebody"):
        texts = SharedTexts()
        for name in (b"m-1", b"m-2"):
            this = Record(0, 0, name, msgspec.json.encode(said).replace(b"@", escaped).replace(b"m-1", name), [])
            assert found(texts, this) == plainly(this)
