"""Who signs for a log: the operator's account, from settings, from the keystore that `init` made, or the development's.

What `init` decided is kept in `operator.json` of the data folder, so that every later command signs as one account.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from deploy.config import KeySettings
from deploy.data_folder import KEYS_FOLDER
from deploy.keys import open_key
from files.read import FileMissing, read_json
from files.write import write_secret
from schemas.errors import InvalidInput
from settlement.chain.signer import Signer
from streams.core.encode import CONTENT_TYPES
from streams.core.signature import control_digest

CONTENT_TYPE = CONTENT_TYPES["json"]

OPERATOR_FILE = "operator.json"


class OperatorFile(Struct, frozen=True, omit_defaults=True):
    """Where the operator's key is: a keystore with the file of its password, or a remote signer of `address`."""

    keystore: str | None = None
    password_file: str | None = None
    signer: str | None = None
    address: str | None = None


OWN_KEY = OperatorFile(keystore=f"{KEYS_FOLDER}/operator.json", password_file=f"{KEYS_FOLDER}/operator.password")
"""The key that `init` makes where none is given."""


class Operator:
    """An operator's or a supplier's account, which signs control records: with a key here, or a remote signer."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def address(self) -> str:
        """The account, in lower case."""
        return self._signer.address

    def sign_record(self, log_id: str, key: str, record_type: str, value: bytes) -> bytes:
        """65 bytes: r, s, v over a JSON control record's EIP-712 digest. Raises InvalidInput where it can't sign."""
        digest = control_digest(log_id, key, record_type, CONTENT_TYPE, value)
        r, s, parity = self._signer.sign_digest(digest, {"typed_data": typed_data(log_id, key, record_type, value)})
        return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])


def typed_data(log_id: str, key: str, record_type: str, value: bytes) -> Mapping[str, object]:
    """What a wallet signs by `eth_signTypedData_v4`: the EIP-712 document of a JSON control record."""
    from schemas.keccak import keccak

    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"}, {"name": "version", "type": "string"},
                {"name": "salt", "type": "bytes32"},
            ],
            "Record": [
                {"name": "key", "type": "string"}, {"name": "recordType", "type": "string"},
                {"name": "contentType", "type": "string"}, {"name": "value", "type": "bytes"},
            ],
        },
        "primaryType": "Record",
        "domain": {"name": "tallyroot", "version": "1", "salt": "0x" + keccak(log_id.encode()).hex()},
        "message": {
            "key": key, "recordType": record_type, "contentType": CONTENT_TYPE, "value": "0x" + value.hex(),
        },
    }  # fmt: skip


def load_operator(data_dir: Path) -> OperatorFile | None:
    """What `init` kept of the operator, None where it kept nothing. Raises InvalidInput for a damaged file."""
    path = data_dir / OPERATOR_FILE
    remedy = "restore it, or set TALLYROOT_OPERATOR_KEYSTORE"
    try:
        return read_json(path, OperatorFile, what="the operator's", remedy=remedy)
    except FileMissing:
        return None


def own_keystore(data_dir: Path) -> OperatorFile:
    """The key that `init` keeps in the data folder, made where there is none.

    (1) the password   (2) the keystore   (3) operator.json, which is the caller's

    One killed after (2) left a key that nothing names yet: it is taken as it is, if its password opens it. A password
    alone opens nothing, and is replaced. Raises InvalidInput for a keystore whose password is not there or another.
    """
    keystore = data_dir / str(OWN_KEY.keystore)
    if not keystore.exists():
        make_keystore(data_dir)
        return OWN_KEY
    try:
        open_key(key_settings(data_dir, OWN_KEY))
    except InvalidInput as error:
        raise InvalidInput(
            f"{keystore} is a key that nothing names, and can't be opened ({error}): restore its password file, or"
            f" move {keystore.parent} away"
        ) from None
    return OWN_KEY


def make_keystore(data_dir: Path) -> str:
    """A new key in a keystore (version 3) of the data folder, its password in a file beside it. Returns its account.

    Both files have mode 600. Raises InvalidInput where they can't be written, or the keystore is there.
    """
    from eth_account import Account

    keystore, password_file = data_dir / str(OWN_KEY.keystore), data_dir / str(OWN_KEY.password_file)
    account, password = Account.create(), secrets.token_urlsafe(24)
    try:
        keystore.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not keystore.exists():
            password_file.unlink(missing_ok=True)
        write_secret(password_file, password.encode() + b"\n")  # (1)
        write_secret(keystore, msgspec.json.encode(Account.encrypt(account.key, password)))  # (2)
    except OSError as error:
        raise InvalidInput(f"can't write the operator's key below {keystore.parent} ({error.strerror})") from None
    return str(account.address).lower()


def key_settings(data_dir: Path, kept: OperatorFile) -> KeySettings:
    """Where the kept key is, as a setting would say it. Raises InvalidInput for a file that names none."""
    if kept.signer is None and (kept.keystore is None or kept.password_file is None):
        raise InvalidInput(f"{data_dir / OPERATOR_FILE} names no key: restore it from a copy")
    return KeySettings(
        keystore=None if kept.keystore is None else data_dir / kept.keystore,
        password_file=None if kept.password_file is None else data_dir / kept.password_file,
        signer=kept.signer,
        address=kept.address,
    )
