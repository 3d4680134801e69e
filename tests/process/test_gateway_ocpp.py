"""A central system against a scripted charge point: transactions, repeats and the field's bug reports."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyroot_gateway import InvalidInput
from tallyroot_gateway.ocpp.charge_point import ChargePoint
from tallyroot_gateway.ocpp.messages import V201, time_text
from tests.support.ocpp_chargers import (
    START_MS,
    Clock,
    central_system,
    event,
    ocpp_config,
    rejects,
    sampled,
    shown,
    started,
    stopped,
    taken,
)

MINUTE = 60_000


def test_a_session_over_16(tmp_path: Path) -> None:
    async def scenario() -> int:
        clock = Clock(START_MS + 60 * MINUTE)
        async with central_system(ocpp_config(tmp_path), clock) as (_, url), ChargePoint(url, "CP-1") as point:
            boot = await point.call("BootNotification", {"chargePointVendor": "v", "chargePointModel": "m"})
            assert boot == {"status": "Accepted", "currentTime": time_text(clock.ms), "interval": 300}
            assert await point.call("Heartbeat", {}) == {"currentTime": time_text(clock.ms)}
            assert await point.call("Authorize", {"idTag": "x"}) == {"idTagInfo": {"status": "Accepted"}}
            assert await point.call("DataTransfer", {"vendorId": "v"}) == {"status": "UnknownVendorId"}
            answer = await point.call("StartTransaction", started(5_000, START_MS))
            id = int(answer["transactionId"])
            kwh = {"value": "6.2509", "unit": "kWh", "measurand": "Energy.Active.Import.Register"}
            other = {"value": "230.1", "unit": "V", "measurand": "Voltage"}
            values = [sampled(START_MS + MINUTE, kwh, other), sampled(START_MS + 2 * MINUTE, 7_000)]
            await point.call("MeterValues", {"connectorId": 1, "transactionId": id, "meterValue": values})
            # What was sent as MeterValues comes again with the stop, beside one that was not.
            data = [values[0], sampled(START_MS + 3 * MINUTE, 7_500), sampled(START_MS + 4 * MINUTE, 8_000)]
            data[2]["sampledValue"][0]["context"] = "Transaction.End"
            await point.call("StopTransaction", stopped(id, 8_000, START_MS + 4 * MINUTE, transactionData=data))
            return id

    id = asyncio.run(scenario())
    readings = taken(tmp_path)
    assert list(shown(readings)) == [(5_000, "s"), (6_250, ""), (7_000, ""), (7_500, ""), (8_000, "e")]
    assert [each.observed_at for each in readings] == [START_MS + minute * MINUTE for minute in (0, 1, 2, 3, 4)]
    assert {(each.session, each.session_started_at) for each in readings} == {(f"CP-1-{id}", START_MS)}
    assert rejects(tmp_path) == []


def test_a_session_over_201(tmp_path: Path) -> None:
    """Numbers keep their text, whatever unit and multiplier; events out of order and repeated do no harm."""

    async def scenario() -> None:
        clock = Clock(START_MS + 60 * MINUTE)
        config = ocpp_config(tmp_path)
        async with central_system(config, clock) as (_, url), ChargePoint(url, "CP-1", version=V201) as point:
            begin = {"value": 1.0000000000000001, "context": "Transaction.Begin", "unitOfMeasure": {"unit": "kWh"}}
            first = event("Started", "t" * 36, 0, START_MS, sampled(START_MS, begin))
            text = msgspec.json.encode([2, "a", "TransactionEvent", first]).decode()
            # 1000.9999999999999999999 Wh: as a float it would be 1001.
            text = text.replace('"value":1.0', '"value":1.0009999999999999999999')
            assert (await point.send("a", text)).payload == {}
            milli = {"value": 15, "unitOfMeasure": {"unit": "Wh", "multiplier": 2}}
            events = [
                event("Updated", "t" * 36, 1, START_MS + MINUTE, sampled(START_MS + MINUTE, milli)),
                event("Updated", "t" * 36, 3, START_MS + 3 * MINUTE, sampled(START_MS + 3 * MINUTE, {"value": 3_000})),
                event("Updated", "t" * 36, 2, START_MS + 2 * MINUTE, sampled(START_MS + 2 * MINUTE, {"value": 2_000})),
                event("Ended", "t" * 36, 4, START_MS + 4 * MINUTE, sampled(START_MS + 4 * MINUTE, {"value": 4_000})),
            ]
            for _ in range(2):
                for each in events:
                    token = {"idToken": {"idToken": "x", "type": "Central"}}
                    answer = await point.call("TransactionEvent", each | token)
                    assert answer == {"idTokenInfo": {"status": "Accepted"}}

    asyncio.run(scenario())
    readings = taken(tmp_path)
    assert list(shown(readings)) == [(1_000, "s"), (1_500, ""), (3_000, ""), (4_000, "e")]
    assert {each.session for each in readings} == {"CP-1-" + "t" * 36}


def test_a_start_sent_again_is_one_transaction(tmp_path: Path) -> None:
    """MicroOcpp #237 and #50: the same start under another message id, or stamped again. One session, one fee."""

    async def scenario() -> list[int]:
        config = ocpp_config(tmp_path)
        ids = []
        for _ in range(2):  # the gateway is started again between
            async with central_system(config, Clock(START_MS + MINUTE)) as (_, url):
                for _ in range(2):
                    async with ChargePoint(url, "CP-1") as point:
                        for start in (started(7, START_MS), started(7, START_MS + 5_000)):
                            ids.append((await point.call("StartTransaction", start))["transactionId"])
        async with central_system(config, Clock(START_MS + MINUTE)) as (_, url), ChargePoint(url, "CP-1") as point:
            for _ in range(3):
                assert await point.call("StopTransaction", stopped(ids[0], 1_007, START_MS + MINUTE)) == {}
            again = started(1_007, START_MS + 2 * MINUTE)
            ids.append((await point.call("StartTransaction", again))["transactionId"])
        return ids

    ids = asyncio.run(scenario())
    assert len(set(ids[:-1])) == 1
    assert ids[-1] > ids[0]
    assert list(shown(taken(tmp_path))) == [(7, "s"), (1_007, "e"), (1_007, "s")]


