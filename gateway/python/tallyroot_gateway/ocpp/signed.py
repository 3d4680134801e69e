"""What a meter signed: the OCMF record in a sampled value, and the registers that it says.

    OCMF|{"RD": [{"TM": "2021-10-26T10:20:52,000+0200 I", "TX": "B", "RV": 9.038, "RU": "kWh", ...}]}|{"SD": "3046..."}

The record travels as it is: whoever reads the log verifies it. Open Charge Metering Format 1.4, SAFE e.V.
"""

import base64
import binascii
import json
import re
import warnings
from typing import Any, NamedTuple

from pyocmf import OCMF, PyOCMFError

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.units import convert, decode_json, number_of, whole_part
from tallyroot_gateway.ocpp.messages import time_ms
from tallyroot_gateway.reading import EVIDENCE_BYTES

HEAD = "OCMF|"
BEGINS, ENDS = frozenset("B"), frozenset("ELRAP")
"""What TX says at a transaction's begin, and where it ended: regularly, locally, remotely, aborted, without power."""

ENERGY = ("Wh", "kWh", "mWh", "MWh")

_IMPORT = re.compile(r"[0-9A-Za-z]+-[0-9A-Za-z]+:(?:0?1|98|[BC][0-3])\.0?8\.[0-9A-Za-z]+(?:[.*].*)?")
"""OBIS codes of active energy that was delivered, at the meter or at the plug, as meters write them."""

_INHERITED = ("TM", "TX", "RI", "RU", "ST")
"""What a reading leaves out where it is as in the one before."""


class SignedRegister(NamedTuple):
    """One register of a record, in the meter's unit of the log. `at_ms` is None where the record has no time."""

    kind: str
    at_ms: int | None
    register: int


def ocmf_text(value: object, depth: int = 0) -> str | None:
    """The OCMF record in a signed value, whatever it is wrapped in: plain, hex, base64, or OCA's JSON envelope."""
    if not isinstance(value, str) or depth > 2 or len(value) > 8 * EVIDENCE_BYTES:
        return None
    text = value.strip()
    if text.startswith(HEAD):
        record, _, key = text.rpartition("|")
        # Some add the public key as a last part: it is no part of the record, and proves nothing of itself.
        return record if "{" not in key and record.startswith(HEAD) else text
    if text.startswith("{"):
        try:
            envelope = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return ocmf_text(envelope.get("signedMeterData"), depth + 1) if isinstance(envelope, dict) else None
    for decode in (bytes.fromhex, _base64):
        try:
            return ocmf_text(decode(text).decode(), depth + 1)
        except (ValueError, binascii.Error):
            continue
    return None


def signed_registers(text: str, unit: str, obis: str | None = None) -> list[SignedRegister]:
    """The registers of delivered energy in an OCMF record, in its order; with an identifier, those of it.

    Raises InvalidInput for what isn't such a record, or is longer than the log takes.
    """
    if len(text.encode()) > EVIDENCE_BYTES:
        raise InvalidInput(f"the OCMF record is longer than {EVIDENCE_BYTES} bytes")
    payload = decode_json(text[len(HEAD) : max(text.rfind("|{"), len(HEAD))])
    rows = payload.get("RD") if isinstance(payload, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("the OCMF record has no readings")
    found: list[SignedRegister] = []
    before: dict[str, Any] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise InvalidInput("a reading of the OCMF record is no object")
        whole = {name: before[name] for name in _INHERITED if name in before} | row
        before = whole
        identifier = str(whole.get("RI", "1-b:1.8.0"))
        is_wanted = _IMPORT.fullmatch(identifier) is not None if obis is None else identifier == obis
        if whole.get("RU") not in ENERGY or not is_wanted:
            continue
        obis = identifier
        value = whole_part(convert(number_of(whole.get("RV")), str(whole["RU"]), unit))  # type: ignore[arg-type]
        found.append(SignedRegister(str(whole.get("TX", ""))[:1], time_ms(str(whole.get("TM", ""))[:-2]), value))
    if not found:
        raise InvalidInput("the OCMF record has no register of delivered energy")
    return found


def is_valid(text: str, public_key: str) -> bool | None:
    """Whether the meter of this key signed the record; None where that can't be found out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return OCMF.from_string(text).verify_signature(public_key)
    except (PyOCMFError, ValueError):
        return None


def _base64(text: str) -> bytes:
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
