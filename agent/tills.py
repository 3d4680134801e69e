"""Talks to tills, and believes nothing: offers are their operator's, terms pay the ledger and no more than offered.

What a till answers is bounded by the web port, decoded strictly, and held against what the machine knows itself: the
ledger, its token and chain, the log's operators. What it says of a session is a hint; the chain and the log decide.
"""

from collections.abc import Collection
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent.choice import Choice
from agent.ports import Answer, Away, WebPort
from agent.purchase import Purchase
from schemas.errors import InvalidInput
from schemas.units import Id
from streams.core.encode import CONTENT_TYPES
from streams.core.signature import operator_of
from till import wire
from till.authorization import LEAST_S, Asset
from till.desk import SignedOffers
from till.offers import OFFERED, Offer
from till.wire import Required, Requirements, decoded, encoded

JSON = CONTENT_TYPES["json"]
OFFERS_MAX = 10_000
Form = TypeVar("Form")


class TillFault(Exception):
    """What a till answered is nothing to buy by."""


class Document(Struct, frozen=True):
    """What an operator signs: the chain and the ledger that is paid, and the offers."""

    network: str
    ledger: str
    offers: list[Offer]


class Answered(Struct, frozen=True, kw_only=True):
    """What a till says of a session."""

    machine: Id
    session: Id
    state: str
    is_stopped: bool = False
    note: str = ""


class Tills:
    """Every till, asked over one web port."""

    def __init__(self, web: WebPort, asset: Asset, log_id: str, operators: Collection[str]) -> None:
        """`operators` sign the offers of the log `log_id`; where there are none, offers need no signature."""
        self._web = web
        self._asset = asset
        self._log_id = log_id
        self._operators = operators

    def offers(self, till: str) -> list[Offer]:
        """What a till offers, with its operator's signature verified. Raises TillFault.

        How old the document is doesn't matter: terms above an offer are refused.
        """
        signed = _form(self._ask("GET", f"{till}/machines"), SignedOffers, "offers")
        text = signed.document.encode()
        if self._operators:
            signature = _bytes(signed.operator_signature)
            if operator_of(signature, self._log_id, self._log_id, OFFERED, JSON, text) not in self._operators:
                raise TillFault("its offers are not signed by an operator of this log")
        document = _decoded(text, Document, "offers")
        if (document.network, document.ledger) != (self._asset.network, self._asset.ledger):
            raise TillFault(f"it sells for the ledger {document.ledger[:42]} on {document.network[:24]}, not for ours")
        return [offer for offer in document.offers[:OFFERS_MAX] if _is_sane(offer)]

    def terms(self, choice: Choice, wish: bytes) -> Requirements:
        """The terms under which a till sells what was chosen. Raises TillFault where they are none to sign."""
        answer = self._ask("POST", f"{choice.till}/machines/{choice.machine}/sessions", wish)
        if answer.status != 402:
            raise TillFault(f"it doesn't sell {choice.machine} now: {_said(answer)}")
        try:
            required = decoded(answer.required, Required)
        except InvalidInput as error:
            raise TillFault(f"its terms can't be read: {error}") from None
        faults = []
        for terms in required.accepts:
            fault = self._fault(terms, choice)
            if fault is None:
                return terms
            faults.append(fault)
        raise TillFault(faults[0] if faults else "it names no terms")

    def _fault(self, terms: Requirements, choice: Choice) -> str | None:
        if (terms.scheme, terms.network) != (wire.SCHEME, self._asset.network):
            return f"it wants to be paid by {terms.scheme[:16]} on {terms.network[:24]}"
        if terms.asset.lower() != self._asset.token:
            return f"it wants to be paid in the token {terms.asset[:42]}, not in the ledger's"
        if terms.pay_to.lower() != self._asset.ledger:
            return f"it wants the money for {terms.pay_to[:42]}, which is not the ledger"
        if not (terms.amount.isascii() and terms.amount.isdecimal() and len(terms.amount) <= 78):
            return "its amount is no number"
        if not 0 < int(terms.amount) <= self._asset.units(choice.amount_micros):
            return f"it asks for {terms.amount[:24]} token units, and offered {self._asset.units(choice.amount_micros)}"
        return None if terms.max_timeout_seconds > LEAST_S else "it gives no time to pay"

    def pay(self, purchase: Purchase, wish: bytes) -> Answered:
        """Sends the authorisation, once more if need be: it pays once. Raises TillFault where no session is named."""
        payment = purchase.authorization.payment(purchase.accepted)
        url = f"{purchase.till}/machines/{purchase.machine}/sessions"
        answer = self._ask("POST", url, wish, {wire.SIGNATURE_HEADER: encoded(payment)})
        if answer.status not in (201, 202):
            raise TillFault(f"it does not take the payment: {_said(answer)}")
        return _form(answer, Answered, "receipt")

    def status(self, purchase: Purchase) -> Answered:
        """What a till says of a session. Raises TillFault."""
        return _form(self._ask("GET", _url(purchase)), Answered, "status")

    def stop(self, purchase: Purchase) -> None:
        """Has a session stopped. Raises TillFault where that isn't said to be done."""
        answer = self._ask("POST", f"{_url(purchase)}/stop", b"", {"Authorization": f"Bearer {purchase.secret}"})
        if not _form(answer, Answered, "status").is_stopped:
            raise TillFault("it does not say that the session is stopped")

    def _ask(self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        try:
            return self._web.ask(method, url, body, headers or {})
        except Away as error:
            raise TillFault(str(error)) from None


def _url(purchase: Purchase) -> str:
    return f"{purchase.till}/machines/{purchase.sold or purchase.machine}/sessions/{purchase.session}"


def _is_sane(offer: Offer) -> bool:
    """Whether its price of now can be counted with; a price below zero buys nothing."""
    now = offer.prices[0] if offer.prices else None
    return now is not None and now.per > 0 <= now.price_micros and now.per_session_micros >= 0 and _is_id(offer.machine)


def _is_id(text: str) -> bool:
    try:
        msgspec.convert(text, Id)
    except msgspec.ValidationError:
        return False
    return True


def _form(answer: Answer, form: type[Form], what: str) -> Form:
    if answer.status not in (200, 201, 202):
        raise TillFault(_said(answer))
    return _decoded(answer.body, form, what)


def _decoded(text: bytes, form: type[Form], what: str) -> Form:
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        raise TillFault(f"it answers no {what}") from None


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""


def _said(answer: Answer) -> str:
    """Its status, and its own words where it has some: cut, and printable."""
    try:
        words = msgspec.json.decode(answer.body, type=dict[str, object]).get("error", "")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        words = ""
    shown = "".join(letter for letter in str(words)[:160] if letter.isprintable())
    return f"{answer.status} {shown}".strip()
