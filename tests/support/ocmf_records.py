"""OCMF records as a meter signs them, for tests."""

import json
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

METER_KEY = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())

PUBLIC_KEY = (
    METER_KEY.public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    .hex()
)


def ocmf(*readings: dict[str, Any], page: int = 1) -> str:
    """A record of these readings; each has at least TM, TX and RV."""
    rows = [{"RI": "1-b:1.8.0", "RU": "kWh", "ST": "G", "EF": "", "RT": "AC", **reading} for reading in readings]
    head = {"FV": "1.0", "GI": "GW", "GS": "1", "GV": "1", "PG": f"T{page}", "MS": "M1", "IS": True, "IL": "VERIFIED"}
    payload = json.dumps({**head, "IF": ["RFID_PLAIN"], "IT": "ISO14443", "ID": "04AB", "RD": rows})
    signature = METER_KEY.sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
    return f"OCMF|{payload}|" + json.dumps({"SA": "ECDSA-secp256r1-SHA256", "SD": signature.hex()})
