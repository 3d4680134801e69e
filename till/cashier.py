"""Takes purchases from a signed authorisation to a command at the gateway, each step journaled before the next.

    (1) accepted: journaled, nothing sent yet        (2) what is sent is journaled (`sender`)
    (3) it is sent                                   (4) a transfer is final: its place is journaled
    (5) the payment's record is signed and journaled (6) it is sent, read back, and journaled as recorded
    (7) the gateway's command is acknowledged        (8) that is journaled
    (9) once what was paid is used up, the command to stop is acknowledged, then journaled

Killed at any gap, the next start goes on. What is safe to repeat is repeated: an authorisation pays once, however often
it is sent; a record with the same version and content is a duplicate; a gateway begins a session once. A purchase is
given up only where a final block's time is past its authorisation and no transfer used it: before, anybody could still
send it, and what was paid must reach the log.
"""

from collections.abc import Callable, Iterable

import msgspec
from msgspec import structs

from schemas.canonical import canonical_json
from schemas.command import Command
from schemas.errors import InvalidInput, InvariantBroken
from schemas.payment import PaymentReceived
from schemas.units import SECOND_MS
from till.journal import Journal
from till.ports import ChainPort, Clock, CommandPort, LogPort
from till.purchase import UNDER_WAY, UNPAID, Place, Purchase
from till.sender import Crash, Sender


