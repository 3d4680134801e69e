"""The AsyncAPI document: it follows from the structs, and names every topic and every type of record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.asyncapi import FILE, ORDERS, RECORDS, REJECTED, TELEMETRY, document, document_bytes
from schemas.command import TOPIC, Command
from schemas.reject import REASONS
from streams.core.kernel.columns import TYPES
from streams.kafka.outbox_topic import ENTRY_REJECTED
from streams.kafka.topics import orders_topic, rejected_topic


def nodes(part: Any, at: str = "#") -> Iterator[tuple[str, Any]]:
    yield at, part
    if isinstance(part, dict | list):
        for name, inner in part.items() if isinstance(part, dict) else enumerate(part):
            yield from nodes(inner, f"{at}/{name}")


def test_the_file_follows_from_the_structs() -> None:
    assert FILE.read_bytes() == document_bytes()


def test_every_reference_leads_somewhere() -> None:
    found = dict(nodes(document()))
    references = [part["$ref"] for part in found.values() if isinstance(part, dict) and "$ref" in part]
    assert len(references) > 30
    assert not [reference for reference in references if reference not in found]


def test_every_topic_and_every_type_of_record_is_there() -> None:
    said = json.loads(FILE.read_text())
    assert said["asyncapi"] == "3.0.0"
    channels = {channel["address"]: set(channel["messages"]) for channel in said["channels"].values()}
    assert channels == {
        TELEMETRY: set(RECORDS), REJECTED: {ENTRY_REJECTED}, ORDERS: {"order"}, TOPIC: {"command"},
    }  # fmt: skip
    assert set(RECORDS) == set(TYPES)
    assert rejected_topic(TELEMETRY) == REJECTED
    assert orders_topic(TELEMETRY) == ORDERS
    messages = said["components"]["messages"]
    assert set(messages) == set().union(*channels.values())
    for name, message in messages.items():
        if name in TYPES or name == ENTRY_REJECTED:
            assert message["headers"]["properties"]["ce_type"] == {"const": name}
    assert {operation["channel"]["$ref"].split("/")[-1] for operation in said["operations"].values()} == set(
        said["channels"]
    )


def test_every_reason_of_a_refusal_is_there() -> None:
    header = document()["components"]["messages"]["entry.rejected"]["headers"]["properties"]["rejected"]
    assert header["x-content"]["properties"]["reasons"]["items"]["items"][1]["enum"] == [*REASONS]


def test_the_words_are_those_of_asyncapi_s_own_dialect() -> None:
    used = {name for _, part in nodes(document()) if isinstance(part, dict) for name in part}
    assert not used & {"$defs", "prefixItems", "$dynamicRef", "unevaluatedProperties", "dependentRequired"}
    assert Path("schemas/asyncapi.json").stat().st_size < 100_000


@pytest.mark.parametrize(
    ("fields", "is_valid"),
    [
        ({"command": "start", "session": "s-1"}, True),
        ({"command": "start"}, False),
        ({"command": "stop"}, True),
        ({"command": "limit", "limit_w": 0}, True),
        ({"command": "limit"}, False),
        ({"command": "reboot"}, None),
        ({"command": "stop", "limit_w": 1.5}, None),
        ({"command": "stop", "id_tag": "x" * 21}, None),
        ({"command": "stop", "session": None}, None),
        ({"command": "stop", "conector": 1}, None),
    ],
)
def test_a_command_is_read_strictly(fields: dict[str, Any], is_valid: bool | None) -> None:
    said = json.dumps({"machine": "charger-1", "valid_until": 1_790_000_000_000, **fields})
    if is_valid is None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(said, type=Command)
    else:
        assert msgspec.json.decode(said, type=Command).is_valid() is is_valid
