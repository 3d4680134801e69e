"""An operator's signature on a control record: EIP-712 typed data over the exact bytes that travel.

    domain  EIP712Domain(string name,string version,bytes32 salt)   name "tallyroot", version "1", salt keccak(log id)
    struct  Record(string key,string recordType,string contentType,bytes value)

The salt binds a signature to one log, the key to one partition. Any wallet that speaks EIP-712 can sign.
"""

from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from schemas.errors import InvalidInput

SIGNATURE_BYTES = 65
"""r (32 bytes), s (32 bytes), v (27 or 28)."""

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,bytes32 salt)"
_RECORD_TYPE = b"Record(string key,string recordType,string contentType,bytes value)"


def control_digest(
    log_id: str, key: str | bytes, record_type: str | bytes, content_type: str | bytes, value: bytes
) -> bytes:
    """The 32 bytes that an operator signs. Text may come as its UTF-8 bytes, as Kafka carries it."""
    domain = keccak(keccak(_DOMAIN_TYPE) + keccak(b"tallyroot") + keccak(b"1") + keccak(log_id.encode()))
    fields = b"".join(keccak(_utf8(part)) for part in (key, record_type, content_type, value))
    return keccak(b"\x19\x01" + domain + keccak(keccak(_RECORD_TYPE) + fields))


def sign_control(
    private_key: bytes,
    log_id: str,
    key: str | bytes,
    record_type: str | bytes,
    content_type: str | bytes,
    value: bytes,
) -> bytes:
    """The operator's signature, 65 bytes: r, s, v. The same input always gives the same bytes (RFC 6979).

    Raises InvalidInput for what is no secp256k1 key.
    """
    digest = control_digest(log_id, key, record_type, content_type, value)
    signature = _private_key(private_key).sign_msg_hash(digest)
    return signature.to_bytes()[:64] + bytes([27 + signature.v])


def operator_of(
    signature: bytes,
    log_id: str,
    key: str | bytes,
    record_type: str | bytes,
    content_type: str | bytes,
    value: bytes,
) -> str | None:
    """The EVM account (`0x` and 40 hex digits in lower case) that made a signature, or None where there is none.

    Only the low of the two possible s counts, and v is 27 or 28: a record has one signature of one key, not several.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        return None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not (0 < r < _CURVE_ORDER and 0 < s <= _CURVE_ORDER // 2):
        return None
    digest = control_digest(log_id, key, record_type, content_type, value)
    try:
        key_found = Signature(vrs=(signature[64] - 27, r, s)).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError):
        return None
    return key_found.to_address()


def operator_account(private_key: bytes) -> str:
    """The EVM account (`0x` and 40 hex digits in lower case) of a private key. Raises InvalidInput for a bad key."""
    return _private_key(private_key).public_key.to_address()


def _private_key(private_key: bytes) -> PrivateKey:
    if len(private_key) != 32 or not 0 < int.from_bytes(private_key, "big") < _CURVE_ORDER:
        raise InvalidInput("the operator key is no secp256k1 private key: give 32 bytes, as 64 hex digits")
    return PrivateKey(private_key)


def _utf8(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
