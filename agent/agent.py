"""Takes a machine's need from a low level to a session that filled it, each step journaled before the next.

    (1) an authorisation is signed and journaled, nobody has it yet   (2) a till has it
    (3) the session that the till names is journaled                  (4) a final transfer used it: journaled
    (5) the log has the payment: what was really sold is journaled    (6) that the session is to stop is journaled
    (7) a till was told so                                            (8) the need is journaled as done with
    (9) what came back is journaled

Killed at any gap, the next start goes on. What is repeated is safe to repeat: an authorisation pays once, and posted
again it finds its purchase; a stopped session stays stopped; claims are cumulative. While an authorisation may still be
used there is no other one: it is given up only where a final block's time is past it and no transfer used it.
"""

import secrets
from collections.abc import Callable

import msgspec
from msgspec import structs

from agent.choice import Choice, choices
from agent.journal import AgentJournal
from agent.policy import MONTH_S, Policy
from agent.ports import ChainPort, Level, LogPort, PursePort
from agent.purchase import UNDER_WAY, Purchase
from agent.tills import TillFault, Tills
from schemas.errors import InvalidInput
from till.authorization import LEAST_S, Asset, Authorization, KeyPort
from till.desk import BEHIND_BLOCKS, Wish
from till.offers import Offer
from till.wire import Requirements

TRIES = 5
"""How many offers are tried at most in one look: each costs a question."""

SAID_MAX = 1_000
"""Of how many things the last line of progress is remembered."""

Crash = Callable[[int], None]
"""Called with the number of each step after it: where crash tests end the process."""


