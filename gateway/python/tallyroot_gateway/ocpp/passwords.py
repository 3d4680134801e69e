"""Passwords of chargers, hashed: `python -m tallyroot_gateway.ocpp` reads one and prints what the file needs.

scrypt$<cost>$<salt>$<hash>    salt and hash in hex, RFC 7914 with r = 8, p = 1
"""

import hashlib
import hmac
import secrets
import stat
from pathlib import Path

from tallyroot_gateway.errors import InvalidInput

COST = 1 << 13
COST_MAX = 1 << 16
PASSWORD_BYTES = 256
"""OCPP's are at most 40 bytes; more than this is not looked at."""


def hashed(password: str, salt: bytes | None = None) -> str:
    """What to write into the gateway's file for a password."""
    salt = secrets.token_bytes(16) if salt is None else salt
    return f"scrypt${COST}${salt.hex()}${_scrypt(password.encode(), salt, COST).hex()}"


def matches(password: bytes, written: str) -> bool:
    """Whether a password is the one that was hashed, in a time that tells nothing."""
    _, cost, salt, digest = written.split("$")
    # To HMAC a key is the same with zeros behind it.
    return (
        len(password) <= PASSWORD_BYTES
        and b"\0" not in password
        and hmac.compare_digest(_scrypt(password, bytes.fromhex(salt), int(cost)), bytes.fromhex(digest))
    )


def check_hash(charger: str, written: str) -> str:
    """The hash. Raises InvalidInput where it isn't one."""
    parts = written.strip().split("$")
    try:
        cost = int(parts[1]) if len(parts) == 4 and parts[0] == "scrypt" else 0
        is_hash = 2 <= cost <= COST_MAX and cost & (cost - 1) == 0
        is_hash = is_hash and bool(bytes.fromhex(parts[2])) and len(bytes.fromhex(parts[3])) == 32
    except ValueError:
        is_hash = False
    if not is_hash:
        raise InvalidInput(f"the password of {charger} is no hash: python -m tallyroot_gateway.ocpp prints one")
    return written.strip()


def read_passwords(path: Path) -> dict[str, str]:
    """The hashes by charger of a file of lines `ID:HASH`. Raises InvalidInput, also where others may read it."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidInput(f"others may read {path}, which holds passwords: chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    found: dict[str, str] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            charger, _, written = line.strip().rpartition(":")
            found[charger] = check_hash(charger, written)
    return found


def _scrypt(password: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost, r=8, p=1, dklen=32, maxmem=1 << 27)
