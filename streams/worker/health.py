"""`/health` and `/metrics` of a process, served by a thread of their own: one that is stuck answers too."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from schemas.errors import InvalidInput

STALLED_SECONDS = 5.0
"""/health reports what makes no progress for longer, long before the watchdog ends the worker."""

CLIENT_SECONDS = 10.0
"""A client that takes longer to send or to read is disconnected."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The health of a process. `reason` is what is wrong, None if nothing is."""

    reason: str | None

    def page(self) -> bytes:
        """The body of /health: one JSON object."""
        status = "ok" if self.reason is None else "unhealthy"
        return msgspec.json.encode({"status": status} | msgspec.structs.asdict(self)) + b"\n"


class Condition(Health, frozen=True, kw_only=True):
    """The health of a worker; `partitions` are those that it reads."""

    partitions: tuple[int, ...] = ()

    @classmethod
    def judge(
        cls,
        *,
        is_draining: bool,
        fetched: str | Mapping[int, object],
        standing: str | None,
        uncovered: str | None = None,
        is_away: Callable[[], bool],
    ) -> "Condition":
        """`fetched` is why nothing is read, or a state by partition; `standing` is what makes no progress, `uncovered`
        what nobody reads.
        """
        partitions = () if isinstance(fetched, str) else tuple(sorted(fetched))
        reason = None
        if is_draining:
            reason = "draining: it ends as soon as its files are final"
        elif isinstance(fetched, str) or standing is not None:
            if is_away():
                reason = "Kafka is away: no broker takes a connection"
            else:
                reason = f"not assigned: {fetched}" if isinstance(fetched, str) else f"stalled: {standing}"
        elif uncovered is not None:
            reason = f"uncovered: {uncovered}"
        return cls(reason=reason, partitions=partitions)


class StatusServer:
    """An HTTP server on one address; port 0 takes any free one. Raises InvalidInput if it can't listen."""

    def __init__(self, host: str, port: int, health: Callable[[], Health], metrics: Callable[[], bytes]) -> None:
        """`health` and `metrics` (in Prometheus' text format) are called from other threads, at each request."""

        class Handler(BaseHTTPRequestHandler):
            timeout = CLIENT_SECONDS

            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/health":
                        now = health()
                        self._answer(200 if now.reason is None else 503, "application/json", now.page())
                    case "/metrics":
                        self._answer(200, CONTENT_TYPE_LATEST, metrics())
                    case _:
                        self._answer(404, "text/plain", b"here are /health and /metrics\n")

            def _answer(self, status: int, content_type: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing: scrapes are routine."""

        try:
            self._server = _Server((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise InvalidInput(f"can't listen on {host}:{port} ({error}): choose another --metrics-port") from None
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="status", daemon=True)

    def start(self) -> None:
        """Starts to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and closes the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that disconnect in the middle of an answer."""
