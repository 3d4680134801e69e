"""From the body of a request to its rows: JSON, lines of JSON, or CloudEvents 1.0 in one of three ways.

An event's source and id are its own key. A body without events has one key at most, the header Idempotency-Key.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import decode_json
from tallyroot_gateway.http.problems import Problem

JSON, LINES = "application/json", "application/x-ndjson"
EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
MEDIA_TYPES = (JSON, LINES, EVENT, EVENTS)

EVENTS_MAX = 1_000
"""How many events one request may have: a gateway remembers the last 10,000 keys."""

ATTRIBUTE_MAX = 1_024
"""No id and no source is longer."""

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """A CloudEvent: what tells it from every other, when it happened (epoch ms) if it says, and its rows."""

    source: str
    id: str
    at_ms: int | None
    items: list[Any]


def media_type_of(headers: Mapping[str, str]) -> str:
    """Which of the four a request is. Raises Problem for any other, or a body that is packed."""
    media, _, parameters = headers.get("content-type", "").partition(";")
    media = media.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters)
    if media not in MEDIA_TYPES or (charset is not None and charset[1].lower() not in ("utf-8", "utf8")):
        raise Problem(415, f"use Content-Type {', '.join(MEDIA_TYPES[:3])} or {EVENTS}", headers=ACCEPTED)
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "send the body as it is, without Content-Encoding", headers=ACCEPTED)
    return media


ACCEPTED = {"Accept": ", ".join(MEDIA_TYPES)}
"""The header by which an answer says what would be taken."""


def items_of(media: str, body: bytes) -> list[Any]:
    """The rows of a body without events. Raises Problem."""
    if media == LINES:
        lines = [line for line in body.split(b"\n") if line.strip()]
        return [_json(line, row=number) for number, line in enumerate(lines, 1)]
    raw = _json(body)
    return raw if isinstance(raw, list) else [raw]


def events_of(media: str, headers: Mapping[str, str], body: bytes) -> list[Event] | None:
    """The events of a request; None where it has none. Raises Problem."""
    if media == EVENTS:
        raw = _json(body)
        if not isinstance(raw, list):
            raise Problem(422, "a batch is a list of events")
        if len(raw) > EVENTS_MAX:
            raise Problem(413, f"{len(raw):,} events are more than {EVENTS_MAX:,}: send fewer at once")
        events = [_event(one, number) for number, one in enumerate(raw, 1)]
        _check_distinct(events)
        return events
    if media == EVENT:
        return [_event(_json(body), 1)]
    if "ce-id" in headers or "ce-specversion" in headers:
        attributes: dict[str, Any] = {
            name: headers[f"ce-{name}"]
            for name in ("specversion", "id", "source", "type", "time")
            if f"ce-{name}" in headers
        }
        return [_event(attributes | {"data": items_of(media, body)}, 1)]
    return None


def moment_ms(text: str) -> int:
    """A time as RFC 3339 has it, in epoch ms, cut off. Raises InvalidInput."""
    try:
        if _TIME.fullmatch(text) is None:
            raise ValueError(text)
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).upper())
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise InvalidInput(f"time: write it as 2026-01-31T12:00:00Z, not {text[:40]!r}") from None


def _event(raw: Any, row: int) -> Event:
    try:
        if not isinstance(raw, dict):
            raise InvalidInput("an event is an object")
        said = {name: raw.get(name) for name in ("specversion", "id", "source", "type")}
        for name, text in said.items():
            if not isinstance(text, str) or not 0 < len(text) <= ATTRIBUTE_MAX or not text.isprintable():
                raise InvalidInput(f"{name}: an event has one, a text of at most {ATTRIBUTE_MAX} characters")
        if said["specversion"] != "1.0":
            raise InvalidInput(f"specversion: send events of 1.0, not {str(said['specversion'])[:20]!r}")
        if "data" not in raw:
            raise InvalidInput("data: an event carries a reading or a list of them there, as JSON")
        at = raw.get("time")
        if at is not None and not isinstance(at, str):
            raise InvalidInput("time: write it as text, such as 2026-01-31T12:00:00Z")
        at_ms = None if at is None else moment_ms(at)
    except InvalidInput as error:
        raise Problem(422, str(error), row=row) from None
    data = raw["data"]
    return Event(str(said["source"]), str(said["id"]), at_ms, data if isinstance(data, list) else [data])


def _check_distinct(events: list[Event]) -> None:
    seen: set[tuple[str, str]] = set()
    for row, event in enumerate(events, 1):
        if (event.source, event.id) in seen:
            raise Problem(422, f"the event {event.id[:80]} of {event.source[:80]} stands twice in the batch", row=row)
        seen.add((event.source, event.id))


def _json(data: bytes, row: int | None = None) -> Any:
    try:
        return decode_json(data.decode(), unique_names=True)
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8", row=row) from None
    except InvalidInput as error:
        raise Problem(400, f"{error}: send JSON as RFC 8259 has it", row=row) from None
