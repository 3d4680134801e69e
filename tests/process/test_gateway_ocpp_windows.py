"""From a charger's messages to windows: what it truly delivered, whatever its registers and its network do."""

import asyncio
import random
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from ocpp import v16 as ocpp16
from ocpp import v201 as ocpp201
from ocpp.v16 import call as call16
from ocpp.v201 import call as call201
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tallyroot_gateway import Reading
from tallyroot_gateway.ocpp import run
from tallyroot_gateway.ocpp.charge_point import ChargePoint, Session, play
from tallyroot_gateway.ocpp.messages import time_text
from tests.support.gateway_logs import KEY, arrived, new_log, window_facts
from tests.support.ocpp_chargers import START_MS, Clock, central_system, ocpp_config, started, stopped, taken
from tests.support.ocpp_windows import Windows

MINUTE = 60_000
HOUR = 60 * MINUTE
CHARGE_POINTS = 50


def transactions(tmp_path: Path, registers: list[tuple[int, int]], **charger: Any) -> Windows:
    """Transactions of two hours each, with start and stop alone, as the log bills them."""

    async def scenario() -> None:
        config = ocpp_config(tmp_path, {"CP-1": {"machine": "charger-1", **charger}})
        async with central_system(config, Clock(START_MS + 100 * HOUR)) as (_, url), ChargePoint(url, "CP-1") as point:
            for number, (start, stop) in enumerate(registers):
                at = START_MS + number * 4 * HOUR
                id = (await point.call("StartTransaction", started(start, at)))["transactionId"]
                if stop >= 0:
                    await point.call("StopTransaction", stopped(id, stop, at + 2 * HOUR))

    asyncio.run(scenario())
    return Windows(taken(tmp_path), START_MS - HOUR)


@pytest.mark.parametrize(
    ("registers", "usage", "fees", "charger"),
    [
        # Java-OCA-OCPP #331: never reset; at each transaction.
        ([(1_000, 4_000), (4_000, 12_000), (12_000, 21_000), (21_000, 30_500)], 29_500, 4, {}),
        ([(0, 3_000), (0, 8_000), (0, 9_000), (0, 9_500)], 29_500, 4, {"per_transaction": True}),
        # citrineos-core #1060, once and twice: not a lifetime.
        ([(900_000, 909_900), (0, 910_031)], 10_031, 2, {}),
        ([(900_000, 909_900), (0, -1), (0, 910_031)], 10_031, 3, {}),
        # A young charger, whose whole life would be plausible.
        ([(200, 5_000), (0, 6_000)], 5_800, 2, {}),
        ([(0, 5_000), (0, 6_000)], 1_000, 2, {}),
        ([(0, 5_000), (5_000, 6_000)], 6_000, 2, {"connectors": {"1": {"opening": 0}}}),
        # OCPP.Core #33: below its start; what was lost comes back with the next register.
        ([(5_000, 4_700), (5_100, 5_200)], 200, 2, {}),
        # A register that begins again at a reboot: the first session after it is measured from there.
        ([(5_000, 9_000), (0, 3_000), (3_000, 7_000)], 11_000, 3, {}),
    ],
)
def test_what_a_charger_s_transactions_come_to(
    tmp_path: Path, registers: list[tuple[int, int]], usage: int, fees: int, charger: dict[str, Any]
) -> None:
    windows = transactions(tmp_path, registers, **charger)
    assert (windows.total("charger-1"), windows.fees["charger-1"]) == (usage, fees)


def test_recorded_sessions_are_played(tmp_path: Path) -> None:
    sessions = [
        Session(f"s-{n}", 1, START_MS + n * HOUR, n * 5_000, START_MS + n * HOUR + 30 * MINUTE, (n + 1) * 5_000,
                [(START_MS + n * HOUR + 15 * MINUTE, n * 5_000 + 2_600)])
        for n in range(1, 4)
    ]  # fmt: skip

    async def scenario() -> dict[str, int]:
        clock = Clock()
        async with central_system(ocpp_config(tmp_path), clock) as (central, url):
            for session in sessions:
                await central.expect("CP-1", 1, session.id, session.id)
            return await play(url, "CP-1", sessions, at=clock.set)

    played = asyncio.run(scenario())
    readings = taken(tmp_path)
    assert list(played) == ["s-1", "s-2", "s-3"]
    assert [each.session for each in readings] == [session.id for session in sessions for _ in range(3)]
    windows = Windows(readings, START_MS)
    assert (windows.total("charger-1"), windows.fees["charger-1"], windows.rejects) == (15_000, 3, {})


