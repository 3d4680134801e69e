"""Writes docs/wire-vectors.json: examples of the wire format for gateways in any language. Run it as a module."""

import json
from pathlib import Path
from typing import Any

import msgspec

from schemas.log import Log
from streams.core.advance import advance
from streams.core.murmur2 import murmur2, partition_of
from streams.core.records import ARROW, JSON, Record, decode_readings, media_type
from streams.core.signature import (
    control_digest,
    operator_account,
    reading_key,
    reading_message,
    sign_control,
    sign_reading,
)  # fmt: skip
from streams.core.state import State
from tallyroot_gateway.arrow import arrow_value

FILE = Path(__file__).parents[2] / "docs" / "wire-vectors.json"

Document = dict[str, Any]

KEYS = (
    "", "a", "ab", "abc", "abcd", "21", "foobar", "charger-7", "depot-1", "taxi-1", "site:eu.north_1",
    "a-little-bit-long-string", "a-little-bit-longer-string", "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
    "z" * 64,
)  # fmt: skip
PARTITIONS = (1, 3, 4, 6, 12, 100, 1_024)

RFC_8032_KEYS = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
)
"""The private keys of RFC 8032, section 7.1, tests 1 to 3."""

DEVELOPMENT_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""The first account of every development chain: known to everybody."""

NOW_MS = 1_700_000_000_000

READING: Document = {
    "machine": "charger-7", "meter": "energy", "boot": 1, "seq": 1, "observed_at": NOW_MS, "register": 1_234_567,
}  # fmt: skip

RECEIPT: Document = {"machine": "charger-7", "item": "fuse", "number": 1, "quantity": 4, "observed_at": NOW_MS}

REGISTRATION: Document = {
    "machine": "charger-7",
    "route": "charger-7",
    "version": 1,
    "kind": "ev_charger",
    "effective_from": 0,
    "meters": [
        {"meter": "energy", "unit": "Wh", "kind": "register", "capacity_per_hour": 22_000},
        {"meter": "trips", "unit": "count", "kind": "quantity", "capacity_per_hour": 60},
        {"meter": "battery", "unit": "Wh", "kind": "level", "capacity_per_hour": 1},
    ],
    "tariff": {
        "elements": [{"components": [{"meter": "energy", "price": 300_000, "per": 1_000}]}],
        "offsets": [[0, 0]],
    },
    "agreement": {"payees": {"0x1111111111111111111111111111111111111111": 10_000}},
}

CHANGES: dict[str, Document] = {
    "an id of 64 characters": {"machine": "Az09._*-" * 8},
    "an id of an EVSE": {"machine": "DE*ABC*E7:1"},
    "an id of 65 characters": {"machine": "a" * 65},
    "an empty id": {"meter": ""},
    "an id with a space": {"machine": "charger 7"},
    "an id with a slash": {"machine": "site/7"},
    "an id with a letter beyond ASCII": {"machine": "säule-7"},
    "an id with a line feed at its end": {"machine": "charger-7\n"},
    "the largest integer": {"register": 2**53},
    "an integer above 2^53": {"register": 2**53 + 1},
    "a negative integer": {"register": -1},
    "a float": {"register": 1234.5},
    "a float that is whole": {"register": 1234.0},
    "a number in a text": {"register": "1234"},
    "a boolean for an integer": {"seq": True},
    "a null": {"register": None},
    "boot and seq 0": {"boot": 0, "seq": 0},
    "two values": {"quantity": 1},
    "a field that is unknown": {"firmware": "1.2"},
    "a session": {"session": "s-1", "session_started_at": NOW_MS, "session_start": True},
    "a session without its start": {"session": "s-1"},
    "a start without its session": {"session_started_at": NOW_MS},
    "a session that has lasted for months": {"session": "s-1", "session_started_at": NOW_MS - 200 * 86_400_000},
    "a session that starts later": {"session": "s-1", "session_started_at": NOW_MS + 1},
    "the end of a session": {"session": "s-1", "session_started_at": NOW_MS - 1, "session_end": True},
    "an end without its session": {"session_end": True},
    "session_start as 1": {"session": "s-1", "session_started_at": NOW_MS, "session_start": 1},
}
"""By what it shows, what is changed in the reading."""

NUMBERS: tuple[tuple[str, Document], ...] = (
    ("the first register of a meter, which bills nothing", {"boot": 5, "seq": 100, "register": 1_000}),
    ("the next one", {"boot": 5, "seq": 101, "register": 1_010}),
    ("the same once more", {"boot": 5, "seq": 101, "register": 1_010}),
    ("other content under a number that was used", {"boot": 5, "seq": 101, "register": 1_011}),
    ("two numbers are left out", {"boot": 5, "seq": 104, "register": 1_020}),
    (
        "one of them comes after all, observed before those above it",
        {"boot": 5, "seq": 102, "register": 1_012, "later": -15_000},
    ),
    ("the other one, observed after them: numbers that began again", {"boot": 5, "seq": 103, "register": 1_021}),
    ("a number too far ahead", {"boot": 5, "seq": 104 + 2**20 + 1, "register": 1_020}),
    ("a register that falls within a boot", {"boot": 5, "seq": 105, "register": 3}),
    ("the same fall in a new boot: a reset", {"boot": 6, "seq": 0, "register": 3}),
    ("a straggler of the boot before", {"boot": 5, "seq": 106, "register": 1_021}),
    ("one boot more", {"boot": 7, "seq": 0, "register": 4}),
    ("a boot before the previous one", {"boot": 5, "seq": 107, "register": 1_021}),
    ("a boot too far ahead", {"boot": 7 + 2**20 + 1, "seq": 0, "register": 4}),
    ("more than the meter's capacity allows", {"boot": 7, "seq": 1, "register": 9_000_000}),
    ("a number below the highest that was never left out", {"boot": 7, "seq": 0, "register": 5}),
    ("observed more than five minutes after it was logged", {"boot": 7, "seq": 2, "register": 4, "later": 400_000}),
    ("a machine that nobody registered", {"boot": 7, "seq": 2, "register": 4, "machine": "charger-8"}),
    ("a meter that nobody registered", {"boot": 7, "seq": 2, "register": 4, "meter": "heat"}),
    ("a quantity of a register", {"boot": 7, "seq": 2, "quantity": 4}),
)
"""Readings of one meter in their order, 10 s apart, each with what it shows."""


def document() -> Document:
    """All vectors."""
    return {
        "about": "Examples for docs/wire-format.md: bytes are hex, text is UTF-8. By tests/support/wire_vectors.py.",
        "partitions": [_partitions(key) for key in KEYS],
        "records": _records(),
        "boundaries": [_boundary(shows, READING | change) for shows, change in CHANGES.items()],
        "numbers": _numbers(),
        "device_signatures": [
            *(_device(key, "reading", READING | {"seq": place}) for place, key in enumerate(RFC_8032_KEYS, 1)),
            _device(RFC_8032_KEYS[0], "goods.received", RECEIPT),
        ],
        "operator_signatures": [_operator("log-1", "charger-7"), _operator("log-2", "depot-1")],
    }


def encoded() -> str:
    """The file's text."""
    return json.dumps(document(), indent=1, ensure_ascii=True) + "\n"


