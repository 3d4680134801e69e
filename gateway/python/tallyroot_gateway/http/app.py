"""What is answered to a request: 202 once its readings outlast a loss of power, or a problem, and then none was taken.

1. The token, its rate, the content type and the size are looked at, in this order, before the body is read.
2. All rows are made readings; one that is wrong, and nothing of the request is taken.
3. They are written with their key. A key that was written before changes nothing.
4. The answer is sent once all of it is synced.
"""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from prometheus_client import Counter, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.intake import Intake, key_of
from tallyroot_gateway.http.answers import Answer, Answers, Taken, content_hash, numbers_of
from tallyroot_gateway.http.bodies import JSON, Event, events_of, items_of, media_type_of
from tallyroot_gateway.http.config import ROWS_MAX, HttpConfig, MachineOptions, TokenOptions
from tallyroot_gateway.http.openapi import document
from tallyroot_gateway.http.problems import Problem, problem_response
from tallyroot_gateway.http.readings import Rows, rows_of
from tallyroot_gateway.http.tokens import Bucket, find

RETRY_SECONDS = 10
"""When to come again where the disk takes nothing."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def new_app(config: HttpConfig, intake: Intake) -> Starlette:
    """The application. Raises InvalidInput for a spool that another gateway has."""
    api = Api(config, intake)
    app = Starlette(
        routes=[
            Route("/v1/readings", api.counted(api.post_readings), methods=["POST"]),
            Route("/openapi.json", api.counted(api.get_openapi), methods=["GET"]),
            Route("/health", api.counted(api.get_health), methods=["GET"]),
            Route("/metrics", api.counted(api.get_metrics), methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_problem},
    )
    app.router.redirect_slashes = False
    return app


class Api:
    """The handlers of one gateway."""

    def __init__(self, config: HttpConfig, intake: Intake) -> None:
        self._config, self._intake = config, intake
        self._machines = {token.name: config.machines_of(token) for token in config.tokens}
        self._buckets = {token.name: Bucket(token.requests_per_minute, time.monotonic) for token in config.tokens}
        self._answers = Answers(intake, {machine.route or machine.id for machine in config.machines})
        self._document = msgspec.json.encode(document())
        self._requests = Counter(
            "tallyroot_gateway_http_requests", "Requests, by the status of their answer.", ["status"],
            registry=intake.metrics.registry,
        )  # fmt: skip

    def counted(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """A handler whose problems become answers, and whose answers are counted."""

        async def answer(request: Request) -> Response:
            try:
                response = await handler(request)
            except Problem as problem:
                response = problem_response(problem)
            self._requests.labels(response.status_code).inc()
            return response

        return answer

    async def post_readings(self, request: Request) -> Response:
        """Takes readings: see the module's four steps."""
        token = self._token(request)
        self._check_rate(token)
        headers = {name: request.headers[name] for name in request.headers}
        media = media_type_of(headers)
        body = await self._body(request)
        events = events_of(media, headers, body)
        if events is not None:
            return _accepted(await self._take_events(token, events))
        return await self._take_rows(token, media, body, request.headers.get("idempotency-key"))

    async def get_openapi(self, _request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._document, media_type=JSON)

    async def get_health(self, request: Request) -> Response:
        """200, or 503 with what is wrong; that is only for who has a token, as it names what is inside."""
        problem = self._intake.health()
        is_known = find(self._config.tokens, request.headers.get("authorization")) is not None
        body = msgspec.json.encode({"healthy": problem is None, "problem": problem if is_known else None})
        return Response(body, 200 if problem is None else 503, media_type=JSON)

    async def get_metrics(self, request: Request) -> Response:
        """Prometheus' page; it needs a token, as it says how much is delivered."""
        self._check_rate(self._token(request))
        return Response(generate_latest(self._intake.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def _token(self, request: Request) -> TokenOptions:
        token = find(self._config.tokens, request.headers.get("authorization"))
        if token is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="tallyroot"'}
            raise Problem(401, "send Authorization: Bearer with a token of this gateway", headers=challenge)
        return token

    def _check_rate(self, token: TokenOptions) -> None:
        wait = self._buckets[token.name].take()
        if wait > 0:
            said = f"more than {token.requests_per_minute:,} requests a minute: send more readings in each"
            raise Problem(429, said, headers={"Retry-After": str(math.ceil(wait))})

    async def _body(self, request: Request) -> bytes:
        """The body, within its limits of size and time. Raises Problem."""
        options = self._config.http
        too_large = Problem(413, f"the body is larger than {options.body_bytes:,} bytes: send fewer readings at once")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > options.body_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(options.body_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > options.body_bytes:
                        raise too_large
        except TimeoutError:
            raise Problem(408, f"the body took longer than {options.body_seconds:g} s: send it at once") from None
        except ClientDisconnect:
            raise Problem(400, "the connection ended before the body did") from None
        return bytes(body)

    async def _take_rows(self, token: TokenOptions, media: str, body: bytes, key: str | None) -> Response:
        """Rows without events, under the request's key if it has one."""
        content, hashed = content_hash(media, body), None
        if key is not None:
            if _KEY.fullmatch(key) is None:
                raise Problem(400, "Idempotency-Key: use 1 to 255 visible ASCII characters, such as a UUID")
            hashed = key_of("http", token.name, "key", key)
            before = self._answers.find(hashed)
            if before is not None:
                if before.content != content:
                    raise Problem(
                        422, "Idempotency-Key: it came with other content before; a new request has a new key"
                    )
                await self._synced(self._answers.route_of(hashed))
                return _accepted(before.taken, is_replayed=True)
        rows = rows_of(items_of(media, body), self._machines[token.name], self._intake.now_ms())
        if hashed is not None and self._known(rows.route, hashed):
            await self._synced(rows.route)
            return _accepted(Taken(len(rows.readings), 0, []), is_replayed=True)
        taken = Taken(len(rows.readings), 0, [])
        answer = None if hashed is None else Answer(hashed, content, taken)
        try:
            notes = None if answer is None else self._answers.notes(rows.route, answer)
            numbers = numbers_of(self._intake.write(rows.route, rows.readings, key=hashed, notes=notes))
            taken = Taken(taken.taken, 0, numbers)
            if answer is not None:  # its numbers are known now; without them a repetition is still known
                answer = Answer(answer.key, content, taken)
                self._intake.write(rows.route, [], notes=self._answers.notes(rows.route, answer))
                self._answers.add(rows.route, answer)
        except InvalidInput as error:
            raise _not_now(error) from None
        await self._synced(rows.route)
        return _accepted(taken)

    async def _take_events(self, token: TokenOptions, events: list[Event]) -> Taken:
        """Events, each under its own key: all are checked before one is written."""
        machines, now_ms = self._machines[token.name], self._intake.now_ms()
        checked = [(event, _event_rows(event, machines, now_ms, row)) for row, event in enumerate(events, 1)]
        if sum(len(rows.readings) for _, rows in checked) > ROWS_MAX:
            raise Problem(413, f"the events have more than {ROWS_MAX:,} readings: send fewer at once")
        routes = {rows.route for _, rows in checked}
        if len(routes) > 1:
            raise Problem(422, f"the events are of {' and '.join(sorted(routes)[:3])}: send one site at once")
        known, readings = 0, []
        try:
            for event, rows in checked:
                key = key_of("http", token.name, "event", event.source, event.id)
                if self._intake.is_known(rows.route, key):
                    known += 1
                readings += self._intake.write(rows.route, rows.readings, key=key)
        except InvalidInput as error:  # what was written is known when they are sent again
            raise _not_now(error) from None
        for route in routes:
            await self._synced(route)
        return Taken(len(readings), known, numbers_of(readings))

    def _known(self, route: str, key: str) -> bool:
        try:
            return self._intake.is_known(route, key)
        except InvalidInput as error:
            raise _not_now(error) from None

    async def _synced(self, route: str) -> None:
        try:
            await self._intake.synced(route)
        except InvalidInput as error:
            raise _not_now(error) from None


def _event_rows(event: Event, machines: dict[str, MachineOptions], now_ms: int, row: int) -> Rows:
    try:
        return rows_of(event.items, machines, now_ms, at_ms=event.at_ms)
    except Problem as problem:
        problem.row = row
        raise


def _accepted(taken: Taken, *, is_replayed: bool = False) -> Response:
    headers = {"Idempotency-Replayed": "true"} if is_replayed else None
    return Response(msgspec.json.encode(taken), 202, headers, JSON)


def _not_now(error: InvalidInput) -> Problem:
    """The disk takes nothing: nobody is told that it did."""
    return Problem(503, str(error), headers={"Retry-After": str(RETRY_SECONDS)})


async def _http_problem(_request: Request, error: Any) -> Response:
    """What the router says: no such page, no such method."""
    said = {404: "there is /v1/readings, /openapi.json, /health and /metrics", 405: "see Allow for the methods"}
    detail = said.get(error.status_code, str(error.detail))
    return problem_response(Problem(error.status_code, detail, headers=dict(error.headers or {})))
