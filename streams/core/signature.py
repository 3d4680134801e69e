"""Signatures over the exact bytes that travel: an operator's on a control record, a device's on a reading record.

**Operators** sign EIP-712 typed data with the key of an EVM account; the header `signature` is 65 bytes.

    domain  EIP712Domain(string name,string version,bytes32 salt)   name "tallyroot", version "1", salt keccak(log id)
    struct  Record(string key,string recordType,string contentType,bytes value)

The salt binds a signature to one log, the key to one partition. Any wallet that speaks EIP-712 can sign.

**Devices** and their gateways sign with Ed25519 (RFC 8032, not prehashed); the header `signature` is 64 bytes, and the
header `key-id` names the key as the machine's registration does. What they sign is

    "tallyroot reading 1\n" (20 bytes of ASCII), then five fields, each its length (8 bytes, big-endian) and bytes:
    log id, record's key (none: empty), "reading", content type (without that header: application/json), and the
    SHA-256 of the value (32 bytes)

all as on the wire, text as UTF-8. The value is hashed once, so a large record that names many machines with many keys
costs no more than a small one for each key. A signature is valid as in libsodium: S is below the group's order,
the public key A is canonical, neither A nor R is of small order, and R is [S]B - [h]A byte for byte (no cofactor).
"""

from functools import lru_cache
from hashlib import sha256

from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from schemas.errors import InvalidInput
from schemas.keccak import keccak

try:
    from coincurve import PublicKey as CoinCurveKey
except ImportError:  # no wheel here
    CoinCurveKey = None  # type: ignore[assignment,misc]

SIGNATURE_BYTES = 65
"""r (32 bytes), s (32 bytes), v (27 or 28)."""

READING_SIGNATURE_BYTES = 64
"""R and S, 32 bytes each."""

_READING_DOMAIN = b"tallyroot reading 1\n"
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,bytes32 salt)"
_RECORD_TYPE = b"Record(string key,string recordType,string contentType,bytes value)"


def control_digest(
    log_id: str, key: str | bytes, record_type: str | bytes, content_type: str | bytes, value: bytes
) -> bytes:
    """The 32 bytes that an operator signs. Text may be passed as its UTF-8 bytes, as Kafka carries it."""
    fields = (keccak(_utf8(key)), _hash_of_word(_utf8(record_type)), _hash_of_word(_utf8(content_type)), keccak(value))
    return keccak(b"\x19\x01" + _domain(log_id) + keccak(_hash_of_word(_RECORD_TYPE) + b"".join(fields)))


@lru_cache(maxsize=64)
def _domain(log_id: str) -> bytes:
    return keccak(keccak(_DOMAIN_TYPE) + keccak(b"tallyroot") + keccak(b"1") + keccak(log_id.encode()))


@lru_cache(maxsize=64)
def _hash_of_word(word: bytes) -> bytes:
    """Of what nearly all records have in common."""
    return keccak(word)


def sign_control(
    private_key: bytes,
    log_id: str,
    key: str | bytes,
    record_type: str | bytes,
    content_type: str | bytes,
    value: bytes,
) -> bytes:
    """The operator's signature, 65 bytes: r, s, v. Deterministic (RFC 6979).

    Raises InvalidInput if `private_key` is not a secp256k1 key.
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
    """The EVM account that made an operator's signature, or None if it is invalid."""
    return recovered(control_digest(log_id, key, record_type, content_type, value), signature)


def recovered(digest: bytes, signature: bytes) -> str | None:
    """The EVM account (`0x` and 40 hex digits in lower case) whose key signed 32 bytes, or None if none did.

    Only the low of the two possible s counts, and v is 27 or 28: a digest has one signature of one key, not several.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        return None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not (0 < r < _CURVE_ORDER and 0 < s <= _CURVE_ORDER // 2):
        return None
    compact = signature[:64] + bytes([signature[64] - 27])
    if CoinCurveKey is not None:  # as eth-keys does, without its objects
        try:
            public_key = CoinCurveKey.from_signature_and_message(compact, digest, hasher=None)
        except ValueError:
            return None
        return "0x" + keccak(public_key.format(compressed=False)[1:])[12:].hex()
    try:
        return Signature(compact).recover_public_key_from_msg_hash(digest).to_address()
    except (BadSignature, ValidationError):
        return None


def operator_account(private_key: bytes) -> str:
    """The EVM account (`0x` and 40 hex digits in lower case) of a private key. Raises InvalidInput for a bad key."""
    return _private_key(private_key).public_key.to_address()


def reading_message(
    log_id: str, key: str | bytes, record_type: str | bytes, content_type: str | bytes, value: bytes
) -> bytes:
    """The bytes that a device signs. Text may be passed as its UTF-8 bytes, as Kafka carries it."""
    fields = [_utf8(field) for field in (log_id, key, record_type, content_type, sha256(value).digest())]
    return _READING_DOMAIN + b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def sign_reading(
    private_key: bytes,
    log_id: str,
    key: str | bytes,
    record_type: str | bytes,
    content_type: str | bytes,
    value: bytes,
) -> bytes:
    """A device's signature, 64 bytes. Deterministic.

    `private_key` is the 32 bytes of RFC 8032 (elsewhere called the seed). Raises InvalidInput for another length.
    """
    message = reading_message(log_id, key, record_type, content_type, value)
    return _signing_key(private_key).sign(message).signature


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature of a message is valid under an Ed25519 public key (32 bytes)."""
    if len(signature) != READING_SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def reading_key(private_key: bytes) -> str:
    """The public key (64 hex digits) that a registration names. Raises InvalidInput if the key is not 32 bytes."""
    return bytes(_signing_key(private_key).verify_key).hex()


def _signing_key(private_key: bytes) -> SigningKey:
    if len(private_key) != 32:
        raise InvalidInput("the device key is not an Ed25519 private key: pass 32 bytes, as 64 hex digits")
    return SigningKey(private_key)


def _private_key(private_key: bytes) -> PrivateKey:
    if len(private_key) != 32 or not 0 < int.from_bytes(private_key, "big") < _CURVE_ORDER:
        raise InvalidInput("the operator key is not a secp256k1 private key: pass 32 bytes, as 64 hex digits")
    return PrivateKey(private_key)


def _utf8(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
