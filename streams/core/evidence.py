"""What a meter signed of its own registers: OCMF records, verified under the key of its registration (rules 41 and 42).

    OCMF|payload|signature

The payload is JSON: readings of registers, each with its time. The signature is ECDSA over the SHA-256 of the payload's
bytes, in an object that names the curve. The Open Charge Metering Format:
https://github.com/SAFE-eV/OCMF-Open-Charge-Metering-Format

What a record says is used only if no single bit of it could be another: what is not signed (the object around the
signature) has one spelling.
"""

import base64
import binascii
import json
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import UNSET

from schemas.registration import COORDINATE_BYTES, Curve, MeterKey

CURVES: dict[Curve, tuple[str, ec.EllipticCurve]] = {
    "brainpoolP256r1": ("ECDSA-brainpool256r1-SHA256", ec.BrainpoolP256R1()),
    "brainpoolP384r1": ("ECDSA-brainpool384r1-SHA256", ec.BrainpoolP384R1()),
    "secp192r1": ("ECDSA-secp192r1-SHA256", ec.SECP192R1()),
    "secp256k1": ("ECDSA-secp256k1-SHA256", ec.SECP256K1()),
    "secp256r1": ("ECDSA-secp256r1-SHA256", ec.SECP256R1()),
    "secp384r1": ("ECDSA-secp384r1-SHA256", ec.SECP384R1()),
}
"""What OCMF calls each curve with its hash, and the curve."""

DEFAULT_ALGORITHM = "ECDSA-secp256r1-SHA256"

DEPTH_MAX = 16
"""A payload that nests deeper proves nothing."""

UNIT_SIZES = {"mWh": 1, "Wh": 1_000, "kWh": 1_000_000, "MWh": 1_000_000_000}
"""The units of a register, OCMF's and the registration's."""

_INHERITED = ("TM", "TX", "RI", "RU", "EF", "ST")
"""What a reading leaves out is as in the one before it."""

