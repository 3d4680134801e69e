"""Who sends: a bearer token is a secret of 32 random bytes; the gateway's file has only its SHA-256.

python -m tallyroot_gateway.http.new_token NAME MACHINE...     a new token, and what the file needs
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence

from tallyroot_gateway.http.config import TokenOptions


def hash_of(token: str) -> str:
    """What the file has of a token. It needs no salt and no slowness: nobody guesses 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def find(tokens: Sequence[TokenOptions], authorization: str | None) -> TokenOptions | None:
    """Whose a request is. All are compared, in constant time each."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    said, found = hash_of(token.strip()), None
    for one in tokens:
        if hmac.compare_digest(one.sha256, said):
            found = one
    return found


class Bucket:
    """How often a token may ask: at most a burst of ten seconds at once, and so many a minute."""

    def __init__(self, per_minute: int, seconds: Callable[[], float]) -> None:
        self._per_second, self._most = per_minute / 60, max(1.0, per_minute / 6)
        self._seconds, self._left, self._at = seconds, self._most, seconds()

    def take(self) -> float:
        """Takes one request; returns 0, or after how many seconds the next one is free."""
        now = self._seconds()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0
