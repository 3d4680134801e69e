"""A hostile or broken charger: whatever it says, it is answered or closed, and the others go on."""

import asyncio
import contextlib
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from tallyroot_gateway import InvalidInput
from tallyroot_gateway.ocpp import discover
from tallyroot_gateway.ocpp.central_system import MALFORMED_MAX
from tallyroot_gateway.ocpp.charge_point import ChargePoint
from tallyroot_gateway.ocpp.config import OcppConfig
from tallyroot_gateway.ocpp.messages import V16, V201
from tests.support.ocpp_chargers import (
    START_MS,
    Clock,
    central_system,
    event,
    ocpp_config,
    rejects,
    sampled,
    started,
    stopped,
    taken,
)

TWO = {"CP-1": {"machine": "charger-1"}, "CP-2": {"machine": "charger-2"}}

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 2**63, 10**70, "", "1", "NaN", "\u0000", "é" * 300, "x" * 5_000, [], {}, [[]],
    [{}],
    {"id": 1}, {"id": True}, {"id": 1.0}, [{"sampledValue": [{}]}],
    [{"timestamp": 5, "sampledValue": [None, 3]}],
    [{"timestamp": "2026-01-01T00:00:00Z", "sampledValue": [{"value": "9" * 70}]}],
    "1969-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999Z", {"transactionId": []}, {"transactionId": ""}, {"idToken": 5},
]  # fmt: skip


def messages(version: str) -> list[tuple[str, dict[str, Any]]]:
    """A message of each kind that a charger may send."""
    value = sampled(START_MS, 5_000)
    both: list[tuple[str, dict[str, Any]]] = [
        ("BootNotification", {"chargePointVendor": "v", "chargePointModel": "m"}),
        ("Heartbeat", {}),
        ("DataTransfer", {"vendorId": "v"}),
        ("Authorize", {"idTag": "x", "idToken": {"idToken": "x", "type": "Central"}}),
        ("MeterValues", {"connectorId": 1, "evseId": 1, "transactionId": 5, "meterValue": [value]}),
        ("StatusNotification", {"connectorId": 1, "evseId": 1, "status": "Available", "connectorStatus": "Available"}),
    ]
    if version == V16:
        return [*both, ("StartTransaction", started(5, START_MS)), ("StopTransaction", stopped(5, 9, START_MS))]
    return [*both, *(("TransactionEvent", event(k, "t", 1, START_MS, value)) for k in ("Started", "Updated", "Ended"))]


@pytest.mark.parametrize("version", [V16, V201])
def test_any_field_may_be_anything(tmp_path: Path, version: str) -> None:
    luck = random.Random(version)

    async def scenario() -> None:
        config = ocpp_config(tmp_path, TWO)
        async with central_system(config, Clock(START_MS + 1_000)) as (central, url), ChargePoint(url, "CP-2") as other:
            async with ChargePoint(url, "CP-1", version=version) as point:
                for number in range(600):
                    action, payload = luck.choice(messages(version))
                    for name in luck.sample(sorted(payload), min(len(payload), luck.randrange(3))):
                        payload = {**payload, name: luck.choice(ODD)} if luck.random() < 0.8 else {**payload}
                    text = msgspec.json.encode([2, str(number), action, payload]).decode()
                    answer = await point.send(str(number), text)
                    assert answer.payload is not None or "at" in answer.error
            assert await other.call("Heartbeat", {})
            assert not central.broken.done()

    asyncio.run(scenario())
    assert all(0 <= (each.register or 0) <= 2**53 for each in taken(tmp_path))


def test_what_is_no_ocpp_is_closed_in_the_end_and_what_is_too_long_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = ocpp_config(tmp_path, TWO, message_bytes=65_536)
        async with central_system(config) as (_, url), ChargePoint(url, "CP-2") as other:
            point = ChargePoint(url, "CP-1")
            await point.open()
            assert point._socket is not None
            with contextlib.suppress(ConnectionClosed):
                for _ in range(10 * MALFORMED_MAX):
                    await point._socket.send("[" * 1_000)
                    await asyncio.sleep(0)
            await point._socket.wait_closed()
            await point.close()
            point = ChargePoint(url, "CP-1")
            await point.open()
            with pytest.raises(InvalidInput, match=r"no answer|lost"):
                await point.call("DataTransfer", {"data": "x" * 100_000})
            await point.close()
            assert await other.call("Heartbeat", {})

    asyncio.run(scenario())
    assert len(rejects(tmp_path)) == MALFORMED_MAX


def test_a_storm_of_connections(tmp_path: Path) -> None:
    """All come at once, again and again; there is a most, and afterwards everything is as before."""

    async def scenario() -> None:
        async with central_system(ocpp_config(tmp_path, TWO)) as (central, url):
            points = [ChargePoint(url, "CP-1") for _ in range(150)]
            opened = await asyncio.gather(*(point.open() for point in points), return_exceptions=True)
            assert sum(each is None for each in opened) >= 64
            await asyncio.gather(*(point.close() for point in points))
            async with ChargePoint(url, "CP-1") as point:
                assert await point.call("Heartbeat", {})
                assert central.chargers["CP-1"].link is not None

    asyncio.run(scenario())


def test_discovery_acknowledges_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config: OcppConfig = ocpp_config(tmp_path, {}, discover_s=1.5)

    async def scenario() -> None:
        looks = asyncio.create_task(discover(config))
        port = ""
        while not port:
            await asyncio.sleep(0.02)
            found = re.search(r"port (\d+)", capsys.readouterr().out)
            port = "" if found is None else found.group(1)
        rows = [{"key": "NumberOfConnectors", "value": "2", "readonly": True}]
        async with ChargePoint(
            f"ws://127.0.0.1:{port}/", "CP-9", on_call=lambda _: {"configurationKey": rows}
        ) as point:
            boot = {"chargePointVendor": "Vendor", "chargePointModel": "Model"}
            assert (await point.call("BootNotification", boot))["status"] == "Pending"
            with pytest.raises(InvalidInput, match="only looks"):
                await point.call("StartTransaction", started(1, START_MS))
            await looks

    asyncio.run(scenario())
    said = capsys.readouterr().out
    assert "chargePointVendor Vendor" in said
    assert "[machines.meters.energy-2]" in said