_NUMBER = re.compile(r"([0-9]{1,16})(?:\.([0-9]{0,16}))?", re.ASCII)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2}),([0-9]{3})([+-])([0-9]{2})([0-5][0-9]) [ISR]",
    re.ASCII,
)
_HEX = re.compile(r"(?:[0-9A-F]{2})+|(?:[0-9a-f]{2})+", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class SignedRegister(NamedTuple):
    """One register that a meter signed. `kind` is OCMF's TX: B begins a transaction."""

    time_ms: int
    kind: str
    obis: str
    unit: str
    value: Fraction

    def value_in(self, unit: str) -> int:
        """The register in another unit of energy, rounded down."""
        size = self.value * UNIT_SIZES[self.unit] / UNIT_SIZES[unit]
        return size.numerator // size.denominator


class Proof(NamedTuple):
    """What evidence says of one row: its own register is proven; the register at the transaction's begin, if said."""

    begin: int | None


class _Unproven(Exception):
    """Evidence that proves nothing."""


def proof_of(evidence: str, key: MeterKey, unit: str, register: int, observed_at: int) -> Proof | None:
    """What `evidence` proves of a register (in `unit`) that was observed at a moment (epoch ms); None if nothing."""
    try:
        registers = [one for one in signed_registers(evidence, key) if unit in UNIT_SIZES and one.unit in UNIT_SIZES]
    except _Unproven:
        return None
    if key.obis is not UNSET:
        registers = [one for one in registers if one.obis == key.obis]
    elif len({one.obis for one in registers}) > 1:  # which of them is this meter's, nobody said
        return None
    if not any(one.time_ms == observed_at and one.value_in(unit) == register for one in registers):
        return None
    begins = [one.value_in(unit) for one in registers if one.kind == "B"]
    return Proof(begins[-1] if begins else None)


def is_verified(evidence: str, key: MeterKey) -> bool:
    """Whether a meter's key signed this record, whatever it says."""
    try:
        _verified_payload(evidence, key)
    except _Unproven:
        return False
    return True


def signed_registers(evidence: str, key: MeterKey) -> list[SignedRegister]:
    """The registers that a record states without an error of the meter or its clock, in its order.

    Raises an exception of this module if the key's signature does not verify, or the payload isn't one.
    """
    payload = _json(_verified_payload(evidence, key))
    readings = payload.get("RD") if isinstance(payload, dict) else None
    if not isinstance(readings, list):
        raise _Unproven
    found: list[SignedRegister] = []
    before: dict[str, Any] = {}
    for reading in readings:
        if not isinstance(reading, dict):
            raise _Unproven
        before = {name: reading.get(name, before.get(name)) for name in _INHERITED} | {"RV": reading.get("RV")}
        one = _register_of(before)
        if one is not None:
            found.append(one)
    return found


def _verified_payload(evidence: str, key: MeterKey) -> str:
    parts = evidence.split("|")
    if len(parts) != 3 or parts[0] != "OCMF":
        raise _Unproven
    _, payload, said = parts
    algorithm, curve = CURVES[key.curve]
    signature = encode_dss_signature(*_integers_of(_signature_of(said, algorithm), COORDINATE_BYTES[key.curve]))
    try:
        public_key = ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes.fromhex(key.public_key))
        public_key.verify(signature, payload.encode("utf-8", "surrogatepass"), ec.ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        raise _Unproven from None
    return payload


def _signature_of(said: str, algorithm: str) -> bytes:
    """The bytes of the signature in OCMF's last part, which has exactly one spelling."""
    fields = _json(said)
    if not isinstance(fields, dict) or not fields.keys() <= {"SA", "SE", "SM", "SD"} or set("\t\r\n") & set(said):
        raise _Unproven
    if fields.get("SA", DEFAULT_ALGORITHM) != algorithm or fields.get("SM", "application/x-der") != "application/x-der":
        raise _Unproven
    data, encoding = fields.get("SD"), fields.get("SE", "hex")
    if not isinstance(data, str) or "\\" in said:
        raise _Unproven
    if encoding == "hex" and _HEX.fullmatch(data):
        return bytes.fromhex(data)
    if encoding == "base64":
        try:
            signature = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise _Unproven from None
        if base64.b64encode(signature).decode() == data:
            return signature
    raise _Unproven


def _integers_of(signature: bytes, size: int) -> tuple[int, int]:
    """r and s: a SEQUENCE of two INTEGERs in DER, or (some meters) each in `size` bytes. Raises if it is neither.

    The INTEGERs are read as unsigned, whatever zeros they begin with: meters write them in as many bytes each time.
    """
    integers, at = [], 2
    is_der = len(signature) > 2 and signature[0] == 0x30 and signature[1] == len(signature) - 2 < 128
    while is_der and at < len(signature):
        length = signature[at + 1] if at + 1 < len(signature) else 0
        number = signature[at + 2 : at + 2 + length]
        is_der = signature[at] == 0x02 and 0 < length == len(number)
        integers.append(int.from_bytes(number, "big"))
        at += 2 + length
    if is_der and len(integers) == 2:
        return integers[0], integers[1]
    if len(signature) != 2 * size:
        raise _Unproven
    return int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")


def _register_of(reading: dict[str, Any]) -> SignedRegister | None:
    """A reading as a register; None where the meter or its clock has an error, or something isn't as OCMF writes it."""
    time, kind, obis, unit, errors, state, value = (reading[name] for name in (*_INHERITED, "RV"))
    if state != "G" or errors not in (None, "") or not isinstance(obis, str) or not isinstance(unit, str):
        return None
    number = _NUMBER.fullmatch(value.strip(" ")) if isinstance(value, str) else None
    stamp = _TIME.fullmatch(time) if isinstance(time, str) else None
    if number is None or stamp is None or int(stamp.group(9)) > 23:
        return None
    *parts, sign, hours, minutes = stamp.groups()
    try:
        local = datetime(*(int(part) for part in parts[:6]), int(parts[6]) * 1_000, tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    whole, fraction = number.group(1), number.group(2) or ""
    return SignedRegister(
        time_ms=(local - _EPOCH - (-offset if sign == "-" else offset)) // _MS,
        kind=kind if isinstance(kind, str) else "",
        obis=obis,
        unit=unit,
        value=Fraction(int(whole + fraction), 10 ** len(fraction)),
    )


def _json(text: str) -> Any:
    """A JSON value, its numbers as the texts that they are. Raises if it isn't one, nests deep, or repeats a name."""
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth > DEPTH_MAX:
            raise _Unproven
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse, object_pairs_hook=_once)
    except ValueError:
        raise _Unproven from None


def _refuse(_: str) -> Any:
    raise _Unproven


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unproven
    return found
