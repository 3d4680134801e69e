"""The OpenAPI 3.1 document, made from the structs that requests are read into and answers are written from."""

from typing import Any

import msgspec

from tallyroot_gateway.http.answers import Taken
from tallyroot_gateway.http.bodies import ATTRIBUTE_MAX, EVENT, EVENTS, EVENTS_MAX, JSON, LINES
from tallyroot_gateway.http.config import ROWS_MAX
from tallyroot_gateway.http.problems import PROBLEM_TYPE, ProblemDetails
from tallyroot_gateway.http.readings import VALUES, ReadingIn

_DESCRIPTION = (
    "All readings of a request are taken, or none. 202 says that they outlast a loss of power. A request that is sent "
    "again with its Idempotency-Key, or an event with its source and id, is taken once."
)

_PROBLEMS = {
    400: "The body is no JSON, or the connection ended.",
    401: "There is no token, or none that is known.",
    403: "The token doesn't speak for a machine.",
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The content type is another.",
    422: "It can't be a reading, or the key came with other content; `row` says where.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "The disk takes nothing, or too many are connected; Retry-After says when to come again.",
}


def document() -> dict[str, Any]:
    """The document."""
    (reading, taken, problem), schemas = msgspec.json.schema_components(
        [ReadingIn, Taken, ProblemDetails], ref_template="#/components/schemas/{name}"
    )
    readings = schemas["ReadingIn"]
    readings["oneOf"] = [{"required": [value]} for value in VALUES]
    readings["dependentRequired"] = {
        "unit": ["value"], "session": ["session_started_at"], "session_started_at": ["session"],
    }  # fmt: skip
    schemas["Readings"] = {"oneOf": [reading, {"type": "array", "items": reading, "minItems": 1, "maxItems": ROWS_MAX}]}
    schemas["Event"] = _event()
    return {
        "openapi": "3.1.0",
        "info": {"title": "tallyroot HTTP gateway", "version": "1", "description": _DESCRIPTION},
        "paths": {
            "/v1/readings": {"post": _post(taken, problem)},
            "/openapi.json": {"get": _get("This document.", {"200": _content(JSON, {"type": "object"})})},
            "/health": {
                "get": _get(
                    "Whether readings are on their way.",
                    {"200": _content(JSON, _HEALTH), "503": _content(JSON, _HEALTH)},
                )
            },
            "/metrics": {
                "get": _get(
                    "Prometheus' page.",
                    {
                        "200": _content("text/plain", {"type": "string"}),
                        "401": _content(PROBLEM_TYPE, problem),
                        "429": _content(PROBLEM_TYPE, problem),
                    },
                )
                | {"security": [{"bearer": []}]}
            },
        },
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


_HEALTH = {
    "type": "object",
    "properties": {"healthy": {"type": "boolean"}, "problem": {"type": ["string", "null"]}},
    "required": ["healthy", "problem"],
}


def _post(taken: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    rows, event = ({"$ref": f"#/components/schemas/{name}"} for name in ("Readings", "Event"))
    one = {"$ref": "#/components/schemas/ReadingIn"}
    responses = {"202": _content(JSON, taken, "Taken, and on disk; or known before.")}
    responses["202"]["headers"] = {
        "Idempotency-Replayed": {"schema": {"type": "string"}, "description": "true for an answer given before."}
    }
    for status, said in _PROBLEMS.items():
        responses[str(status)] = _content(PROBLEM_TYPE, problem, said)
    return {
        "operationId": "postReadings",
        "summary": "Sends readings of one site.",
        "security": [{"bearer": []}],
        "parameters": [
            {
                "name": "Idempotency-Key", "in": "header", "required": False,
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
                "description": "The same for each try of one request. Events have their own: source and id.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": rows},
                LINES: {"schema": one},
                EVENT: {"schema": event},
                EVENTS: {"schema": {"type": "array", "items": event, "maxItems": EVENTS_MAX}},
            },
        },
        "responses": responses,
    }  # fmt: skip


def _event() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": ATTRIBUTE_MAX}
    return {
        "title": "Event",
        "description": "A CloudEvent 1.0. In binary mode its attributes are ce- headers, and the body is its data.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"}, "id": text, "source": text, "type": text,
            "time": {"type": ["string", "null"], "format": "date-time"},
            "data": {"$ref": "#/components/schemas/Readings"},
        },
        "required": ["specversion", "id", "source", "type", "data"],
    }  # fmt: skip


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": responses}


def _content(media: str, schema: dict[str, Any], description: str = "See the schema.") -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": schema}}}
