"""Uvicorn, with the deadline for headers that it lacks, on a port that is bound before anything is said."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.http.config import HttpOptions

HEADER_SECONDS = 10.0
"""A request's line and headers have arrived by then, or the connection ends.

So has the rest of a body that was answered before its end. It is read and forgotten: a client that is cut off while it
sends would not see the answer.
"""

END_SECONDS = 5
BACKLOG = 256

_log = logging.getLogger("tallyroot.gateway")


async def serve(app: Any, options: HttpOptions, first_path: str = "/v1/readings") -> None:
    """Serves until it is cancelled, then answers what it has begun. Raises InvalidInput for a port that is taken."""
    _check_certificate(options)
    listener = _listen(options)
    config = uvicorn.Config(
        app, http=_Protocol, ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=options.connections,
        timeout_graceful_shutdown=END_SECONDS, ssl_certfile=options.certificate_file, ssl_keyfile=options.key_file,
    )  # fmt: skip
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a warning for each bad request would be a flood
    server = _Server(config)
    scheme = "http" if options.certificate_file is None else "https"
    _log.info("%s://%s:%d%s", scheme, options.host, listener.getsockname()[1], first_path)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        listener.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to whoever started it."""
        yield


class _Protocol(H11Protocol):
    """A connection that must send each request's headers in time: uvicorn waits for them without end."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._end)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: Any = self.cycle  # None before the first request
        is_waiting = cycle is None or cycle.response_complete
        if not is_waiting:
            self._disarm()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()


def _listen(options: HttpOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # asyncio sends small answers at once only on sockets that are said to be TCP's: else a client that keeps its
    # connection waits 40 ms for each.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        said = error.strerror or str(error)
        raise InvalidInput(f"can't listen on {options.host}:{options.port} ({said}): choose another") from None
    return listener


def _check_certificate(options: HttpOptions) -> None:
    if options.certificate_file is None or options.key_file is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate_file, options.key_file)
    except OSError as error:  # an SSLError is one
        raise InvalidInput(f"the certificate {options.certificate_file} can't be used: {error}") from None
