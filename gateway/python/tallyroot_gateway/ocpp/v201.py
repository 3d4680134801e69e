"""OCPP 2.0.1: what each call of a charging station comes to."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tallyroot_gateway.field.intake import key_of
from tallyroot_gateway.ocpp import v16
from tallyroot_gateway.ocpp.charger import Charger
from tallyroot_gateway.ocpp.messages import time_ms
from tallyroot_gateway.ocpp.transactions import END_CONTEXT, Step, Transaction
from tallyroot_gateway.ocpp.values import Fault, Sample, samples_of

LONG_ID = 20
"""An id of fewer characters may come back after a reset: its session has the time of its begin as well."""

Payload = dict[str, Any]


async def authorize(charger: Charger, payload: Payload) -> Payload:
    """It asks whether a token may charge."""
    return {"idTokenInfo": _token_info(charger, payload)}


async def status_notification(charger: Charger, payload: Payload) -> Payload:
    """The status of a plug of an EVSE changed."""
    evse, plug = payload.get("evseId"), payload.get("connectorId", 1)
    if evse == 0:
        name = "0"
    elif charger.connector_number(evse) is not None:
        name = f"{evse}.{str(plug)[:4]}"
    else:
        charger.set_aside(Fault("unknown_connector", f"EVSE {str(evse)[:20]} is not in the file"))
        return {}
    await charger.say_status(name, str(payload.get("connectorStatus", ""))[:40], time_ms(payload.get("timestamp")))
    return {}


async def meter_values(charger: Charger, payload: Payload) -> Payload:
    """Clock-aligned samples of an EVSE's meter."""
    evse = charger.connector_number(payload.get("evseId"))
    if evse is None:
        if payload.get("evseId") == 0:
            charger.counts.dropped.labels("whole_charger").inc()
        else:
            charger.set_aside(Fault("unknown_connector", f"EVSE {str(payload.get('evseId'))[:20]} is not in the file"))
        return {}
    step = charger.step(evse)
    samples, faults = samples_of(payload.get("meterValue"), charger.connectors[evse].unit)
    for sample in samples:
        belongs = (each for each in step.port.open() if sample.at_ms is None or sample.at_ms >= each.started_at)
        step.sample(next(belongs, None), sample)
    content = json.dumps(payload, default=str, sort_keys=True)
    await charger.take(evse, step, key_of("values", charger.id, content), faults)
    return {}


async def transaction_event(charger: Charger, payload: Payload) -> Payload:
    """A transaction began, went on or ended; (transactionId, seqNo) tell an event from every other."""
    answer = {"idTokenInfo": _token_info(charger, payload)} if payload.get("idToken") else {}
    info = payload.get("transactionInfo")
    id = str(info.get("transactionId", ""))[:64] if isinstance(info, dict) else ""
    kind, at_ms = payload.get("eventType"), time_ms(payload.get("timestamp"))
    if not id or kind not in ("Started", "Updated", "Ended"):
        charger.set_aside(Fault("malformed", "an event without a transaction or a type"))
        return answer
    number = _evse_of(charger, payload, id)
    if number is None:
        charger.set_aside(Fault("unknown_connector", "a transaction of an EVSE that is not in the file"))
        return answer
    step = charger.step(number)
    samples, faults = samples_of(payload.get("meterValue"), charger.connectors[number].unit)
    transaction, is_new = _transaction(charger, step, payload, id, at_ms)
    seq = payload.get("seqNo")
    seq = seq if isinstance(seq, int) else transaction.number + 1
    is_behind = seq < transaction.number
    transaction.number = max(seq, transaction.number)
    if is_new and kind != "Ended":
        samples = _begin(step, transaction, samples, is_started=kind == "Started")
    if kind == "Ended":
        _end(step, transaction, at_ms, samples)
    else:
        for sample in samples:
            if is_behind and sample.signed is None:
                faults.append(Fault("behind", "a register that came after a later one"))
            else:
                step.sample(transaction, sample)
    key = key_of("event", charger.id, id, seq, str(kind), str(payload.get("timestamp")))
    await charger.take(number, step, key, faults)
    return answer


HANDLERS: dict[str, Callable[[Charger, Payload], Awaitable[Payload]]] = {
    "Authorize": authorize,
    "BootNotification": v16.boot_notification,
    "DataTransfer": v16.data_transfer,
    "Heartbeat": v16.heartbeat,
    "MeterValues": meter_values,
    "StatusNotification": status_notification,
    "TransactionEvent": transaction_event,
}
"""The calls that are answered, by action."""


def _evse_of(charger: Charger, payload: Payload, id: str) -> int | None:
    """The EVSE of an event: the one named, or the one that has the transaction, or the only one."""
    evse = payload.get("evse")
    named = evse.get("id") if isinstance(evse, dict) else None
    if charger.connector_number(named) is not None:
        return charger.connector_number(named)
    found = charger.find(id)
    if found is None and named is None and len(charger.connectors) == 1:
        return next(iter(charger.connectors))
    return found


def _transaction(
    charger: Charger, step: Step, payload: Payload, id: str, at_ms: int | None
) -> tuple[Transaction, bool]:
    """The transaction of an event, and whether it is seen for the first time."""
    start = str(payload.get("timestamp")) if payload.get("eventType") == "Started" else ""
    found = step.port.find(id)
    came_back = found is not None and start and found.is_ended and found.start not in ("", start)
    if found is not None and not came_back:
        return found, False
    info = payload["transactionInfo"]
    at = charger.intake.now_ms() if at_ms is None else at_ms
    session = step.port.claim([f"remote:{info.get('remoteStartId')}", _token(payload)], at)
    if session is None:
        is_long = len(id) >= LONG_ID and not came_back
        session = charger.session_of(id if is_long else f"{id}.{at // 1_000}")
    if payload.get("eventType") == "Started":
        return step.begin(id, session, at_ms, start=start, id_tag=_token(payload)), True
    return step.adopt(id, session, at_ms), True


def _begin(step: Step, transaction: Transaction, samples: list[Sample], *, is_started: bool) -> list[Sample]:
    """A transaction's first registers; returns the samples that come after them."""
    first = samples[0] if samples else None
    if is_started:
        step.begin_register(transaction, None if first is None else first.register)
        return [sample for sample in samples if sample.signed is not None or sample is not first]
    return samples


def _end(step: Step, transaction: Transaction, at_ms: int | None, samples: list[Sample]) -> None:
    """The last sample is the end's, whatever the station calls it."""
    ends = [sample for sample in samples if sample.context == END_CONTEXT] or samples[-1:]
    before = [sample for sample in samples if sample not in ends]
    register = next((sample.register for sample in reversed(ends) if sample.register is not None), None)
    ends = [sample._replace(context=END_CONTEXT) for sample in ends]
    step.end(transaction, at_ms, register, [*before, *ends])


def _token(payload: Payload) -> str:
    token = payload.get("idToken")
    return str(token.get("idToken", ""))[:64] if isinstance(token, dict) else ""


def _token_info(charger: Charger, payload: Payload) -> Payload:
    return {"status": "Accepted" if charger.accepts(_token(payload)) else "Invalid"}
