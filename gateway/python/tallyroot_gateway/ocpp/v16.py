"""OCPP 1.6: what each call of a charge point comes to."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tallyroot_gateway.field.intake import key_of
from tallyroot_gateway.ocpp.charger import Charger, sole_open
from tallyroot_gateway.ocpp.messages import time_ms, time_text
from tallyroot_gateway.ocpp.transactions import Port, Step, Transaction
from tallyroot_gateway.ocpp.values import Fault, register_of, samples_of

SAME_START_MS = 10 * 60_000
"""A start with card, register and connector of one that has shown nothing yet is that one, stamped again."""

Payload = dict[str, Any]


async def boot_notification(charger: Charger, payload: Payload) -> Payload:
    """It has started."""
    now = time_text(charger.intake.now_ms())
    return {"status": "Accepted", "currentTime": now, "interval": charger.server.heartbeat_s}


async def heartbeat(charger: Charger, payload: Payload) -> Payload:
    """It is there, and asks for the time."""
    return {"currentTime": time_text(charger.intake.now_ms())}


async def authorize(charger: Charger, payload: Payload) -> Payload:
    """It asks whether a card may charge."""
    return {"idTagInfo": _tag_info(charger, payload)}


async def data_transfer(charger: Charger, payload: Payload) -> Payload:
    """A vendor's own message: refused."""
    return {"status": "UnknownVendorId"}


async def status_notification(charger: Charger, payload: Payload) -> Payload:
    """A connector's status changed, or the charge point's (connector 0)."""
    name = str(payload.get("connectorId", ""))
    if name != "0" and connector_of(charger, payload) is None:
        charger.set_aside(Fault("unknown_connector", f"connector {name[:20]} is not in the file"))
        return {}
    await charger.say_status(name[:8], str(payload.get("status", ""))[:40], time_ms(payload.get("timestamp")))
    return {}


async def start_transaction(charger: Charger, payload: Payload) -> Payload:
    """A transaction begins; sent again, it gets the number that it has."""
    id_tag = str(payload.get("idTag", ""))[:64]
    number = connector_of(charger, payload)
    start = key_of(id_tag, str(payload.get("timestamp")), str(payload.get("meterStart")))
    at_ms = time_ms(payload.get("timestamp"))
    found = None if number is None else _started(charger, number, payload, start, at_ms)
    if found is not None:
        await charger.settle()
        return {"transactionId": int(found.id), "idTagInfo": _tag_info(charger, payload)}
    id = charger.next_id()
    if number is None:
        charger.set_aside(Fault("unknown_connector", "a transaction of a connector that is not in the file"))
        return {"transactionId": id, "idTagInfo": _tag_info(charger, payload)}
    tag_info = _tag_info(charger, payload)
    step, general = charger.step(number), charger.general()
    general.last_id = id
    faults: list[Fault] = []
    register = register_of(payload.get("meterStart"), charger.connectors[number].unit, faults)
    began_at = charger.intake.now_ms() if at_ms is None else at_ms
    session = step.port.claim([id_tag], began_at) or charger.session_of(str(id))
    transaction = step.begin(str(id), session, at_ms, start=start, id_tag=id_tag)
    step.begin_register(transaction, register)
    await charger.take(number, step, key_of("start", charger.id, number, start), faults, general)
    return {"transactionId": id, "idTagInfo": tag_info}


async def meter_values(charger: Charger, payload: Payload) -> Payload:
    """Samples of a connector's meter, of a transaction or clock-aligned."""
    id = payload.get("transactionId")
    number = charger.find(str(id)) if _is_number(id) else None
    number = connector_of(charger, payload) if number is None else number
    if number is None:
        if payload.get("connectorId") == 0:
            charger.counts.dropped.labels("whole_charger").inc()
        else:
            charger.set_aside(Fault("unknown_connector", "values of a connector that is not in the file"))
        return {}
    step = charger.step(number)
    samples, faults = samples_of(payload.get("meterValue"), charger.connectors[number].unit)
    transaction = _transaction(charger, number, step, id, samples[0].at_ms if samples else None)
    for sample in samples:
        step.sample(transaction, sample)
    content = json.dumps(payload, default=str, sort_keys=True)
    await charger.take(number, step, key_of("values", charger.id, content), faults)
    return {}


