"""Accounts, carries and what stays out of the payouts."""

import pytest
from eth_utils.address import to_checksum_address

from schemas.registration import Agreement
from schemas.window import Due
from settlement.accrual import NOBODY, Balances, account_of, earning_of, terms_of
from settlement.audit.recount import Recount, is_account, payee_name
from settlement.statement import statement
from tests.support.settlement_data import ALICE, BOB, SOLAR, THIRDS, window

MIXED = to_checksum_address("0x" + "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
SUPPLIER = "0x" + "5e" * 20
CUSTOMER = "0x" + "c0" * 20
LEDGER = "0x" + "1e" * 20
WRONG = MIXED.replace("a", "A", 1) if "a" in MIXED[2:] else MIXED


@pytest.mark.parametrize(
    ("payee", "account"),
    [
        (ALICE, ALICE),
        ("0x" + ALICE[2:].upper(), ALICE),
        (MIXED, MIXED.lower()),
        (MIXED.lower(), MIXED.lower()),
        (WRONG, None),
        ("0x" + "0" * 40, None),
        ("0X" + "1" * 40, None),
        ("0x" + "1" * 39, None),
        ("0x" + "1" * 40, "0x" + "1" * 40),
        ("solar-coop", None),
    ],
)
def test_what_is_an_account(payee: str, account: str | None) -> None:
    assert account_of(payee) == account
    own = payee_name(payee)  # the auditor's own reading of it
    assert is_account(own) == (account is not None)
    assert own == (account or payee)


def test_two_spellings_of_one_account_are_one() -> None:
    terms = terms_of(Agreement({ALICE: 2_500, "0x" + ALICE[2:].upper(): 2_500, BOB: 5_000}))
    assert dict(terms.points) == {ALICE: 5_000, BOB: 5_000}


def test_a_net_below_zero_is_recovered_before_anything_is_split() -> None:
    balances = Balances()
    steps = [balances.accrue(earning_of(window("m", 1, net, place=i))) for i, net in enumerate((-100, 60, 90, -1, 1))]
    assert [(s.carry_before, s.payable, s.carry_after) for s in steps] == [
        (0, 0, -100), (-100, 0, -40), (-40, 50, 0), (0, 0, -1), (-1, 0, 0),
    ]  # fmt: skip
    assert balances.payouts() == {SOLAR: 25, ALICE: 17, BOB: 8}
    assert balances.carries() == ()


def test_a_new_agreement_starts_with_a_carry_of_its_own() -> None:
    balances = Balances()
    balances.accrue(earning_of(window("m", 1, -100)))
    balances.accrue(earning_of(window("m", 1, 10, place=1, agreement=Agreement({BOB: 10_000}))))
    assert balances.payouts() == {BOB: 10}
    assert [carry.micros for carry in balances.carries()] == ["-100"]


def test_what_cannot_be_paid_is_named_and_not_lost() -> None:
    before, balances = Balances(), Balances()
    some = Agreement({"coop": 2_500, ALICE: 7_500}, pays_trust=1)
    balances.accrue(earning_of(window("m", 1, 100, agreement=some, trust=1)))
    balances.accrue(earning_of(window("m", 1, 50, place=1, agreement=some, trust=0)))
    assert balances.payouts() == {ALICE: 75}
    assert [(u.reason, u.machine, u.payee, u.micros) for u in balances.unsettled_since(before)] == [
        ("no_account", "m", "coop", "25"),
        ("trust", "m", "", "50"),
    ]


def test_a_statement_adds_up_to_what_is_owed() -> None:
    earnings = [earning_of(window("m", 1, net, place=i)) for i, net in enumerate((-100, 250, 70, 0))]
    found = statement(ALICE, [(1, earnings[:2]), (2, earnings[2:])])
    assert [(row.sequence, row.payable_micros, row.points) for row in found.rows] == [
        (1, 0, 3_333), (1, 150, 3_333), (2, 70, 3_333),
    ]  # fmt: skip
    assert sum(row.amount_micros for row in found.rows) == found.cumulative_micros == 50 + 23
    assert THIRDS.payees[ALICE] == 3_333


def test_dues_are_paid_whole_beside_the_split_whatever_trust_and_carry() -> None:
    signed = Agreement({ALICE: 10_000}, pays_trust=1)
    invoice, refund = Due("expense", SUPPLIER, "bearing/1", 70), Due("refund", CUSTOMER, "s-1", 30)
    before, balances = Balances(), Balances()
    steps = [
        balances.accrue(earning_of(each))
        for each in (
            window("m", 1, -60, agreement=signed, trust=1, dues=[invoice]),
            window("m", 1, 20, place=1, agreement=signed, dues=[refund]),
            window("m", 1, 100, place=2, agreement=signed, trust=1, dues=[Due("expense", ALICE, "bearing/2", 5)]),
        )
    ]
    assert [(s.carry_before, s.payable, s.carry_after) for s in steps] == [(0, 0, -60), (-60, 0, -60), (-60, 40, 0)]
    assert balances.payouts() == {SUPPLIER: 70, CUSTOMER: 30, ALICE: 45}
    assert balances.dues == {("expense", SUPPLIER): 70, ("refund", CUSTOMER): 30, ("expense", ALICE): 5}
    assert [(u.reason, u.micros) for u in balances.unsettled_since(before)] == [("trust", "20")]


def test_attack_expenses_beyond_income_are_made_good_before_payees_see_anything() -> None:
    """A machine whose owner is also its supplier buys for more than it earns: no other machine's payee has less."""
    thief = Agreement({SUPPLIER: 10_000}, pays_trust=1)
    balances = Balances()
    balances.accrue(
        earning_of(window("thief", 1, -900, agreement=thief, trust=1, dues=[Due("expense", SUPPLIER, "x/1", 1_000)]))
    )
    balances.accrue(earning_of(window("honest", 1, 500, agreement=Agreement({ALICE: 10_000}))))
    for place, (net, trust) in enumerate([(400, 1), (300, 0), (450, 1), (60, 1)]):
        balances.accrue(earning_of(window("thief", 2, net, place=place, agreement=thief, trust=trust)))
    assert balances.payouts() == {SUPPLIER: 1_010, ALICE: 500}, "1,000 for goods, and what came in beyond their price"


def test_attack_readings_without_a_signature_do_not_rid_a_machine_of_its_expenses() -> None:
    """Held is what was earned, never what was spent: else one unsigned reading would make goods free."""
    signed = Agreement({ALICE: 10_000}, pays_trust=1)
    invoice = Due("expense", SUPPLIER, "x/1", 50)
    before, balances, recount = Balances(), Balances(), Recount()
    for each in (
        window("m", 1, -49, agreement=signed, trust=0, dues=[invoice]),
        window("m", 1, 100, place=1, agreement=signed, trust=1),
    ):
        balances.accrue(earning_of(each))
        recount.take(each)
    assert balances.payouts() == recount.owed == {SUPPLIER: 50, ALICE: 51}
    assert balances.unsettled_since(before) == ()


@pytest.mark.parametrize("account", [NOBODY, LEDGER])
def test_a_due_or_a_part_to_nobody_or_to_the_ledger_is_named_and_stops_nothing(account: str) -> None:
    before, balances, recount = Balances(ledger=LEDGER), Balances(ledger=LEDGER), Recount(LEDGER)
    for each in (
        window("m", 1, 100, dues=[Due("refund", account, "s-1", 7), Due("refund", CUSTOMER, "s-2", 3)]),
        window(
            "m",
            1,
            10,
            place=1,
            agreement=Agreement({account: 5_000, ALICE: 5_000}),
            dues=[Due("expense", account, "x/1", 2)],
        ),
    ):
        balances.accrue(earning_of(each))
        recount.take(each)
    assert balances.payouts() == recount.owed
    assert account not in balances.payouts()
    assert balances.payouts()[CUSTOMER] == 3
    assert [(u.reason, u.machine, u.payee, u.micros) for u in balances.unsettled_since(before)] == [
        ("no_account", "m", account, "14"),
    ]  # fmt: skip
    assert recount.outside == {("m", account): 14}


def test_a_statement_shows_the_dues_of_an_account_that_is_no_payee() -> None:
    earnings = [
        earning_of(window("m", 1, -40, dues=[Due("expense", SUPPLIER, "bearing/1", 140)])),
        earning_of(
            window("m", 1, 90, place=1, dues=[Due("refund", CUSTOMER, "s", 8), Due("expense", ALICE, "oil/3", 6)])
        ),
    ]  # fmt: skip
    posts = [(1, earnings[:1]), (2, earnings[1:])]
    found = statement(SUPPLIER, posts)
    assert found.rows == ()
    assert [(due.sequence, due.kind, due.ref, due.amount_micros) for due in found.dues] == [
        (1, "expense", "bearing/1", 140)
    ]
    assert found.cumulative_micros == 140
    both = statement(ALICE, posts)
    assert [row.amount_micros for row in both.rows] == [0, 17]
    assert [(due.sequence, due.ref, due.amount_micros) for due in both.dues] == [(2, "oil/3", 6)]
    assert both.cumulative_micros == 17 + 6
