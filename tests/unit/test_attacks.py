"""Attacks on the log by name: each works on a naive reader of the log, and fails on ours.

The attacks on contracts are in settlement/contracts/test/Attacks.t.sol and SharesAttacks.t.sol.
"""

from typing import Any

import msgspec
import pytest

from schemas.errors import InvalidInput
from schemas.log import Log, Ruleset
from schemas.reading import REGISTERED
from schemas.registration import Agreement
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.window import Window
from settlement.accrual import Balances, earning_of
from settlement.shares import ShareTerms, require_kept, share_terms
from settlement.split import split
from streams.core.signature import operator_account, operator_of, sign_control
from tests.support.written_log import START_MS, Partition, registration

KEY = bytes([7]) * 32
OWNER, SHARES = "0x" + "a1" * 20, "0x" + "b2" * 20
HALVES = {"payees": {OWNER: 5_000, SHARES: 5_000}}
STARVING = {"payees": {OWNER: 9_999, SHARES: 1}}


class NaiveLog:
    """Believes a signature whatever log it was made for, and the latest registration whatever was promised before."""

    def __init__(self, signed_for: str) -> None:
        self._log_id = signed_for
        self.agreement: dict[str, int] = {}

    def register(self, body: bytes, signature: bytes) -> bool:
        """Takes a registration that the operator has signed for any log."""
        if operator_of(signature, self._log_id, "m", REGISTERED, "application/json", body) != operator_account(KEY):
            return False
        self.agreement = msgspec.json.decode(body)["agreement"]["payees"]
        return True

    def investor_part(self, net_micros: int) -> int:
        """By the agreement that is in force when the money is split."""
        return split(net_micros, self.agreement)[SHARES]


def signed_log() -> Partition:
    operators = (operator_account(KEY),)
    return Partition(Log(log_id="production", partitions=1, rulesets=(Ruleset(operators=operators),)))


def send(partition: Partition, body: bytes, log_id: str, at_ms: int) -> list[str]:
    signature = sign_control(KEY, log_id, "m", REGISTERED, "application/json", body)
    return partition.send(REGISTERED, body, at_ms, headers=[("signature", signature)])


def body_of(version: int, agreement: dict[str, Any]) -> bytes:
    return msgspec.json.encode(registration(version, agreement=agreement))


def investor_micros(windows: list[Window]) -> int:
    balances = Balances()
    for window in windows:
        balances.accrue(earning_of(window))
    return balances.cumulative.get(SHARES, 0)


def test_attack_operator_record_replayed_from_a_test_log() -> None:
    """What the operator signed while it tried things out pays nobody in earnest."""
    theft = body_of(1, STARVING)
    tried = sign_control(KEY, "test", "m", REGISTERED, "application/json", theft)
    naive = NaiveLog(signed_for="test")  # It checks the signature as it came, and never asks which log it is.
    assert naive.register(theft, tried)
    assert naive.investor_part(10_000) == 1

    ours = signed_log()
    assert send(ours, theft, "test", 0) == ["bad_signature"]
    assert send(ours, body_of(1, HALVES), "production", 0) == []
    ours.trips(10, HOUR_MS)
    assert investor_micros(ours.seal()) == 500


def test_attack_agreement_changed_to_starve_investors() -> None:
    """The operator's own key, and every way to pay an investor less: the lock holds until its moment."""
    lock = START_MS + 30 * DAY_MS
    naive, ours = NaiveLog("production"), signed_log()
    locked = HALVES | {"locked_until": lock}
    for change in (
        STARVING | {"locked_until": lock},
        STARVING,
        HALVES,
        HALVES | {"locked_until": lock - 1},
        HALVES | {"locked_until": lock, "pays_trust": 2},
        {"payees": {OWNER: 10_000}, "locked_until": lock + DAY_MS},
    ):
        if ours.offset < 0:
            assert send(ours, body_of(1, locked), "production", 0) == []
        assert send(ours, body_of(2, change), "production", HOUR_MS) == ["agreement_locked"]
    theft = body_of(2, STARVING)
    assert naive.register(theft, sign_control(KEY, "production", "m", REGISTERED, "application/json", theft))
    assert naive.investor_part(1_000) == 0

    ours.trips(10, 2 * HOUR_MS)
    assert investor_micros(ours.seal()) == 500


def test_attack_investors_starved_with_late_readings() -> None:
    """Readings of the locked time are held back until the lock is over: they are split as promised all the same."""
    lock = START_MS + HOUR_MS
    ours, naive = signed_log(), NaiveLog("production")
    assert send(ours, body_of(1, HALVES | {"locked_until": lock}), "production", 0) == []
    theft = body_of(2, STARVING)
    assert send(ours, theft, "production", HOUR_MS) == []  # From its moment on an agreement may change.
    assert ours.trips(10, 5 * MINUTE_MS, 3 * HOUR_MS) == []
    windows = ours.seal()
    assert [(window.adjusts_ms, window.gross_micros) for window in windows] == [(START_MS, 1_000)]
    assert windows[0].agreement.payees == HALVES["payees"]
    assert investor_micros(windows) == 500

    naive.register(theft, sign_control(KEY, "production", "m", REGISTERED, "application/json", theft))
    assert naive.investor_part(1_000) == 0


def test_attack_offering_without_a_lock_for_the_term() -> None:
    """An offering that a naive tool would open: the shares are a payee, and nothing keeps them one."""
    end_s = START_MS // 1_000 + 365 * 86_400
    naive_opens = SHARES in HALVES["payees"]
    assert naive_opens
    for agreement, why in (
        (Agreement({OWNER: 10_000}), "does not pay"),
        (Agreement(HALVES["payees"]), "is not locked"),
        (Agreement(HALVES["payees"], locked_until=end_s * 1_000 - 1), "is locked until"),
    ):
        with pytest.raises(InvalidInput, match=why):
            share_terms("m", agreement, SHARES, end_s)
    locked = Agreement(HALVES["payees"], locked_until=end_s * 1_000)
    terms = share_terms("m", locked, SHARES, end_s)
    assert (terms.points, terms.locked_until_s, terms.agreement) == (5_000, end_s, locked.digest())
    spelled = Agreement({OWNER: 5_000, SHARES.upper().replace("X", "x"): 5_000}, locked_until=end_s * 1_000)
    assert share_terms("m", spelled, SHARES, end_s).points == 5_000


def test_attack_offering_that_promises_more_than_the_log() -> None:
    """The seller writes the terms; a buyer's tool holds them against the log."""
    locked = Agreement(HALVES["payees"], locked_until=2_000_000_000_000)
    require_kept("m", locked, SHARES, ShareTerms(5_000, 2_000_000_000, 2_000_000_000, bytes(32)))
    for promised in (
        ShareTerms(5_001, 2_000_000_000, 2_000_000_000, bytes(32)),
        ShareTerms(5_000, 1_900_000_000, 2_000_000_001, bytes(32)),
    ):
        with pytest.raises(InvalidInput, match="don't buy"):
            require_kept("m", locked, SHARES, promised)
