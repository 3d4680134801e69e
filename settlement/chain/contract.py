"""The committed artefacts: calls and events as bytes, and a message for every refusal of the contracts."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from msgspec import Struct

from schemas.errors import InvalidInput
from schemas.keccak import keccak
from settlement.chain.signer import Role

ROLE_HASHES: dict[Role, bytes] = {
    "admin": bytes(32),
    "poster": keccak(b"POSTER_ROLE"),
    "auditor": keccak(b"AUDITOR_ROLE"),
    "guardian": keccak(b"GUARDIAN_ROLE"),
}
"""The roles of a ledger, as OpenZeppelin's AccessControl names them."""

TIMELOCK_ROLES = {
    keccak(f"{name.upper()}_ROLE".encode()): f"{name} of the admin's timelock"
    for name in ("proposer", "executor", "canceller")
}

FOLDER = Path(__file__).parents[1] / "abi"
STANDARD_ERROR = "Error(string)"
PANIC = "Panic(uint256)"


class Call(Struct, frozen=True):
    """A call as bytes; without `to` it creates a contract. `returns` are Solidity types."""

    to: str | None
    data: bytes
    returns: tuple[str, ...] = ()

    def result(self, returned: bytes) -> Any:
        """The one value that the call returned. Raises InvalidInput if the address has no such contract."""
        try:
            return decode(self.returns, returned)[0]
        except (DecodingError, ValueError):
            raise InvalidInput(
                f"there is no such contract at {self.to}: check that it is the right chain (CHAIN_RPC_URL)"
            ) from None


class Trial(Call, frozen=True):
    """A simulated contract creation: its result is the code that it would deploy."""

    def result(self, returned: bytes) -> bytes:
        """The code."""
        return returned


