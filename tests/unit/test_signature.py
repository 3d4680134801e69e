"""An operator's signature is standard EIP-712, binds everything that travels, and has one form only."""

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from schemas.errors import InvalidInput
from streams.signature import control_digest, operator_account, operator_of, sign_control

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