class Agent:
    """One machine, its journal and its tills. It is driven by `look`, from one thread."""

    def __init__(
        self, policy: Policy, currency: str, asset: Asset, journal: AgentJournal, log: LogPort, chain: ChainPort,
        purse: PursePort, key: KeyPort, tills: Tills, say: Callable[[str], None], after: Crash = lambda _: None,
    ) -> None:  # fmt: skip
        self._policy = policy
        self._currency = currency
        self._asset = asset
        self._journal = journal
        self._log = log
        self._chain = chain
        self._purse = purse
        self._key = key
        self._tills = tills
        self._print = say
        self._after = after
        self._said: dict[str, str] = {}

    def look(self, *, at_books: bool = True) -> bool:
        """Does all that can be done now; returns whether a purchase is under way.

        What the ledger owes is looked at where `at_books` says so: that costs many questions, and changes seldom.
        Raises InvalidInput where Kafka or the chain doesn't answer: nothing is lost, call it again.
        """
        self._log.refresh()
        if at_books:
            self._claim()
            for purchase in self._journal.in_state("over"):
                self._take_back(purchase)
        for purchase in self._journal.in_state("signed"):
            self._settle(purchase)
        for purchase in self._journal.in_state("paid"):
            self._follow(purchase)
        if not self._journal.in_state(*UNDER_WAY):
            self._buy()
        return bool(self._journal.in_state(*UNDER_WAY))

    def _claim(self) -> None:
        try:
            units = self._purse.claim()
        except InvalidInput as error:
            self._say("claim", f"can't claim now: {error}")
            return
        if units:
            self._say("claim", f"claimed {self._money(self._asset.micros(units))}")

    def _take_back(self, purchase: Purchase) -> None:
        purchase = self._recorded(purchase)
        if not purchase.is_recorded:
            return  # paid, and not in the log: it counts for as long as a budget looks back
        try:
            refund = self._purse.refund(purchase.sold, purchase.session)
        except InvalidInput as error:
            self._say("refund", f"can't see refunds now: {error}")
            return
        if refund is not None:
            back = min(refund, purchase.amount_micros)
            self._journal.put(structs.replace(purchase, state="settled", refund_micros=back))  # (9)
            self._after(9)
            self._say(_name(purchase), f"{self._money(back)} of {self._money(purchase.amount_micros)} came back")

    # ------------------------------------------------------------ an authorisation that is out

    def _settle(self, purchase: Purchase) -> None:
        """Whether it was used, by the chain alone; until that is known the till gets it once more."""
        final, final_s = self._chain.final()
        place = self._chain.transfer(purchase.authorization, purchase.first_block, final)
        now_s = self._chain.latest()[1]
        if place is not None:
            paid = structs.replace(purchase, state="paid", place=place, rose_s=now_s)
            self._journal.put(paid)  # (4)
            self._after(4)
            self._say(_name(purchase), f"{self._money(purchase.amount_micros)} paid in {place.transaction}")
        elif final_s >= purchase.authorization.valid_before:
            until_s = now_s + self._policy.avoid_s
            void = structs.replace(purchase, state="void", avoid_until_s=until_s, note="the till never used it")
            self._journal.put(self._seen(void))  # (8)
            self._after(8)
            self._say(_name(purchase), "nothing was paid: the authorisation expired unused")
        elif not purchase.session and now_s + LEAST_S < purchase.authorization.valid_before:
            self._send(purchase)

    def _send(self, purchase: Purchase) -> None:
        try:
            answered = self._tills.pay(purchase, _wish(purchase.units, purchase.secret))
        except TillFault as fault:
            self._say(_name(purchase), f"{purchase.till} holds our authorisation and says: {fault}")
            return
        self._after(2)
        self._journal.put(structs.replace(purchase, session=answered.session))  # (3)
        self._after(3)
        self._say(_name(purchase), f"session {answered.session} at {purchase.machine}: {answered.state}")

    # ------------------------------------------------------------ a session that is paid for

    def _follow(self, purchase: Purchase) -> None:
        level, now_s = self._log.level(), self._chain.latest()[1]
        if level is not None and level.value > purchase.level:
            purchase = self._journal.put(structs.replace(purchase, level=level.value, rose_s=now_s))
        purchase = self._recorded(purchase)
        if purchase.is_misused:
            self._end(purchase, f"the till let {purchase.sold} have what we paid for", is_bad=True)
        elif purchase.is_recorded and (not self._log.is_open(purchase.sold, purchase.session) or self._says(purchase)):
            self._end(purchase, purchase.note or "the session has ended", is_bad=purchase.level <= purchase.began)
        elif purchase.stop_s is not None:
            self._stop(purchase, purchase.note, now_s)
        elif level is not None and level.value >= self._policy.until:
            self._stop(purchase, f"{self._policy.meter} is at {level.value:,}: enough", now_s)
        elif now_s > purchase.rose_s + self._policy.patience_s:
            self._stop(purchase, f"{self._policy.meter} has not risen for {self._policy.patience_s} s", now_s)
        else:
            self._say(_name(purchase), f"{self._policy.meter} is at {purchase.level:,}")

    def _recorded(self, purchase: Purchase) -> Purchase:
        """With what the log says was sold, once it does."""
        payment = None if purchase.is_recorded or purchase.place is None else self._log.payment(purchase.place)
        if payment is None:
            return purchase
        found = structs.replace(purchase, is_recorded=True, session=payment.session, sold=payment.machine)
        self._journal.put(found)  # (5)
        self._after(5)
        return found

    def _says(self, purchase: Purchase) -> bool:
        """Whether the till says that the session has come to its end; a dead one says nothing."""
        try:
            return self._tills.status(purchase).is_stopped
        except TillFault:
            return False

    def _stop(self, purchase: Purchase, why: str, now_s: int) -> None:
        if purchase.stop_s is None:
            purchase = self._journal.put(structs.replace(purchase, stop_s=now_s, note=why))  # (6)
            self._after(6)
        is_bad = (self._log.level() or Level(0, 0)).value < self._policy.until
        if not purchase.session:
            self._end(purchase, f"{purchase.note}; the till names no session", is_bad=True)
            return
        try:
            self._tills.stop(purchase)
        except TillFault as fault:
            self._say(_name(purchase), f"{purchase.till} does not stop the session: {fault}")
            if now_s > (purchase.stop_s or 0) + self._policy.patience_s:  # it ends by itself, and the log refunds
                self._end(purchase, f"{purchase.note}; the till could not be told", is_bad=True)
            return
        self._after(7)
        self._end(purchase, purchase.note, is_bad=is_bad)

    def _end(self, purchase: Purchase, note: str, *, is_bad: bool = False) -> None:
        avoided_s = MONTH_S if purchase.is_misused else self._policy.avoid_s
        until_s = self._chain.latest()[1] + avoided_s if is_bad else 0
        self._journal.put(self._seen(structs.replace(purchase, state="over", note=note, avoid_until_s=until_s)))  # (8)
        self._after(8)
        self._say(_name(purchase), f"{note}; what was not used comes back with a later post")

    def _seen(self, purchase: Purchase) -> Purchase:
        level = self._log.level()
        return purchase if level is None else structs.replace(purchase, seen_ms=level.observed_ms)

    # ------------------------------------------------------------ a new need

    def _buy(self) -> None:
        level, last = self._log.level(), self._journal.last()
        if level is None:
            self._say("level", f"the log has no level of {self._policy.meter} yet")
            return
        shown = f"{self._policy.meter} is at {level.value:,}"
        if level.value > self._policy.buy_at:
            self._say("level", f"{shown}: nothing to buy")
            return
        if last is not None and level.observed_ms <= last.seen_ms:
            self._say("level", f"{shown}: waiting for a newer reading")
            return
        now_s = self._chain.latest()[1]
        purchases = self._journal.all()
        money, limit = self._policy.allowed(purchases, now_s)
        held = self._chain.balance(self._key.address) // self._asset.units(1)
        if held < money:
            money, why = held, f"the account holds {self._money(held)}"
        else:
            why = f"the limit of a {limit} leaves {self._money(money)}"
        needed = (self._policy.until - level.value) * self._policy.worth
        avoided = [past for past in purchases if past.avoid_until_s > now_s]
        found = choices(self._offers(avoided), self._policy, self._currency, needed, money)
        if not found:
            self._say("level", f"{shown}, and no offer fits ({why})")
        for choice in found[:TRIES]:
            if self._bought(choice, level):
                return

    def _offers(self, avoided: list[Purchase]) -> list[tuple[str, Offer]]:
        found = []
        for till in self._policy.tills:
            try:
                offers = self._tills.offers(till)
            except TillFault as fault:
                self._say(till, f"{till}: {fault}")
                continue
            self._said.pop(till, None)
            bad = {past.machine for past in avoided if past.till == till}
            if not any(past.is_misused for past in avoided if past.till == till):
                found += [(till, offer) for offer in offers if offer.machine not in bad]
        return found

    def _bought(self, choice: Choice, level: Level) -> bool:
        """Whether an authorisation was signed for it."""
        secret = secrets.token_urlsafe(24)
        try:
            terms = self._tills.terms(choice, _wish(choice.units, secret))
        except TillFault as fault:
            self._say(f"{choice.till} {choice.machine}", f"{choice.till}: {fault}")
            return False
        block, now_s = self._chain.latest()
        last = self._journal.last()
        purchase = Purchase(
            number=1 if last is None else last.number + 1, till=choice.till, machine=choice.machine, units=choice.units,
            amount_micros=self._asset.micros(int(terms.amount)), accepted=terms,
            authorization=self._signed(terms, now_s), secret=secret, signed_s=now_s,
            first_block=max(0, block - BEHIND_BLOCKS), began=level.value, level=level.value,
            rose_s=now_s, seen_ms=level.observed_ms,
        )  # fmt: skip
        self._journal.put(purchase)  # (1)
        self._after(1)
        amount = self._money(purchase.amount_micros)
        self._say(_name(purchase), f"buying {choice.units:,} {self._policy.unit} of {choice.machine} for {amount}")
        self._send(purchase)
        return True

    def _signed(self, terms: Requirements, now_s: int) -> Authorization:
        """To the ledger, in its token: what terms say of that was held against both."""
        until_s = now_s + min(self._policy.valid_s, terms.max_timeout_seconds)
        nonce = "0x" + secrets.token_hex(32)
        unsigned = Authorization(self._key.address, self._asset.ledger, int(terms.amount), 0, until_s, nonce, "0x")
        return unsigned.signed_by(self._key, self._asset)

    def _money(self, micros: int) -> str:
        return f"{micros // 10**6:,}.{micros % 10**6 // 10**4:02d} {self._currency}"

    def _say(self, about: str, text: str) -> None:
        """A line of progress, unless it is what was said of that last."""
        if self._said.get(about) != text:
            if len(self._said) >= SAID_MAX:  # names are the tills'
                self._said.clear()
            self._said[about] = text
            self._print(text)


def _name(purchase: Purchase) -> str:
    return f"purchase {purchase.number}"


def _wish(units: int, secret: str) -> bytes:
    return msgspec.json.encode(Wish(units=units, secret=secret))
