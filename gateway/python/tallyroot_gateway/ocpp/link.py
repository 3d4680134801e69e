"""A connection to a charger: what we ask of it, one call after another, and its answers."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.ocpp.messages import Answer, call

ANSWER_SECONDS = 30.0


class Link:
    """One connection, of the version (subprotocol) that was agreed."""

    def __init__(self, socket: ServerConnection, version: str) -> None:
        self.socket, self.version = socket, version
        self._turn = asyncio.Lock()
        self._awaited: dict[str, asyncio.Future[Answer]] = {}

    async def call(self, action: str, payload: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """What the charger answers. Raises InvalidInput where it answers an error, nothing in time, or is gone."""
        async with self._turn:  # OCPP has one call under way in each direction
            id = secrets.token_hex(8)
            self._awaited[id] = asyncio.get_running_loop().create_future()
            try:
                await self.socket.send(call(id, action, payload))
                answer = await asyncio.wait_for(self._awaited[id], seconds)
            except TimeoutError:
                raise InvalidInput(f"{action}: no answer within {seconds:.0f} s") from None
            except ConnectionClosed:
                raise InvalidInput(f"{action}: the connection was lost") from None
            finally:
                del self._awaited[id]
        if answer.payload is None:
            raise InvalidInput(f"{action}: {answer.error}")
        return answer.payload

    def answered(self, answer: Answer) -> None:
        """An answer arrived; one that nothing waits for is nothing."""
        future = self._awaited.get(answer.id)
        if future is not None and not future.done():
            future.set_result(answer)
