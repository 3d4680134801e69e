"""The balance sheet of a market: what came in is what went out, is held, or is carried, on the chain and in the log.

    on the chain   customers + funding = claimed + balance            balance = owed + deposits + free
    in the log     payments = collected + refunds + deposits          gross = nets + expenses + uncollected
                   nets + expenses + refunds = paid + unsettled + carried                           (RULES 39)
    both           customers = payments                               last total = paid
                   customers + billed otherwise = paid + unsettled + carried + deposits

In micros of a token of six decimals, so all of it must be equal to the micro.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import Struct

from deploy.data_folder import DataFolder
from deploy.explain.query import query
from schemas.order import INVOICED, Order, OrderInvoiced
from schemas.payment import PAID, PaymentReceived
from settlement.audit.audit import AuditReport
from settlement.audit.payments import Transfer
from settlement.chain.ledger import Ledger
from settlement.chain.transfers import LedgerTransfers
from streams.core.records import record_type
from streams.storage.log_reader import LogReader

OrderName = tuple[str, str, int]


class Sheet(Struct, frozen=True, kw_only=True):
    """Sums, in micros. `deposits` is what the last post and the log say of sessions still open."""

    customers: int
    funding: int
    claimed: int
    balance: int
    total: int
    posted_deposits: int
    payments: int
    collected: int
    refunds: int
    corrected: int
    deposits: int
    gross: int
    nets: int
    expenses: int
    uncollected: int
    paid: int
    unsettled: int
    carried: int

    def identities(self) -> Iterator[tuple[str, int, int]]:
        """Each equation: its name, what is on its left, and on its right."""
        yield "customers' transfers = payments in the log", self.customers, self.payments
        yield "payments = collected + refunds + deposits", self.payments, self.collected + self.refunds + self.deposits
        yield "gross = nets + expenses + uncollected", self.gross, self.nets + self.expenses + self.uncollected
        given = self.nets + self.expenses + self.refunds + self.corrected
        rest = self.unsettled + self.carried
        yield "nets + expenses + refunds = paid + unsettled + carried", given, self.paid + rest
        yield "customers + funding = claimed + balance", self.customers + self.funding, self.claimed + self.balance
        yield "last post's total = paid", self.total, self.paid
        yield "deposits of the last post = those of the log", self.posted_deposits, self.deposits
        otherwise = self.gross - self.uncollected - self.collected + self.corrected
        given = self.customers + otherwise
        yield "money in = money out + held + carried", given, self.paid + rest + self.deposits

    def faults(self) -> list[str]:
        """What is not as it should be, in words."""
        found = [f"{name}: {left} is not {right}" for name, left, right in self.identities() if left != right]
        if self.free < 0:
            found.append(f"the ledger lacks {-self.free}")
        return found

    @property
    def free(self) -> int:
        """What the ledger holds for nobody."""
        return self.balance - (self.total - self.claimed) - self.posted_deposits

    def lines(self) -> Iterator[str]:
        """The sheet, to be printed."""
        for name in self.__struct_fields__:
            yield f"{name.replace('_', ' '):>16} {getattr(self, name) / 10**6:>18,.6f}"
        yield f"{'free':>16} {self.free / 10**6:>18,.6f}"
        for name, left, right in self.identities():
            yield f"{'=' if left == right else 'NOT'} {left / 10**6:>18,.6f} {right / 10**6:>18,.6f}  {name}"


class Books:
    """What the log holds of payments and invoices once all of it is sealed, read record by record."""

    def __init__(self, data: DataFolder, reader: LogReader) -> None:
        refused = {
            (int(str(p)), int(str(at))) for p, at in query(data, 'SELECT "partition", "offset" FROM rejects').rows
        }
        self.payments: dict[tuple[str, int], PaymentReceived] = {}
        self.invoices: dict[OrderName, OrderInvoiced] = {}
        self.twice: list[str] = []
        """What was accepted with two contents."""
        for partition in range(data.log().partitions):
            low, high = reader.range(partition)
            for record in reader.read(partition, low, high):
                kind, value = record_type(record), record.value or b""
                if (partition, record.offset) in refused:
                    continue
                if kind == PAID:
                    payment = msgspec.json.decode(value, type=PaymentReceived)
                    self._note(self.payments, (payment.transaction, payment.log_index), payment)
                elif kind == INVOICED:
                    invoice = msgspec.json.decode(value, type=OrderInvoiced)
                    self._note(self.invoices, (invoice.machine, invoice.item, invoice.number), invoice)

    def _note(self, known: dict, key: object, found: Struct) -> None:  # type: ignore[type-arg]
        if known.setdefault(key, found) != found:
            self.twice.append(f"{key} was accepted as {known[key]} and as {found}")


def sheet_of(data: DataFolder, ledger: Ledger, books: Books, report: AuditReport) -> Sheet:
    """The sums: of the chain by its events, of the log by what is sealed and by the audit's own recomputation."""
    state = ledger.state()
    customers, others = arrived(ledger)
    ((gross, nets, expenses, uncollected),) = query(
        data,
        "SELECT sum(gross_micros), sum(net_micros), sum(expenses_micros), sum(uncollected_micros) FROM windows",
    ).rows
    ((collected, refunds),) = query(
        data, "SELECT sum(paid_micros - refund_micros), sum(refund_micros) FROM statements"
    ).rows
    return Sheet(
        customers=sum(one.amount for one in customers), funding=sum(one.amount for one in others),
        claimed=sum(ledger.claimed_amounts().values()), balance=state.balance, total=state.total,
        posted_deposits=state.deposits, payments=sum(one.amount for one in books.payments.values()),
        collected=_int(collected), refunds=_int(refunds), corrected=report.refunds_micros - _int(refunds),
        deposits=report.deposits_micros, gross=_int(gross), nets=_int(nets), expenses=_int(expenses),
        uncollected=_int(uncollected), paid=report.paid_micros,
        unsettled=report.outside_micros + report.held_micros, carried=report.carry_micros,
    )  # fmt: skip


