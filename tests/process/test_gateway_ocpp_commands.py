"""Commands to chargers, from the topic on: each is acted on once, and its session is that of the readings."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from ocpp.messages import Call as OcppCall
from ocpp.messages import _validate_payload

from tallyroot_gateway.ocpp.charge_point import ChargePoint
from tallyroot_gateway.ocpp.commands import CommandConsumer, Commands
from tallyroot_gateway.ocpp.messages import V16, V201, Call
from tests.support.ocpp_chargers import (
    START_MS,
    Clock,
    central_system,
    event,
    ocpp_config,
    sampled,
    started,
    stopped,
    taken,
)

MINUTE = 60_000


def command(kind: str, **more: Any) -> bytes:
    """A record's value."""
    return msgspec.json.encode({"machine": "charger-1", "command": kind, "valid_until": START_MS + MINUTE, **more})


class Asked:
    """A charger that accepts what it is asked, after its schema was held against the standard's."""

    def __init__(self, version: str) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.status = "Accepted"
        self._version = version.removeprefix("ocpp")

    def __call__(self, call: Call) -> dict[str, Any]:
        _validate_payload(OcppCall(call.id, call.action, call.payload), self._version)
        self.calls.append((call.action, call.payload))
        return {"status": self.status}


def test_a_session_of_the_till_over_16(tmp_path: Path) -> None:
    async def scenario() -> None:
        asked = Asked(V16)
        async with central_system(ocpp_config(tmp_path, authorize="list", id_tags=["x"]), Clock()) as (central, url):
            commands = Commands(central)
            async with ChargePoint(url, "CP-1", on_call=asked) as point:
                assert await commands.act(command("start", session="s-1"), "0/0") == "accepted"
                assert await commands.act(command("start", session="s-1"), "0/0") == "acted_before"
                action, payload = asked.calls.pop()
                assert (action, payload["connectorId"]) == ("RemoteStartTransaction", 1)
                tag = payload["idTag"]
                assert await point.call("Authorize", {"idTag": tag}) == {"idTagInfo": {"status": "Accepted"}}
                answer = await point.call("StartTransaction", started(5_000, START_MS, tag))
                assert answer["idTagInfo"] == {"status": "Accepted"}
                assert await commands.act(command("limit", limit_w=7_400), "0/1") == "accepted"
                action, payload = asked.calls.pop()
                profile = payload["csChargingProfiles"]
                assert (action, profile["transactionId"]) == ("SetChargingProfile", answer["transactionId"])
                assert profile["chargingSchedule"]["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 7_400}]
                assert await commands.act(command("stop", session="s-2"), "0/2") == "failed"
                assert await commands.act(command("stop", session="s-1"), "0/3") == "accepted"
                assert asked.calls == [("RemoteStopTransaction", {"transactionId": answer["transactionId"]})]
                await point.call("StopTransaction", stopped(answer["transactionId"], 6_000, START_MS))
                # Too late: it is no session of the till's.
                assert await commands.act(command("start", session="s-9", id_tag="card"), "0/5") == "accepted"
                asked.calls.clear()
                await point.call("StartTransaction", started(6_000, START_MS + 2 * MINUTE, "card"))
                asked.status = "Rejected"
                assert await commands.act(command("limit", limit_w=0), "0/4") == "refused"
                for value, outcome in (
                    (b"junk", "malformed"),
                    (command("stop", machine="other"), "another_gateway"),
                    (command("stop", connector=9), "another_gateway"),
                    (command("stop", valid_until=START_MS), "expired"),
                ):
                    assert await commands.act(value, "0/9") == outcome

    asyncio.run(scenario())
    *prepaid, other = taken(tmp_path)
    assert [(each.session, each.register) for each in prepaid] == [("s-1", 5_000), ("s-1", 6_000)]
    assert (str(other.session)[:5], other.register) == ("CP-1-", 6_000)


def test_a_session_of_the_till_over_201(tmp_path: Path) -> None:
    """The station repeats remoteStartId; a command waits for a station that is away."""

    async def scenario() -> None:
        asked = Asked(V201)
        async with central_system(ocpp_config(tmp_path), Clock()) as (central, url):
            commands = Commands(central)
            waits = asyncio.create_task(commands.act(command("start", session="s-1"), "0/0"))
            await asyncio.sleep(0.05)
            async with ChargePoint(url, "CP-1", version=V201, on_call=asked) as point:
                assert await waits == "accepted"
                action, payload = asked.calls.pop()
                assert action == "RequestStartTransaction"
                info = {"transactionId": "tx", "remoteStartId": payload["remoteStartId"]}
                start = event("Started", "tx", 0, START_MS, sampled(START_MS, {"value": 5_000}), transactionInfo=info)
                await point.call("TransactionEvent", start)
                assert await commands.act(command("limit", limit_w=7_400), "0/1") == "accepted"
                assert await commands.act(command("stop"), "0/2") == "accepted"
                assert asked.calls.pop() == ("RequestStopTransaction", {"transactionId": "tx"})

    asyncio.run(scenario())
    assert [each.session for each in taken(tmp_path)] == ["s-1"]


def test_commands_are_read_from_the_topic_and_acted_on_once(kafka: str, tmp_path: Path) -> None:
    topic = "machine.commands.ocpp"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(20)
    properties = {"bootstrap.servers": kafka, "group.id": "ocpp-test"}

    def send(number: int) -> None:
        value = command("limit", limit_w=number, valid_until=int(time.time() * 1000) + 600_000)
        producer.produce(topic, value, b"charger-1")
        producer.flush(10)

    async def round_of(numbers: list[int], expected: list[int]) -> None:
        asked = Asked(V16)
        config = ocpp_config(tmp_path)
        async with central_system(config, Clock()) as (central, url), ChargePoint(url, "CP-1", on_call=asked):
            consumer = CommandConsumer(Commands(central), properties, topic)
            try:
                for number in numbers:
                    send(number)
                async with asyncio.timeout(30):
                    while len(asked.calls) < len(expected):  # noqa: ASYNC110 - another thread's work
                        await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
            finally:
                await consumer.close()
        limits = [
            call["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"]
            for _, call in asked.calls
        ]
        assert sorted(limits) == expected

    producer = Producer({"bootstrap.servers": kafka})
    send(1)
    asyncio.run(round_of([2, 3], [1, 2, 3]))
    asyncio.run(round_of([4], [4]))
