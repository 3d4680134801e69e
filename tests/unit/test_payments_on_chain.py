"""Payments against transfers: what a node that contradicts itself, or a ledger before this one, must not do."""

from collections.abc import Callable, Sequence

import pytest
from msgspec import structs

from schemas.payment import AcceptedPayment, PaymentReceived
from settlement.audit.audit import Auditor, AuditReport
from settlement.audit.payments import RECEIPTS_MAX, RECORDED_WITHIN_S, Payments, Transfer, make_good_nonce
from settlement.audit.sources import Epoch, SourceMissing, Sources
from tests.support.settlement_data import FIRST_EPOCH, LOG, manifest_of

PAYER = "0x" + "c0" * 20
TRANSACTION = "0x" + "7a" * 32
UNIT = 10**12
FINAL = 100
ARRIVED = Transfer(PAYER, 5 * UNIT, 40, TRANSACTION, 3)
PAID = PaymentReceived(
    machine="m", version=1, session="s", payer=PAYER, amount=5, valid_until=1, block=40, transaction=TRANSACTION,
    log_index=3,
)  # fmt: skip


class Node:
    """Answers what it is given; counts how often it was asked for a receipt."""

    def __init__(self, listed: Sequence[Transfer], receipts: Sequence[Transfer] | None = None) -> None:
        self.listed, self.receipts, self.asked = listed, listed if receipts is None else receipts, 0
        self.under: dict[bytes, list[Transfer]] = {}

    def final_block(self) -> int:
        return FINAL

    def transfers(self) -> Sequence[Transfer]:
        return self.listed

    def of_transaction(self, transaction: str) -> Sequence[Transfer]:
        self.asked += 1
        return [each for each in self.receipts if each.transaction == transaction]

    def is_authorised(self, transfer: Transfer) -> bool:
        self.asked += 1
        return transfer.payer == PAYER

    def under_nonce(self, nonce: bytes) -> Sequence[Transfer]:
        self.asked += 1
        return self.under.get(nonce, [])

    def block_time_s(self, number: int) -> int:
        return number


def looked(node: Node) -> Payments:
    payments = Payments(LOG.log_id, UNIT)
    payments.look(node)
    return payments


def audited(payments: Sequence[AcceptedPayment], node: Node | None) -> AuditReport:
    """The audit of a log without posts, with these payments in its first epoch."""
    epochs = {
        0: [Epoch(manifest_of(0, FIRST_EPOCH, []), [], payments)],
        1: [Epoch(manifest_of(1, FIRST_EPOCH, []), [])],
    }

    def never(sequence: int) -> object:
        raise AssertionError(sequence)

    published: Callable[[int], object] = never
    sources = Sources(lambda partition: epochs[partition])
    return Auditor(LOG, b"g" * 32, 18).run([], published, sources, money_in=node)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 6}, {"amount": 4}, {"payer": "0x" + "d4" * 20}, {"block": 41}, {"log_index": 2},
        {"transaction": "0x" + "7b" * 32}, {"block": FINAL + 1},
    ],
)  # fmt: skip
def test_each_field_must_be_the_chains(change: dict[str, object]) -> None:
    right, wrong = AcceptedPayment(7, PAID), AcceptedPayment(7, structs.replace(PAID, **change))
    assert audited([right], Node([ARRIVED])).ok
    assert audited([wrong], None).ok, "the log alone can't tell"
    report = audited([wrong], Node([ARRIVED]))
    (finding,) = report.findings
    assert (finding.kind, finding.partition, finding.offset, finding.machine, finding.session) == (
        "payment", 0, 7, "m", "s",
    )  # fmt: skip
    assert (report.ok, report.payments) == (False, 1)


def test_a_node_that_shows_in_a_receipt_what_it_does_not_list_judges_nobody() -> None:
    """Else whoever runs it could have every right post disputed."""
    report = audited([AcceptedPayment(7, PAID)], Node([], [ARRIVED]))
    assert report.findings == ()
    assert "that it does not list: ask another" in report.gap
    with pytest.raises(SourceMissing, match="ask another"):
        looked(Node([], [ARRIVED])).fault_of(1, 0, AcceptedPayment(7, PAID), 50)


