"""A simulated charge point: plays recorded sessions over OCPP, each message answered before the next one is sent.

    session = Session(id="s-1", connector=1, started_at=1_790_000_000_000, meter_start=1_000,
                      points=((1_790_000_900_000, 3_500),), ended_at=1_790_001_800_000, meter_stop=6_000)
    await play("ws://127.0.0.1:9000/", "CP-1", [session], password="...")

It is for demonstrations and tests of any central system. `ChargePoint` sends whatever it is given, right or wrong.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.ocpp.messages import V16, Answer, Call, call, decode, error, result, time_text

ANSWER_SECONDS = 30.0


class Session(NamedTuple):
    """A recorded session of one connector. Times are epoch ms, registers Wh; `points` lie between start and end.

    `id` is sent as the idTag, so it has at most 20 characters.
    """

    id: str
    connector: int
    started_at: int
    meter_start: int
    ended_at: int
    meter_stop: int
    points: Sequence[tuple[int, int]] = ()


class ChargePoint:
    """One connection of a charge point. Use it as an async context manager.

    `on_call` answers what the central system asks: a payload, or None for an error NotSupported.
    """

    def __init__(
        self,
        url: str,
        id: str,
        *,
        password: str | None = None,
        version: str = V16,
        tls: ssl.SSLContext | None = None,
        on_call: Callable[[Call], Mapping[str, Any] | None] = lambda _: None,
    ) -> None:
        """`url` is the central system's, to which the id is added."""
        self._url = f"{url.rstrip('/')}/{quote(id, safe='')}"
        self._headers: dict[str, str] = {}
        if password is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{id}:{password}".encode()).decode()
        self._version, self._tls, self._on_call = version, tls, on_call
        self._socket: ClientConnection | None = None
        self._listener: asyncio.Task[None] | None = None
        self._awaited: dict[str, asyncio.Future[Answer]] = {}
        self._number = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connects. Raises InvalidInput where the central system can't be reached, or refuses."""
        try:
            self._socket = await connect(
                self._url,
                subprotocols=[Subprotocol(self._version)],
                additional_headers=self._headers,
                ssl=self._tls,
                proxy=None,
                compression=None,
                ping_interval=None,
                close_timeout=2,
            )
        except (OSError, InvalidHandshake) as failed:
            raise InvalidInput(f"can't connect to {self._url}: {failed}") from None
        self._listener = asyncio.create_task(self._listen(self._socket))

    async def close(self) -> None:
        """Closes the connection, in order."""
        if self._socket is not None:
            await self._socket.close()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What the central system answers. Raises InvalidInput for an error, and where none comes."""
        self._number += 1
        id = str(self._number)
        answer = await self.send(id, call(id, action, payload))
        if answer.payload is None:
            raise InvalidInput(f"{action}: {answer.error}")
        return answer.payload

    async def send(self, id: str, text: str) -> Answer:
        """Sends a text as it is; returns the answer to this id, result or error."""
        if self._socket is None:
            raise InvalidInput("the charge point is not connected")
        future = self._awaited[id] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(text)
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        except (ConnectionClosed, TimeoutError) as failed:
            raise InvalidInput(f"no answer ({type(failed).__name__})") from None
        finally:
            self._awaited.pop(id, None)

    async def _listen(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for raw in socket:
                try:
                    message = decode(raw)
                except InvalidInput:
                    continue
                if isinstance(message, Call):
                    payload = self._on_call(message)
                    said = result(message.id, payload) if payload is not None else None
                    await socket.send(said or error(message.id, "NotSupported", "a simulated charge point"))
                elif message.id in self._awaited and not self._awaited[message.id].done():
                    self._awaited[message.id].set_result(message)
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(InvalidInput("the connection was lost"))


def messages_of(session: Session, transaction: int = 0, at_once: int = 1) -> list[tuple[int, str, dict[str, Any]]]:
    """What a session sends: (epoch ms, action, payload), in order. `transaction` is what its start was answered.

    So many points are sent `at_once`, by a charge point that collects them.
    """
    number = session.connector
    start = {
        "connectorId": number,
        "idTag": session.id,
        "meterStart": session.meter_start,
        "timestamp": time_text(session.started_at),
    }
    messages: list[tuple[int, str, dict[str, Any]]] = [
        (session.started_at, "StatusNotification", _status(number, "Charging", session.started_at)),
        (session.started_at, "StartTransaction", start),
    ]
    for first in range(0, len(session.points), at_once):
        points = session.points[first : first + at_once]
        values = {"connectorId": number, "transactionId": transaction, "meterValue": [_sampled(*one) for one in points]}
        messages.append((points[-1][0], "MeterValues", values))
    stop = {
        "transactionId": transaction,
        "meterStop": session.meter_stop,
        "timestamp": time_text(session.ended_at),
        "reason": "EVDisconnected",
    }
    messages.append((session.ended_at, "StopTransaction", stop))
    messages.append((session.ended_at, "StatusNotification", _status(number, "Available", session.ended_at)))
    return messages


def _sampled(at_ms: int, register: int) -> dict[str, Any]:
    value = {"value": str(register), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
    return {"timestamp": time_text(at_ms), "sampledValue": [value]}


async def play(
    url: str,
    charger_id: str,
    sessions: Sequence[Session],
    *,
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
    at: Callable[[int], None] = lambda _: None,
    at_once: int = 1,
) -> dict[str, int]:
    """Plays sessions in their order, without waiting between them; returns the transaction of each session's id.

    `at` is called with the epoch ms of each message before it is sent: a simulation sets its clock by it. Raises
    InvalidInput where the central system refuses, answers an error or is gone.
    """
    transactions: dict[str, int] = {}
    async with ChargePoint(url, charger_id, password=password, tls=tls) as charge_point:
        if sessions:
            at(sessions[0].started_at)
        boot = {"chargePointVendor": "tallyroot", "chargePointModel": "simulated"}
        await charge_point.call("BootNotification", boot)
        for session in sessions:
            for at_ms, action, payload in messages_of(session, at_once=at_once):
                at(at_ms)
                known = {"transactionId": transactions[session.id]} if "transactionId" in payload else {}
                answer = await charge_point.call(action, payload | known)
                if action == "StartTransaction":
                    transactions[session.id] = int(answer["transactionId"])
    return transactions


def _status(connector: int, status: str, at_ms: int) -> dict[str, Any]:
    at = time_text(at_ms)
    return {"connectorId": connector, "errorCode": "NoError", "status": status, "timestamp": at}
