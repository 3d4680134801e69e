"""Calls an ASGI application without a server."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from starlette.types import ASGIApp, Message


class Called(NamedTuple):
    """What an application answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def call(app: ASGIApp, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Called:
    """One request of a stranger."""
    return asyncio.run(_call(app, method, path, body, headers or {}))


async def _call(app: ASGIApp, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Called:
    sent: list[Message] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "server": ("till", 80),
        "client": ("10.0.0.1", 1),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Called(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))
