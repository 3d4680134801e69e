"""A meter that signs: OCMF records made of registers, and files of public ones taken apart."""

import base64
import html
import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.registration import Curve, MeterKey
from streams.core.evidence import CURVES

FILES = Path(__file__).parents[1] / "golden" / "ocmf"


class Value(NamedTuple):
    """A signed value of a public file, and what stands there as its key."""

    text: str
    key_text: str


def values_of(name: str) -> list[Value]:
    """The OCMF records of a public file; those that are base64 are decoded."""
    content = (FILES / name).read_text("utf-8")
    found = re.findall(
        r"<signedData[^>]*>(.*?)</signedData>\s*(?:<publicKey[^>]*>(.*?)</publicKey>)?", content, re.DOTALL
    )
    beside = re.search(r"Public key:\s*([0-9a-f]+)", content)
    return [Value(_decoded(html.unescape(text).strip()), key or (beside.group(1) if beside else ""))
            for text, key in found]  # fmt: skip


def _decoded(text: str) -> str:
    return text if text.startswith("OCMF") or not text else base64.b64decode(text).decode()


@lru_cache
def meter_private_key(curve: Curve, number: int = 7) -> ec.EllipticCurvePrivateKey:
    """The private key of this number."""
    return ec.derive_private_key(number, CURVES[curve][1])


def meter_key(curve: Curve, number: int = 7, **more: Any) -> MeterKey:
    """Its public key as a registration has it."""
    point = meter_private_key(curve, number).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return MeterKey(curve, point.hex(), **more)


def ocmf_time(at_ms: int, status: str = "S") -> str:
    """A moment (epoch ms) as OCMF writes it, with a status of the clock."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S},{at_ms % 1000:03d}+0000 {status}"


def register(at_ms: int, kind: str, value: str | float, **more: Any) -> dict[str, Any]:
    """A reading as in RD: 1-b:1.8.0 in Wh, without an error."""
    return {"TM": ocmf_time(at_ms), "TX": kind, "RV": value, "RI": "1-b:1.8.0", "RU": "Wh", "EF": "", "ST": "G"} | more


def signed(curve: Curve, *readings: dict[str, Any], number: int = 7, **said: str) -> str:
    """The OCMF record of these readings, signed by the key of this number."""
    payload = json.dumps({"FV": "1.0", "GI": "a meter", "PG": "T1", "RD": list(readings)}, separators=(",", ":"))
    signature = meter_private_key(curve, number).sign(payload.encode(), ec.ECDSA(SHA256()))
    last = {"SA": CURVES[curve][0], "SD": signature.hex()} | said
    return f"OCMF|{payload}|{json.dumps(last)}"
