"""Takes what devices deliver: numbered, on disk before anyone is told so, once each, on its way to Kafka.

1. `take` writes a delivery to the spool of its route: its readings, its key and the notes, all or none.
2. It returns once the spool outlasts a loss of power. Only then may the device be told.
3. A device that was not told delivers again: the key is known, and nothing is taken twice.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.clocks import Clocks
from tallyroot_gateway.field.config import GatewayConfig, check_ids, private_key
from tallyroot_gateway.field.metrics import Metrics, StatusPages
from tallyroot_gateway.field.rejects import Rejects
from tallyroot_gateway.gateway import Gateway, wall_ms
from tallyroot_gateway.reading import NewReading, Reading
from tallyroot_gateway.spool import Notes

ROUTES_MAX = 256
"""How many routes one process may have: each has a thread and a connection to Kafka. A site's machines share one."""

_log = logging.getLogger("tallyroot.gateway")


def key_of(*parts: str | int) -> str:
    """A delivery's key, short, of whatever tells it from every other: a device, its boot, its number."""
    said = b"".join(len(data).to_bytes(4, "big") + data for data in (str(part).encode() for part in parts))
    return hashlib.sha256(said).hexdigest()[:32]


class Intake:
    """All routes of one process. For one event loop; use it as an async context manager."""

    def __init__(
        self, config: GatewayConfig, kafka: Mapping[str, str] | None = None, now_ms: Callable[[], int] = wall_ms
    ) -> None:
        """`kafka` are properties to connect by, as for `Gateway`; `now_ms` returns epoch ms.

        Raises InvalidInput for a key that can't be read or a port that is taken.
        """
        self.now_ms = now_ms
        self.metrics = Metrics()
        self.clocks = Clocks(self.metrics)
        self.problem: str | None = None
        """What the protocol says is wrong, for /health."""
        self._options = config.log
        self._private_key = private_key(config.log)
        self._kafka = kafka
        self._rejects = Rejects(Path(config.serve.rejects), self.metrics, now_ms)
        self._gateways: dict[str, Gateway] = {}
        self._syncs: dict[str, asyncio.Task[None]] = {}
        self._pages: StatusPages | None = None
        if config.serve.metrics_port is not None:
            self._pages = StatusPages(config.serve.metrics_host, config.serve.metrics_port, self.metrics, self.health)
            _log.info("%s/health and %s/metrics", self._pages.url, self._pages.url)
        self.metrics.waiting.set_function(self._waiting)

    async def take(
        self, route: str, readings: Sequence[NewReading], *, key: str | None = None, notes: Notes | None = None
    ) -> list[Reading]:
        """Takes a delivery; returns its readings, numbered, once they outlast a loss of power. See `Gateway.deliver`.

        Raises InvalidInput for what can't be a reading, SpoolFull without room: the device must not be told that it
        was taken.
        """
        taken = self.write(route, readings, key=key, notes=notes)
        await self.synced(route)
        return taken

    def write(
        self, route: str, readings: Sequence[NewReading], *, key: str | None = None, notes: Notes | None = None
    ) -> list[Reading]:
        """Takes a delivery as `take` does, but nobody may be told before `synced` of its route has returned.

        So a burst of deliveries needs one fsync.
        """
        taken = self._gateway(route).deliver(readings, key=key, notes=notes)
        if readings and not taken:
            self.metrics.repeated.inc()
        self.metrics.readings.inc(len(taken))
        return taken

    def is_known(self, route: str, key: str) -> bool:
        """Whether a delivery of this key was taken before."""
        return self._gateway(route).has_taken(key)

    def note(self, route: str, name: str) -> str | None:
        """What a delivery of this route noted last under this name, also before a restart."""
        return self._gateway(route).note(name)

    def reject(self, source: str, reason: str, detail: str, raw: bytes | str) -> None:
        """Sets aside what no reading can be made of."""
        self._rejects.add(source, reason, detail, raw)

    def health(self) -> str | None:
        """What is wrong, in a sentence, as /health says it; None if nothing is known to be."""
        if self.problem is not None:
            return self.problem
        problems = (gateway.status().problem for gateway in [*self._gateways.values()])
        return next((problem for problem in problems if problem is not None), None)

    async def flush(self, seconds: float = 30.0) -> None:
        """Returns once Kafka has all that was taken so far. Raises InvalidInput after `seconds`."""
        await asyncio.gather(*(asyncio.to_thread(gateway.flush, seconds) for gateway in self._gateways.values()))

    async def close(self) -> int:
        """Ends: sends what it can at once; returns how many readings wait in the spool for the next start."""
        await asyncio.gather(*self._syncs.values(), return_exceptions=True)
        left = await asyncio.gather(*(asyncio.to_thread(gateway.close) for gateway in self._gateways.values()))
        if self._pages is not None:
            self._pages.close()
        return sum(left)

    async def __aenter__(self) -> "Intake":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _gateway(self, route: str) -> Gateway:
        found = self._gateways.get(route)
        if found is None:
            check_ids(route=route)
            if len(self._gateways) >= ROUTES_MAX:
                raise InvalidInput(f"more than {ROUTES_MAX} routes: let the machines of a site share one")
            found = self._gateways[route] = Gateway(
                self._options.bootstrap_servers,
                log_id=self._options.log_id,
                route=route,
                spool=Path(self._options.spool) / route,
                topic=self._options.topic,
                partitions=self._options.partitions,
                key_id=self._options.key_id,
                private_key=self._private_key,
                boot=self._options.boot,
                batch_rows=self._options.batch_rows,
                batch_ms=self._options.batch_ms,
                spool_bytes=self._options.spool_bytes,
                now_ms=self.now_ms,
                kafka=self._kafka,
            )
        return found

    async def synced(self, route: str) -> None:
        """Returns once all that was written before the call is synced. Those who wait together share one fsync."""
        gateway = self._gateway(route)
        running = self._syncs.get(route)
        if running is not None:  # it may have begun before our write
            await asyncio.wait([running])
        running = self._syncs.get(route)
        if running is None or running.done():
            running = self._syncs[route] = asyncio.create_task(asyncio.to_thread(gateway.sync))
        await asyncio.shield(running)

    def _waiting(self) -> float:
        return float(sum(gateway.status().waiting for gateway in [*self._gateways.values()]))
