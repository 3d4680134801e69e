"""EIP-3009: what a payer signs so that somebody else may send the transfer, and what is wrong with one."""

from collections.abc import Mapping
from typing import Protocol

from eth_utils.address import to_checksum_address
from msgspec import Struct, structs

from schemas.keccak import keccak
from streams.core.signature import recovered
from till import wire
from till.wire import ExactPayload, Payment, Requirements, SignedAuthorization

_DOMAIN = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_TRANSFER = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)
WORD_MAX = 2**256 - 1

LEAST_S = 20
"""An authorisation must hold for as long from now: a block has to be mined in time."""

CLOCK_S = 60
"""By how much a buyer's clock may be ahead."""


class KeyPort(Protocol):
    """An account that signs: its key is in this process, or with a service."""

    @property
    def address(self) -> str:
        """The account, in lower case."""

    def sign_digest(self, digest: bytes, meaning: Mapping[str, object]) -> tuple[int, int, int]:
        """r, s (low) and the parity of y over 32 bytes; `meaning` is what has this digest."""


class Asset(Struct, frozen=True, kw_only=True):
    """The token of a ledger: its chain, addresses in lower case, and the name and version of its EIP-712 domain."""

    chain_id: int
    token: str
    ledger: str
    decimals: int
    name: str
    version: str

    @property
    def network(self) -> str:
        """The chain by CAIP-2."""
        return f"eip155:{self.chain_id}"

    def units(self, micros: int) -> int:
        """Micros in token units."""
        return micros * int(10 ** (self.decimals - 6))

    def micros(self, units: int) -> int:
        """Token units in micros, rounded up."""
        return -(-units // int(10 ** (self.decimals - 6)))


class Authorization(Struct, frozen=True):
    """A signed transfer. Accounts and nonce are 0x-hex in lower case, times Unix seconds, `value` token units."""

    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: str

    @classmethod
    def of(cls, payment: Payment) -> "Authorization":
        """What a payment carries."""
        signed = payment.payload.authorization
        return cls(
            signed.from_.lower(), signed.to.lower(), int(signed.value), int(signed.valid_after),
            int(signed.valid_before), signed.nonce.lower(), payment.payload.signature.lower(),
        )  # fmt: skip

    def digest(self, asset: Asset) -> bytes:
        """The 32 bytes that the payer signs (EIP-712)."""
        name, version = keccak(asset.name.encode()), keccak(asset.version.encode())
        domain = keccak(_DOMAIN + name + version + _word(asset.chain_id) + _account(asset.token))
        fields = b"".join(map(_word, (self.value, self.valid_after, self.valid_before)))
        parts = _TRANSFER + _account(self.payer) + _account(self.to) + fields + bytes.fromhex(self.nonce[2:])
        return keccak(b"\x19\x01" + domain + keccak(parts))

    def typed_data(self, asset: Asset) -> Mapping[str, object]:
        """What a wallet signs by `eth_signTypedData_v4`: the EIP-712 document that has `digest`."""
        words = {"address": ("from", "to"), "uint256": ("value", "validAfter", "validBefore"), "bytes32": ("nonce",)}
        return {
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"}, {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"},
                ],
                "TransferWithAuthorization": [
                    {"name": name, "type": kind} for kind, names in words.items() for name in names
                ],
            },
            "primaryType": "TransferWithAuthorization",
            "domain": {
                "name": asset.name, "version": asset.version, "chainId": asset.chain_id,
                "verifyingContract": asset.token,
            },
            "message": {
                "from": self.payer, "to": self.to, "value": self.value, "validAfter": self.valid_after,
                "validBefore": self.valid_before, "nonce": self.nonce,
            },
        }  # fmt: skip

    def signed_by(self, key: KeyPort, asset: Asset) -> "Authorization":
        """The same with its payer's signature. Raises InvalidInput if the key is not available."""
        r, s, parity = key.sign_digest(self.digest(asset), {"typed_data": self.typed_data(asset)})
        return structs.replace(self, signature=f"0x{r:064x}{s:064x}{27 + parity:02x}")

    def payment(self, accepted: Requirements) -> Payment:
        """What a buyer sends under terms that it accepts; accounts with checksums, which some facilitators demand."""
        words = SignedAuthorization(
            from_=to_checksum_address(self.payer), to=to_checksum_address(self.to), value=str(self.value),
            valid_after=str(self.valid_after),
            valid_before=str(self.valid_before), nonce=self.nonce,
        )  # fmt: skip
        return Payment(x402_version=wire.VERSION, accepted=accepted, payload=ExactPayload(self.signature, words))

    def is_signed(self, asset: Asset) -> bool:
        """Whether the payer's own key signed it: 65 bytes, low s, v 27 or 28, as the token demands."""
        return recovered(self.digest(asset), bytes.fromhex(self.signature[2:])) == self.payer


def terms(asset: Asset, value: int, timeout_s: int) -> Requirements:
    """How `value` token units may be paid to the ledger."""
    return Requirements(
        scheme=wire.SCHEME, network=asset.network, asset=asset.token, amount=str(value), pay_to=asset.ledger,
        max_timeout_seconds=timeout_s, extra={"name": asset.name, "version": asset.version},
    )  # fmt: skip


def fault_of_form(payment: Payment, asset: Asset) -> str | None:
    """The protocol's error for a payment that is not of this asset; None if it is. Who signed it is not asked here.

    What it says of amount and time is `fault_of_terms`'s: an authorisation that was accepted once stays valid here.
    """
    accepted, authorization = payment.accepted, Authorization.of(payment)
    if payment.x402_version != wire.VERSION:
        return wire.INVALID_VERSION
    if accepted.scheme != wire.SCHEME:
        return wire.UNSUPPORTED_SCHEME
    if accepted.network != asset.network:
        return wire.NETWORK_MISMATCH
    if accepted.asset.lower() != asset.token:
        return wire.INVALID_REQUIREMENTS
    if accepted.pay_to.lower() != asset.ledger or authorization.to != asset.ledger:
        return wire.RECIPIENT
    if max(authorization.value, authorization.valid_after, authorization.valid_before) > WORD_MAX:
        return wire.INVALID_PAYLOAD
    return None


def fault_of_terms(payment: Payment, wanted: Requirements, now_s: int) -> str | None:
    """The protocol's error for a payment of another amount, or that doesn't hold now (Unix seconds); None if it does.

    One that holds much longer than it was asked to is refused as well: it would keep the machine reserved.
    """
    authorization = Authorization.of(payment)
    if payment.accepted.amount != wanted.amount or authorization.value != int(wanted.amount):
        return wire.VALUE
    if authorization.valid_after >= now_s:
        return wire.VALID_AFTER
    latest_s = now_s + wanted.max_timeout_seconds + CLOCK_S
    return None if now_s + LEAST_S <= authorization.valid_before <= latest_s else wire.VALID_BEFORE


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _account(account: str) -> bytes:
    return bytes(12) + bytes.fromhex(account[2:])
