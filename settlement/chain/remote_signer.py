"""Keys held by a service (a KMS, an HSM, a vault behind a small server) that signs digests over HTTP.

    POST <url>    {"address": "0x…", "digest": "0x… (32 bytes)"}, and what has this digest: for a control record of the
                  log "typed_data", its EIP-712 document, for a transaction "transaction", its fields as JSON-RPC writes
                  them (type 2, EIP-1559): a service may show it, hold it against its rules, or sign it instead
    200           {"signature": "0x…"}: DER, or r and s of 32 bytes each, with or without a last byte v;
                  or {"r": "0x…", "s": "0x…"}

Such services know neither Ethereum's low s nor its v: both are computed here, and a signature by another account is
refused. Credentials in the URL (https://user:password@host/…) go as HTTP basic authentication. Without TLS a service
is only asked on this machine: who is in between would choose what is signed.
"""

import binascii
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from eth_keys.datatypes import Signature as PlainSignature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from schemas.errors import InvalidInput
from settlement.accrual import account_of
from settlement.chain.rpc import LOOPBACK, shown
from settlement.chain.signer import Signature, Signer

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1 (SEC 2): s and ORDER - s sign alike, Ethereum takes the lower one (EIP-2)."""

TIMEOUT_S = 30.0


class RemoteSigner(Signer):
    """An account whose key a service holds. The service is called only to sign."""

    def __init__(self, url: str, address: str) -> None:
        account = account_of(address)
        if account is None:
            raise InvalidInput(f"{address} is not an account: set the one whose key the signer holds")
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise InvalidInput(f"the signer at {shown(url)} is asked without TLS: give it an https URL")
        self._url = url
        self._account = account
        self._session = requests.Session()
        self._session.trust_env = parts.hostname not in LOOPBACK

    @property
    def address(self) -> str:
        """The account, in lower case."""
        return self._account

    def sign_digest(self, digest: bytes, meaning: Mapping[str, object]) -> Signature:
        """The service's signature. Raises InvalidInput, naming only its host, if there is none by this account."""
        question: dict[str, Any] = {"address": self._account, "digest": "0x" + digest.hex(), **meaning}
        try:
            answer = self._session.post(self._url, json=question, timeout=TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            raise self._failed(f"does not answer ({type(error).__name__}): start it, or check its URL") from None
        if answer.status_code != requests.codes.ok:
            raise self._failed(f"refuses (HTTP status {answer.status_code}): look at its log")
        try:
            found = list(_pairs(answer.json()))
        except (ValueError, KeyError, TypeError):  # binascii's and JSON's errors are ValueErrors
            raise self._failed("returns no signature: it must sign digests on secp256k1") from None
        for r, s in found:
            signature = _recovered(digest, r, s, self._account)
            if signature is not None:
                return signature
        raise self._failed(f"signs with another key than that of {self._account}: check the address and its key")

    def _failed(self, what: str) -> InvalidInput:
        return InvalidInput(f"the signer at {shown(self._url)} {what}")


def _pairs(answer: Any) -> Iterator[tuple[int, int]]:
    """The (r, s) that an answer may encode. Raises ValueError, KeyError or TypeError if it is not a signature."""
    if "signature" not in answer:
        yield int(answer["r"], 16), int(answer["s"], 16)
        return
    signature = binascii.unhexlify(str(answer["signature"]).removeprefix("0x"))
    pair = _der(signature)
    if pair is not None:
        yield pair
    if len(signature) in (64, 65):
        yield int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    elif pair is None:
        raise ValueError("no signature")


def _der(signature: bytes) -> tuple[int, int] | None:
    """r and s of a DER `SEQUENCE { INTEGER r, INTEGER s }` (X.690); None if it is anything else."""
    if len(signature) < 2 or signature[0] != 0x30 or signature[1] != len(signature) - 2:
        return None
    numbers, rest = [], signature[2:]
    for _ in range(2):
        end = 2 + (rest[1] if len(rest) > 1 else 0)
        if rest[:1] != b"\x02" or not 2 < end <= len(rest):
            return None
        numbers.append(int.from_bytes(rest[2:end], "big"))
        rest = rest[end:]
    return None if rest else (numbers[0], numbers[1])


def _recovered(digest: bytes, r: int, s: int, account: str) -> Signature | None:
    """The signature with a low s and the parity that recovers the account; None if neither parity does."""
    low = min(s, ORDER - s)
    for parity in (0, 1):
        try:
            key = PlainSignature(vrs=(parity, r, low)).recover_public_key_from_msg_hash(digest)
        except (BadSignature, ValidationError):
            continue
        if key.to_address() == account:
            return Signature(r, low, parity)
    return None
