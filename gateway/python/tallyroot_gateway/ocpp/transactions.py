"""From what a connector's transactions show to readings of its meter: pure, one step for each message.

A meter's register in the log is cumulative. Some chargers show one that begins at 0 in each transaction; of those

    register = sum over all transactions of the last register that each one showed

so the order in which transactions arrive does not matter. All that a step must know of the steps before is a `Port`,
which is kept as a note of the delivery.

A begin of 0 of a charger whose register lives on is a placeholder: the charger could not read its meter yet. Its
session then begins with the register known last, `reconstructed`, or with the first that it shows where none is known.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET, Struct

from tallyroot_gateway.errors import InvalidInput
from tallyroot_gateway.field.clocks import Clocks, Moment
from tallyroot_gateway.ocpp.config import Connector
from tallyroot_gateway.ocpp.signed import BEGINS, ENDS, SignedRegister, signed_registers
from tallyroot_gateway.ocpp.values import Fault, Sample
from tallyroot_gateway.reading import NewReading

KEPT = 8
"""How many transactions of a connector are remembered, the last ones."""

AWAITED_MAX = 16
"""How many sessions that were started from afar a connector may wait for."""

END_CONTEXT = "Transaction.End"


class Transaction(Struct, omit_defaults=True):
    """One transaction. `session` is None for one that nobody began here; `start` is what its start said, shortened.

    `register` is the last that it showed, and `observed_at` when; `held` is what it showed at its begin, while nothing
    else is known of it. `number` is the highest seqNo (2.0.1); `known` the connector's register when it began with 0.
    `is_guessed` says that it began when its start arrived: its own time could not be used.
    """

    id: str
    session: str | None
    started_at: int
    start: str = ""
    id_tag: str = ""
    register: int | None = None
    observed_at: int = 0
    held: int | None = None
    is_begun: bool = False
    is_ended: bool = False
    number: int = -1
    known: int | None = None
    is_guessed: bool = False


class Awaited(NamedTuple):
    """A session that was started from afar, until its time is over (epoch ms)."""

    session: str
    until: int


class Port(Struct, omit_defaults=True):
    """What is known of a connector. `register` is its meter's last in the log; `awaited` are sessions by their tag."""

    register: int | None = None
    transactions: list[Transaction] = []
    awaited: dict[str, Awaited] = {}

    def find(self, id: str) -> Transaction | None:
        """The transaction of this id."""
        return next((each for each in reversed(self.transactions) if each.id == id), None)

    def expect(self, tags: Sequence[str], session: str, until: int) -> None:
        """The next transaction of one of these tags will be this session; the oldest that never came are forgotten."""
        more = dict.fromkeys(tags, Awaited(session, until))
        self.awaited = dict([*self.awaited.items(), *more.items()][-AWAITED_MAX:])

    def claim(self, tags: Sequence[str], at_ms: int) -> str | None:
        """The session that a transaction of one of these tags was awaited for, if it began in time."""
        found = next((self.awaited[tag] for tag in tags if tag in self.awaited), None)
        if found is None:
            return None
        self.awaited = {tag: each for tag, each in self.awaited.items() if each.session != found.session}
        return found.session if at_ms <= found.until else None

    def open(self) -> list[Transaction]:
        """Transactions that have not ended, the oldest first."""
        return [each for each in self.transactions if not each.is_ended]