def test_a_number_is_never_used_again_even_without_the_notes(tmp_path: Path) -> None:
    async def start(folder: Path, now_ms: int) -> int:
        async with central_system(ocpp_config(folder), Clock(now_ms)) as (_, url), ChargePoint(url, "CP-1") as point:
            return int((await point.call("StartTransaction", started(7, now_ms)))["transactionId"])

    first = asyncio.run(start(tmp_path / "a", START_MS))
    second = asyncio.run(start(tmp_path / "a", START_MS))
    lost = asyncio.run(start(tmp_path / "b", START_MS + 2_000))
    assert first == second < lost < 2**31


def play(tmp_path: Path, calls: list[tuple[str, dict[str, Any]]], **charger: Any) -> list[tuple[int, str]]:
    """What a script of 1.6 comes to; a transactionId of None is that of the last start."""

    async def scenario() -> None:
        config = ocpp_config(tmp_path, {"CP-1": {"machine": "charger-1", **charger}})
        clock = Clock(START_MS + 10_000 * MINUTE)
        async with central_system(config, clock) as (_, url), ChargePoint(url, "CP-1") as point:
            id = 0
            for action, payload in calls:
                known = {"transactionId": id} if payload.get("transactionId", 0) is None else {}
                answer = await point.call(action, payload | known)
                id = answer.get("transactionId", id)

    asyncio.run(scenario())
    return list(shown(taken(tmp_path)))


def test_registers_of_each_transaction_are_made_cumulative(tmp_path: Path) -> None:
    """Java-OCA-OCPP #331, third kind, with start and stop alone: 3.0, 8.0, 9.0 and 9.5 kWh are 29.5 kWh, four fees."""
    calls = []
    for number, stop in enumerate((3_000, 8_000, 9_000, 9_500)):
        at = START_MS + number * 600 * MINUTE
        calls += [("StartTransaction", started(0, at)), ("StopTransaction", stopped(None, stop, at + 300 * MINUTE))]
    got = play(tmp_path, calls, per_transaction=True)
    assert got == [
        (0, "s"), (3_000, "e"), (3_000, "s"), (11_000, "e"), (11_000, "s"), (20_000, "e"), (20_000, "s"), (29_500, "e"),
    ]  # fmt: skip


