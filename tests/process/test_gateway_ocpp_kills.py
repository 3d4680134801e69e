"""The gateway's process is killed at any moment: what charge points repeat until it is answered is there once."""

import asyncio
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tallyroot_gateway import InvalidInput
from tallyroot_gateway.ocpp.charge_point import ChargePoint
from tallyroot_gateway.ocpp.messages import V16, V201
from tests.support.ocpp_chargers import START_MS, event, sampled, shown, started, stopped, taken

KILLS = 4
FILE = """
[log]
bootstrap_servers = "127.0.0.1:1"
log_id = "log-1"
[ocpp]
port = {port}
security_profile = 0
lost_after_s = 3600
[chargers.CP-0]
machine = "charger-0"
route = "site"
[chargers.CP-1]
machine = "charger-1"
route = "site"
per_transaction = true
[chargers.CP-2]
machine = "charger-2"
route = "site"
connectors = {{ 1 = {{ opening = 0 }} }}
"""


class Stubborn:
    """A charge point that sends each message until it is answered, over as many connections as that takes."""

    def __init__(self, number: int, url: str) -> None:
        self.number, self.expected, self.answered = number, [], 0  # type: ignore[var-annotated]
        self.starts: list[int] = []
        self._url = url
        self._point: ChargePoint | None = None

    async def run(self, is_over: asyncio.Event) -> None:
        """Sessions of six registers each, until it is over; the last one ends."""
        session = 0
        while not is_over.is_set():
            await (self._session_201 if self.number == 2 else self._session_16)(session)
            session += 1
        if self._point is not None:
            await self._point.close()

    async def _session_16(self, session: int) -> None:
        at = START_MS + session * 60_000
        base = 0 if self.number == 1 else 1_000 + session * 60
        total = session * 60 if self.number == 1 else base
        id = (await self._until_answered("StartTransaction", started(base, at)))["transactionId"]
        self.starts.append(id)
        self.expected.append((total, "s"))
        for n in range(1, 6):
            values = {"connectorId": 1, "transactionId": id, "meterValue": [sampled(at + n, base + 10 * n)]}
            await self._until_answered("MeterValues", values)
            self.expected.append((total + 10 * n, ""))
        await self._until_answered("StopTransaction", stopped(id, base + 60, at + 6))
        self.expected.append((total + 60, "e"))

    async def _session_201(self, session: int) -> None:
        at, id = START_MS + session * 60_000, f"transaction-number-{session:06d}"
        for n, kind in enumerate(["Started", *["Updated"] * 5, "Ended"]):
            register = session * 60 + 10 * n
            payload = event(kind, id, n, at + n, sampled(at + n, {"value": register}))
            await self._until_answered("TransactionEvent", payload)
            self.expected.append((register, {0: "s", 6: "e"}.get(n, "")))

    async def _until_answered(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                if self._point is None:
                    point = ChargePoint(self._url, f"CP-{self.number}", version=V201 if self.number == 2 else V16)
                    await point.open()
                    self._point = point
                answer = await self._point.call(action, payload)
                self.answered += 1
                return answer
            except InvalidInput:
                if self._point is not None:
                    await self._point.close()
                self._point = None
                await asyncio.sleep(0.02)


@pytest.mark.slow
def test_nothing_is_lost_or_taken_twice_over_kills(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "gateway.toml"
    path.write_text(FILE.format(port=port))
    luck = random.Random(17)

    def begin() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tallyroot_gateway", "ocpp", "--config", str(path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if child.stdout is None or not child.stdout.readline():
            raise AssertionError("the gateway did not start")
        return child

    async def scenario() -> list[Stubborn]:
        points = [Stubborn(number, f"ws://127.0.0.1:{port}/") for number in range(3)]
        is_over = asyncio.Event()
        child = await asyncio.to_thread(begin)
        runs = [asyncio.create_task(point.run(is_over)) for point in points]
        try:
            for _ in range(KILLS):
                goal = sum(point.answered for point in points) + luck.randrange(20, 90)
                while sum(point.answered for point in points) < goal:  # noqa: ASYNC110 - other tasks' work
                    await asyncio.sleep(0.001)
                await asyncio.sleep(luck.random() * 0.005)
                child.kill()
                child.wait()
                child = await asyncio.to_thread(begin)
            is_over.set()
            await asyncio.gather(*runs)
        finally:
            child.terminate()
            code = child.wait(20)
            for run in runs:
                run.cancel()
        assert code == 0
        return points

    points = asyncio.run(scenario())
    for point in points:
        readings = [each for each in taken(tmp_path, "site") if each.machine == f"charger-{point.number}"]
        assert list(shown(readings)) == point.expected
        assert len(point.expected) > 20
        assert point.starts == sorted(set(point.starts))
        numbers = [(each.boot, each.seq) for each in readings]
        assert numbers == sorted(set(numbers))
