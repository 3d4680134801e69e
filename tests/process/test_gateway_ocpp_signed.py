"""What meters signed, over 1.6 and 2.0.1: records go with the session's first and last register, and no other."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from tallyroot_gateway.ocpp.charge_point import ChargePoint
from tallyroot_gateway.ocpp.messages import V201
from tests.support.ocmf_records import PUBLIC_KEY, ocmf
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
from tests.support.ocpp_windows import Windows

MINUTE = 60_000
BEGIN = {"TM": "2026-09-21T16:13:15,000+0200 S", "TX": "B", "RV": 5.0009}
"""Five seconds before the transaction's begin: START_MS is 16:13:20 there."""
END = {"TM": "2026-09-21T16:17:20,500+0200 S", "TX": "E", "RV": 6.25}
SIGNED = {"CP-1": {"machine": "charger-1", "connectors": {"1": {"signed": True, "public_key": PUBLIC_KEY}}}}


def over_16(tmp_path: Path, begin: str | None, *ends: str, values: list[Any] | None = None) -> list[tuple[int, str]]:
    """A session whose begin is in MeterValues, as OCA's paper says, and whose end is in transactionData."""

    async def scenario() -> None:
        config, clock = ocpp_config(tmp_path, SIGNED), Clock(START_MS + 60 * MINUTE)
        async with central_system(config, clock) as (_, url), ChargePoint(url, "CP-1") as point:
            id = (await point.call("StartTransaction", started(5_001, START_MS)))["transactionId"]
            in_transaction = {"connectorId": 1, "transactionId": id}
            if begin is not None:
                value = {"value": begin, "format": "SignedData", "context": "Transaction.Begin"}
                payload = {**in_transaction, "meterValue": [sampled(START_MS, 5_001, value)]}
                await point.call("MeterValues", payload)
            payload = {**in_transaction, "meterValue": values or [sampled(START_MS + MINUTE, 5_500)]}
            await point.call("MeterValues", payload)
            signed = [{"value": each, "format": "SignedData", "context": "Transaction.End"} for each in ends]
            data = [sampled(START_MS + 4 * MINUTE, *signed, {"value": "6251", "context": "Transaction.End"})]
            if begin is not None:
                data.insert(
                    0, sampled(START_MS, {"value": begin, "format": "SignedData", "context": "Transaction.Begin"})
                )
            await point.call("StopTransaction", stopped(id, 6_251, START_MS + 4 * MINUTE, transactionData=data))

    asyncio.run(scenario())
    return list(shown(taken(tmp_path)))


def test_begin_and_end_over_16(tmp_path: Path) -> None:
    begin, end = ocmf(BEGIN), ocmf(BEGIN, END, page=2)
    envelope = {"signedMeterData": base64.b64encode(end.encode()).decode(), "encodingMethod": "OCMF"}
    assert over_16(tmp_path, begin, json.dumps(envelope)) == [(5_000, "s"), (6_250, "e")]
    first, last = taken(tmp_path)
    assert (first.evidence, last.evidence) == (begin, end)
    # The moments are the meter's: the session began when it signed.
    assert (first.observed_at, last.observed_at) == (START_MS - 5_000, START_MS + 4 * MINUTE + 500)
    assert first.session_started_at == last.session_started_at == START_MS - 5_000
    assert rejects(tmp_path) == []
    # So the log can prove what was used, by the key of the meter's registration.
    windows = Windows([first, last], START_MS - MINUTE, {"curve": "secp256r1", "public_key": PUBLIC_KEY[-130:]})
    assert (windows.total("charger-1"), windows.flags, windows.trusts) == (1_250, {"proven"}, {2})


def test_a_record_of_both_at_the_end(tmp_path: Path) -> None:
    both = ocmf(BEGIN, END)
    assert over_16(tmp_path, None, both) == [(5_000, "s"), (6_250, "e")]
    assert [each.evidence for each in taken(tmp_path)] == [both, both]


def test_a_session_that_was_not_signed_is_billed_all_the_same(tmp_path: Path) -> None:
    assert over_16(tmp_path / "a", None) == [(5_001, "s"), (6_251, "e")]
    assert [each["reason"] for each in rejects(tmp_path / "a")] == ["not_signed"]
    assert over_16(tmp_path / "b", ocmf(BEGIN)) == [(5_000, "s"), (6_251, "e")]
    assert over_16(tmp_path / "c", None, ocmf(END)) == [(5_001, "s"), (6_250, "e")]
    assert over_16(tmp_path / "d", None, "no record") == [(5_001, "s"), (6_251, "e")]
    assert [each["reason"] for each in rejects(tmp_path / "d")] == ["bad_signed_value", "not_signed"]


def test_another_meter_s_signature_is_said(tmp_path: Path) -> None:
    forged = ocmf(BEGIN).replace("5.0009", "4.0009")
    assert over_16(tmp_path, forged, ocmf(END)) == [(4_000, "s"), (6_250, "e")]
    assert [each["reason"] for each in rejects(tmp_path)] == ["bad_signature"]


def test_a_meter_s_clock_of_1970_is_not_believed(tmp_path: Path) -> None:
    unset = ocmf({"TM": "1970-01-01T01:21:45,000+0100 U", "TX": "B", "RV": 5.0009})
    assert over_16(tmp_path, unset, ocmf(END)) == [(5_000, "sr"), (6_250, "e")]
    assert taken(tmp_path)[0].observed_at == START_MS


def test_begin_and_end_over_201(tmp_path: Path) -> None:
    begin, end = ocmf(BEGIN), ocmf(END)

    def signed(record: str, context: str) -> dict[str, Any]:
        value = {
            "signedMeterData": base64.b64encode(record.encode()).decode(),
            "signingMethod": "",
            "encodingMethod": "OCMF",
            "publicKey": "",
        }
        return {"value": 5_555, "context": context, "signedMeterValue": value}

    async def scenario() -> None:
        config, clock = ocpp_config(tmp_path, SIGNED), Clock(START_MS + 60 * MINUTE)
        async with central_system(config, clock) as (_, url), ChargePoint(url, "CP-1", version=V201) as point:
            events = [
                event("Started", "tx", 0, START_MS, sampled(START_MS, signed(begin, "Transaction.Begin"))),
                event("Updated", "tx", 1, START_MS + MINUTE, sampled(START_MS + MINUTE, {"value": 5_500})),
                event("Ended", "tx", 2, START_MS + 5 * MINUTE, sampled(START_MS, signed(end, "Transaction.End"))),
            ]
            for each in (*events, *events):
                await point.call("TransactionEvent", each)

    asyncio.run(scenario())
    readings = taken(tmp_path)
    assert list(shown(readings)) == [(5_000, "s"), (6_250, "e")]
    assert [each.evidence for each in readings] == [begin, end]
