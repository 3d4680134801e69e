"""docs/wire-vectors.json says what the code does: the log's, the gateway's, and other people's where there are any."""

import json
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from nacl.signing import VerifyKey

from streams.core.signature import is_signed_by, operator_of
from tallyroot_gateway import wire
from tallyroot_gateway.reading import Reading, fault_of
from tests.support.wire_vectors import FILE, RFC_8032_KEYS, encoded

VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))

KAFKA_S_OWN = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""From the tests of Kafka's Java client (UtilsTest.testMurmur2)."""

RFC_8032_PUBLIC = (
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
)


def test_the_file_is_what_the_code_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == encoded(), "run python -m tests.support.wire_vectors"


def test_murmur2_is_kafka_s_and_the_gateway_s() -> None:
    hashes = {vector["key"]: vector["murmur2"] for vector in VECTORS["partitions"]}
    assert {key: hashes[key] - ((hashes[key] >> 31) << 32) for key in KAFKA_S_OWN} == KAFKA_S_OWN
    for vector in VECTORS["partitions"]:
        assert wire.murmur2(vector["key"].encode()) == vector["murmur2"]
        for count, partition in vector["partition_of"].items():
            assert wire.partition_of(vector["key"].encode(), int(count)) == partition


@pytest.mark.parametrize("vector", VECTORS["boundaries"], ids=lambda vector: vector["shows"])
def test_the_gateway_refuses_what_the_log_would(vector: dict[str, Any]) -> None:
    fields = json.loads(vector["value"])
    known = {name: value for name, value in fields.items() if name in Reading.__struct_fields__}
    assert (fault_of(known) is None) == (vector["result"] == "well formed")


@pytest.mark.parametrize("vector", VECTORS["device_signatures"], ids=lambda vector: vector["public_key"][:8])
def test_a_device_s_signature(vector: dict[str, Any]) -> None:
    private, value = bytes.fromhex(vector["private_key"]), bytes.fromhex(vector["value_hex"])
    signature, message = bytes.fromhex(vector["signature_hex"]), bytes.fromhex(vector["message_hex"])
    assert vector["public_key"] == RFC_8032_PUBLIC[RFC_8032_KEYS.index(vector["private_key"])]
    key = vector["key"].encode()
    kind = vector["record_type"]
    assert wire.reading_message(vector["log_id"], key, vector["content_type"], value, kind) == message
    headers = dict(wire.signed_headers("gw-1", private, vector["log_id"], key, "json", value, kind))
    assert headers.get("ce_type", b"reading") == kind.encode()
    assert headers["signature"] == signature
    assert is_signed_by(bytes.fromhex(vector["public_key"]), signature, message)
    VerifyKey(bytes.fromhex(vector["public_key"])).verify(message, signature)


@pytest.mark.parametrize("vector", VECTORS["operator_signatures"], ids=lambda vector: vector["log_id"])
def test_an_operator_s_signature_is_a_wallet_s(vector: dict[str, Any]) -> None:
    """By a wallet's own library, from the types that the page names."""
    names = ("key", "record_type", "content_type")
    typed = {
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
        "domain": {"name": "tallyroot", "version": "1", "salt": wire_salt(vector["log_id"])},
        "message": {
            **dict(zip(("key", "recordType", "contentType"), (vector[name] for name in names), strict=True)),
            "value": bytes.fromhex(vector["value_hex"]),
        },
    }
    signable = encode_typed_data(full_message=typed)
    signature = Account.from_key(vector["private_key"]).sign_message(signable).signature
    assert signature.hex().removeprefix("0x") == vector["signature_hex"]
    parts = (*(vector[name] for name in names), bytes.fromhex(vector["value_hex"]))
    assert operator_of(bytes.fromhex(vector["signature_hex"]), vector["log_id"], *parts) == vector["account"]


def wire_salt(log_id: str) -> bytes:
    """The domain's salt."""
    from eth_utils import keccak

    return keccak(text=log_id)