def test_a_session_reaches_the_log(kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the command runs it: started, cancelled, and what was taken is in Kafka, accepted, signed."""
    log = new_log(kafka, "gateway-ocpp", require_signature=True)
    key = tmp_path / "key"
    key.write_text(KEY.hex())
    key.chmod(0o600)
    now = int(time.time() * 1000)
    session = Session("card", 1, now - HOUR, 7_000, now - MINUTE, 12_000, [(now - HOUR // 2, 9_000)])

    async def scenario() -> None:
        config = ocpp_config(tmp_path, {"CP-1": {"machine": "taxi-1", "connectors": {"1": {"availability": ""}}}})
        options = {"bootstrap_servers": kafka, "log_id": log.log_id, "topic": log.topic, "key_id": "gw-1"}
        options["private_key_file"] = str(key)
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, **options))
        runs = asyncio.create_task(run(config))
        said = ""
        while "may connect" not in said:
            await asyncio.sleep(0.02)
            said += capsys.readouterr().out
        found = re.search(r"ws://\S+/", said)
        assert found is not None
        await play(found.group(), "CP-1", [session])
        runs.cancel()
        await asyncio.gather(runs, return_exceptions=True)

    asyncio.run(scenario())
    state, done, _ = arrived(kafka, log)
    assert (done.rejects, done.counts.accepted) == ([], 4)
    assert window_facts(state) == (3, 5_000, 1)


class Lossy:
    """A connection that breaks: before a message is sent, after it, or with the answer on its way."""

    def __init__(self, socket: Any, luck: random.Random) -> None:
        self._socket, self._luck = socket, luck

    async def send(self, message: str) -> None:
        if self._luck.random() < 0.03:
            self._break()
        await self._socket.send(message)
        if self._luck.random() < 0.03:
            self._break()

    async def recv(self) -> Any:
        message = await self._socket.recv()
        if self._luck.random() < 0.06:
            self._break()
        return message

    def _break(self) -> None:
        self._socket.transport.abort()
        raise ConnectionClosed(None, None)


class Simulated:
    """A charge point with the `ocpp` package's own client: an hour of two sessions, in a queue that outlives breaks.

    Of each three one has a register that lives on (1.6), one of each transaction (1.6), one in kWh (2.0.1).
    """

    def __init__(self, number: int, url: str, clock: Clock) -> None:
        self.id, self.kind, self.number = f"CP-{number}", number % 3, number
        self.luck = random.Random(number)
        self.queue: list[tuple[int, Any]] = []
        self.delivered: dict[int, int] = {}
        """Wh by the start of its quarter of an hour, as it truly was."""
        self.breaks = 0
        self._url, self._clock = url, clock
        self._transaction: int | str = 0
        self._register = 0 if self.kind == 1 else self.luck.randrange(10_000, 900_000)

    def record(self) -> None:
        """Fills the queue with what happens within the hour."""
        for first, last in ((2 + self.luck.randrange(10), 25), (31 + self.luck.randrange(5), 55)):
            if self.kind == 1:
                self._register = 0
            at, number = START_MS + first * MINUTE, 0
            self._say("begin", at, first, number)
            for minute in sorted({*range(first + 1, last, 4), 15, 45}):
                if first < minute < last:
                    self._charge(at, START_MS + minute * MINUTE)
                    at, number = START_MS + minute * MINUTE, number + 1
                    self._say("sample", at, first, number)
            self._charge(at, START_MS + last * MINUTE)
            self._say("end", START_MS + last * MINUTE, first, number + 1)

    def _charge(self, since: int, to: int) -> None:
        wh = self.luck.randrange(0, (to - since) * 22_000 // HOUR)
        self._register += wh
        start = (to - 1) // 900_000 * 900_000
        self.delivered[start] = self.delivered.get(start, 0) + wh

    def _say(self, what: str, at: int, first: int, number: int) -> None:
        text, register = time_text(at), self._register
        if self.kind == 2:
            kinds = {"begin": "Started", "sample": "Updated", "end": "Ended"}
            value = {"value": register / 1000, "unit_of_measure": {"unit": "kWh"}}
            self.queue.append(
                (
                    at,
                    call201.TransactionEvent(
                        event_type=kinds[what],
                        timestamp=text,
                        trigger_reason="MeterValuePeriodic",
                        seq_no=number,
                        transaction_info={"transaction_id": f"{self.id}-transaction-at-{first}"},
                        evse={"id": 1},
                        meter_value=[{"timestamp": text, "sampled_value": [value]}],
                    ),
                )
            )
        elif what == "begin":
            self.queue.append((at, call16.StartTransaction(1, "tag", register, text)))
        elif what == "end":
            self.queue.append((at, call16.StopTransaction(register, text, 0)))
        else:
            value = {"timestamp": text, "sampled_value": [{"value": f"{register / 1000:.3f}", "unit": "kWh"}]}
            self.queue.append((at, call16.MeterValues(1, [value], 0)))

    async def deliver(self) -> None:
        """Connects, sends what is due, one after another, and the same again where no answer came."""
        while self.queue:
            version = "ocpp2.0.1" if self.kind == 2 else "ocpp1.6"
            socket = await websockets.connect(
                self._url + self.id,
                subprotocols=[Subprotocol(version)],
                compression=None,
                close_timeout=0.1,
            )
            client: Any = (ocpp201 if self.kind == 2 else ocpp16).ChargePoint(self.id, Lossy(socket, self.luck))
            hears = asyncio.create_task(client.start())
            try:
                await self._send_all(client, hears)
            except ConnectionClosed:
                self.breaks += 1
            finally:
                hears.cancel()
                await asyncio.gather(hears, return_exceptions=True)
                await socket.close()

    async def _send_all(self, client: Any, hears: asyncio.Task[None]) -> None:
        while self.queue:
            at, payload = self.queue[0]
            self._clock.set(at)
            if hasattr(payload, "transaction_id"):
                payload.transaction_id = self._transaction
            asks = asyncio.create_task(client.call(payload, skip_schema_validation=True))
            await asyncio.wait({asks, hears}, return_when=asyncio.FIRST_COMPLETED)
            if not asks.done():
                asks.cancel()
                await asyncio.gather(asks, return_exceptions=True)
                raise ConnectionClosed(None, None)
            answer = asks.result()
            if isinstance(payload, call16.StartTransaction):
                self._transaction = answer.transaction_id
            self.queue.pop(0)


def test_fifty_charge_points_for_an_hour(tmp_path: Path) -> None:
    """Connections break at any moment, answers are lost: windows equal what was delivered, and each session is one."""

    async def scenario() -> list[Simulated]:
        clock = Clock()
        chargers = {
            f"CP-{number}": {
                "machine": f"charger-{number}",
                "route": f"site-{number // 10}",
                "per_transaction": number % 3 == 1,
                "connectors": {"1": {"opening": 0}},
            }
            for number in range(CHARGE_POINTS)
        }
        async with central_system(ocpp_config(tmp_path, chargers), clock) as (_, url):
            points = [Simulated(number, url, clock) for number in range(CHARGE_POINTS)]
            for point in points:
                point.record()
            await asyncio.gather(*(point.deliver() for point in points))
        return points

    points = asyncio.run(scenario())
    assert sum(point.breaks for point in points) > 100
    readings: list[Reading] = []
    for site in range(CHARGE_POINTS // 10):
        readings += taken(tmp_path, f"site-{site}")
    windows = Windows(readings, START_MS - HOUR)
    assert windows.rejects == {}
    for point in points:
        machine = f"charger-{point.number}"
        found = {start: usage for (name, _, start), usage in windows.usage.items() if name == machine}
        assert found == {start: wh for start, wh in point.delivered.items() if wh}, machine
        assert windows.fees[machine] == 2, machine
        own = [reading for reading in readings if reading.machine == machine]
        assert len(own) == len({(reading.session, reading.observed_at, reading.register) for reading in own})
        assert len({reading.session for reading in own}) == 2
        assert all(reading.session is not msgspec.UNSET for reading in own)
