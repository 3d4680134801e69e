"""The AsyncAPI 3 document of the topics, derived from the same structs that decode what travels in them.

`python -m schemas.asyncapi` writes it to `schemas/asyncapi.json`; a test holds the file equal to the structs.
"""

from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

import msgspec

from schemas import command
from schemas.command import Command
from schemas.json_schemas import SCHEMAS
from schemas.order import CANCELLED, INVOICED, PLACED, RECEIVED, Order
from schemas.payment import PAID
from schemas.reading import CORRECTED, HEARTBEAT, READING, REGISTERED, ROWS_MAX
from schemas.reject import Reason

FILE = Path(__file__).parent / "asyncapi.json"

TELEMETRY, REJECTED, ORDERS = "telemetry", "telemetry.rejected", "machine.orders"
"""Topics. A log's own name stands in the place of the first, before `.rejected`, and, if it is another, at the end of
the last, after a dot."""

RECORDS = (READING, HEARTBEAT, REGISTERED, CORRECTED, RECEIVED, INVOICED, CANCELLED, PAID)
"""Every type of record that a log holds."""

SIGNERS = {
    READING: "Optional: Ed25519 by a registered key, 64 bytes.",
    RECEIVED: "Ed25519 by a registered key, 64 bytes.",
    INVOICED: "EIP-712 by the order's supplier, 65 bytes.",
    **dict.fromkeys((REGISTERED, CORRECTED, CANCELLED, PAID), "EIP-712 by an operator of the log, 65 bytes."),
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "tallyroot",
            "version": "1.0.0",
            "description": "What travels in a log's Kafka topics, and how it is signed; docs/wire-format.md says every"
            " byte. The key of a record is its machine's route, as UTF-8; its partition is murmur2's of that, as"
            " Kafka's Java client computes it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"schemas": _schemas(), "messages": _messages()},
    }


def document_bytes() -> bytes:
    """The document as the bytes of its file."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"


def _channels() -> dict[str, Any]:
    return {
        "telemetry": _channel(TELEMETRY, "The log: every record that counts, in its order, for ever.", RECORDS),
        "rejected": _channel(
            REJECTED,
            "Each refused record of the log once, in the partition of the same number. Read it with"
            " isolation.level=read_committed.",
            ["entry.rejected"],
        ),
        "orders": _channel(
            ORDERS,
            "Each order of a machine once, in the partition of the same number, for suppliers' systems. Read it with"
            " isolation.level=read_committed.",
            ["order"],
        ),
        "commands": _channel(command.TOPIC, "What machines shall do, for their gateways.", ["command"]),
    }


def _channel(address: str, description: str, messages: Any) -> dict[str, Any]:
    named = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    return {
        "address": address,
        "description": description,
        "messages": named,
        "bindings": {"kafka": {"topic": address}},
    }


def _operations() -> dict[str, Any]:
    """What tallyroot does with each channel."""
    return {
        "judge": {"action": "receive", "channel": {"$ref": "#/channels/telemetry"}, "summary": "Judges and seals."},
        "refuse": {"action": "send", "channel": {"$ref": "#/channels/rejected"}, "summary": "Says what was refused."},
        "order": {"action": "send", "channel": {"$ref": "#/channels/orders"}, "summary": "Places orders."},
        "command": {"action": "send", "channel": {"$ref": "#/channels/commands"}, "summary": "Begins, ends, limits."},
    }


def _messages() -> dict[str, Any]:
    messages = {name: _record(name) for name in RECORDS}
    messages["entry.rejected"] = {
        "summary": "A refused record: its key and the first 64 KiB of its value, with the reasons in a header.",
        "contentType": "application/octet-stream",
        "headers": _headers("entry.rejected", {"rejected": _rejected(), "topic-id": {"type": "string"}}),
        "payload": {"description": "The value as it was sent, which may be anything."},
    }
    messages["order"] = _message(Order, "An order as a machine placed it.") | {
        "headers": _headers(PLACED, {"topic-id": {"type": "string"}})
    }
    messages["command"] = _message(Command, "A command to a machine.")
    return messages


def _record(name: str) -> dict[str, Any]:
    """A type of record of the log, with its headers."""
    if name == HEARTBEAT:
        payload: dict[str, Any] = {"type": "object"}
    elif name == READING:
        rows = {"type": "array", "items": _reference("Reading"), "minItems": 1, "maxItems": ROWS_MAX}
        payload = {"oneOf": [_reference("Reading"), rows]}
    else:
        payload = _reference(SCHEMAS[name].__name__)
    more = {}
    if name in SIGNERS:
        more["signature"] = {"type": "string", "format": "binary", "description": SIGNERS[name]}
    if name in (READING, RECEIVED):
        more["key-id"] = {"type": "string", "description": "The name of the key, as the registration has it."}
    headers = _headers(name, more)
    message: dict[str, Any] = {"name": name, "headers": headers, "payload": payload}
    if name == READING:
        message["summary"] = "Readings, as JSON here, or as an Arrow IPC stream with the same columns."
        headers["properties"]["content-type"] = {
            "enum": ["application/json", "application/vnd.apache.arrow.stream"],
            "default": "application/json",
        }
        headers.pop("required")
    return message


def _headers(name: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"ce_type": {"const": name}, **more}, "required": ["ce_type"]}


def _message(struct: type[msgspec.Struct], summary: str) -> dict[str, Any]:
    return {"name": struct.__name__.lower(), "summary": summary, "payload": _reference(struct.__name__)}


def _rejected() -> dict[str, Any]:
    """The header of a refused record, JSON in a text."""
    reason = {"type": "array", "items": [{"type": "integer", "minimum": -1}, {"enum": [*get_args(Reason)]}]}
    numbers = {name: {"type": "integer"} for name in ("offset", "timestamp", "epoch", "value_size")}
    others = {"value_sha256": {"type": "string"}, "reasons": {"type": "array", "items": reason, "minItems": 1}}
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "description": "Reasons are [row, reason]; row -1 is the whole record.",
        "x-content": {"type": "object", "properties": numbers | others, "required": [*numbers, *others]},
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    """Every struct that travels, and what it is made of."""
    structs = [struct for name, struct in SCHEMAS.items() if name in RECORDS]
    _, parts = msgspec.json.schema_components([*structs, Order, Command], ref_template="#/components/schemas/{name}")
    for part in parts.values():
        part["description"] = cleandoc(part["description"])  # Python 3.13 strips docstrings, older ones don't
    return {name: _of_draft_7(part) for name, part in sorted(parts.items())}


def _of_draft_7(schema: Any) -> Any:
    """A schema in the words of draft 7, which AsyncAPI's own dialect has."""
    if isinstance(schema, list):
        return [_of_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    said = {name: _of_draft_7(part) for name, part in schema.items()}
    if "prefixItems" in said:
        said["additionalItems"] = said.pop("items", True)
        said["items"] = said.pop("prefixItems")
    return said


def main() -> None:
    """Writes the document to its file."""
    FILE.write_bytes(document_bytes())


if __name__ == "__main__":
    main()
