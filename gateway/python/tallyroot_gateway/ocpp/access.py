"""Who may connect: OCPP's security profiles 1 to 3."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
from pathlib import Path
from typing import Any

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.ocpp.config import OcppConfig
from tallyroot_gateway.ocpp.passwords import check_hash, hashed, matches, read_passwords

GUESSES_AT_ONCE = 2
"""How many passwords are hashed at a time: a storm of connections must not take the machine."""

GUESSES_WAITING = 64


class Access:
    """Passwords and certificates of the file's chargers."""

    def __init__(self, config: OcppConfig) -> None:
        """Raises InvalidInput where profile 1 or 2 leaves a charger without a password, or a file can't be read."""
        server = config.ocpp
        self._profile = server.security_profile
        self._hashes = {} if server.passwords is None else read_passwords(Path(server.passwords))
        for name, charger in config.chargers.items():
            if charger.password is not None:
                self._hashes[name] = check_hash(name, charger.password)
            if self._profile in (1, 2) and name not in self._hashes:
                raise InvalidInput(f"charger {name} has no password: give one, or choose another security_profile")
        self._known: dict[str, bytes] = {}
        self._salt = secrets.token_bytes(32)
        self._nobody = hashed(secrets.token_hex(16))
        self._turns = asyncio.Semaphore(GUESSES_AT_ONCE)
        self._waiting = 0

    async def admits(self, charger: str, authorization: str | None, certificate_name: str | None) -> bool:
        """Whether whoever connects is this charger. One that nobody knows takes as long as a wrong password."""
        if self._profile == 0:
            return True
        if self._profile == 3:
            return certificate_name is not None and hmac.compare_digest(certificate_name.encode(), charger.encode())
        user, password = _basic(authorization)
        if user is None or not hmac.compare_digest(user.encode(), charger.encode()):
            return False
        # A password that was right before is known by a fast hash under a key of this process: for reconnects.
        said = hmac.digest(self._salt, charger.encode() + b"\0" + password, hashlib.sha256)
        if hmac.compare_digest(self._known.get(charger, b""), said):
            return True
        if self._waiting >= GUESSES_WAITING:
            return False
        self._waiting += 1
        try:
            async with self._turns:
                is_right = await asyncio.to_thread(matches, password, self._hashes.get(charger, self._nobody))
        finally:
            self._waiting -= 1
        is_right = is_right and charger in self._hashes
        if is_right:
            self._known[charger] = said
        return is_right


def tls_of(config: OcppConfig) -> ssl.SSLContext | None:
    """How the server speaks TLS; None where it doesn't. Raises InvalidInput for files that can't be used."""
    server = config.ocpp
    if server.security_profile < 2 or server.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(server.certificate, server.private_key)
        if server.security_profile == 3:
            context.load_verify_locations(server.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"can't use the certificate, its key or client_ca: {error.strerror or error}") from None
    return context


def certificate_name(connection: ssl.SSLObject | None) -> str | None:
    """The common name of the certificate that a client showed."""
    shown: Any = None if connection is None else connection.getpeercert()
    names = (pair for part in (shown or {}).get("subject", ()) for pair in part)
    return next((str(value) for name, value in names if name == "commonName"), None)


def _basic(authorization: str | None) -> tuple[str | None, bytes]:
    """User and password of a header Authorization; no user where it has none."""
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "basic" or len(text) > 1_024:
        return None, b""
    try:
        user, separator, password = base64.b64decode(text, validate=True).partition(b":")
        return (user.decode() if separator else None), password
    except (ValueError, binascii.Error):
        return None, b""