async def stop_transaction(charger: Charger, payload: Payload) -> Payload:
    """A transaction ends; what it is known for is answered even where nobody knows it, or it would be sent for ever."""
    id, at_ms = payload.get("transactionId"), time_ms(payload.get("timestamp"))
    answer = {"idTagInfo": _tag_info(charger, payload)} if payload.get("idTag") else {}
    number = charger.find(str(id)) if _is_number(id) else None
    if number is None:
        open_one = sole_open(charger)
        if open_one is not None and _is_placeholder(id):
            number = open_one[0]
        elif len(charger.connectors) == 1:
            number = next(iter(charger.connectors))
    if number is None:
        charger.set_aside(Fault("unknown_transaction", f"transaction {str(id)[:20]} did not begin here"))
        return answer
    step = charger.step(number)
    faults: list[Fault] = []
    unit = charger.connectors[number].unit
    register = register_of(payload.get("meterStop"), unit, faults)
    samples, more = samples_of(payload.get("transactionData"), unit)
    transaction = _transaction(charger, number, step, id, at_ms, is_stop=True)
    if transaction is not None:
        step.end(transaction, at_ms, register, samples)
    said = [str(payload.get(name)) for name in ("timestamp", "meterStop")]
    await charger.take(number, step, key_of("stop", charger.id, number, str(id), *said), [*faults, *more])
    return answer


HANDLERS: dict[str, Callable[[Charger, Payload], Awaitable[Payload]]] = {
    "Authorize": authorize,
    "BootNotification": boot_notification,
    "DataTransfer": data_transfer,
    "Heartbeat": heartbeat,
    "MeterValues": meter_values,
    "StartTransaction": start_transaction,
    "StatusNotification": status_notification,
    "StopTransaction": stop_transaction,
}
"""The calls that are answered, by action."""


def connector_of(charger: Charger, payload: Payload) -> int | None:
    """The connector that a call names, if it is in the file; the only one where none is named."""
    number = payload.get("connectorId")
    if number is None and len(charger.connectors) == 1:
        return next(iter(charger.connectors))
    return charger.connector_number(number)


def _started(charger: Charger, number: int, payload: Payload, start: str, at_ms: int | None) -> Transaction | None:
    """The transaction that a start began before: it was sent again, by its own stamp or another one."""
    port: Port = charger.port(number)
    for each in reversed(port.transactions):
        if each.start == start:
            return each
    last = port.transactions[-1] if port.transactions else None
    now_ms = charger.intake.now_ms() if at_ms is None else at_ms
    is_same = (
        last is not None
        and not last.is_ended
        and last.start != ""
        and last.observed_at <= last.started_at
        and last.id_tag == str(payload.get("idTag", ""))[:64]
        and last.register == payload.get("meterStart")
        and abs(now_ms - last.started_at) <= SAME_START_MS
    )
    return last if is_same else None


def _transaction(
    charger: Charger, number: int, step: Step, id: object, at_ms: int | None, *, is_stop: bool = False
) -> Transaction | None:
    """The transaction that values or a stop belong to; None for values of none."""
    if id is None and not is_stop:
        # A charger that leaves it out in a transaction: what flows then is the transaction's.
        return next((each for each in step.port.open() if at_ms is None or at_ms >= each.started_at), None)
    found = step.port.find(str(id)) if _is_number(id) else None
    if found is not None:
        return found
    open_ones = step.port.open()
    if _is_placeholder(id) and len(open_ones) == 1:
        return open_ones[0]
    charger.set_aside(Fault("unknown_transaction", f"transaction {str(id)[:20]} did not begin here: no session"))
    if is_stop or charger.connectors[number].per_transaction:
        return step.adopt(str(id)[:40], None, at_ms)
    return None


def _tag_info(charger: Charger, payload: Payload) -> Payload:
    return {"status": "Accepted" if charger.accepts(str(payload.get("idTag", ""))[:64]) else "Invalid"}


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_placeholder(id: object) -> bool:
    """Whether an id is what chargers write that began a transaction offline, and never a number of ours."""
    return isinstance(id, int) and id <= 0
