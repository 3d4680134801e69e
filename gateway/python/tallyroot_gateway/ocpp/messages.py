"""OCPP's messages as they travel: JSON arrays, whose numbers keep their text.

[2, id, action, payload]            a call
[3, id, payload]                    its result
[4, id, code, description, details] its error
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ocpp.v16.enums import Action as ActionOf16
from ocpp.v201.enums import Action as ActionOf201

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import decode_json

V16, V201 = "ocpp1.6", "ocpp2.0.1"
SUBPROTOCOLS = (V201, V16)
"""What is spoken, the preferred one first."""

ID_MAX = 255
"""No message's id is longer; the standards have 36."""

_ACTIONS = {V16: {str(action.value) for action in ActionOf16}, V201: {str(action.value) for action in ActionOf201}}


class Call(NamedTuple):
    """What the other side asks."""

    id: str
    action: str
    payload: dict[str, Any]


class Answer(NamedTuple):
    """What the other side answered: a payload, or a code of an error and its description."""

    id: str
    payload: dict[str, Any] | None
    error: str = ""


def decode(text: str | bytes) -> Call | Answer:
    """One message. Raises InvalidInput for what isn't one."""
    frame = decode_json(text)
    if not isinstance(frame, list) or len(frame) < 3:
        raise InvalidInput("not an OCPP message: an array of three or more is")
    kind, id = frame[0], frame[1]
    if not isinstance(id, str) or len(id) > ID_MAX:
        raise InvalidInput(f"not an OCPP message: its id is a text of at most {ID_MAX}")
    if kind == 2 and len(frame) >= 4 and isinstance(frame[2], str) and isinstance(frame[3], dict):
        return Call(id, frame[2], frame[3])
    if kind == 3 and isinstance(frame[2], dict):
        return Answer(id, frame[2])
    if kind == 4:
        return Answer(id, None, " ".join(str(part)[:200] for part in frame[2:4]))
    raise InvalidInput("not an OCPP message: it begins with 2, 3 or 4")


def call(id: str, action: str, payload: Mapping[str, Any]) -> str:
    """The text of a call."""
    return json.dumps([2, id, action, payload], separators=(",", ":"))


def result(id: str, payload: Mapping[str, Any]) -> str:
    """The text of a result."""
    return json.dumps([3, id, payload], separators=(",", ":"))


def error(id: str, code: str, description: str) -> str:
    """The text of an error."""
    return json.dumps([4, id, code, description[:255], {}], separators=(",", ":"))


def unanswerable(version: str, action: str) -> tuple[str, str]:
    """Code and description for an action that nothing here answers."""
    if action in _ACTIONS[version]:
        return "NotSupported", f"{action[:50]} is not supported here"
    return "NotImplemented", f"{action[:50]} is no action of {version}"


def time_ms(value: object) -> int | None:
    """The epoch ms of a date and time of ISO 8601, UTC where no offset is said; None for what is none."""
    if not isinstance(value, str) or not 16 <= len(value) <= 40:
        return None
    try:
        moment = datetime.fromisoformat(value.strip().replace(",", "."))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def time_text(ms: int) -> str:
    """ISO 8601 of epoch ms, as OCPP writes it."""
    moment = datetime.fromtimestamp(ms // 1_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1_000:03d}Z"