def test_attack_a_payment_of_the_ledger_before_is_not_used_again() -> None:
    payments = looked(Node([ARRIVED]))
    payments.note(1, AcceptedPayment(3, structs.replace(PAID, machine="sold")))
    fault = payments.fault_of(1, 0, AcceptedPayment(7, PAID), 50)
    assert fault is not None and not fault.is_early
    assert fault.finding.text.endswith(
        "is used twice, first by the payment for session s of sold (partition 1, offset 3)"
    )


def test_attack_a_transfer_after_the_post_is_no_payment_of_it() -> None:
    """Nor in its very block: the poster could send both."""
    for block, is_right in ((41, True), (40, False), (39, False)):
        fault = looked(Node([ARRIVED])).fault_of(1, 0, AcceptedPayment(7, PAID), block)
        assert (fault is None) == is_right


def test_what_is_wrong_is_asked_for_within_bounds() -> None:
    node = Node([structs.replace(ARRIVED, block=block, payer="0x" + "d4" * 20) for block in range(RECEIPTS_MAX + 50)])
    payments = looked(all_final(node))
    for number in range(RECEIPTS_MAX + 50):
        missing = structs.replace(PAID, transaction=f"0x{number:064x}")
        assert payments.fault_of(1, 0, AcceptedPayment(number, missing), None) is not None
    assert payments.unrecorded(10**9) == ()
    assert node.asked == RECEIPTS_MAX


def all_final(node: Node) -> Node:
    """The node with every transfer final."""
    node.listed = [structs.replace(each, block=each.block % FINAL, log_index=at) for at, each in enumerate(node.listed)]
    node.receipts = node.listed
    return node


def test_money_without_a_record_is_named_once_its_record_would_have_been_read() -> None:
    payments = looked(Node([ARRIVED]))
    assert payments.unrecorded(ARRIVED.block + RECORDED_WITHIN_S) == ()
    assert payments.unrecorded(ARRIVED.block + RECORDED_WITHIN_S + 1) == (ARRIVED,)
    assert payments.fault_of(1, 0, AcceptedPayment(7, PAID), 50) is None
    assert payments.unrecorded(10**9) == ()


REPLACED = Transfer("0x" + "0b" * 20, 5 * UNIT, 90, "0x" + "9c" * 32, 0)
NONCE = make_good_nonce(LOG.log_id, PAID.machine, PAID.version)


def test_a_payment_that_was_never_made_is_made_good_under_its_nonce() -> None:
    node = Node([], [])
    accepted = AcceptedPayment(7, PAID)
    assert not audited([accepted], node).ok
    node.under = {NONCE: [REPLACED]}
    report = audited([accepted], node)
    assert report.ok
    (text,) = report.made_good
    assert text == (
        "the payment for session s of m (partition 0, offset 7) was never made: the ledger got no such transfer;"
        f" made good by {REPLACED.text}"
    )


@pytest.mark.parametrize(
    "instead",
    [
        structs.replace(REPLACED, amount=5 * UNIT - 1),
        structs.replace(REPLACED, block=FINAL + 1),
        ARRIVED,
    ],
    ids=["too little", "not final", "a customer's, used by his own record"],
)
def test_attack_what_is_too_little_or_not_final_or_used_makes_nothing_good(instead: Transfer) -> None:
    node = Node([ARRIVED])
    node.under = {make_good_nonce(LOG.log_id, PAID.machine, 2): [instead]}
    false = AcceptedPayment(8, structs.replace(PAID, version=2, block=50))
    report = audited([AcceptedPayment(7, PAID), false], node)
    assert [(finding.offset, report.made_good) for finding in report.findings] == [(8, ())]


def test_attack_one_transfer_makes_good_one_payment() -> None:
    """Each has a nonce of its own; a node that shows one transfer under both changes nothing."""
    node = Node([])
    node.under = {make_good_nonce(LOG.log_id, PAID.machine, version): [REPLACED] for version in (1, 2)}
    pair = [AcceptedPayment(7, PAID), AcceptedPayment(8, structs.replace(PAID, version=2, block=50))]
    report = audited(pair, node)
    assert [finding.offset for finding in report.findings] == [8]
    assert len(report.made_good) == 1
