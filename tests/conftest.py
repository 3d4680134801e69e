"""Fixtures for the whole suite: real servers, each started once, in a folder of its own, only if a test asks for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from deploy.stack.servers import start_evm, start_kafka

# Derandomised, so that a red run is red again; `--hypothesis-profile=search` looks further.
hypothesis.settings.register_profile(
    "suite", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("search", max_examples=2_000, deadline=None)
hypothesis.settings.load_profile("suite")

_SERVER_MARKERS = {"kafka": "kafka", "evm": "chain"}
_TESTS = Path(__file__).parent
_LIGHT = ("unit", "property", "golden", "field", "simulation", "upgrade")
_STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "socket.bind", "socket.connect")
_LONG_FIRST = ("test_readme", "test_demo", "crash", "process", "chain", "bench", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses a server's fixture carries the server's marker, so that `-m "not kafka"` means what it says.

    Long ones come first, so that all lanes end together.
    """
    for item in items:
        for fixture, marker in _SERVER_MARKERS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    items.sort(key=lambda item: _rank(item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Notes what kind of test begins: `_refuse` holds those of `make check` to what they are."""
    _is_light[0] = item.path.relative_to(_TESTS).parts[0] in _LIGHT


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """It has ended; the last one of all is followed by the ends of servers."""
    _is_light[0] = False


def _refuse(event: str, _: object) -> None:
    if _is_light[0] and event in _STARTS:
        raise RuntimeError(f"{event} in a test that starts no process and no server: it belongs to tests/process")


_is_light = [False]
sys.addaudithook(_refuse)


def _rank(path: Path) -> int:
    return next((place for place, name in enumerate(_LONG_FIRST) if name in path.parts or name == path.stem), 99)


@contextmanager
def ends_with_us(pid: int) -> Iterator[None]:
    """Servers outlive who started them; these shall not, even if the test run is killed: a shell waits for our end."""
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", f"read -r _; kill {pid}"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real broker. Shared: a test makes topics with names of its own.

    It is the embedded one, or with TALLYROOT_TEST_KAFKA=testcontainers one in a container (`make test-containers`).
    """
    if os.environ.get("TALLYROOT_TEST_KAFKA") == "testcontainers":
        from tests.support.kafka_container import engine_fault, kafka_container

        fault = engine_fault()
        if fault is not None:
            pytest.skip(fault)
        with kafka_container() as servers:
            yield servers
        return
    server = start_kafka(Path(tmp_path_factory.mktemp("kafka")))
    with ends_with_us(server.pid):
        yield server.bootstrap_servers
        server.stop()


@pytest.fixture(scope="session")
def evm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """RPC URL of a real EVM node. Shared: a test deploys contracts of its own, and reverts the clock if it moves it."""
    node = start_evm(Path(tmp_path_factory.mktemp("evm")))
    with ends_with_us(node.pid):
        yield node.rpc_url
        node.stop()
