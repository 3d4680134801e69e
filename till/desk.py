"""The till's answers, without HTTP: offers, quotes, payments, status, stop."""

import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.canonical import canonical_json
from schemas.errors import InvalidInput
from schemas.parsing import token_amount
from schemas.registration import Registration
from schemas.units import COUNT_MAX, DAY_MS, SECOND_MS
from till import wire
from till.authorization import Asset, Authorization, fault_of_form, fault_of_terms, terms
from till.cashier import command_of
from till.journal import Journal
from till.offers import Item, Quote, offer, quote
from till.outcome import Outcome, outcome_of
from till.ports import BooksPort, ChainPort, Clock, CommandPort, FacilitatorPort, LogPort
from till.purchase import PAID, UNDER_WAY, Purchase
from till.wire import Payment, Requirements

OFFERS_MS = 10 * SECOND_MS
"""For how long signed offers are given out again."""

OUTCOME_MS, LOOK_MS = 10 * SECOND_MS, 500
OUTCOMES_MAX = 1_000
"""For how long what became of a session is not looked up again, and of any; of how many it is remembered."""

BEHIND_BLOCKS = 64
"""By how much one node of several may be behind: a transfer is looked for from so many blocks before."""

MICROS_DECIMALS = 6
TERM_MAX_MS = 7 * DAY_MS


_log = logging.getLogger("tallyroot.gateway")


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`session_s` is how long a session may last, `timeout_s` how long an authorisation holds, amounts in micros."""

    session_s: Annotated[int, Meta(ge=60, le=TERM_MAX_MS // SECOND_MS - 3_600)] = 6 * 3_600
    timeout_s: Annotated[int, Meta(ge=30, le=3_600)] = 300
    least_micros: Annotated[int, Meta(ge=1)] = 10_000
    most_micros: Annotated[int, Meta(ge=1, le=COUNT_MAX)] = 1_000_000_000
    under_way: Annotated[int, Meta(ge=1)] = 100
    """How many purchases may be between authorisation and command at once."""


class Wish(Struct, frozen=True, forbid_unknown_fields=True):
    """What a buyer asks for: `units` of the meter, or `money` in the currency. `secret` will stop the session."""

    units: Annotated[int, Meta(ge=1, le=COUNT_MAX)] | UnsetType = UNSET
    money: Annotated[str, Meta(max_length=24)] | UnsetType = UNSET
    secret: Annotated[str, Meta(min_length=16, max_length=128)] | UnsetType = UNSET


class SignedOffers(Struct, frozen=True):
    """`document` is canonical JSON: the log, the ledger, the time, the offers. The operator signs its bytes."""

    document: str
    operator_signature: str


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session as the till knows it; `outcome` is what became of it, once a window has sealed that.

    `secret` is shown once, to who paid and chose none; `proof` names where the payment is on the chain.
    """

    machine: str
    session: str
    state: str
    payer: str
    units: int
    paid_micros: int
    valid_until_ms: int
    proof: list[dict[str, str | int]]
    is_stopped: bool = False
    secret: str | UnsetType = UNSET
    note: str = ""
    outcome: Outcome | UnsetType = UNSET


class Refused(Exception):
    """What the till refuses: the status of HTTP, and why."""

    def __init__(self, status: Literal[400, 401, 404, 409, 503], why: str) -> None:
        super().__init__(why)
        self.status = status


class Unpaid(Exception):
    """402: the terms, and the protocol's error where a payment came."""

    def __init__(self, wanted: Requirements, error: str | None) -> None:
        super().__init__(error)
        self.wanted = wanted
        self.error = error