def test_a_begin_of_the_transaction_before_is_not_billed_again(tmp_path: Path) -> None:
    values = {"connectorId": 1, "transactionId": None, "meterValue": [sampled(START_MS + 61 * MINUTE, 100)]}
    calls = [
        ("StartTransaction", started(0, START_MS)),
        ("StopTransaction", stopped(None, 3_000, START_MS + MINUTE)),
        ("StartTransaction", started(3_000, START_MS + 60 * MINUTE)),
        ("MeterValues", values),
        ("StopTransaction", stopped(None, 500, START_MS + 62 * MINUTE)),
    ]
    got = play(tmp_path, calls, per_transaction=True)
    assert got == [(0, "s"), (3_000, "e"), (3_000, "s"), (3_100, ""), (3_500, "e")]


def test_a_begin_of_0_is_a_placeholder(tmp_path: Path) -> None:
    """citrineos-core #1060, evcc #29654, and the 0 sent twice: 131 Wh were delivered, not a lifetime."""
    calls = [
        ("StartTransaction", started(909_000, START_MS)),
        ("StopTransaction", stopped(None, 909_900, START_MS + 60 * MINUTE)),
        ("StartTransaction", started(0, START_MS + 100 * MINUTE)),
        ("StartTransaction", started(0, START_MS + 200 * MINUTE)),
        ("StopTransaction", stopped(None, 910_031, START_MS + 300 * MINUTE)),
    ]
    assert play(tmp_path, calls) == [
        (909_000, "s"), (909_900, "e"), (909_900, "sr"), (0, ""), (909_900, "er"), (909_900, "sr"), (0, ""),
        (910_031, "e"),
    ]  # fmt: skip
    assert [each["reason"] for each in rejects(tmp_path)] == ["missing_stop"]


def test_a_first_begin_of_0_waits_for_a_register(tmp_path: Path) -> None:
    values = {"connectorId": 1, "transactionId": None, "meterValue": [sampled(START_MS + MINUTE, 910_000)]}
    calls = [
        ("StartTransaction", started(0, START_MS)),
        ("MeterValues", values),
        ("StopTransaction", stopped(None, 910_031, START_MS + 2 * MINUTE)),
    ]
    assert play(tmp_path / "a", calls) == [(910_000, "s"), (910_031, "e")]
    new = {"connectors": {"1": {"opening": 0}}}
    calls = [calls[0], ("StopTransaction", stopped(None, 131, START_MS + 2 * MINUTE))]
    assert play(tmp_path / "b", calls, **new) == [(0, "s"), (131, "e")]


def test_a_stop_below_its_start_is_the_log_s_to_judge_and_one_without_a_register_ends(tmp_path: Path) -> None:
    """OCPP.Core #33: below its start; -1 and 0 say that the charger doesn't know."""
    calls = []
    for number, stop in enumerate((4_700, -1, 0)):
        at = START_MS + number * 60 * MINUTE
        calls += [
            ("StartTransaction", started(5_000 + number, at)),
            ("StopTransaction", stopped(None, stop, at + MINUTE)),
        ]
    assert play(tmp_path, calls) == [
        (5_000, "s"), (4_700, "e"), (5_001, "s"), (5_001, "er"), (5_002, "s"), (5_002, "er"),
    ]  # fmt: skip
    assert [each["reason"] for each in rejects(tmp_path)] == ["bad_register", "no_register", "no_register"]


def test_a_stop_of_an_unknown_transaction_is_answered(tmp_path: Path) -> None:
    """SteVe #156: without an answer it comes for ever. OCPP.Core #34: it stops no other transaction."""
    calls = [
        ("StartTransaction", started(5_000, START_MS)),
        ("StopTransaction", stopped(424_242, 5_500, START_MS + MINUTE)),
        ("StopTransaction", stopped(None, 6_000, START_MS + 2 * MINUTE)),
    ]
    assert play(tmp_path, calls) == [(5_000, "s"), (5_500, "-"), (6_000, "e")]
    assert [each["reason"] for each in rejects(tmp_path)] == ["unknown_transaction"]


def test_a_stop_with_the_placeholder_of_an_offline_start_ends_it(tmp_path: Path) -> None:
    """libocpp #495, SteVe #292: transactionId -1."""
    calls = [
        ("StartTransaction", started(5_000, START_MS)),
        ("MeterValues", {"connectorId": 1, "transactionId": -1, "meterValue": [sampled(START_MS + 1, 5_100)]}),
        ("StopTransaction", stopped(-1, 6_000, START_MS + 2 * MINUTE)),
    ]
    assert play(tmp_path, calls) == [(5_000, "s"), (5_100, ""), (6_000, "e")]


