"""Signatures bind everything that travels and have one form only."""

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from nacl.signing import VerifyKey

from schemas.errors import InvalidInput
from streams.core.signature import (
    control_digest,
    is_signed_by,
    operator_account,
    operator_of,
    reading_key,
    reading_message,
    sign_control,
    sign_reading,
)

KEY = bytes(range(1, 33))
RECORD = ("log-1", "site-a", "machine.registered", "application/json", b'{"machine":"m\xc3\xa9"}')
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def _typed_data() -> dict[str, object]:
    log_id, key, record_type, content_type, value = RECORD
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "salt", "type": "bytes32"},
            ],
            "Record": [
                {"name": "key", "type": "string"},
                {"name": "recordType", "type": "string"},
                {"name": "contentType", "type": "string"},
                {"name": "value", "type": "bytes"},
            ],
        },
        "primaryType": "Record",
        "domain": {"name": "tallyroot", "version": "1", "salt": keccak(text=log_id)},
        "message": {"key": key, "recordType": record_type, "contentType": content_type, "value": value},
    }


def test_a_wallet_signs_the_same_digest_and_signature() -> None:
    signed = Account.from_key(KEY).sign_message(encode_typed_data(full_message=_typed_data()))
    assert bytes(signed.message_hash) == control_digest(*RECORD)
    assert bytes(signed.signature) == sign_control(KEY, *RECORD)


def test_the_operator_is_found_again() -> None:
    account = Account.from_key(KEY).address.lower()
    assert operator_account(KEY) == account
    assert operator_of(sign_control(KEY, *RECORD), *RECORD) == account


def test_text_may_come_as_bytes() -> None:
    log_id, key, record_type, content_type, value = RECORD
    as_bytes = (log_id, key.encode(), record_type.encode(), content_type.encode(), value)
    assert control_digest(*as_bytes) == control_digest(*RECORD)
    assert operator_of(sign_control(KEY, *RECORD), log_id, b"\xff", *as_bytes[2:]) != operator_account(KEY)


def test_every_part_is_signed() -> None:
    signature, (log_id, key, record_type, content_type, value) = sign_control(KEY, *RECORD), RECORD
    for changed in (
        (log_id + "x", key, record_type, content_type, value),
        (log_id, key + "x", record_type, content_type, value),
        (log_id, key, record_type + "x", content_type, value),
        (log_id, key, record_type, content_type + "x", value),
        (log_id, key, record_type, content_type, value + b" "),
    ):
        assert operator_of(signature, *changed) != operator_account(KEY)


def test_only_one_form_of_a_signature_counts() -> None:
    signature = sign_control(KEY, *RECORD)
    high_s = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    flipped = signature[:32] + high_s + bytes([55 - signature[64]])
    assert Account._recover_hash(control_digest(*RECORD), signature=flipped).lower() == operator_account(KEY)
    for other in (
        flipped,
        signature[:64] + bytes([signature[64] - 27]),
        signature[:64],
        signature + b"\0",
        bytes(64) + b"\x1b",
        b"\xff" * 64 + b"\x1b",
        b"",
    ):
        assert operator_of(other, *RECORD) is None


def test_an_unrecoverable_point_is_nobody() -> None:
    for r in range(1, 12):  # about half of all x are on no point of the curve
        found = operator_of(r.to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x1b", *RECORD)
        assert found is None or len(found) == 42


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, bytes(31)])
def test_a_bad_key_is_refused_in_one_line(key: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^the operator key"):
        sign_control(key, *RECORD)


# Devices

READING = ("log-1", "site-a", "reading", "application/json", b'{"machine":"m\xc3\xa9"}')
A = "7767a3242dc9b58bbc68488c1265cc6cc5f26c6f3c88a5d55e901b0734dca572"
R = "7db0dc9222f3c183457ddde4c708de8e5ea6bf3d5c4404cca14b32729a05c32a"
MIXED_A = "6a84d583f06569edb3f5ed77df65544b27d6948b4f0b2cb76f33dd8413b20719"
ONE = "01" + "00" * 31
"""The neutral element: a point of small order."""


def test_a_device_signs_plain_ed25519() -> None:
    signature = sign_reading(KEY, *READING)
    message = reading_message(*READING)
    public_key = bytes.fromhex(reading_key(KEY))
    assert signature == sign_reading(KEY, *READING) and len(signature) == 64
    assert VerifyKey(public_key).verify(message, signature) == message
    assert is_signed_by(public_key, signature, message)
    assert not is_signed_by(public_key, signature[:-1], message)
    assert not is_signed_by(public_key, signature + b"\0", message)
    assert not is_signed_by(bytes.fromhex(reading_key(bytes(32))), signature, message)
    with pytest.raises(InvalidInput, match=r"^the device key"):
        sign_reading(KEY[:-1], *READING)


def test_every_part_of_a_reading_record_is_signed_in_its_place() -> None:
    messages = {reading_message(*READING)}
    for place, part in enumerate(READING):
        for changed in (part + part[:1], part[1:], part[:0]):
            messages.add(reading_message(*READING[:place], changed, *READING[place + 1 :]))  # type: ignore[arg-type]
    messages.add(reading_message("log-1s", "ite-a", *READING[2:]))
    assert len(messages) == 1 + 3 * 5 + 1
    assert reading_message(READING[0], b"site-a", b"reading", b"application/json", READING[4]) in messages


@pytest.mark.parametrize(
    ("public_key", "r", "s", "message", "is_right"),
    [
        (A, R, "83abf232e2ff425687994cbdedf91e41253ad0283ec2d7e0e370332ad4d32409", "hello", True),
        # S beyond the order of the group.
        (A, R, "707fe88ffc6255ae5d364460ccf3fd55253ad0283ec2d7e0e370332ad4d32419", "hello", False),
        # R with a part of small order, right only by the cofactor.
        (
            A,
            "6999d5cb5126005c325892f1c6eab824b310708befff12fbaf45dda050cb12f0",
            "81702704a7d9ee5ea4b3f00d2f098185c6165c90f39319c1d36ffe91a83b8f02",
            "hello",
            False,
        ),
        # R of small order.
        (A, ONE, "eb3ae651a6ecfe70d7f664fef363f1b3ee5bf630f86f96dd3ffa985446c53f09", "hello", False),
        # A key with a part of small order: right where that part falls out, else only by the cofactor.
        (MIXED_A, R, "6fd817755298e2c80aaee5b8a446909eaa0fc10c19bf472b8b0e162ab6255a01", "hello3", True),
        (MIXED_A, R, "e626e60a45c1c5ca68bf4a544b6d41629c308b99db14413d655576ccf6827b04", "hello0", False),
        # A key of small order: anybody could sign.
        (ONE, R, "b168de3a" + "00" * 28, "hello", False),
        # No point at all.
        ("02" + "00" * 31, R, "00" * 32, "hello", False),
    ],
)
def test_what_counts_as_a_signature_is_as_strict_as_the_rule(
    public_key: str, r: str, s: str, message: str, is_right: bool
) -> None:
    """Libraries differ here: every implementation of the rules has to give the same."""
    found = is_signed_by(bytes.fromhex(public_key), bytes.fromhex(r + s), message.encode())
    assert found is is_right
