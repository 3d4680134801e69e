"""When a value is well formed: rules 1 to 3, and what 11, 18, 22, 23, 25, 28, 30 to 32 and 35 say of single records.

Values are dicts, lists and scalars as JSON has them. What depends on records before (a meter's kind, say) is elsewhere.
"""

import re
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from typing import Any

from schemas.units import CARRY_BASE
from streams.reference.entries import Entry, Plain, Refused
from streams.reference.evidence import GROUPS

Check = Callable[[Any], bool]
Fields = dict[str, Check]

TOP = 2**53
ROWS_MAX = 10_000
METERS_MAX = 32
POLICIES_MAX = 16
FEES_MAX = 1_000
EVIDENCE_BYTES_MAX = 8_192
DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
FALSE_IS_ABSENT = ("session_start", "session_end", "reconstructed", "retired", "require_signature")


def between(low: int, high: int) -> Check:
    """An integer in [low, high]; booleans are none (rule 2)."""
    return lambda value: type(value) is int and low <= value <= high


def text(pattern: str) -> Check:
    """A text that is all of the pattern."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def is_bool(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_evidence(value: Any) -> bool:
    """A text of 1 to 8,192 bytes."""
    return isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= EVIDENCE_BYTES_MAX


def is_reason(value: Any) -> bool:
    """A text of at most 256 characters."""
    return isinstance(value, str) and len(value) <= 256


def is_day(value: Any) -> bool:
    """A day of the calendar, YYYY-MM-DD."""
    if not text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def list_of(check: Check) -> Check:
    """A list of which each item passes a check."""
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def an_object(needed: Fields, optional: Fields) -> Check:
    """An object with all needed fields, perhaps optional ones, and no others (rule 2)."""
    both = needed | optional
    return lambda value: (
        isinstance(value, dict)
        and needed.keys() <= value.keys() <= both.keys()
        and all(both[name](part) for name, part in value.items())
    )


COUNT, POSITIVE = between(0, TOP), between(1, TOP)
ID = text(r"[A-Za-z0-9._:*-]{1,64}")
ACCOUNT = text(r"0x[0-9a-f]{40}")
TIME = text(r"([01][0-9]|2[0-3]):[0-5][0-9]")

ROW_NEEDED: Fields = {"machine": ID, "meter": ID, "boot": COUNT, "seq": COUNT, "observed_at": COUNT}
VALUES: Fields = {"register": COUNT, "quantity": COUNT, "level": COUNT}
SESSION: Fields = {"session": ID, "session_started_at": COUNT}
ROW_OPTIONAL = (
    VALUES
    | SESSION
    | {"session_start": is_bool, "session_end": is_bool, "reconstructed": is_bool, "evidence": is_evidence}
)
IS_ROW = an_object(ROW_NEEDED, ROW_OPTIONAL)

IS_METER_KEY = an_object(
    {"curve": text("|".join(GROUPS)), "public_key": text("04[0-9a-f]{96,192}")},
    {"obis": lambda value: isinstance(value, str) and 1 <= len(value) <= 64},
)
IS_METER = an_object(
    {"meter": ID, "unit": ID, "kind": text("register|quantity|level"), "capacity_per_hour": POSITIVE},
    {"opening_register": COUNT, "burst": POSITIVE, "modulus": between(2, TOP), "starts_per_hour": POSITIVE,
     "meter_key": IS_METER_KEY},
)  # fmt: skip
IS_COMPONENT = an_object(
    {"meter": ID, "price": between(-TOP, TOP)},
    {"per": lambda value: POSITIVE(value) and CARRY_BASE % value == 0, "per_session": is_bool},
)
IS_RESTRICTIONS = an_object(
    {},
    {"start_time": TIME, "end_time": TIME, "start_date": is_day, "end_date": is_day,
     "day_of_week": list_of(text("|".join(DAYS)))},
)  # fmt: skip
IS_ELEMENT = an_object({"components": list_of(IS_COMPONENT)}, {"restrictions": IS_RESTRICTIONS})
IS_TARIFF = an_object(
    {
        "elements": list_of(IS_ELEMENT),
        "offsets": list_of(
            lambda pair: (
                isinstance(pair, list) and len(pair) == 2 and COUNT(pair[0]) and between(-86_400, 86_400)(pair[1])
            )
        ),
    },
    {},
)
IS_AGREEMENT = an_object(
    {
        "payees": lambda payees: (
            isinstance(payees, dict) and all(ID(name) and between(1, 10_000)(part) for name, part in payees.items())
        )
    },
    {"locked_until": COUNT, "pays_trust": between(0, 2)},
)
IS_KEY = an_object({"key_id": ID, "public_key": text("[0-9a-f]{64}")}, {"hardware_backed": is_bool})
IS_POLICY = an_object(
    {"item": ID, "meter": ID, "reorder_at": COUNT, "quantity": POSITIVE, "unit_price": COUNT, "supplier": ACCOUNT,
     "budget": COUNT},
    {},
)  # fmt: skip
IS_REGISTRATION = an_object(
    {"machine": ID, "route": ID, "version": POSITIVE, "kind": ID, "effective_from": COUNT,
     "meters": list_of(IS_METER), "tariff": IS_TARIFF, "agreement": IS_AGREEMENT},
    {"boot": COUNT, "retired": is_bool, "keys": list_of(IS_KEY), "require_signature": is_bool,
     "salt": text("([0-9a-f]{32})?"), "orders": list_of(IS_POLICY)},
)  # fmt: skip
IS_CORRECTION = an_object(
    {"machine": ID, "meter": ID, "version": POSITIVE, "observed_at": COUNT, "difference": between(-TOP, TOP),
     "reason": is_reason},
    SESSION | {"fees": between(-FEES_MAX, FEES_MAX), "refund_to": ACCOUNT},
)  # fmt: skip
OF_AN_ORDER: Fields = {"machine": ID, "item": ID, "number": POSITIVE}
IS_RECEIPT = an_object(OF_AN_ORDER | {"quantity": COUNT, "observed_at": COUNT}, {})
IS_INVOICE = an_object(OF_AN_ORDER | {"quantity": COUNT, "unit_price": COUNT, "reference": ID}, {})
IS_CANCELLATION = an_object(OF_AN_ORDER | {"reason": is_reason}, {})
IS_PAYMENT = an_object(
    {"machine": ID, "version": POSITIVE, "session": ID, "payer": ACCOUNT, "amount": POSITIVE, "valid_until": COUNT,
     "block": COUNT, "transaction": text("0x[0-9a-f]{64}"), "log_index": COUNT},
    {},
)  # fmt: skip


def rows_of(entry: Entry) -> list[Plain | None]:
    """The rows of a reading record, None for a malformed one (rules 1 and 2). Raises Refused for the whole record."""
    content = entry.content()
    if isinstance(content, dict):
        return [_row(content)]
    if not isinstance(content, list) or not content:
        raise Refused("malformed")
    if len(content) > ROWS_MAX:
        raise Refused("too_many_entries")
    return [_row(item) for item in content]


def control_of(entry: Entry) -> Plain:
    """The content of a control record, normalised as it is compared (rule 8). Raises Refused if it is not one."""
    content = entry.content()
    if not WELL_FORMED[entry.type](content):
        raise Refused("malformed")
    return _normalised(content)


def _row(item: Any) -> Plain | None:
    """The known fields of a row, or None if it is malformed (rules 2 and 3)."""
    if not isinstance(item, dict):
        return None
    row = _normalised({name: part for name, part in item.items() if name in ROW_NEEDED or name in ROW_OPTIONAL})
    # Normalising drops what is false, not what is 0 or null, so a wrong type is still seen.
    if not IS_ROW(row) or sum(name in row for name in VALUES) != 1 or not _has_sound_session(row):
        return None
    if "evidence" in row and "register" not in row:
        return None
    return row


def _normalised(content: Plain) -> Plain:
    """False flags, and no fees, are absent; nothing else is normalised (rules 8 and 25)."""
    return {
        name: part
        for name, part in content.items()
        if not (name in FALSE_IS_ABSENT and part is False) and not (name == "fees" and part == 0)
    }


def _has_sound_session(row: Plain) -> bool:
    """Session and start together, the start not later; flags, fees and refunds only with them (rules 3 and 25)."""
    if "session" not in row or "session_started_at" not in row:
        return not row.keys() & {"session", "session_started_at", "session_start", "session_end", "fees", "refund_to"}
    return bool(row["session_started_at"] <= row["observed_at"])


def _is_registration(content: Any) -> bool:
    """Rules 11, 18, 23 and 28, as far as one record shows them."""
    if not IS_REGISTRATION(content):
        return False
    meters, tariff = {meter["meter"]: meter for meter in content["meters"]}, content["tariff"]
    parts = [part for element in tariff["elements"] for part in element["components"]]
    keys, policies = content.get("keys", []), content.get("orders", [])
    starts = [start for start, _ in tariff["offsets"]]
    return (
        1 <= len(content["meters"]) <= METERS_MAX
        and len(meters) == len(content["meters"])
        and all(_has_sound_modulus(meter) and _has_sound_key(meter) for meter in meters.values())
        and all(part["meter"] in meters and ("per" in part) != part.get("per_session", False) for part in parts)
        and starts[:1] == [0]
        and all(earlier < later for earlier, later in pairwise(starts))
        and sum(content["agreement"]["payees"].values()) == 10_000
        and len({key["key_id"] for key in keys}) == len(keys)
        and len(policies) <= POLICIES_MAX
        and len({policy["item"] for policy in policies}) == len(policies)
        and all(meters.get(policy["meter"], {}).get("kind") == "level" for policy in policies)
        and all(policy["quantity"] * policy["unit_price"] <= TOP for policy in policies)
    )


def _has_sound_modulus(meter: Plain) -> bool:
    return "modulus" not in meter or (
        meter["kind"] == "register" and meter.get("opening_register", 0) < meter["modulus"]
    )


def _has_sound_key(meter: Plain) -> bool:
    if "meter_key" not in meter:
        return True
    key = meter["meter_key"]
    digits = (GROUPS[key["curve"]].p.bit_length() + 7) // 8 * 2
    return bool(meter["kind"] == "register" and len(key["public_key"]) == 2 + 2 * digits)


WELL_FORMED: Fields = {
    "machine.registered": _is_registration,
    "usage.corrected": lambda content: IS_CORRECTION(content) and _has_sound_session(_normalised(content)),
    "goods.received": IS_RECEIPT,
    "order.invoiced": IS_INVOICE,
    "order.cancelled": IS_CANCELLATION,
    "payment.received": IS_PAYMENT,
}
"""The control records by type."""