def _partitions(key: str) -> Document:
    places = {str(count): partition_of(key.encode(), count) for count in PARTITIONS}
    return {"key": key, "murmur2": murmur2(key.encode()), "partition_of": places}


def _records() -> list[Document]:
    one, two = msgspec.json.encode(READING), msgspec.json.encode([READING, READING | {"seq": 2, "register": -1}])
    arrow = arrow_value([one])
    shown: tuple[tuple[str, str | None, bytes], ...] = (
        ("one reading", None, one),
        ("an array: each row is judged by itself", JSON, two),
        ("parameters of the content type are ignored", "Application/JSON; charset=utf-8", one),
        ("an Arrow IPC stream", ARROW, arrow),
        ("an Arrow IPC stream called JSON", JSON, arrow),
        ("another content type", "text/csv", one),
        ("no JSON", JSON, b"{not json"),
        ("JSON that is no object", JSON, b"17"),
        ("an empty array", JSON, b"[]"),
        ("10,001 rows", JSON, b"[" + b",".join([b"0"] * 10_001) + b"]"),
        ("64 levels of brackets", JSON, one[:-1] + b',"x":' + b"[" * 63 + b"]" * 63 + b"}"),
        ("65 levels of brackets", JSON, one[:-1] + b',"x":' + b"[" * 64 + b"]" * 64 + b"}"),
    )
    return [_record(*parts) for parts in shown]


