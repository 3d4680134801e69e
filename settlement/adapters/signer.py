"""Keys that sign transactions. A key never leaves this file, and no message or representation shows one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from eth_account import Account
from eth_account.signers.local import LocalAccount

from schemas.errors import InvalidInput
from settlement.keccak import keccak

Role = Literal["admin", "operator", "poster", "auditor", "guardian"]
ROLES: tuple[Role, ...] = get_args(Role)

DEVELOPMENT_CHAIN_ID = 31_337
# The development node's own, public mnemonic: its accounts hold ether there, and nowhere else anything.
DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"


class Signer:
    """One account's key."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @classmethod
    def from_key(cls, private_key: str) -> "Signer":
        """From 32 bytes in hex. Raises InvalidInput, without showing it, where that is no key."""
        try:
            return cls(Account.from_key(private_key))
        except Exception:  # noqa: BLE001 - whatever the library says may quote the key
            raise InvalidInput("a private key must be 32 bytes in hex") from None

    @classmethod
    def from_keystore(cls, path: Path, password: str) -> "Signer":
        """From a Web3 secret storage file (keystore version 3)."""
        try:
            return cls(Account.from_key(Account.decrypt(path.read_text(), password)))
        except OSError as error:
            raise InvalidInput(f"can't read the keystore {path}: {error.strerror}") from None
        except Exception:  # noqa: BLE001 - whatever the library says may quote the file
            raise InvalidInput(f"the keystore {path} does not open with this password") from None

    @classmethod
    def from_seed(cls, seed: str, name: str) -> "Signer":
        """A key for demonstrations: anybody who knows the seed has it."""
        return cls(Account.from_key(keccak(f"tallyroot demo key\n{seed}\n{name}".encode())))

    @property
    def address(self) -> str:
        """The account, in lower case."""
        return str(self._account.address).lower()

    def sign(self, transaction: Mapping[str, Any]) -> tuple[bytes, str]:
        """The raw bytes of a signed transaction, and its hash as 0x-hex."""
        signed = self._account.sign_transaction(dict(transaction))
        return bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex()

    def __repr__(self) -> str:
        return f"Signer({self.address})"


class Keys:
    """The keys of the roles, each only where it is given; on a development chain the node's own otherwise."""

    def __init__(self, given: Mapping[Role, Signer], chain_id: int) -> None:
        self._given = dict(given)
        self._development = chain_id == DEVELOPMENT_CHAIN_ID

    @classmethod
    def load(cls, chain_id: int, given: Mapping[Role, str | None]) -> "Keys":
        """From private keys as hex by role; None stands for none."""
        return cls({role: Signer.from_key(key) for role, key in given.items() if key is not None}, chain_id)

    def of(self, role: Role) -> Signer:
        """The key of a role. Raises InvalidInput where there is none."""
        signer = self._given.get(role)
        if signer is None and self._development:
            signer = self._given[role] = development_signer(ROLES.index(role))
        if signer is None:
            raise InvalidInput(f"no key for the {role}: set TALLYROOT_{role.upper()}_KEY")
        return signer


def development_signer(index: int) -> Signer:
    """The development node's account of this index (0 to 9)."""
    Account.enable_unaudited_hdwallet_features()  # of a public mnemonic nothing can leak
    return Signer(Account.from_mnemonic(DEVELOPMENT_MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}"))
