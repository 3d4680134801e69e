"""Tokens of an OAuth client for aiokafka, which brings no way of its own to fetch them; librdkafka does."""

import asyncio
import time

import requests
from aiokafka.abc import AbstractTokenProvider

from schemas.errors import InvalidInput
from streams.kafka.security import Security

TOKEN_SECONDS = 30.0
"""How long a token's server may take."""

RENEWED_AT = 0.8
"""After which part of its life a token is fetched again."""


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """An OAuth client's tokens (RFC 6749, client credentials)."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._token, self._until_s = "", 0.0

    async def token(self) -> str:
        """A token that is still valid. aiokafka asks at each connection, and not for longer than one request."""
        if time.monotonic() >= self._until_s:
            await asyncio.to_thread(self._fetch)
        return self._token

    def _fetch(self) -> None:
        security = self._security
        document = {"grant_type": "client_credentials"}
        if security.sasl_oauthbearer_scope is not None:
            document["scope"] = security.sasl_oauthbearer_scope
        url = security.sasl_oauthbearer_token_endpoint_url or ""
        try:
            answer = requests.post(
                url, data=document, auth=(security.sasl_oauthbearer_client_id or "", security.client_secret or ""),
                timeout=TOKEN_SECONDS,
            )  # fmt: skip
            answer.raise_for_status()
            said = answer.json()
            self._token, lives_s = str(said["access_token"]), float(said.get("expires_in", 0))
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"no token from sasl.oauthbearer.token.endpoint.url ({type(error).__name__}): check it, the client's id"
                " and its secret"
            ) from None
        self._until_s = time.monotonic() + RENEWED_AT * lives_s