def _record(shows: str, content_type: str | None, value: bytes) -> Document:
    headers = [] if content_type is None else [["content-type", content_type]]
    record = Record(0, NOW_MS, b"charger-7", value, [(name, text.encode()) for name, text in headers])
    rows = decode_readings(value, media_type(record))
    said = rows if isinstance(rows, str) else ["malformed" if row is None else "well formed" for row in rows]
    return {"shows": shows, "key": "charger-7", "headers": headers, "value_hex": value.hex(), "result": said}


def _boundary(shows: str, reading: Document) -> Document:
    value = msgspec.json.encode(reading)
    rows = decode_readings(value)
    said = rows if isinstance(rows, str) else "malformed" if rows[0] is None else "well formed"
    return {"shows": shows, "value": value.decode(), "result": said}


def _numbers() -> Document:
    log = Log(log_id="log-1", partitions=1)
    state = State.new(log, 0)
    value = msgspec.json.encode(REGISTRATION)
    advance(state, [Record(0, NOW_MS, b"charger-7", value, [("ce_type", b"machine.registered")])])
    shown, shift, first = [], 0, {}
    for place, (shows, change) in enumerate(NUMBERS, 1):
        logged_ms = NOW_MS + 10_000 * place
        fields = {name: part for name, part in READING.items() if name != "register"} | change
        fields["observed_at"] = logged_ms + fields.pop("later", 0)
        number = (fields["boot"], fields["seq"])
        if number in first and shows.startswith(("the same once more", "other content")):
            fields["observed_at"] = first[number]
        first.setdefault(number, fields["observed_at"])
        value = msgspec.json.encode(fields)
        done = advance(state, [Record(place + shift, logged_ms, b"charger-7", value)])
        said = done.rejects[0].reason if done.rejects else "duplicate" if done.counts.duplicate else "accepted"
        shown.append({"shows": shows, "timestamp_ms": logged_ms, "value": value.decode(), "result": said})
    return {"registration": REGISTRATION, "readings": shown}


def _device(private: str, record_type: str, document: Document) -> Document:
    value = msgspec.json.encode(document)
    parts = ("log-1", "charger-7", record_type, JSON, value)
    return {
        "private_key": private,
        "public_key": reading_key(bytes.fromhex(private)),
        **dict(zip(("log_id", "key", "record_type", "content_type"), parts[:4], strict=True)),
        "value_hex": value.hex(),
        "message_hex": reading_message(*parts).hex(),
        "signature_hex": sign_reading(bytes.fromhex(private), *parts).hex(),
    }


def _operator(log_id: str, route: str) -> Document:
    private = bytes.fromhex(DEVELOPMENT_KEY)
    value = msgspec.json.encode(REGISTRATION | {"route": route})
    parts = (log_id, route, "machine.registered", JSON, value)
    return {
        "private_key": DEVELOPMENT_KEY,
        "account": operator_account(private),
        **dict(zip(("log_id", "key", "record_type", "content_type"), parts[:4], strict=True)),
        "value_hex": value.hex(),
        "digest_hex": control_digest(*parts).hex(),
        "signature_hex": sign_control(private, *parts).hex(),
    }


if __name__ == "__main__":
    FILE.write_text(encoded(), encoding="utf-8")
