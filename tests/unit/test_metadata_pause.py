"""A worker with a partition that has no leader asks for one now and then, not as fast as it can."""

import asyncio
from typing import Any

import pytest

from streams.kafka import consumer


class Client:
    """Answers at once, as brokers do."""

    asked = 0

    async def _metadata_update(self, *_: Any) -> bool:
        self.asked += 1
        return True


def test_it_rests_between_two_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, rests = 1_000.0, []

    async def rest(seconds: float) -> None:
        nonlocal now_s
        rests.append(seconds)
        now_s += seconds

    monkeypatch.setattr(consumer.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(consumer.asyncio, "sleep", rest)
    client = Client()
    consumer._ask_with_pauses(client)

    async def ask() -> None:
        nonlocal now_s
        await client._metadata_update("cluster", set())
        await client._metadata_update("cluster", set())
        now_s += 60
        await client._metadata_update("cluster", set())

    asyncio.run(ask())
    assert client.asked == 3
    assert rests == [0.0, consumer.METADATA_PAUSE_SECONDS, 0.0]
