"""What a gateway counts, and the pages /metrics (Prometheus) and /health that show it."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tallyroot_gateway.errors import InvalidInput


class Metrics:
    """A gateway's numbers. What has a device's name is bounded by the devices of its file."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self.readings = Counter("tallyroot_gateway_readings", "Readings that were taken.", registry=to)
        self.repeated = Counter("tallyroot_gateway_repeated", "Deliveries that had been taken before.", registry=to)
        self.rejected = Counter("tallyroot_gateway_rejected", "What was set aside, by reason.", ["reason"], registry=to)
        self.waiting = Gauge("tallyroot_gateway_waiting", "Readings that Kafka has not acknowledged.", registry=to)
        self.connected = Gauge("tallyroot_gateway_connected", "Devices or brokers that are connected.", registry=to)
        self.reconnects = Counter("tallyroot_gateway_reconnects", "Connections that had to be made again.", registry=to)
        self.clock_offset = Gauge(
            "tallyroot_gateway_clock_offset_seconds",
            "A device's clock less ours, when it last said.",
            ["device"],
            registry=to,
        )


class StatusPages:
    """Serves /metrics and /health in a thread of its own. `health` returns None, or what is wrong in a sentence."""

    def __init__(self, address: str, port: int, metrics: Metrics, health: Callable[[], str | None]) -> None:
        """Listens at once; port 0 is any free one. Raises InvalidInput where it can't."""

        class Handler(_Handler):
            pages = (metrics, health)

        try:
            self._server = ThreadingHTTPServer((address, port), Handler)
        except OSError as error:
            raise InvalidInput(f"can't serve /metrics on {address}:{port} ({error.strerror}): choose another") from None
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-pages", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    pages: ClassVar[tuple[Metrics, Callable[[], str | None]]]
    timeout = 10

    def do_GET(self) -> None:
        metrics, health = self.pages
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
        elif self.path == "/health":
            problem = health()
            said = json.dumps({"healthy": problem is None, "problem": problem}).encode()
            self._answer(200 if problem is None else 503, "application/json", said)
        else:
            self._answer(404, "text/plain", b"/metrics and /health are here\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever asks for numbers asks often."""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
