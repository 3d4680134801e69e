"""Accounts, carries and what stays out of the payouts."""

import pytest
from eth_utils.address import to_checksum_address

from schemas.registration import Agreement
from settlement.accrual import Balances, account_of, earning_of, terms_of
from settlement.audit.recount import is_account, payee_name
from settlement.statement import statement
from tests.support.settlement_data import ALICE, BOB, SOLAR, THIRDS, window

MIXED = to_checksum_address("0x" + "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
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
