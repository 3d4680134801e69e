"""An HTTP gateway for tests: its file, served in a thread of the test, or as a process that may be killed."""

import asyncio
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tallyroot_gateway.field.config import read_config
from tallyroot_gateway.field.intake import Intake
from tallyroot_gateway.gateway import wall_ms
from tallyroot_gateway.http.app import new_app
from tallyroot_gateway.http.config import HttpConfig
from tallyroot_gateway.http.server import serve
from tallyroot_gateway.http.tokens import hash_of
from tallyroot_gateway.reading import Reading
from tallyroot_gateway.spool import Spool

TOKEN, OTHER = "tr_depot", "tr_other"


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def gateway_file(
    folder: Path,
    port: int,
    http: str = "",
    per_minute: int = 1_000_000,
    servers: str = "127.0.0.1:1",
    log_id: str = "l",
) -> Path:
    """A site with two machines, and one for itself whose token is OTHER; Kafka is away unless `servers` says where."""
    file = folder / "gateway.toml"
    file.write_text(
        f"""
[log]
bootstrap_servers = "{servers}"
log_id = "{log_id}"
topic = "{log_id}"
[http]
port = {port}
{http}
[[machines]]
id = "charger-1"
route = "depot-1"
[machines.meters.energy]
counts = "register"
unit = "Wh"
[machines.meters.trips]
counts = "quantity"
unit = "count"
[[machines]]
id = "charger-2"
route = "depot-1"
[[machines]]
id = "drone-1"
[[machines]]
id = "taxi-1"
[[tokens]]
name = "depot"
sha256 = "{hash_of(TOKEN)}"
sites = ["depot-1"]
requests_per_minute = {per_minute}
[[tokens]]
name = "other"
sha256 = "{hash_of(OTHER)}"
machines = ["drone-1", "charger-1", "taxi-1"]
"""
    )
    return file


class Client:
    """Asks one gateway."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port, self._tls = port, tls

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 20,
    ) -> Answered:
        """One request on a connection of its own. Raises OSError or HTTPException where there is no answer."""
        if self._tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=self._tls)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        said = {name.lower(): value for name, value in response.getheaders()}
        return Answered(response.status, said, json.loads(data) if "json" in said.get("content-type", "") else data)

    def post(
        self, body: Any, media: str = "application/json", token: str | None = TOKEN, key: str | None = None, **more: str
    ) -> Answered:
        headers = {"Content-Type": media} | {name.replace("_", "-"): value for name, value in more.items()}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if key is not None:
            headers["Idempotency-Key"] = key
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", "/v1/readings", data, headers)


class Served(Client):
    """A gateway in a thread; a context manager."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        super().__init__(free_port(), tls)
        self.folder = folder
        self._file = gateway_file(folder, self.port, **options)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        config = read_config(self._file, HttpConfig)
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.intake = Intake(config)
        serving = asyncio.create_task(serve(new_app(config, self.intake), config.http))
        self._ready.set()
        await self._end.wait()
        serving.cancel()
        await asyncio.wait([serving])
        for gateway in self.intake._gateways.values():
            gateway.close(0)
        await self.intake.close()

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(30)
        await_port(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


def await_port(port: int) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.02)
        else:
            return


def started(file: Path, port: int) -> "subprocess.Popen[bytes]":
    """The gateway's command, once it listens."""
    command = [sys.executable, "-m", "tallyroot_gateway", "http", "--config", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    await_port(port)
    return process


def rows_in(folder: Path, route: str, log_id: str = "l") -> list[Reading]:
    """All readings that wait in a spool."""
    spool = Spool(folder / "spool" / route, log_id, route, now_ms=wall_ms())
    rows, _ = spool.read(spool.acked, 1_000_000, 1 << 30)
    spool.close()
    return [msgspec.json.decode(one, type=Reading) for one in rows]
