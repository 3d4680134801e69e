"""The server that chargers connect to: who may, in which version, and what becomes of each message.

The newest connection of a charger is the one that counts: a charger that lost its network does not know, or say, that
the one before is still open here.
"""

import asyncio
import contextlib
import http
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tallyroot_gateway.errors import InvalidInput, InvariantBroken, SpoolFull
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.ocpp import v16, v201
from tallyroot_gateway.ocpp.access import Access, certificate_name, tls_of
from tallyroot_gateway.ocpp.charger import Charger, Counts
from tallyroot_gateway.ocpp.config import OcppConfig, check
from tallyroot_gateway.ocpp.link import Link
from tallyroot_gateway.ocpp.messages import (
    SUBPROTOCOLS,
    V16,
    V201,
    Answer,
    Call,
    decode,
    error,
    result,
    time_text,
    unanswerable,
)
from tallyroot_gateway.reading import COUNT_MAX

MALFORMED_MAX = 50
"""A connection that said so many things that are no OCPP is closed."""

CONNECTIONS_BESIDE = 64
"""How many connections there may be beside two for each charger."""

UPTIME_SECONDS = 60.0

Handlers = dict[str, Callable[[Charger, dict[str, Any]], Awaitable[dict[str, Any]]]]

_HANDLERS: dict[str, Handlers] = {V16: v16.HANDLERS, V201: v201.HANDLERS}
_log = logging.getLogger("tallyroot.gateway")