def arrived(ledger: Ledger) -> tuple[list[Transfer], list[Transfer]]:
    """What customers paid by authorisations, and what others sent."""
    money_in = LedgerTransfers(ledger)
    paid: list[Transfer] = []
    sent: list[Transfer] = []
    for transfer in money_in.transfers():
        (paid if money_in.is_authorised(transfer) else sent).append(transfer)
    return paid, sent


def payment_faults(customers: Iterable[Transfer], books: Books) -> Iterator[str]:
    """Each transfer of a customer is one payment of the log, and each payment one transfer."""
    yield from books.twice
    transfers = {(one.transaction, one.log_index): one for one in customers}
    for key in sorted(transfers.keys() | books.payments.keys()):
        transfer, payment = transfers.get(key), books.payments.get(key)
        if transfer is None or payment is None:
            yield f"the chain has {transfer}, the log {payment}"
        elif (transfer.payer, transfer.amount, transfer.block) != (payment.payer, payment.amount, payment.block):
            yield f"{transfer} is recorded as {payment}"


def order_faults(
    data: DataFolder, orders: Mapping[OrderName, Order], received: Mapping[OrderName, int], books: Books
) -> Iterator[str]:
    """Each order is settled at most once, for the least of ordered, received and invoiced pieces."""
    settled: dict[OrderName, list[tuple[object, ...]]] = defaultdict(list)
    for row in query(data, "SELECT machine, ref, account, amount_micros FROM dues WHERE kind = 'expense'").rows:
        item, _, number = str(row[1]).rpartition("/")
        settled[str(row[0]), item, int(number)].append((row[2], row[3]))
    for name in sorted(settled.keys() | orders.keys()):
        order, invoice, pieces = orders.get(name), books.invoices.get(name), received.get(name)
        expected: list[tuple[object, ...]] = []
        if order is not None and invoice is not None and pieces is not None:
            amount = min(order.quantity, pieces, invoice.quantity) * invoice.unit_price
            expected = [(order.supplier, amount)] if amount else []
        if settled.get(name, []) != expected:
            yield f"{name} settled for {settled.get(name)} instead of {expected}"


def holder_faults(ledger: Ledger, data: DataFolder, spent: Mapping[str, int]) -> Iterator[str]:
    """What each customer is poorer by is what statements say that it paid, less refunds."""
    stated: Counter[str] = Counter()
    for payer, kept in query(data, "SELECT payer, sum(paid_micros - refund_micros) FROM statements GROUP BY ALL").rows:
        stated[str(payer)] = _int(kept)
    for payer, units in sorted(spent.items()):
        if units != stated[payer]:
            yield f"{payer} is poorer by {units}, and its statements say {stated[payer]}"


def _int(value: object) -> int:
    return int(str(value or 0))