def test_values_without_a_transaction(tmp_path: Path) -> None:
    """Clock-aligned ones: of no session, unless one is open. Connector 0 is the whole charger's meter."""
    calls = [
        ("MeterValues", {"connectorId": 1, "meterValue": [sampled(START_MS - MINUTE, 4_990)]}),
        ("StartTransaction", started(5_000, START_MS)),
        ("MeterValues", {"connectorId": 1, "meterValue": [sampled(START_MS + MINUTE, 5_100)]}),
        ("MeterValues", {"connectorId": 0, "meterValue": [sampled(START_MS + MINUTE, 99_999)]}),
        ("MeterValues", {"connectorId": 7, "meterValue": [sampled(START_MS + MINUTE, 99_999)]}),
        ("StopTransaction", stopped(None, 6_000, START_MS + 2 * MINUTE)),
    ]
    assert play(tmp_path, calls) == [(4_990, "-"), (5_000, "s"), (5_100, ""), (6_000, "e")]
    assert [each["reason"] for each in rejects(tmp_path)] == ["unknown_connector"]


def test_a_clock_of_1970(tmp_path: Path) -> None:
    """MicroOcpp #311 and #354: the moment of arrival counts, and the reading says so."""
    calls = [("StartTransaction", started(5_000, 740)), ("StopTransaction", stopped(None, 6_000, 99_000))]
    assert play(tmp_path, calls) == [(5_000, "sr"), (6_000, "er")]
    assert {each.observed_at for each in taken(tmp_path)} == {START_MS + 10_000 * MINUTE}


def test_a_clock_that_was_set_back_an_hour_within_a_transaction(tmp_path: Path) -> None:
    calls = [
        ("StartTransaction", started(5_000, START_MS)),
        ("StopTransaction", stopped(None, 6_000, START_MS - 30 * MINUTE)),
    ]
    assert play(tmp_path, calls) == [(5_000, "s"), (6_000, "er")]


def test_what_nothing_answers_is_an_error_and_the_connection_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with central_system(ocpp_config(tmp_path)) as (_, url):
            for version, code in (("ocpp1.6", "FormationViolation"), (V201, "FormatViolation")):
                async with ChargePoint(url, "CP-1", version=version) as point:
                    with pytest.raises(InvalidInput, match="NotSupported"):
                        await point.call("FirmwareStatusNotification", {"status": "Idle"})
                    with pytest.raises(InvalidInput, match="NotImplemented"):
                        await point.call("Explode", {})
                    odd: list[dict[str, Any]] = [{"meterValue": 3}, {"connectorId": [], "evseId": {}}, {"evse": []}]
                    for payload in odd:
                        for action in ("MeterValues", "StatusNotification", "StartTransaction", "StopTransaction"):
                            answer = await point.send("x", msgspec.json.encode([2, "x", action, payload]).decode())
                            assert answer.payload is not None or code in answer.error or "NotI" in answer.error
                    assert await point.call("Heartbeat", {})
                async with ChargePoint(url, "CP-1", version=version) as point:
                    assert point._socket is not None
                    for text in (
                        "",
                        "null",
                        "[]",
                        "[2]",
                        '[2,"a"]',
                        "{",
                        "[9,1,2,3]",
                        '[2,"a",3,4]',
                        "\x00",
                        "[" * 5_000,
                    ):
                        await point._socket.send(text)
                    await point._socket.send(b"\xff\xfe")
                    assert await point.call("Heartbeat", {})

    asyncio.run(scenario())
    assert taken(tmp_path, meter=None) == []


def test_the_newest_connection_counts(tmp_path: Path) -> None:
    """ocpp-go #314, ts-ocpp #19: the one before is closed, and its end does not end the new one."""

    async def scenario() -> None:
        async with central_system(ocpp_config(tmp_path)) as (central, url):
            points = [ChargePoint(url, "CP-1") for _ in range(5)]
            for point in points:
                await point.open()
            assert await points[-1].call("Heartbeat", {})
            await asyncio.gather(*(point.close() for point in points[:-1]))
            with pytest.raises(InvalidInput, match=r"no answer|lost"):
                await points[0].call("Heartbeat", {})
            link = central.chargers["CP-1"].link
            assert link is not None
            with pytest.raises(InvalidInput, match="NotSupported"):
                await link.call("Reset", {"type": "Soft"})
            await points[-1].close()

    asyncio.run(scenario())


