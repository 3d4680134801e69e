"""What is wrong with a reading, in words for the gateway's author; and what to do about every reason of rejection."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from schemas.reading import READING, Reading
from schemas.reject import Reason
from streams.core.arrow_rows import decode_arrow
from streams.core.records import ARROW, JSON, LogRecord, media_type, plain_object, record_type

ARROW_BEGINS = b"\xff\xff\xff\xff"
"""The beginning of an Arrow IPC stream, and of no JSON value."""

ADVICE: Mapping[Reason, str] = {
    "undecodable": "send one whole JSON value or one uncompressed Arrow IPC stream in each record, and say which in"
    " the header content-type",
    "too_many_entries": "put at most 10,000 readings into a record",
    "unknown_type": "leave the header ce_type out for readings, or write 'reading'",
    "malformed": "send integers of 0 to 2^53 in the meter's unit, ids of A-Z a-z 0-9 . _ : * - (at most 64), exactly"
    " one of register, quantity and level, and leave out what is absent instead of null",
    "unknown_machine": "have the operator register the machine first; if it is registered, produce with its route as"
    " the key and the partitioner murmur2_random (what Kafka's Java client does)",
    "bad_signature": "sign log id, key, type, content type and the exact value bytes with a key of the machine's"
    " registration, and send it in the headers signature (64 bytes, not hex) and key-id, each once",
    "from_the_future": "set the gateway's clock (NTP), and send observed_at in milliseconds of UTC since 1970",
    "unknown_meter": "use a meter name of the machine's registration, or have the operator register the meter",
    "wrong_kind": "send the value under the meter's registered kind: register, quantity or level",
    "stale_boot": "never go back in boot: count it up at each restart and keep it on disk; after a replaced gateway the"
    " operator may register the boot to begin with",
    "boot_jump": "raise boot by at most 2^20 (no epoch seconds or milliseconds); the operator may register a new boot",
    "seq_jump": "count seq up by one for each reading of a meter; a jump of more than 2^20 needs a new boot",
    "equivocation": "never use a number for two readings: keep seq on disk before a reading leaves, and send a reading"
    " again only with the very same content",
    "seq_reused": "never go back in seq: after a restart continue above the last one, or raise boot",
    "below_floor": "send readings in the order of their seq: this one came after more gaps than are kept (16)",
    "retired": "the machine is retired in its registration: stop sending, or have the operator bring it back",
    "too_late": "send readings within 35 days of when they were observed",
    "too_high": "check the unit (Wh, not kWh), and have the operator register the meter's true capacity per hour,"
    " and its burst where it moves in steps; a register that was right is confirmed by the next one",
    "too_low": "a register never falls: send a cumulative value, also across transactions, and raise boot after a meter"
    " was replaced or reset; where it rolls over, have the operator register its modulus",
    "wrong_partition": "produce a control record with the machine's route as its key, and murmur2_random",
    "stale_version": "number a control record's version one above the machine's last one",
    "agreement_locked": "wait: before its locked_until an agreement lowers no payee's part, orders no more and prices"
    " nothing lower below zero",
    "no_fee": "leave fees out: no price per session was in force when that session started",
    "unknown_order": "send the number of an order that the machine placed",
    "order_closed": "leave it: the order was settled or cancelled, has lapsed, or has another receipt or invoice",
    "over_price": "invoice at most the unit price of the order",
    "order_received": "leave it: what was received is to be paid, so the order can't be cancelled",
    "payment_reused": "send each payment once, in the order of the chain: block and log_index must rise",
}
"""Reason to what the gateway's author (or, for control records, the operator) can do."""


Notice = Literal["no_key", "misplaced_key", "not_the_route"]
"""What is wrong with a record of readings, but no reason to reject it."""

NOTICE_ADVICE: Mapping[Notice, str] = {
    "no_key": "send the machine's route as the record's key: without one, readings go to any partition",
    "misplaced_key": "choose the partition as Kafka's Java client does (librdkafka: partitioner=murmur2_random), for"
    " the log's own number of partitions",
    "not_the_route": "send the route of the machine's registration as the key: another one is here by chance only",
}


def fault_of(item: object) -> str | None:
    """Why a plain object is not a valid reading (rules 2 and 3), None where it is one."""
    try:
        reading = msgspec.convert(item, Reading)
    except msgspec.ValidationError as error:
        said, _, path = str(error).replace("`", "").partition(" - at ")
        field = path.removeprefix("$.") or "it"
        return f"{field}: {said[0].lower()}{said[1:]}"
    if reading.is_valid():
        return None
    values = [name for name in ("register", "quantity", "level") if getattr(reading, name) is not msgspec.UNSET]
    if len(values) != 1:
        return f"exactly one of register, quantity and level, not {' and '.join(values) or 'none'}"
    if (reading.session is msgspec.UNSET) != (reading.session_started_at is msgspec.UNSET):
        return "session and session_started_at come together"
    if reading.session is msgspec.UNSET:
        return f"{'session_start' if reading.session_start else 'session_end'} without a session"
    return "session_started_at must not lie after observed_at"


def machine_in(record: LogRecord, row: int) -> str | None:
    """The machine that a row (-1: the record) names, None where it names none."""
    value = record.value or b""
    if record_type(record) == READING and media_type(record) == ARROW:
        decoded: Any = decode_arrow(value)
    else:
        try:
            decoded = plain_object(value)
        except msgspec.DecodeError:
            return None
    items = decoded if isinstance(decoded, list) else [decoded]
    item = items[max(row, 0)] if max(row, 0) < len(items) else None
    machine = item.get("machine") if isinstance(item, dict) else None
    return machine if isinstance(machine, str) else None


def fault_in(record: LogRecord, row: int) -> str | None:
    """What is wrong with a reading record that is undecodable (row -1) or with a row that is malformed, if it shows."""
    value, content_type = record.value, media_type(record)
    if value is None:
        return "the record has no value"
    if content_type == ARROW:
        items = decode_arrow(value)
        if isinstance(items, str):
            return "the value is not a whole Arrow IPC stream of plain batches with a reading's columns in their types"
        return fault_of(items[row]) if 0 <= row < len(items) else None
    if content_type != JSON:
        return f"the content-type {content_type} is neither {JSON} nor {ARROW}"
    if value.startswith(ARROW_BEGINS):
        return f"the value looks like Arrow, but its header content-type doesn't say {ARROW}"
    try:
        item = plain_object(value)
    except msgspec.DecodeError:
        return "the value is not JSON"
    if row < 0:
        return (
            None if isinstance(item, dict | list) and item else "the value is neither an object nor an array of objects"
        )
    if isinstance(item, list):
        return fault_of(item[row]) if row < len(item) else None
    return fault_of(item)