class Cashier:
    """One thread that drives all purchases. It alone changes their states."""

    def __init__(
        self, journal: Journal, log: LogPort, chain: ChainPort, commands: CommandPort, sender: Sender, clock: Clock,
        after: Crash = lambda _: None,
    ) -> None:  # fmt: skip
        self._journal = journal
        self._log = log
        self._chain = chain
        self._commands = commands
        self._sender = sender
        self._clock = clock
        self._after = after
        self._held: set[str] = set()
        self._fault: InvalidInput | None = None

    def go_on(self) -> bool:
        """Takes every purchase as far as it goes now; returns whether any is still under way.

        Raises InvalidInput where Kafka or the chain doesn't answer: nothing is lost, call it again.
        """
        self._held.clear()
        self._fault = None
        waiting = self._journal.in_state(*UNPAID)
        if waiting:
            final, final_s = self._chain.final()  # one view of all: no later transfer is recorded before an earlier one
            self._each(waiting, lambda purchase: self._settle(purchase, final, final_s))
        self._each(self._journal.in_state("numbered"), self._record)
        paid = self._journal.in_state("final")
        if paid:
            self._log.refresh()
        self._each(sorted(paid, key=_place), self._number)
        self._each(self._journal.in_state("recorded"), self._begin)
        self._each(self._begun(), self._follow)
        if self._fault is not None:
            raise self._fault
        return bool(self._journal.in_state(*UNDER_WAY))

    def _each(self, purchases: Iterable[Purchase], step: Callable[[Purchase], None]) -> None:
        """One that fails holds back its machine, whose payments must follow the chain's order, and no other."""
        for purchase in purchases:
            if purchase.machine in self._held:
                continue
            try:
                step(purchase)
            except InvalidInput as fault:
                self._held.add(purchase.machine)
                self._fault = self._fault or fault

    def _settle(self, purchase: Purchase, final: int, final_s: int) -> None:
        signed, first = purchase.authorization, purchase.accepted_block
        place = self._chain.transfer(signed, first, final)
        if place is not None:
            self._journal.put(structs.replace(purchase, state="final", place=place))  # (4)
            self._after(4)
        elif self._chain.is_cancelled(signed, first, final):
            self._give_up(purchase, "the payer cancelled the authorisation")
        elif final_s >= signed.valid_before:
            self._give_up(purchase, "the authorisation expired before its transfer was mined")
        elif not self._chain.is_used(signed):
            self._sender.send(purchase)

    def _begun(self) -> list[Purchase]:
        """The sessions that go on, with the log read up to now."""
        begun = self._journal.begun_at(int(self._clock.time() * SECOND_MS))
        if begun:
            self._log.refresh()
        return begun

    def _follow(self, purchase: Purchase) -> None:
        """Ends a session that has used what was paid: what it used beyond, nobody would pay."""
        all_paid = self._journal.of_session(purchase.machine, purchase.session)
        paid = sum(other.amount_micros for other in all_paid if other.state == "started")
        if self._log.is_used_up(purchase.machine, purchase.session, paid):
            now_ms = int(self._clock.time() * SECOND_MS)
            self._commands.send(self._route(purchase, now_ms), command_of(purchase, "stop"))  # (9)
            self._after(9)
            self._journal.stopped(purchase, now_ms)

    def _route(self, purchase: Purchase, now_ms: int) -> str:
        registration = self._log.registration(purchase.machine, now_ms)
        return purchase.machine if registration is None else registration.route

    def _give_up(self, purchase: Purchase, note: str) -> None:
        self._journal.put(structs.replace(purchase, state="failed", note=note))

    def _number(self, purchase: Purchase) -> None:
        place = _place(purchase)
        holder = self._log.holder(place)
        if holder is not None:
            note = f"another till has recorded the transfer {place.transaction}/{place.log_index} for {holder}"
            self._give_up(purchase, note)
            return
        payment = PaymentReceived(
            machine=purchase.machine, version=self._log.next_version(purchase.machine), session=purchase.session,
            payer=purchase.authorization.payer, amount=purchase.amount_micros, valid_until=purchase.valid_until_ms,
            block=place.block, transaction=place.transaction, log_index=place.log_index,
        )  # fmt: skip
        value = canonical_json(msgspec.to_builtins(payment))
        signature = self._log.signed(purchase.machine, value)
        numbered = structs.replace(purchase, state="numbered", record=value, signature=signature)
        self._journal.put(numbered)  # (5)
        self._after(5)
        self._record(numbered)

    def _record(self, purchase: Purchase) -> None:
        reason = self._log.sent(purchase.machine, purchase.record, purchase.signature)
        if reason is None:
            self._journal.put(structs.replace(purchase, state="recorded"))  # (6)
            self._after(6)
        elif reason == "stale_version":  # another payment had the number: this record can't be accepted any more
            self._journal.put(structs.replace(purchase, state="final", record=b"", signature=b""))
        else:
            self._journal.put(
                structs.replace(purchase, state="stranded", note=f"the log refuses the payment: {reason}")
            )

    def _begin(self, purchase: Purchase) -> None:
        """The payment lies in the log, before every reading of its session: now the gateway may begin."""
        now_ms = int(self._clock.time() * SECOND_MS)
        if now_ms >= purchase.valid_until_ms or not self._log.is_open(purchase.machine, purchase.session):
            note = "the payment came after its session's end, and is paid back"
            self._journal.put(structs.replace(purchase, state="returned", note=note))
            return
        if not purchase.is_top_up and purchase.stopped_ms is None:
            route = self._route(purchase, now_ms)
            self._commands.send(route, command_of(purchase, "start"))  # (7)
            self._after(7)
            known = self._journal.find(purchase.authorization.payer, purchase.authorization.nonce)
            if known is not None and known.stopped_ms is not None:  # a stop meanwhile may have come before the start
                self._commands.send(route, command_of(purchase, "stop"))
        self._journal.put(structs.replace(purchase, state="started"))  # (8)
        self._after(8)


def command_of(purchase: Purchase, command: str) -> Command:
    """A command to the machine's gateway, valid until the session ends."""
    words = {
        "machine": purchase.machine, "command": command, "session": purchase.session,
        "valid_until": purchase.valid_until_ms, "connector": purchase.connector,
    }  # fmt: skip
    return msgspec.convert(words, Command)


def _place(purchase: Purchase) -> Place:
    if purchase.place is None:
        raise InvariantBroken(f"the journal has a paid purchase of {purchase.session} without its transfer")
    return purchase.place