def test_unknown_chargers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with central_system(ocpp_config(tmp_path)) as (_, url):
            with pytest.raises(InvalidInput, match="404"):
                await ChargePoint(url, "CP-2").open()
            with pytest.raises(InvalidInput, match="404"):
                await ChargePoint(url + "elsewhere/", "CP-1").open()
        config = ocpp_config(tmp_path, accept_unknown=True)
        async with central_system(config) as (_, url), ChargePoint(url, "CP-2") as point:
            boot = {"chargePointVendor": "v", "chargePointModel": "m"}
            assert (await point.call("BootNotification", boot))["status"] == "Pending"
            with pytest.raises(InvalidInput, match="SecurityError"):
                await point.call("StartTransaction", started(1, START_MS))

    asyncio.run(scenario())
    assert {each["reason"] for each in rejects(tmp_path)} == {"unknown_charger"}


def test_a_full_disk_is_not_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> int:
        config = ocpp_config(tmp_path)
        config = msgspec.structs.replace(config, log=msgspec.structs.replace(config.log, spool_bytes=1 << 20))
        answered = 0
        async with central_system(config) as (_, url), ChargePoint(url, "CP-1") as point:
            error = ""
            while not error:
                values = [sampled(START_MS + answered * 1_000 + n, answered * 100 + n) for n in range(100)]
                text = msgspec.json.encode([2, "x", "MeterValues", {"connectorId": 1, "meterValue": values}]).decode()
                error = (await point.send("x", text)).error
                answered += not error
            assert "InternalError" in error
            assert await point.call("Heartbeat", {})
        return answered

    answered = asyncio.run(scenario())
    assert [each.register for each in taken(tmp_path)] == list(range(answered * 100))


def test_availability_and_uptime(tmp_path: Path) -> None:
    async def scenario() -> float:
        clock = Clock()
        config = ocpp_config(
            tmp_path, {"CP-1": {"machine": "charger-1", "connectors": {"1": {}, "2": {}}}}, lost_after_s=0.05
        )
        async with central_system(config, clock) as (central, url):

            async def say(point: ChargePoint, connector: int, status: str, minutes: int) -> None:
                clock.set(START_MS + minutes * MINUTE)
                at = time_text(clock.ms)
                payload = {"connectorId": connector, "status": status, "errorCode": "NoError", "timestamp": at}
                assert await point.call("StatusNotification", payload) == {}

            async with ChargePoint(url, "CP-1") as point:
                await say(point, 1, "Available", 0)
                await say(point, 1, "Charging", 1)
                await say(point, 2, "Available", 2)
                await say(point, 1, "Faulted", 10)
                await say(point, 1, "Available", 20)
                await say(point, 0, "Unavailable", 30)
                await say(point, 0, "Available", 40)
                clock.set(START_MS + 50 * MINUTE)
            while not central.chargers["CP-1"].availability().is_lost:  # noqa: ASYNC110 - another task's work
                await asyncio.sleep(0.01)
            clock.set(START_MS + 60 * MINUTE)
            async with ChargePoint(url, "CP-1") as point:
                await point.call("Heartbeat", {})
            clock.set(START_MS + 100 * MINUTE)
            central.chargers["CP-1"].show_uptime()
            value = central.intake.metrics.registry.get_sample_value(
                "tallyroot_gateway_ocpp_uptime_ratio", {"charger": "CP-1", "connector": "1"}
            )
            assert value is not None
            return value

    assert asyncio.run(scenario()) == pytest.approx(0.70)
    levels = [(each.observed_at - START_MS) // MINUTE for each in taken(tmp_path, meter="availability")]
    assert levels == [0, 10, 20, 30, 40, 50, 60]
    assert [each.level for each in taken(tmp_path, meter="availability")] == [1, 0, 1, 0, 1, 0, 1]
    assert [each.level for each in taken(tmp_path, meter="availability-2")] == [1, 0, 1, 0, 1]
