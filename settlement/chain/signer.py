"""Signers of transactions. A key never leaves this file, and no message or representation shows one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import Hash32

from schemas.errors import InvalidInput
from schemas.keccak import keccak

Role = Literal["admin", "operator", "poster", "auditor", "guardian"]
ROLES: tuple[Role, ...] = get_args(Role)

DEVELOPMENT_CHAIN_ID = 31_337
# The development node's own, public mnemonic: its accounts hold ether on that chain only.
DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"


class Signature(NamedTuple):
    """A signature over a digest on secp256k1: `parity` (0 or 1) is that of the nonce point's y."""

    r: int
    s: int
    parity: int


class Signer(ABC):
    """One account that signs: its key is in this process, or with a service that signs digests."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The account, in lower case."""

    @abstractmethod
    def sign_digest(self, digest: bytes, meaning: Mapping[str, object]) -> Signature:
        """A signature with a low s over 32 bytes. Raises InvalidInput if the key is not available.

        `meaning` is what has this digest, for a service that shows or judges what it signs: `typed_data`, an EIP-712
        document, or `transaction`, its fields as JSON-RPC writes them.
        """

    def sign(self, transaction: Mapping[str, Any]) -> tuple[bytes, str]:
        """The raw bytes of a signed transaction (EIP-2718, with its `type`), and its hash as 0x-hex."""
        unsigned = dict(transaction)
        shown = {name: _shown(value) for name, value in unsigned.items()}
        r, s, parity = self.sign_digest(TypedTransaction.from_dict(unsigned).hash(), {"transaction": shown})
        raw = TypedTransaction.from_dict({**unsigned, "v": parity, "r": r, "s": s}).encode()
        return raw, "0x" + keccak(raw).hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    @staticmethod
    def from_key(private_key: str) -> "Signer":
        """From 32 bytes in hex. Raises InvalidInput, without showing it, if that is not a key."""
        try:
            return LocalSigner(Account.from_key(private_key))
        except Exception:  # noqa: BLE001 - any message of the library may quote the key
            raise InvalidInput("a private key must be 32 bytes in hex") from None

    @staticmethod
    def from_keystore(path: Path, password: str) -> "Signer":
        """From a Web3 secret storage file (keystore version 3). Raises InvalidInput."""
        return LocalSigner(Account.from_key(keystore_key(path, password)))

    @staticmethod
    def from_seed(seed: str, name: str) -> "Signer":
        """A key for demonstrations: everybody who knows the seed has it."""
        return LocalSigner(Account.from_key(keccak(f"tallyroot demo key\n{seed}\n{name}".encode())))


class LocalSigner(Signer):
    """An account whose key is in this process."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @property
    def address(self) -> str:
        """The account, in lower case."""
        return str(self._account.address).lower()

    def sign_digest(self, digest: bytes, meaning: Mapping[str, object]) -> Signature:
        """A signature over 32 bytes (RFC 6979: the same each time)."""
        signed = self._account.unsafe_sign_hash(Hash32(digest))
        return Signature(signed.r, signed.s, signed.v - 27)


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return hex(value) if isinstance(value, int) else str(value)


Opener = Callable[[], Signer]


class Keys:
    """The keys of the roles: those given, and on a development chain the node's own for the others.

    An Opener is called when its key is first needed: a keystore takes a second.
    """

    def __init__(self, given: Mapping[Role, Signer | Opener], chain_id: int) -> None:
        self._given = dict(given)
        self._development = chain_id == DEVELOPMENT_CHAIN_ID

    def of(self, role: Role) -> Signer:
        """The key of a role. Raises InvalidInput if there is none, or it can't be opened."""
        found = self._given.get(role)
        if found is None and self._development:
            found = development_signer(ROLES.index(role))
        if found is None:
            name = f"TALLYROOT_{role.upper()}"
            raise InvalidInput(f"no key for the {role}: set {name}_KEY, {name}_KEYSTORE or {name}_SIGNER")
        signer = self._given[role] = found if isinstance(found, Signer) else found()
        return signer

    def has(self, role: Role) -> bool:
        """Whether there is a key of a role."""
        return role in self._given or self._development


def keystore_key(path: Path, password: str) -> bytes:
    """The 32 bytes in a keystore (version 3). Raises InvalidInput, and shows nothing of what it holds."""
    try:
        return bytes(Account.decrypt(path.read_text(), password))
    except OSError as error:
        raise InvalidInput(f"can't read the keystore {path}: {error.strerror}") from None
    except Exception:  # noqa: BLE001 - any message of the library may quote the file
        raise InvalidInput(f"the keystore {path} does not open with this password") from None


def development_signer(index: int) -> Signer:
    """The development node's account of this index (0 to 9)."""
    Account.enable_unaudited_hdwallet_features()  # the mnemonic is public: nothing can leak
    return LocalSigner(Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}"))
