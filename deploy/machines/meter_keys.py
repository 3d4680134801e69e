"""The key that a meter signs with, as its label or its maker writes it, and back as the public software reads it."""

import base64
import binascii
import re

from schemas.errors import InvalidInput
from schemas.registration import COORDINATE_BYTES, Curve, MeterKey


def meter_key_of(text: str, obis: str | None) -> MeterKey:
    """A public key in hex (blanks aside) or base64: SubjectPublicKeyInfo, or a curve's name and a point.

    Raises InvalidInput for what isn't one on a curve of RULES 41.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from msgspec import UNSET

    from streams.core.evidence import CURVES

    curve, _, rest = text.strip().partition(" ")
    try:
        if curve in CURVES:
            point = _bytes(rest)
            encoded = point if len(point) % 2 else b"\4" + point  # labels leave out the byte that says "uncompressed"
            key: object = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[curve][1], encoded)
        else:
            key = load_der_public_key(_bytes(text))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    names: dict[str, Curve] = {known.name: name for name, (_, known) in CURVES.items()}
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in names:
        raise InvalidInput(
            f"signed_by: '{_short(text)}' is no public key on one of {', '.join(CURVES)}: copy it from the label of the"
            ' meter (hex that begins with 30, or base64), or write "secp256r1 04..."'
        )
    numbers, name = key.public_numbers(), names[key.curve.name]
    size = COORDINATE_BYTES[name]
    point = b"\4" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
    return MeterKey(name, point.hex(), UNSET if obis is None else obis)


def public_key_info(key: MeterKey) -> str:
    """The key as SubjectPublicKeyInfo in hex: what the public transparency software asks for."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from streams.core.evidence import CURVES

    point = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[key.curve][1], bytes.fromhex(key.public_key))
    return point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex().upper()


def _bytes(text: str) -> bytes:
    """Hex, blanks aside, or base64. Raises ValueError."""
    bare = re.sub(r"\s", "", text)
    if re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", bare):
        return bytes.fromhex(bare)
    try:
        return base64.b64decode(bare, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
