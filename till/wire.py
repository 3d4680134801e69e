"""The forms of x402, version 2, scheme `exact` on EVM chains with EIP-3009; see github.com/x402-foundation/x402, specs.

Headers hold base64 of JSON. What a buyer sends is decoded strictly, and is at most HEADER_MAX characters long; a field
of another extension is ignored, as the protocol wants it.
"""

import base64
import binascii
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.errors import InvalidInput
from schemas.units import Account

VERSION = 2
SCHEME = "exact"
SIGNATURE_HEADER, REQUIRED_HEADER, RESPONSE_HEADER = "PAYMENT-SIGNATURE", "PAYMENT-REQUIRED", "PAYMENT-RESPONSE"
HEADER_MAX = 16_384

AnyAccount = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}$(?!\n)")]
Number = Annotated[str, Meta(pattern=r"^[0-9]{1,78}$(?!\n)")]
Nonce = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{64}$(?!\n)")]
Bytes = Annotated[str, Meta(pattern=r"^0x([0-9a-fA-F]{2}){1,4096}$(?!\n)")]

INVALID_PAYLOAD = "invalid_payload"
INVALID_VERSION = "invalid_x402_version"
UNSUPPORTED_SCHEME = "unsupported_scheme"
NETWORK_MISMATCH = "network_mismatch"
INVALID_REQUIREMENTS = "invalid_payment_requirements"
SIGNATURE = "invalid_exact_evm_payload_signature"
RECIPIENT = "invalid_exact_evm_payload_recipient_mismatch"
VALUE = "invalid_exact_evm_payload_authorization_value_mismatch"
VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after"
NONCE_USED = "invalid_exact_evm_nonce_already_used"
NO_FUNDS = "invalid_exact_evm_insufficient_balance"
SIMULATION = "invalid_exact_evm_transaction_simulation_failed"
FAILED = "transaction_failed"
PENDING = "settlement_pending"


class Requirements(Struct, frozen=True, rename="camel", kw_only=True):
    """How one may pay: `amount` in token units, `extra` the name and version of the token's EIP-712 domain."""

    scheme: str
    network: str
    asset: str
    amount: str
    pay_to: str
    max_timeout_seconds: int
    extra: dict[str, Any] = {}


class Resource(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is sold."""

    url: str
    description: str = ""
    mime_type: str = "application/json"


class Required(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The answer 402: how one may pay, and why what came was refused."""

    x402_version: int
    accepts: list[Requirements]
    resource: Resource
    error: str | UnsetType = UNSET


class SignedAuthorization(Struct, frozen=True, rename="camel", kw_only=True):
    """EIP-3009's fields as strings."""

    from_: AnyAccount = msgspec.field(name="from")
    to: AnyAccount
    value: Number
    valid_after: Number
    valid_before: Number
    nonce: Nonce


class ExactPayload(Struct, frozen=True):
    """An authorisation, and the payer's signature over it."""

    signature: Bytes
    authorization: SignedAuthorization


class Payment(Struct, frozen=True, rename="camel", kw_only=True):
    """What a buyer sends: the terms that it accepts, and the signed authorisation."""

    x402_version: int
    accepted: Requirements
    payload: ExactPayload


class Settled(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """The header of an answer to a payment."""

    success: bool
    transaction: str
    network: str
    payer: Account | UnsetType = UNSET
    amount: str | UnsetType = UNSET
    error_reason: str | UnsetType = UNSET


class Facilitated(Struct, frozen=True, rename="camel", kw_only=True):
    """What a facilitator is asked, to verify or to settle."""

    x402_version: int
    payment_payload: Payment
    payment_requirements: Requirements


class Verified(Struct, frozen=True, rename="camel", kw_only=True):
    """Whether a facilitator would settle a payment."""

    is_valid: bool
    invalid_reason: str | None = None


class Attempted(Struct, frozen=True, rename="camel", kw_only=True):
    """Whether a facilitator says that it settled a payment."""

    success: bool
    error_reason: str | None = None


class Kind(Struct, frozen=True, rename="camel", kw_only=True):
    """A way of paying that a facilitator settles."""

    x402_version: int
    scheme: str
    network: str


class Supported(Struct, frozen=True):
    """All of them."""

    kinds: list[Kind]


Form = TypeVar("Form")


def encoded(form: Struct) -> str:
    """A header's text."""
    return base64.b64encode(msgspec.json.encode(form)).decode()


def decoded(text: str, form: type[Form]) -> Form:
    """A header's form. Raises InvalidInput for what isn't one."""
    if len(text) > HEADER_MAX:
        raise InvalidInput(f"the header is longer than {HEADER_MAX:,} characters")
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True), type=form)
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInput(f"the header is no base64 of the protocol's JSON: {error}") from None