class CentralSystem:
    """Takes what the chargers of a file say into an intake.

    async with Intake(config) as intake:
        central = CentralSystem(config, intake)
        url = await central.start()   # ws://127.0.0.1:9000/: a charger connects to url + its id
        ...
        await central.close()
    """

    def __init__(self, config: OcppConfig, intake: Intake) -> None:
        """Raises InvalidInput where the file contradicts itself."""
        check(config)
        self.config, self.intake = config, intake
        self.counts = Counts(intake)
        self.chargers = {
            name: Charger(name, options, config.ocpp, intake, self.counts) for name, options in config.chargers.items()
        }
        self._access = Access(config)
        self._tls = tls_of(config)
        self._server: Server | None = None
        self._lost: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._is_closing = False
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Never has a result; raises where what must hold doesn't: the process has to end."""

    async def start(self) -> str:
        """Listens; returns the address, to which each charger adds its id. Raises InvalidInput where it can't."""
        options = self.config.ocpp
        if options.security_profile == 0:
            _log.warning("security_profile = 0: whoever reaches this port can say that they are a charger")
        for charger in self.chargers.values():
            self._lost[charger.id] = asyncio.create_task(self._lose(charger, self.intake.now_ms()))
        try:
            self._server = await serve(
                self._serve,
                options.host,
                options.port,
                ssl=self._tls,
                process_request=self._admit,
                subprotocols=[Subprotocol(name) for name in SUBPROTOCOLS],
                max_size=options.message_bytes,
                max_queue=4,
                ping_interval=options.ping_s,
                ping_timeout=options.ping_s,
                close_timeout=2,
                compression=None,
                server_header=None,
                logger=_quiet,
            )
        except OSError as failed:
            where = f"{options.host}:{options.port}"
            raise InvalidInput(f"can't listen on {where} ({failed.strerror}): choose another port") from None
        self._keep(self._show_uptimes())
        port = next(iter(self._server.sockets)).getsockname()[1]
        path = options.path if options.path.endswith("/") else options.path + "/"
        host = f"[{options.host}]" if ":" in options.host else options.host
        return f"{'ws' if self._tls is None else 'wss'}://{host}:{port}{path}"

    async def close(self) -> None:
        """Stops listening and ends the connections; what was answered is taken."""
        self._is_closing = True
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        tasks = [*self._lost.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def expect(
        self, charger_id: str, connector: int, id_tag: str, session: str, until_ms: int = COUNT_MAX
    ) -> None:
        """The next transaction of this card at a connector, if it begins in time, is this session.

        Raises InvalidInput where there is no such connector.
        """
        charger = self.chargers.get(charger_id)
        if charger is None or connector not in charger.connectors:
            raise InvalidInput(f"there is no connector {connector} of {charger_id}")
        async with charger.lock:
            step = charger.step(connector)
            step.port.expect([id_tag], session, until_ms)
            await charger.take(connector, step, None)

    # A connection

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """None lets it in; anything else is the answer to who may not."""
        path, _, name = request.path.partition("?")[0].rpartition("/")
        charger = unquote(name)
        if self._is_closing or self._connections >= 2 * len(self.chargers) + CONNECTIONS_BESIDE:
            return self._refuse(connection, "too_many", http.HTTPStatus.SERVICE_UNAVAILABLE)
        if path.rstrip("/") != self.config.ocpp.path.rstrip("/"):
            return self._refuse(connection, "path", http.HTTPStatus.NOT_FOUND)
        shown = certificate_name(connection.transport.get_extra_info("ssl_object"))
        is_known = charger in self.chargers
        headers = request.headers.get_all("Authorization")
        is_admitted = await self._access.admits(charger, headers[0] if len(headers) == 1 else None, shown)
        if is_known and is_admitted:
            return None
        if not is_known and self.config.ocpp.accept_unknown and len(charger) <= 48:
            return None
        if is_known or self.config.ocpp.security_profile in (1, 2):
            return self._refuse(connection, "unauthorized", http.HTTPStatus.UNAUTHORIZED)
        return self._refuse(connection, "unknown_charger", http.HTTPStatus.NOT_FOUND)

    def _refuse(self, connection: ServerConnection, why: str, status: http.HTTPStatus) -> Response:
        self.counts.refused.labels(why).inc()
        response = connection.respond(status, f"{why}\n")
        if status == http.HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        """One connection, to its end."""
        path = "" if connection.request is None else connection.request.path
        name = unquote(path.partition("?")[0].rpartition("/")[2])
        charger = self.chargers.get(name)
        self._connections += 1
        self.intake.metrics.connected.inc()
        link = Link(connection, str(connection.subprotocol))
        try:
            if charger is None:
                await self._hear_unknown(name, link)
            else:
                await self._replace(charger, link)
                await self._hear(charger, link)
        except ConnectionClosed:
            pass
        except InvariantBroken as broken:
            if not self.broken.done():
                self.broken.set_exception(broken)
        finally:
            self._connections -= 1
            self.intake.metrics.connected.dec()
            if charger is not None and charger.link is link:
                charger.link = None
                self._lost[charger.id] = asyncio.create_task(self._lose(charger, self.intake.now_ms()))

    async def _replace(self, charger: Charger, link: Link) -> None:
        """The newest connection of a charger takes the place of the one before."""
        before, charger.link = charger.link, link
        lost = self._lost.pop(charger.id, None)
        if lost is not None:
            lost.cancel()
        if charger.was_connected:
            self.intake.metrics.reconnects.inc()
        charger.was_connected = True
        if before is not None:
            self._keep(before.socket.close(1000, "a newer connection"))
        availability = charger.availability()
        if availability.is_lost:
            with contextlib.suppress(InvalidInput, SpoolFull):
                async with charger.lock:
                    await charger.say_connected(True, self.intake.now_ms())

    async def _lose(self, charger: Charger, at_ms: int) -> None:
        """Counts a charger as down since a moment, if it isn't back in time."""
        await asyncio.sleep(self.config.ocpp.lost_after_s)
        async with charger.lock:
            with contextlib.suppress(InvalidInput, SpoolFull):
                await charger.say_connected(False, at_ms)

    async def _hear(self, charger: Charger, link: Link) -> None:
        malformed = 0
        async for raw in link.socket:
            text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
            try:
                message = decode(text)
            except InvalidInput as wrong:
                self.intake.reject(charger.id, "not_ocpp", str(wrong), text)
                malformed += 1
                if malformed >= MALFORMED_MAX:
                    await link.socket.close(1008, "this is no OCPP")
                    return
                if link.version == V201:
                    await link.socket.send(error("-1", "RpcFrameworkError", str(wrong)))
                continue
            if isinstance(message, Answer):
                link.answered(message)
                continue
            async with charger.lock:
                answer = await self._answer(charger, link.version, message, text)
            await link.socket.send(answer)

    async def _answer(self, charger: Charger, version: str, call: Call, text: str) -> str:
        """What a call is answered with: its result only once what it said is on disk."""
        handler = _HANDLERS[version].get(call.action)
        if handler is None:
            self.counts.messages.labels("other").inc()
            return error(call.id, *unanswerable(version, call.action))
        self.counts.messages.labels(call.action).inc()
        charger.raw = text
        try:
            return result(call.id, await handler(charger, call.payload))
        except (InvalidInput, SpoolFull) as failed:
            # The disk refused: the charger keeps the message and sends it again.
            charger.warn_once("disk", f"{charger.id} is not answered: {failed}")
            return error(call.id, "InternalError", "try again later")
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as broken:
            # A payload of a shape that nobody thought of must not end a connection for ever, nor be lost silently.
            self.intake.reject(charger.id, "malformed", f"{call.action}: {type(broken).__name__}: {broken}"[:200], text)
            code = "FormationViolation" if version == V16 else "FormatViolation"
            return error(call.id, code, f"{call.action} has another shape than OCPP's")

    async def _hear_unknown(self, name: str, link: Link) -> None:
        """A charger that is not in the file, let in to be seen: nothing of it is taken, so nothing is acknowledged."""
        seen = 0
        async for raw in link.socket:
            text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
            try:
                message = decode(text)
            except InvalidInput:
                message = Answer("", None)
            if seen < MALFORMED_MAX:
                self.intake.reject(name[:48], "unknown_charger", "it is not in the file: nothing of it is taken", text)
            seen += 1
            if isinstance(message, Answer):
                link.answered(message)
            elif message.action == "BootNotification":
                now = time_text(self.intake.now_ms())
                await link.socket.send(result(message.id, {"status": "Pending", "interval": 300, "currentTime": now}))
            else:
                await link.socket.send(error(message.id, "SecurityError", "this charger is not in the gateway's file"))

    # Beside

    async def _show_uptimes(self) -> None:
        while True:
            for charger in self.chargers.values():
                charger.show_uptime()
            await asyncio.sleep(UPTIME_SECONDS)

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_quiet = logging.getLogger("tallyroot.gateway.websockets")
"""A stranger's handshake that fails is no news: it would fill the log."""
_quiet.setLevel(logging.CRITICAL)
