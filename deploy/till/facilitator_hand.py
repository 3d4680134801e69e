"""The till's hand on a facilitator that somebody else runs: x402's /supported, /verify and /settle over HTTP.

The protocol's own client follows redirects and reads answers without a bound; here each is one bounded request.
"""

import logging
import re
import threading

import msgspec

from deploy.strangers import NoAnswer, ask
from schemas.errors import InvalidInput
from till import wire
from till.authorization import Asset, Authorization
from till.wire import Attempted, Facilitated, Kind, Payment, Supported, Verified

VERIFY_S = 15.0
SETTLE_S = 120.0
"""A facilitator may wait for the transfer to be mined before it answers."""

AT_ONCE = 32
"""How many transfers are asked for at the same time; what is more waits for the next look."""

REASON = re.compile(r"[a-z0-9_]{1,100}")
_log = logging.getLogger("tallyroot.gateway")


class FacilitatorHand:
    """One facilitator. Threads may share it."""

    def __init__(self, url: str, token: str, asset: Asset) -> None:
        """`token` is a bearer's, or empty. Raises InvalidInput where it is away, or doesn't settle for this token."""
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._asking: set[str] = set()
        kinds = self._ask("GET", "supported", b"", Supported, VERIFY_S).kinds
        if Kind(x402_version=wire.VERSION, scheme=wire.SCHEME, network=asset.network) not in kinds:
            raise InvalidInput(
                f"the facilitator {self._url} does not settle {wire.SCHEME} on {asset.network}: name another"
            )

    def verify(self, payment: Payment) -> str | None:
        """Why it would not settle a payment; None if it would. Raises InvalidInput where it is away."""
        found = self._ask("POST", "verify", _asked(payment), Verified, VERIFY_S)
        if found.is_valid:
            return None
        reason = found.invalid_reason or ""
        return reason if REASON.fullmatch(reason) else wire.SIMULATION

    def settle(self, payment: Payment) -> None:
        """Asks for the transfer, in a thread of its own: it may take until that is mined."""
        nonce = payment.payload.authorization.nonce
        if nonce in self._asking or len(self._asking) >= AT_ONCE:
            return
        self._asking.add(nonce)
        threading.Thread(target=self._settle, args=(nonce, payment), name="settle", daemon=True).start()

    def _settle(self, nonce: str, payment: Payment) -> None:
        try:
            found = self._ask("POST", "settle", _asked(payment), Attempted, SETTLE_S)
            if not found.success:
                _log.warning("the facilitator did not settle %s: %s", nonce, str(found.error_reason)[:100])
        except InvalidInput as error:
            _log.warning("%s", error)
        finally:
            self._asking.discard(nonce)

    def _ask(self, method: str, path: str, body: bytes, form: type[wire.Form], limit_s: float) -> wire.Form:
        try:
            answer = ask(method, f"{self._url}/{path}", body, self._headers, limit_s)
        except NoAnswer as error:
            raise InvalidInput(f"the facilitator {self._url} is away: {error}") from None
        try:
            return msgspec.json.decode(answer.body, type=form)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise InvalidInput(f"the facilitator {self._url} answers {answer.status}, and nothing of x402") from None


def _asked(payment: Payment) -> bytes:
    payment = Authorization.of(payment).payment(payment.accepted)
    return msgspec.json.encode(
        Facilitated(x402_version=wire.VERSION, payment_payload=payment, payment_requirements=payment.accepted)
    )
