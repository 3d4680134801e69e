"""Serves /health and /metrics beside what a command does, where a port is set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploy.config import Settings
from streams.worker.health import Health, StatusServer


@contextmanager
def serving(
    settings: Settings,
    port: int | None,
    health: Callable[[], Health],
    metrics: Callable[[], bytes],
    step: Callable[[str], None],
) -> Iterator[None]:
    """Serves on `port`, else on the settings' one, which `step` is told; nowhere if neither is set.

    Raises InvalidInput if it can't listen there.
    """
    chosen = settings.metrics_port if port is None else port
    if chosen is None:
        yield
        return
    server = StatusServer(settings.metrics_host, chosen, health, metrics)
    server.start()
    step(f"  {server.url}/health and {server.url}/metrics")
    try:
        yield
    finally:
        server.stop()