class Step:
    """What one message of a connector comes to: `readings` of its meter, `faults`, and the port, which it changes."""

    def __init__(self, connector: Connector, port: Port, clocks: Clocks, now_ms: int) -> None:
        self.port = port
        self.readings: list[NewReading] = []
        self.faults: list[Fault] = []
        self._connector, self._clocks, self._now_ms = connector, clocks, now_ms

    def begin(
        self, id: str, session: str | None, at_ms: int | None, *, start: str = "", id_tag: str = ""
    ) -> Transaction:
        """A transaction of this id begins; one that is still open ends with the last that it showed."""
        for other in self.port.open():
            self._end_unseen(other)
        at = self._moment(at_ms)
        begun = Transaction(id, session, at.observed_at, start, id_tag, is_guessed=at.reconstructed)
        self.port.transactions = [*self.port.transactions, begun][-KEPT:]
        return begun

    def adopt(self, id: str, session: str | None, at_ms: int | None, start: str = "") -> Transaction:
        """A transaction whose begin was not seen; without a session where nobody began it here."""
        adopted = Transaction(id, session, self._moment(at_ms).observed_at, start)
        self.port.transactions = [*self.port.transactions, adopted][-KEPT:]
        return adopted

    def begin_register(self, transaction: Transaction, register: int | None) -> None:
        """What the meter showed at the begin of a transaction, or None if the charger didn't know."""
        connector, known = self._connector, self.port.register
        at = Moment(transaction.started_at, transaction.is_guessed)
        if connector.signed:
            is_known = register or (register == 0 and known is None and connector.opening == 0)
            transaction.held = register if is_known else known
        elif connector.per_transaction:
            # What it shows at its begin was delivered before: it counts from there.
            transaction.register = transaction.held = register or 0
            self._show(transaction, known or 0, at)
        elif register or (register == 0 and (known or 0) == 0 and (known == 0 or connector.opening == 0)):
            self._show_register(transaction, register, at)
        elif known is not None:
            transaction.known = known
            self._show(transaction, known, at._replace(reconstructed=True))
            if register is not None:
                # A placeholder, or a meter that began again: the log's rules find out which by what follows.
                self._show(transaction, register, at)
                self.port.register = known
            transaction.register = known

    def sample(self, transaction: Transaction | None, sample: Sample, *, is_end: bool = False) -> None:
        """What the meter showed at a moment, in a transaction or outside of any."""
        if sample.signed is not None and self._connector.signed:
            self._show_signed(transaction, sample.signed, sample, is_end=is_end)
        elif sample.register is not None and not self._connector.signed:
            if transaction is not None and not transaction.is_begun and not sample.register and not self._restarts():
                return  # still no register
            if transaction is None and self._restarts():
                return  # it tells nothing of which transaction it is
            self._show_register(transaction, sample.register, self._moment(sample.at_ms), is_end=is_end)
        elif sample.register is not None:
            self.faults.append(Fault("unsigned", "registers between signed ones are not billed"))

    def end(
        self, transaction: Transaction, at_ms: int | None, register: int | None, samples: Sequence[Sample] = ()
    ) -> None:
        """A transaction ends, with its last register and samples of it, some of which were sent before."""
        ends = [sample for sample in samples if sample.context == END_CONTEXT]
        for sample in samples:
            is_new = sample.signed is not None or (sample.at_ms or 0) > transaction.observed_at
            if is_new and sample not in ends:
                self.sample(transaction, sample)
        if self._connector.signed:
            self._end_signed(transaction, at_ms, register, ends)
        else:
            if register is None:
                register = next((sample.register for sample in ends if sample.register is not None), None)
            self._end_register(transaction, register, self._moment(at_ms))
        self._note_restarts(transaction)
        transaction.is_ended = True
        transaction.held = None
        if transaction.session is None:
            self.port.transactions.remove(transaction)

    def _end_register(self, transaction: Transaction, register: int | None, at: Moment) -> None:
        last = transaction.register
        if register is not None and (register or not last):
            if register == 0 and not transaction.is_begun and not self._restarts():
                self.faults.append(Fault("no_register", "a transaction showed no register but 0"))
                return
            self._show_register(transaction, register, at, is_end=True)
        elif transaction.is_begun or self.port.register is not None:
            # The end is not known: what it showed last, or what was known before it, is what can be said.
            self.faults.append(Fault("no_register", "a transaction ended without a register: its last one counts"))
            self._show(transaction, self.port.register or 0, at._replace(reconstructed=True), is_end=True)

    def _end_signed(
        self, transaction: Transaction, at_ms: int | None, register: int | None, ends: list[Sample]
    ) -> None:
        for sample in [sample for sample in ends if sample.signed is not None][-1:]:
            self._show_signed(transaction, sample.signed or "", sample, is_end=True)
        if self.readings and self.readings[-1].session_end:
            return
        self.faults.append(Fault("not_signed", "a transaction ended without a signed register: it can't be proved"))
        if not transaction.is_begun and transaction.held is not None:
            self._show(transaction, transaction.held, Moment(transaction.started_at, transaction.is_guessed))
        if register is None:
            register = next((sample.register for sample in ends if sample.register is not None), None)
        self._end_register(transaction, register, self._moment(at_ms))

    def _show_signed(self, transaction: Transaction | None, text: str, sample: Sample, *, is_end: bool) -> None:
        """The registers of a record: at the end also that of the begin, where that was not sent."""
        try:
            registers = signed_registers(text, self._connector.unit, self._connector.obis)
        except InvalidInput as error:
            self.faults.append(Fault("bad_signed_value", str(error)))
            return
        begin = next((each for each in registers if each.kind in BEGINS), None)
        ended = next((each for each in registers if each.kind in ENDS), None)
        if transaction is None:
            self._show(None, registers[0].register, self._signed_moment(registers[0], sample), evidence=text)
            return
        if not transaction.is_begun:
            if begin is not None:
                self._show_in(transaction, begin, sample, text)
            elif (is_end or ended is not None) and transaction.held is not None:
                self._show(transaction, transaction.held, Moment(transaction.started_at, transaction.is_guessed))
        if ended is not None or is_end:
            self._show_in(transaction, ended or registers[-1], sample, text, is_end=is_end)
        elif begin is None:
            self._show_in(transaction, registers[0], sample, text)

    def _show_in(
        self, transaction: Transaction, signed: SignedRegister, sample: Sample, text: str, *, is_end: bool = False
    ) -> None:
        if signed.register == transaction.register and signed.at_ms == transaction.observed_at and not is_end:
            return  # the same record, sent again beside another one
        transaction.register = signed.register
        self._show(transaction, signed.register, self._signed_moment(signed, sample), is_end=is_end, evidence=text)

    def _signed_moment(self, signed: SignedRegister, sample: Sample) -> Moment:
        at = self._moment(signed.at_ms)
        return self._moment(sample.at_ms)._replace(reconstructed=True) if at.reconstructed else at

    def _show_register(
        self, transaction: Transaction | None, register: int, at: Moment, *, is_end: bool = False
    ) -> None:
        """A register as the charger shows it, made cumulative where it is of one transaction."""
        shown = register
        if self._restarts() and transaction is not None:
            before = transaction.register or 0
            if transaction.held is not None and register < transaction.held:
                before = 0  # what it showed at its begin was the last transaction's
            if register != transaction.held:
                transaction.held = None
            shown = max(0, (self.port.register or 0) + register - before)
        self._show(transaction, shown, at, is_end=is_end)
        if transaction is not None:
            transaction.register = register

    def _show(
        self,
        transaction: Transaction | None,
        register: int,
        at: Moment,
        *,
        is_end: bool = False,
        evidence: str | None = None,
    ) -> None:
        """One reading of the meter, of a transaction's session if it has one."""
        observed_at, reconstructed = at
        session = None if transaction is None else transaction.session
        if transaction is not None and evidence is not None and not transaction.is_begun:
            transaction.started_at = min(transaction.started_at, observed_at)
        if transaction is not None and session is not None and observed_at < transaction.started_at:
            observed_at, reconstructed = transaction.started_at, True  # the charger's clock was set back
        is_start = transaction is not None and session is not None and not transaction.is_begun
        self.readings.append(
            NewReading(
                machine=self._connector.machine,
                meter=self._connector.meter,
                observed_at=observed_at,
                register=register,
                session=UNSET if session is None else session,
                session_started_at=UNSET if transaction is None or session is None else transaction.started_at,
                session_start=is_start,
                session_end=is_end and session is not None,
                reconstructed=reconstructed,
                evidence=UNSET if evidence is None else evidence,
                may_fall=True,
            )
        )
        self.port.register = register
        if transaction is not None:
            transaction.is_begun = True
            transaction.observed_at = observed_at

    def _end_unseen(self, transaction: Transaction) -> None:
        """Its stop is missing, or will come after the next start: its session ends with the last that it showed."""
        self.faults.append(Fault("missing_stop", f"transaction {transaction.id} did not stop before the next began"))
        transaction.is_ended = True
        if transaction.session is not None and transaction.is_begun and self.port.register is not None:
            at = Moment(max(transaction.observed_at, transaction.started_at), reconstructed=True)
            self._show(transaction, self.port.register, at, is_end=True)

    def _note_restarts(self, transaction: Transaction) -> None:
        """Says where registers seem to begin at 0 in each transaction, and the file doesn't say so."""
        known, register = transaction.known, transaction.register
        if known and register is not None and register < known and not self._connector.signed:
            detail = f"began with 0 after {known} and ended at {register}: if it always does, set per_transaction"
            self.faults.append(Fault("begins_at_zero", f"transaction {transaction.id} {detail}"))

    def _restarts(self) -> bool:
        return self._connector.per_transaction and not self._connector.signed

    def _moment(self, at_ms: int | None) -> Moment:
        return Moment(self._now_ms, reconstructed=True) if at_ms is None else self._clocks.moment(at_ms, self._now_ms)