class Desk:
    """Answers buyers. It journals what it accepts; the cashier does the rest."""

    def __init__(
        self, items: Mapping[str, Item], limits: Limits, currency: str, journal: Journal, log: LogPort,
        chain: ChainPort, commands: CommandPort, books: BooksPort, asset: Asset, clock: Clock,
        facilitator: FacilitatorPort | None = None,
        new_session: Callable[[], str] = lambda: f"x-{secrets.token_hex(12)}",
    ) -> None:  # fmt: skip
        """`new_session` names a session: where nobody can foresee names, nobody can use one up before."""
        self._items = items
        self._limits = limits
        self._currency = currency
        self._journal = journal
        self._log = log
        self._chain = chain
        self._commands = commands
        self._books = books
        self._facilitator = facilitator
        self._looked_ms = 0
        self._outcomes: OrderedDict[str, tuple[int, Outcome | None]] = OrderedDict()
        self.asset = asset
        self._clock = clock
        self._new_session = new_session
        self._offers: tuple[int, SignedOffers] | None = None
        self._seen = {machine: len(log.payments(machine, 0)) for machine in items}
        self._strangers: dict[str, str] = {}

    @property
    def _now_ms(self) -> int:
        return int(self._clock.time() * SECOND_MS)

    def offers(self) -> SignedOffers:
        """All machines, signed by the operator."""
        now_ms = self._now_ms
        if self._offers is not None and self._offers[0] > now_ms - OFFERS_MS:
            return self._offers[1]
        self._log.refresh()
        found = []
        for item in self._items.values():
            registration = self._log.registration(item.machine, now_ms)
            if registration is not None:
                is_free = self._is_alone(item.machine) and self._is_free(item, self._sessions(item.machine))
                found.append(offer(item, registration, self._currency, now_ms, is_free=is_free))
        document = canonical_json({
            "network": self.asset.network, "ledger": self.asset.ledger, "at": now_ms,
            "offers": msgspec.to_builtins(found),
        })  # fmt: skip
        signed = SignedOffers(document.decode(), self._log.signed_offers(document))
        self._offers = now_ms, signed
        return signed

    def buy(self, machine: str, wish: Wish, payment: Payment | None, session: str | None = None) -> Receipt:
        """Sells a session, or tops up an open one. Raises Unpaid with the terms, or Refused.

        The same authorisation again gets the purchase that it paid for, whatever else is asked.
        """
        item = self._items.get(machine)
        if item is None:
            raise Refused(404, f"this till does not sell {machine}: GET /machines lists what it does")
        if payment is not None and fault_of_form(payment, self.asset) is None:
            known = self._journal.find(*_key(payment))
            if known is not None:
                return self._again(known, machine, session, payment)
        opened = None if session is None else self._opened(machine, session)
        if opened is not None and not self._can_grow(opened):
            raise Refused(409, "this session can't be added to: it has not begun, or is over")
        offered = self._quote(item, wish)
        wanted = terms(self.asset, self.asset.units(offered.amount_micros), self._limits.timeout_s)
        if payment is None:
            self._require_alone(machine)
            if opened is None:
                self._require_room(item, self._sessions(machine))
            raise Unpaid(wanted, None)
        block, now_s = self._chain.latest()
        fault = fault_of_form(payment, self.asset) or self._fault_of_signature(Authorization.of(payment))
        fault = fault or fault_of_terms(payment, wanted, max(now_s, self._now_ms // 1000))
        if fault is None and opened is not None and opened.authorization.payer != _key(payment)[0]:
            raise Refused(409, "only the account that paid for a session can add to it")
        fault = fault or self._fault_of_funds(Authorization.of(payment))
        if fault is None and self._facilitator is not None:
            fault = self._facilitator.verify(payment)
        if fault is not None:
            raise Unpaid(wanted, fault)
        return self._accept(item, wish, offered, payment, opened, max(0, block - BEHIND_BLOCKS))

    def status(self, machine: str, session: str) -> Receipt:
        """What became of a session. Raises Refused."""
        opened = self._opened(machine, session)
        receipt, found = self._receipt(opened), self._outcome(opened)
        return receipt if found is None else msgspec.structs.replace(receipt, outcome=found)

    def _outcome(self, opened: Purchase) -> Outcome | None:
        """Looked up at most every few seconds, and no more once the refund can be claimed: it costs a query."""
        key, now_ms = f"{opened.machine} {opened.session}", self._now_ms
        is_over = opened.state in PAID and not (opened.is_open and now_ms < opened.valid_until_ms)
        if not is_over and not self._log.has_ended(opened.machine, opened.session):
            return None
        until_ms, found = self._outcomes.get(key, (0, None))
        if until_ms > now_ms or now_ms < self._looked_ms + LOOK_MS:
            return found
        self._looked_ms = now_ms
        payer = opened.authorization.payer
        try:
            sealed = self._books.sealed(opened.machine, opened.session, payer)
            is_final = bool(sealed) and all(window.is_active for window in sealed)
            found = outcome_of(opened, sealed, self._books.payout(payer) if is_final else None) if sealed else None
        except InvalidInput:  # what is published, or the chain, can't be read now
            is_final = False
        self._outcomes[key] = now_ms + (DAY_MS if is_final else OUTCOME_MS), found
        while len(self._outcomes) > OUTCOMES_MAX:
            self._outcomes.popitem(last=False)
        return found

    def purchase(self, payer: str, nonce: str) -> Receipt:
        """What one purchase came to: of a top-up its own state, units and amount. Raises Refused."""
        found = self._journal.find(payer, nonce)
        if found is None:
            raise Refused(404, "this till knows no such authorisation")
        return self._receipt(found)

    def stop(self, machine: str, session: str, secret: str) -> Receipt:
        """Lets the gateway end a session. Raises Refused for another secret than the buyer's."""
        opened = self._opened(machine, session)
        if not hmac.compare_digest(opened.secret_digest, _digest(secret)):
            raise Refused(401, "this is not the secret of the session: send the buyer's as a bearer token")
        now_ms = self._now_ms
        if opened.stopped_ms is None:
            self._journal.stopped(opened, now_ms)  # first: a start that was not sent yet is then never sent
        registration = self._log.registration(machine, now_ms)
        if registration is not None and now_ms < opened.valid_until_ms:
            self._commands.send(registration.route, command_of(opened, "stop"))
        return self._receipt(self._opened(machine, session))

    def _quote(self, item: Item, wish: Wish) -> Quote:
        if (wish.units is UNSET) == (wish.money is UNSET):
            raise Refused(400, "ask for units, or for money: one of the two")
        registration = self._registration(item.machine)
        try:
            money = None if wish.money is UNSET else token_amount(wish.money, MICROS_DECIMALS)
            units = None if wish.units is UNSET else wish.units
            found = quote(item, registration, self._now_ms, units=units, money_micros=money)
        except InvalidInput as error:
            raise Refused(400, str(error)) from None
        if not self._limits.least_micros <= found.amount_micros <= self._limits.most_micros:
            raise Refused(
                400, f"that comes to {found.amount_micros} micros: this till takes {self._limits.least_micros} to"
                f" {self._limits.most_micros}",
            )  # fmt: skip
        return found

    def _registration(self, machine: str) -> Registration:
        found = self._log.registration(machine, self._now_ms)
        if found is None or found.retired:
            raise Refused(404, f"{machine} is not in service")
        return found

    def _fault_of_signature(self, signed: Authorization) -> str | None:
        """The payer's own key, or its contract, which the token asks: what that says, the simulation shows."""
        is_its_own = signed.is_signed(self.asset) or self._chain.is_contract(signed.payer)
        return None if is_its_own else wire.SIGNATURE

    def _fault_of_funds(self, signed: Authorization) -> str | None:
        """The protocol's error for what the token would refuse now."""
        if self._chain.is_used(signed):
            return wire.NONCE_USED
        if self._chain.balance(signed.payer) < signed.value:
            return wire.NO_FUNDS
        return None if self._chain.refuses(signed) is None else wire.SIMULATION

    def _accept(
        self, item: Item, wish: Wish, offered: Quote, payment: Payment, opened: Purchase | None, block: int
    ) -> Receipt:
        if len(self._journal.in_state(*UNDER_WAY)) >= self._limits.under_way:
            raise Refused(503, "too many purchases are under way: try again in a minute")
        self._log.refresh()
        self._require_alone(item.machine)
        now_ms = self._now_ms
        secret = secrets.token_urlsafe(24) if wish.secret is UNSET else wish.secret
        purchase = Purchase(
            authorization=Authorization.of(payment), machine=item.machine, is_top_up=opened is not None,
            session=opened.session if opened else self._new_session(), units=offered.units,
            amount_micros=offered.amount_micros, accepted_ms=now_ms, accepted_block=block,
            valid_until_ms=opened.valid_until_ms if opened else now_ms + self._limits.session_s * SECOND_MS,
            connector=item.connector, secret_digest=opened.secret_digest if opened else _digest(secret),
        )  # fmt: skip

        def admits(others: list[Purchase]) -> None:
            if opened is None:
                self._require_room(item, {other.session for other in others})

        accepted = self._journal.accept(purchase, admits)
        if accepted is not purchase:
            return self._again(accepted, item.machine, opened.session if opened else None, payment)
        receipt = self._receipt(accepted)
        is_new_secret = opened is None and wish.secret is UNSET
        return msgspec.structs.replace(receipt, secret=secret) if is_new_secret else receipt

    def _again(self, known: Purchase, machine: str, session: str | None, payment: Payment) -> Receipt:
        """The purchase of an authorisation that is known. One for something else is a replay."""
        is_same = known.machine == machine and (session == known.session if known.is_top_up else session is None)
        if not is_same or known.authorization != Authorization.of(payment):
            raise Unpaid(payment.accepted, wire.NONCE_USED)
        if known.state == "failed":
            raise Unpaid(payment.accepted, wire.FAILED)
        return self._receipt(known)

    def _sessions(self, machine: str) -> set[str]:
        return {other.session for other in self._journal.open_at(machine, self._now_ms)}

    def _is_free(self, item: Item, sessions: set[str]) -> bool:
        return sum(not self._log.has_ended(item.machine, session) for session in sessions) < item.at_once

    def _require_room(self, item: Item, sessions: set[str]) -> None:
        if len(sessions) >= item.at_once:
            self._log.refresh()
        if not self._is_free(item, sessions):
            raise Refused(409, f"{item.machine} is busy: GET /machines shows which are free")

    def _is_alone(self, machine: str) -> bool:
        """Whether all payments that the log took since this till was opened are its own: two would race for numbers."""
        seen = self._seen[machine]
        new = self._log.payments(machine, seen)
        for session in new:
            if machine not in self._strangers and not self._journal.of_session(machine, session):
                self._strangers[machine] = session
                _log.warning("%s is sold by another till too (session %s): no longer sold here", machine, session)
        self._seen[machine] = seen + len(new)  # not +=: threads may look at the same time
        return machine not in self._strangers

    def _require_alone(self, machine: str) -> None:
        if not self._is_alone(machine):
            raise Refused(409, f"{machine} is sold by another till too: its operator must end that, and restart this")

    def _opened(self, machine: str, session: str) -> Purchase:
        for found in self._journal.of_session(machine, session):
            if not found.is_top_up:
                return found
        raise Refused(404, f"this till has no session {session} of {machine}")

    def _can_grow(self, opened: Purchase) -> bool:
        ends_ms = self._now_ms + self._limits.timeout_s * SECOND_MS
        is_going_on = opened.is_open and not self._log.has_ended(opened.machine, opened.session)
        return opened.state == "started" and is_going_on and ends_ms < opened.valid_until_ms

    def _receipt(self, opened: Purchase) -> Receipt:
        all_paid = self._journal.of_session(opened.machine, opened.session)
        paid = [found for found in all_paid if found.state in PAID]
        return Receipt(
            machine=opened.machine, session=opened.session, state=opened.state, payer=opened.authorization.payer,
            units=sum(found.units for found in paid), paid_micros=sum(found.amount_micros for found in paid),
            valid_until_ms=opened.valid_until_ms, is_stopped=opened.stopped_ms is not None, note=opened.note,
            proof=[msgspec.to_builtins(found.place) for found in paid if found.place is not None],
        )  # fmt: skip


def _key(payment: Payment) -> tuple[str, str]:
    signed = Authorization.of(payment)
    return signed.payer, signed.nonce


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
