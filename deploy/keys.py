"""From settings to keys: each is opened when it is first needed."""

from functools import partial
from typing import TYPE_CHECKING

from deploy.config import KeySettings, Settings
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from settlement.chain.signer import Keys, Signer


def keys_of(settings: Settings, chain_id: int) -> "Keys":
    """The keys of the roles that are set; on a development chain the node's own for the others."""
    from settlement.chain.signer import ROLES, Keys, Role

    ways: dict[Role, KeySettings] = {role: getattr(settings, role) for role in ROLES}
    given = {role: partial(open_key, way) for role, way in ways.items() if way.is_set}
    return Keys(given, chain_id)


def private_key(way: KeySettings) -> bytes | None:
    """The 32 bytes of a key, None where nothing is set.

    Raises InvalidInput for a key that a remote signer keeps: records of the log are signed with the key itself.
    """
    if way.key is not None:
        return bytes.fromhex(way.key.removeprefix("0x"))
    if way.keystore is not None:
        from settlement.chain.signer import keystore_key

        return keystore_key(way.keystore, _password(way))
    if way.signer is not None:
        raise InvalidInput("a remote signer can't sign records of the log: set TALLYROOT_OPERATOR_KEYSTORE or _KEY")
    return None


def open_key(way: KeySettings) -> "Signer":
    """The account whose key is there; a keystore takes a second. Raises InvalidInput where it can't be opened."""
    from settlement.chain.remote_signer import RemoteSigner
    from settlement.chain.signer import Signer

    if way.signer is not None:
        return RemoteSigner(way.signer, "0x" + (way.address or "").removeprefix("0x"))
    if way.keystore is not None:
        return Signer.from_keystore(way.keystore, _password(way))
    return Signer.from_key(way.key or "")


def own_account(keys: "Keys", way: KeySettings, whose: str) -> "Signer":
    """The account of a key that must be no role's. Raises InvalidInput where it is one's."""
    from settlement.chain.signer import ROLES

    found = open_key(way)
    for role in ROLES:
        if keys.has(role) and keys.of(role).address == found.address:
            raise InvalidInput(f"{found.address} is the {role}: an account of its own is for {whose}")
    return found


def _password(way: KeySettings) -> str:
    if way.password is not None or way.password_file is None:
        return way.password or ""
    try:
        return way.password_file.read_text().rstrip("\r\n")
    except OSError as error:
        raise InvalidInput(f"can't read the password file {way.password_file}: {error.strerror}") from None