class Artefact(Struct, frozen=True):
    """A contract's creation code, functions by name, events by topic, and custom errors by selector (0x-hex)."""

    name: str
    bytecode: bytes
    constructor: tuple[str, ...]
    functions: Mapping[str, tuple[bytes, tuple[str, ...], tuple[str, ...]]]
    events: Mapping[bytes, tuple[str, tuple[dict[str, Any], ...]]]
    errors: dict[str, tuple[str, tuple[str, ...]]]

    def call(self, address: str, function: str, *arguments: Any) -> Call:
        """A call of a function; accounts are hex, hashes bytes."""
        selector, takes, returns = self.functions[function]
        return Call(address, selector + _encoded(takes, arguments), returns)

    def creation(self, *arguments: Any) -> Call:
        """The call that creates the contract."""
        return Call(None, self.bytecode + _encoded(self.constructor, arguments))

    def event(self, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
        """An event's name and values; None for one of another contract. Raises InvalidInput if it can't be one."""
        found = self.events.get(topics[0])
        if found is None:
            return None
        name, inputs = found
        indexed = [part for part in inputs if part["indexed"]]
        plain = [part for part in inputs if not part["indexed"]]
        try:
            values = dict(zip((part["name"] for part in plain), decode(_types(plain), data), strict=True))
            for part, topic in zip(indexed, topics[1:], strict=True):
                values[part["name"]] = decode([part["type"]], topic)[0]
        except (DecodingError, ValueError, OverflowError):
            raise InvalidInput(
                f"the node shows an event {name} that the contract can't have emitted: ask another (CHAIN_RPC_URL)"
            ) from None
        return name, values


@lru_cache(maxsize=8)
def artefact(name: str) -> Artefact:
    """The contract of this name in settlement/abi."""
    document = json.loads((FOLDER / f"{name}.json").read_text())
    constructor: tuple[str, ...] = ()
    functions, events, errors = {}, {}, {}
    for item in document["abi"]:
        types = _types(item.get("inputs", ()))
        topic = keccak(f"{item.get('name')}({','.join(types)})".encode())
        match item["type"]:
            case "constructor":
                constructor = types
            case "function":
                functions[item["name"]] = (topic[:4], types, _types(item["outputs"]))
            case "event":
                events[topic] = (item["name"], tuple(item["inputs"]))
            case "error":
                errors["0x" + topic[:4].hex()] = (item["name"], types)
    code = bytes.fromhex(document["bytecode"].removeprefix("0x"))
    return Artefact(name, code, constructor, functions, events, errors)


def creation_of(
    settings: tuple[Any, ...], admin: str, poster: str, auditors: Sequence[str], guardians: Sequence[str], quorum: int
) -> Call:
    """The call that creates a ledger; `settings` are those of ISettlementLedger.Settings, in their order."""
    return artefact("SettlementLedger").creation(settings, (admin, poster, list(auditors), list(guardians), quorum))


def _encoded(types: Sequence[str], values: Sequence[Any]) -> bytes:
    try:
        return encode(types, values)
    except EncodingError as error:
        line = (str(error).splitlines() or [""])[0]
        raise InvalidInput(f"no contract takes this ({line}): check it, or ask another node (CHAIN_RPC_URL)") from None


def _types(parts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(_type(part) for part in parts)


def _type(part: Mapping[str, Any]) -> str:
    kind: str = part["type"]
    return f"({','.join(_types(part['components']))}){kind[5:]}" if kind.startswith("tuple") else kind


def decode_refusal(data: str | None) -> tuple[str, tuple[Any, ...]] | None:
    """The custom error (name, arguments) in a call's revert data (0x-hex); None for an unknown one."""
    if not data or len(data) < 10:
        return None
    known = dict(artefact("SettlementLedger").errors) | {
        _selector(STANDARD_ERROR): ("Error", ("string",)),
        _selector(PANIC): ("Panic", ("uint256",)),
    }
    others = artefact("LedgerTimelock").errors | artefact("DemoDollar").errors
    found = known.get(data[:10]) or others.get(data[:10])
    if found is None:
        return None
    try:
        return found[0], tuple(decode(found[1], bytes.fromhex(data[10:])))
    except (DecodingError, ValueError):
        return None


class Underfunded(InvalidInput):
    """A ledger holds less than a post would owe."""


class EpochNotOver(InvalidInput):
    """The chain's clock, that of its blocks, has not reached the end of a post's epochs yet."""


def refusal(name: str, arguments: Sequence[Any]) -> InvalidInput:
    """A contract's refusal as one line that says what to do."""
    text = _TEXTS.get(name)
    if text is None:
        return InvalidInput(f"the contract refuses: {name}{tuple(arguments)}")
    kinds = {kind.__name__: kind for kind in (Underfunded, EpochNotOver)}
    return kinds.get(name, InvalidInput)(text(*arguments))


def moment(seconds: int) -> str:
    """Unix seconds as text, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _role(found: bytes) -> str:
    known = {hash_: str(role) for role, hash_ in ROLE_HASHES.items()}
    return known.get(bytes(found)) or TIMELOCK_ROLES.get(bytes(found), "holder of another role")


def _selector(signature: str) -> str:
    return "0x" + keccak(signature.encode())[:4].hex()


_TEXTS: dict[str, Callable[..., str]] = {
    "Error": lambda text: f"the contract refuses: {text}",
    "AccessControlUnauthorizedAccount": lambda account, role: (
        f"wrong key: {account} is not the {_role(role)} of the ledger; `tallyroot roles` shows who is"
    ),
    "OwnableUnauthorizedAccount": lambda account: (
        f"wrong key: {account} does not own the token; use the operator's key"
    ),
    "SequenceMismatch": lambda sequence, expected: (
        f"the ledger expects post {expected}, not {sequence}: another post or dispute came first; run settle again"
    ),
    "HeadMismatch": lambda head, expected: (
        "the ledger's head has moved on: a post or dispute came in between; check it and run this again"
    ),
    "EpochEmpty": lambda start, end: f"the epochs end ({moment(end)}) before they start ({moment(start)})",
    "EpochOverlaps": lambda start, end: (
        f"epochs up to {moment(end)} are settled already, this post starts at {moment(start)}: check that it is the"
        " right ledger"
    ),
    "EpochNotOver": lambda end, now: (
        f"the epoch ends at {moment(end)}, but the chain's clock says {moment(now)}: wait until it is over"
    ),
    "TotalFalls": lambda total, before: (
        f"the total would fall from {before} to {total} token units: check that settlement/ belongs to this ledger"
    ),
    "RateTooHigh": lambda step, most: (
        f"the post raises the total by {step} token units, the ledger allows {most} for the time since the last one:"
        " audit what was earned, or let the admin raise the rate (`tallyroot max-rate`)"
    ),
    "PostingPaused": lambda until: (
        f"posting is paused by a guardian until {moment(until)}: ask why, and try again then"
    ),
    "AdminNotTimelock": lambda admin, least: (
        f"the admin {admin} is not a timelock of at least {least} s: leave --admin to a key, and one is deployed for it"
    ),
    "QuorumOutOfRange": lambda quorum, auditors: (
        f"a quorum of {quorum} needs as many auditors, and there are {auditors}: grant one first, or lower the quorum"
    ),
    "AuditorsTooMany": lambda most: f"a ledger has {most} auditors at most: revoke one first",
    "TooEarlyToClose": lambda earliest: (
        f"what is owed to nobody stays until {moment(earliest)}, 400 days after the last post"
    ),
    "TokenNotForeign": lambda token: f"{token} is the ledger's own token: it leaves by claims alone",
    "Underfunded": lambda balance, owed, deposits: (
        f"the ledger is short of {owed + deposits - balance} token units (it holds {balance}, it will owe {owed}"
        f"{f', and {deposits} are deposits of customers' if deposits else ''}): run `tallyroot fund` first"
    ),
    "PostUnknown": lambda sequence: f"the ledger has no post {sequence}: it was never made, or it was disputed",
    "PostAttested": lambda sequence, attested: f"post {sequence} is attested already (up to {attested})",
    "PostMature": lambda sequence: f"post {sequence} is attested and its delay is over: it can no longer be disputed",
    "PostNotActive": lambda sequence: (
        f"post {sequence} is not active: not attested, still within its delay, disputed or revoked;"
        " see `tallyroot settlements`"
    ),
    "ClaimsPaused": lambda until: f"claims are paused until {moment(until)}: try again then",
    "ProofInvalid": lambda sequence, account, cumulative: (
        f"the proof does not lead from {account} with {cumulative} token units to the payouts root of post {sequence}"
    ),
    "NothingToClaim": lambda account, cumulative, before: (
        f"{account} has already claimed {before} token units, all that this post owes it: wait for the next post"
    ),
    "ClaimsExceedTotal": lambda claimed, total: (
        f"claims would reach {claimed} token units, more than its total of {total}: the root is wrong; audit it"
    ),
    "RecipientInvalid": lambda recipient: f"{recipient} can't be paid: choose another recipient",
    "DecimalsOutOfRange": lambda decimals: f"a token of {decimals} decimals is not supported: use one of 6 to 18",
    "CurrencyInvalid": lambda currency: "a currency is three capital letters, such as USD",
    "DelayOutOfRange": lambda delay, least, most: f"the delay of {delay} s must lie between {least} s and {most} s",
    "AccountHoldsAnotherRole": lambda account, role: (
        f"{account} is the {_role(role)} already: use a key of its own for each role"
    ),
    "TimelockUnexpectedOperationState": lambda step, expected: (
        f"the timelock doesn't hold the step 0x{step.hex()} in the state that this needs: it was cancelled, was carried"
        " out, or has not waited long enough"
    ),
    "PauseOutOfRange": lambda duration, most: f"a pause lasts 1 s to {most} s",
    "PauseTooSoon": lambda earliest: f"the next pause can start at {moment(earliest)}",
    "NotPaused": lambda: "nothing is paused",
    "ERC20InsufficientBalance": lambda sender, balance, needed: (
        f"{sender} holds {balance} token units and needs {needed}: send it some first"
    ),
}
