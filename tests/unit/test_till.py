"""The till in memory: what it sells, for how much, its way from a signature to a start, killed anywhere; thieves."""

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from deploy.importers.tariffs import time_of_use
from schemas.errors import InvalidInput
from schemas.payment import PAID
from schemas.payout import ProofFile
from schemas.registration import Component, Element, Restrictions
from schemas.units import DAY_MS, HOUR_MS, MINUTE_MS
from streams.core.rating import Prices
from tests.support.sim_till import (
    ALICE,
    ASSET,
    BOB,
    LEDGER,
    LONG_MS,
    START_S,
    Killed,
    Street,
    account,
    payment_of,
    registration,
)
from till import wire
from till.authorization import Authorization
from till.desk import Refused, Unpaid, Wish
from till.follow import Row, Use
from till.journal import Journal
from till.offers import Item, offer, quote
from till.outcome import Outcome, Sealed
from till.purchase import UNDER_WAY
from till.wire import Payment, Required, decoded, encoded

NIGHT_MS = START_S * 1000  # the tariff's night ends at six


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path)


# ---------------------------------------------------------------- prices


def test_an_offer_says_when_its_price_changes() -> None:
    found = offer(Item(machine="charger", place="kerb 1"), registration("charger"), "USD", NIGHT_MS, is_free=True)
    assert [(price.from_ms - NIGHT_MS, price.price_micros) for price in found.prices] == [
        (0, 100_000), (6 * 3_600_000, 300_000), (22 * 3_600_000, 100_000),
    ]  # fmt: skip
    assert (found.unit, found.is_free, found.prices[0].per_session_micros) == ("Wh", True, 1_000_000)


def test_changes_of_a_day_are_those_that_a_look_at_every_minute_finds() -> None:
    """Weekdays, an evening over midnight, and clocks that are put back in the middle of it."""
    tariff = time_of_use(("energy",), "America/Los_Angeles", 420_000, 280_000, 1_000)
    night = Element((Component("energy", 100_000, per=1_000),), Restrictions(start_time="23:30", end_time="01:30"))
    tariff = structs.replace(tariff, elements=(night, *tariff.elements))
    machine, prices = structs.replace(registration("charger"), tariff=tariff), Prices(tariff)
    back_ms = next(start for start, _ in tariff.offsets[1:] if start > NIGHT_MS)
    for now_ms in (back_ms - 11 * HOUR_MS - 17, back_ms - HOUR_MS, back_ms + 30 * HOUR_MS):
        found = offer(Item(machine="charger"), machine, "USD", now_ms, is_free=True).prices
        first = now_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
        looked = [(now_ms, prices.of_usage("energy", now_ms).micros)]
        for at_ms in range(first, now_ms + DAY_MS, MINUTE_MS):
            micros = prices.of_usage("energy", at_ms).micros
            looked += [(at_ms, micros)] if micros != looked[-1][1] else []
        assert [(price.from_ms, price.price_micros) for price in found] == looked and len(looked) > 2


def test_a_quote_rounds_up_and_counts_the_start() -> None:
    item, machine = Item(machine="charger"), registration("charger")
    assert quote(item, machine, NIGHT_MS, units=5_001, money_micros=None).amount_micros == 1_500_100
    assert quote(item, machine, NIGHT_MS, units=None, money_micros=1_500_000).units == 5_000
    with pytest.raises(InvalidInput, match="another amount"):
        quote(item, machine, NIGHT_MS, units=2**53, money_micros=None)
    with pytest.raises(InvalidInput, match="no meter level"):
        quote(Item(machine="charger", meter="level"), machine, NIGHT_MS, units=1, money_micros=None)


# ---------------------------------------------------------------- the way of a purchase


def test_a_session_begins_once_its_payment_is_final_and_in_the_log(street: Street) -> None:
    till = street.till
    receipt = till.buy(payment_of(till.price()))
    assert (receipt.state, receipt.paid_micros, isinstance(receipt.secret, str)) == ("accepted", 0, True)
    street.till.cashier.go_on()
    street.chain.mine()
    street.till.cashier.go_on()
    assert street.chain.balance(LEDGER) == 5_000_000 and not street.log.accepted, "mined, but not final"
    till.work()
    (payment,) = street.log.accepted
    assert (payment.version, payment.amount, payment.payer) == (1, 5_000_000, account(ALICE))
    ((command, payments),) = street.commands.sent
    assert (command.command, command.session, payments) == ("start", receipt.session, 1)
    found = till.desk.status("charger", receipt.session)
    assert (found.state, found.paid_micros) == ("started", 5_000_000)
    assert found.proof == [{"block": payment.block, "log_index": 1, "transaction": payment.transaction}]


@pytest.mark.parametrize("steps", range(12))
def test_killed_after_any_step_a_purchase_is_neither_lost_nor_recorded_twice(street: Street, steps: int) -> None:
    """Steps are the journal's (2) to (8) and the moments after each send, before the journal knows of it."""
    receipt = street.till.buy(payment_of(street.till.price()))
    street.restart()  # killed right after (1)
    street.kills.left = steps
    was_killed = False
    for _ in range(40):
        try:
            if not street.till.cashier.go_on():
                break
        except Killed:
            was_killed = True
            street.restart()
        street.chain.mine()
    assert was_killed == (steps < 10)
    (payment,) = street.log.accepted
    assert (payment.session, payment.amount) == (receipt.session, 5_000_000)
    assert payment.transaction == street.chain.used[account(ALICE), f"0x{1:064x}"].transaction
    assert street.chain.balance(LEDGER) == 5_000_000
    assert {(command.session, payments) for command, payments in street.commands.sent} == {(receipt.session, 1)}
    assert street.till.desk.status("charger", receipt.session).state == "started"


def test_away_servers_delay_a_purchase_and_lose_nothing(street: Street) -> None:
    till = street.till
    till.buy(payment_of(till.price()))
    for away in (street.chain, street.log, street.chain):
        away.is_away = True  # type: ignore[attr-defined]
        for _ in range(4):
            with suppress(InvalidInput):
                till.cashier.go_on()
            street.chain.mine()
        away.is_away = False  # type: ignore[attr-defined]
    till.work()
    assert len(street.log.accepted) == 1 and len(street.commands.sent) == 1


def test_a_transfer_that_somebody_else_sends_is_credited(street: Street) -> None:
    """The authorisation waits in the open: who sends it first spends gas, and changes nothing."""
    payment = payment_of(street.till.price())
    street.till.buy(payment)
    street.till.cashier.go_on()
    street.chain.execute(Authorization.of(payment), "0x" + "ee" * 32)
    street.till.work()
    (recorded,) = street.log.accepted
    assert recorded.transaction == "0x" + "ee" * 32 and street.chain.reverted == 1


def test_payments_of_one_machine_follow_the_chain(street: Street) -> None:
    """B's transfer is mined before A's, which was accepted first: the log demands ascending places."""
    till = street.till
    first, second = (payment_of(till.price("drone"), key, nonce=n) for n, key in ((1, ALICE), (2, BOB)))
    till.buy(first, "drone")
    till.buy(second, "drone")
    street.chain.execute(Authorization.of(second), "0x" + "bb" * 32)
    till.work()
    assert [payment.payer for payment in street.log.accepted] == [account(BOB), account(ALICE)]
    assert len(street.commands.sent) == 2


def test_a_top_up_is_added_by_the_payer_alone(street: Street) -> None:
    till = street.till
    opened = till.buy(payment_of(till.price()))
    with pytest.raises(Refused, match="has not begun"):
        till.buy(payment_of(till.price("drone"), nonce=2), session=opened.session)
    till.work()
    now_s = int(street.clock.now_s)
    wanted = till.price("drone", money="2")
    with pytest.raises(Refused, match="only the account"):
        till.buy(payment_of(wanted, BOB, 3, now_s), session=opened.session, money="2")
    till.buy(payment_of(wanted, ALICE, 4, now_s), session=opened.session, money="2")
    till.work()
    session = street.log.state.session_of("charger", opened.session)
    assert session is not None and session.paid == 7_000_000
    assert till.desk.status("charger", opened.session).paid_micros == 7_000_000
    assert len(street.commands.sent) == 1


def test_only_the_secret_stops_a_session_and_a_stop_before_the_start_wins(street: Street) -> None:
    till, secret = street.till, "a secret of the buyer's"
    receipt = till.buy(payment_of(till.price()), money="5", secret=secret)
    assert receipt.secret is msgspec.UNSET
    with pytest.raises(Refused, match="not the secret"):
        till.desk.stop("charger", receipt.session, "another secret altogether")
    assert till.desk.stop("charger", receipt.session, secret).is_stopped
    till.work()
    assert [command.command for command, _ in street.commands.sent] == ["stop"]
    assert len(street.log.accepted) == 1, "paid is paid: the log refunds it"


def test_a_payment_that_is_final_too_late_is_recorded_and_not_begun(street: Street) -> None:
    till = street.till
    receipt = till.buy(payment_of(till.price()))
    till.cashier.go_on()
    street.chain.mine(3)
    street.clock.now_s += LONG_MS // 1000
    till.work()
    assert till.desk.status("charger", receipt.session).state == "returned"
    assert len(street.log.accepted) == 1 and not street.commands.sent


def test_a_busy_machine_is_free_again_when_its_session_is_over(street: Street) -> None:
    till = street.till
    till.buy(payment_of(till.price()))
    with pytest.raises(Refused, match="busy"):
        till.price()
    assert '"is_free":false' in till.desk.offers().document
    till.work()
    street.clock.now_s += LONG_MS // 1000
    assert till.price().amount == "5000000"


def test_a_machine_is_free_once_it_reports_the_end(street: Street) -> None:
    till = street.till
    opened = till.buy(payment_of(till.price()))
    till.work()
    street.log.ended.add(("charger", opened.session))
    assert till.price().amount == "5000000"
    with pytest.raises(Refused, match="is over"):
        till.buy(payment_of(till.price("drone"), nonce=2, now_s=int(street.clock.now_s)), session=opened.session)


def test_a_transaction_that_waits_is_replaced_after_blocks_not_looks(street: Street) -> None:
    till = street.till
    till.buy(payment_of(till.price()))
    till.cashier.go_on()
    (first,) = till.journal.in_state("signed")
    street.chain.waiting.clear()
    street.chain.next_nonce = -1  # the node mines nothing of ours
    for block in range(6):
        for _ in range(10):
            till.cashier.go_on()
        (now,) = till.journal.in_state("signed")
        assert (now.attempt != first.attempt) == (block >= 5) and now.attempts == 1
        street.chain.mine()


def test_a_status_says_what_became_of_a_session_and_with_what_to_check_it(street: Street) -> None:
    """Nothing while it goes on; by the window once it sealed; with the payout once the post of that pays."""
    till, books = street.till, street.books
    receipt = till.buy(payment_of(till.price()))
    till.work()
    words = {"window_start_ms": 0, "window_digest": "ab" * 32, "partition": 0, "epoch": 3, "paid_micros": 5_000_000}
    sealed = Sealed(**words, used_micros=1_200_000, refund_micros=3_800_000, post=None, is_active=False)
    books.windows["charger", receipt.session, account(ALICE)] = [sealed]
    assert till.desk.status("charger", receipt.session).outcome is msgspec.UNSET and not books.asked
    street.log.ended.add(("charger", receipt.session))
    books.is_away = True
    assert till.desk.status("charger", receipt.session).outcome is msgspec.UNSET
    books.is_away = False
    assert till.desk.status("charger", receipt.session).outcome is msgspec.UNSET and books.asked == 1, "asked lately"
    street.clock.now_s += 10
    found = till.desk.status("charger", receipt.session).outcome
    assert isinstance(found, Outcome) and found.payout is msgspec.UNSET and found.windows == [sealed]
    assert (found.used_micros, found.collected_micros, found.refund_micros) == (1_200_000, 1_200_000, 3_800_000)
    payout = ProofFile(
        chain_id=1, ledger=LEDGER, sequence=2, account=account(ALICE), cumulative="7", payouts_root="0x", proof=()
    )
    books.windows["charger", receipt.session, account(ALICE)] = [structs.replace(sealed, post=2, is_active=True)]
    books.payouts[account(ALICE)] = payout
    street.clock.now_s += 10
    for _ in range(3):
        found = till.desk.status("charger", receipt.session).outcome
        assert isinstance(found, Outcome) and found.payout == payout and found.windows[0].post == 2
        street.clock.now_s += 60
    assert books.asked == 3 and any(line.startswith("tallyroot verify") for line in found.checks)


def test_attack_asking_for_many_sessions_costs_one_query_in_half_a_second(street: Street) -> None:
    till, now_s = street.till, int(street.clock.now_s)
    sessions = [till.buy(payment_of(till.price("drone"), ALICE, n, now_s), "drone").session for n in (1, 2)]
    till.work()
    for session in sessions:
        street.log.ended.add(("drone", session))
        assert till.desk.status("drone", session).state == "started"
    assert street.books.asked == 1
    street.clock.now_s += 1
    till.desk.status("drone", sessions[1])
    assert street.books.asked == 2


@pytest.mark.parametrize("steps", range(10))
def test_a_facilitator_sends_and_the_chain_decides(tmp_path: Path, steps: int) -> None:
    """Killed after any step: asked again, the transfer happens once, and is recorded once."""
    street = Street(tmp_path, facilitator="honest")
    receipt = street.till.buy(payment_of(street.till.price()))
    street.kills.left = steps
    for _ in range(40):
        try:
            if not street.till.cashier.go_on():
                break
        except Killed:
            street.restart()
        street.chain.mine()
    (payment,) = street.log.accepted
    assert (payment.session, payment.transaction) == (receipt.session, "0x" + "fa" * 32)
    assert street.chain.balance(LEDGER) == 5_000_000 and street.till.journal.in_state("started")


# ---------------------------------------------------------------- thieves


def test_attack_a_facilitator_that_lies_gets_nothing_recorded(tmp_path: Path) -> None:
    """It says that it settled: the purchase waits for the chain, and fails once nobody can send the transfer."""
    street = Street(tmp_path, facilitator="lies")
    facilitator = street.facilitator
    assert facilitator is not None
    facilitator.refusal = wire.NO_FUNDS
    assert street.till.refused(payment_of(street.till.price())) == wire.NO_FUNDS
    facilitator.refusal = None
    receipt = street.till.buy(payment_of(street.till.price()))
    for _ in range(20):
        for _ in range(5):
            street.till.cashier.go_on()
        street.chain.mine()
    assert len(facilitator.asked) == 4, "once in five blocks"
    assert street.till.desk.status("charger", receipt.session).state == "signed"
    street.clock.now_s += 400
    street.till.cashier.go_on()
    assert street.till.desk.status("charger", receipt.session).state == "failed"
    assert not street.log.accepted and not street.commands.sent


def test_attack_signatures_and_terms_that_do_not_fit(street: Street) -> None:
    """Each with the protocol's own error; nothing is sent, and nothing is journaled."""
    till, wanted = street.till, street.till.price()
    thefts = {
        wire.SIGNATURE: payment_of(wanted, signer=BOB),
        wire.VALUE: payment_of(wanted, value=1),
        wire.RECIPIENT: payment_of(wanted, to=account(ALICE)),
        wire.VALID_BEFORE: payment_of(wanted, valid_before=START_S - 1),
        wire.VALID_AFTER: payment_of(wanted, valid_after=START_S + 100),
        wire.NETWORK_MISMATCH: payment_of(wanted, accepted={"network": "eip155:1"}),
        wire.INVALID_REQUIREMENTS: payment_of(wanted, accepted={"asset": LEDGER}),
        wire.UNSUPPORTED_SCHEME: payment_of(wanted, accepted={"scheme": "upto"}),
        wire.NO_FUNDS: payment_of(wanted, BOB),
        wire.INVALID_VERSION: structs.replace(payment_of(wanted), x402_version=1),
    }
    street.chain.balances[account(BOB)] = 4_999_999
    for error, payment in thefts.items():
        assert till.refused(payment) == error
    other_chain = payment_of(wanted, asset=structs.replace(ASSET, chain_id=1))
    assert till.refused(other_chain) == wire.SIGNATURE, "signed for another chain"
    for_years = payment_of(wanted, valid_before=START_S + 10**8)
    assert till.refused(for_years) == wire.VALID_BEFORE, "it would keep the machine reserved for years"
    cheaper = payment_of(wanted, value=10_000, accepted={"amount": "10000"})
    assert till.refused(cheaper) == wire.VALUE, "terms of the buyer's own"
    assert not till.journal.in_state(*UNDER_WAY) and not street.chain.waiting


def test_attack_one_authorisation_buys_one_session(street: Street) -> None:
    """Posted twice it is the same purchase; for another machine, or as a top-up, it is used up."""
    till, payment = street.till, payment_of(street.till.price())
    first, again = till.buy(payment), till.buy(payment)
    assert first.session == again.session and again.secret is msgspec.UNSET, "it is public once it is on the chain"
    till.work()
    assert till.buy(payment).state == "started"
    assert till.refused(payment, "drone") == wire.NONCE_USED
    with pytest.raises(Unpaid) as refused:
        till.buy(payment, session=first.session)
    assert refused.value.error == wire.NONCE_USED
    assert len(street.log.accepted) == 1 and len(street.commands.sent) == 1


def test_attack_two_tills_and_one_authorisation(street: Street) -> None:
    """Both accept it before it is used: one transfer, one payment in the log, one session."""
    other = street.open_till("other")
    payment = payment_of(street.till.price())
    street.till.buy(payment)
    other.buy(payment, "drone")
    street.till.cashier.go_on()
    street.chain.mine(3)
    for till in (street.till, other, street.till, other):
        till.cashier.go_on()
    assert len(street.log.accepted) == 1 and len(street.commands.sent) == 1
    assert other.journal.in_state("failed")[0].note.startswith("another till has recorded")
    assert other.refused(payment, "drone") == wire.FAILED
    other.journal.close()


def test_a_second_till_of_a_machine_is_noticed_by_both(street: Street) -> None:
    """What the log had before a till was opened is nobody's fault; what it takes then and this till didn't sell, is."""
    street.till.buy(payment_of(street.till.price("drone")), "drone")
    street.till.work()
    other = street.open_till("other")
    other.buy(payment_of(other.price("drone"), BOB, 2, int(street.clock.now_s)), "drone")
    signed = payment_of(street.till.price("drone"), BOB, 3, int(street.clock.now_s))
    other.work()
    with pytest.raises(Refused, match="sold by another till too"):
        street.till.buy(signed, "drone")
    with pytest.raises(Refused, match="sold by another till too"):
        street.till.price("drone")
    assert street.till.desk.offers().document.count('"is_free":false') == 1
    street.till.buy(payment_of(street.till.price(), ALICE, 4, int(street.clock.now_s)))
    street.till.work()
    assert other.price("drone")
    with pytest.raises(Refused, match="sold by another till too"):
        other.desk.buy("charger", Wish(units=5_000), None)
    other.journal.close()
    street.restart()
    assert street.till.price("drone"), "who restarts it says that the other one has ended"


def test_attack_an_authorisation_that_was_used_elsewhere_buys_nothing(street: Street) -> None:
    payment = payment_of(street.till.price())
    street.chain.execute(Authorization.of(payment), "0x" + "aa" * 32)
    assert street.till.refused(payment) == wire.NONCE_USED


@pytest.mark.parametrize("how", ["moves the money", "cancels"])
def test_attack_a_payer_who_takes_the_money_back_holds_the_machine_for_minutes(street: Street, how: str) -> None:
    """Gas is paid a bounded number of times; the purchase fails only once nobody can send the transfer any more."""
    till, payment = street.till, payment_of(street.till.price())
    receipt = till.buy(payment)
    till.cashier.go_on()
    if how == "cancels":
        street.chain.cancelled[account(ALICE), f"0x{1:064x}"] = street.chain.block
    else:
        street.chain.balances[account(ALICE)] = 0
    for _ in range(10):
        till.cashier.go_on()
        street.chain.mine()
    is_over = till.desk.status("charger", receipt.session).state == "failed"
    assert is_over == (how == "cancels")
    street.clock.now_s += 400
    till.cashier.go_on()
    assert till.desk.status("charger", receipt.session).state == "failed"
    assert not street.log.accepted and not street.commands.sent and street.chain.reverted <= 4
    assert till.price(), "the machine is free again"


def test_attack_money_that_comes_back_in_time_is_never_lost(street: Street) -> None:
    till, payment = street.till, payment_of(street.till.price())
    till.buy(payment)
    till.cashier.go_on()
    held, street.chain.balances[account(ALICE)] = street.chain.balances[account(ALICE)], 0
    street.chain.mine(2)
    till.cashier.go_on()
    street.chain.balances[account(ALICE)] = held
    street.chain.execute(Authorization.of(payment), "0x" + "ab" * 32)
    till.work()
    assert len(street.log.accepted) == 1 and street.till.journal.in_state("started")


def test_a_number_that_another_payment_took_is_replaced(street: Street) -> None:
    """The operator, or another till, recorded a payment of the machine between numbering and sending."""
    street.till.buy(payment_of(street.till.price()))
    street.till.cashier.go_on()
    street.chain.mine(3)
    street.kills.left = 1
    with pytest.raises(Killed):  # numbered, and not sent
        street.till.cashier.go_on()
    (numbered,) = street.till.journal.in_state("numbered")
    other = msgspec.json.decode(numbered.record) | {"session": "other", "block": 3, "transaction": "0x" + "ad" * 32}
    assert street.log.take(PAID, "charger", msgspec.json.encode(other)) is None
    street.restart()
    street.till.work()
    assert [(payment.version, payment.block) for payment in street.log.accepted] == [(1, 3), (2, 11)]


def test_attack_who_pays_little_gets_little(street: Street) -> None:
    """The gateway is told to stop before the reading that would use more than was paid; again after a kill."""
    till = street.till
    receipt = till.buy(payment_of(till.price(money="1.50")), money="1.50")
    till.work()
    use = street.log.uses["charger", receipt.session] = Use(Prices(registration("charger").tariff))
    words = {"machine": "charger", "meter": "energy", "boot": 1, "session": receipt.session}
    told = []
    for seq in range(1, 9):
        row = Row(**words, seq=seq, observed_at=NIGHT_MS, register=900_000 + 1_000 * seq, session_start=seq == 1)
        use.take(row)
        use.take(row)
        street.kills.left = 0 if seq == 5 else None
        with suppress(Killed):
            till.cashier.go_on()
        if seq == 5:
            street.restart()
            till = street.till
        told.append([command.command for command, _ in street.commands.sent].count("stop"))
    assert told == [0, 0, 0, 0, 1, 2, 2, 2], "a start of 1.00 and four kilowatt-hours are 1.40"
    assert till.desk.status("charger", receipt.session).is_stopped
    use = Use(Prices(registration("charger").tariff))
    use.take(Row("charger", "energy", 1, 1, NIGHT_MS, quantity=4_000))
    assert use.is_used_up(800_000) and not use.is_used_up(800_001)


# ---------------------------------------------------------------- forms


def test_headers_are_the_protocol_s() -> None:
    """Names as x402 version 2 writes them, and nothing that isn't base64 of them passes."""
    payment = payment_of(
        wire.Requirements(
            scheme="exact", network="eip155:31337", asset=ASSET.token, amount="7", pay_to=LEDGER, max_timeout_seconds=60
        )
    )
    document = msgspec.to_builtins(payment)
    assert document["x402Version"] == 2 and document["accepted"]["payTo"] == LEDGER
    assert set(document["payload"]["authorization"]) == {"from", "to", "value", "validAfter", "validBefore", "nonce"}
    assert decoded(encoded(payment), Payment) == payment
    for text in ("", "e30=", "not base64", "x" * (wire.HEADER_MAX + 1)):
        with pytest.raises(InvalidInput):
            decoded(text, Payment)
    required = Required(x402_version=2, accepts=[payment.accepted], resource=wire.Resource("http://till"))
    assert msgspec.to_builtins(required)["accepts"][0]["maxTimeoutSeconds"] == 60


def test_a_wish_is_one_amount(street: Street) -> None:
    for wish in ({}, {"units": 1, "money": "1"}, {"money": "-1"}, {"money": "0.0000001"}, {"money": "0.001"}):
        with pytest.raises(Refused) as refused:
            street.till.desk.buy("charger", msgspec.convert(wish, Wish), None)
        assert refused.value.status == 400
    with pytest.raises(Refused, match="does not sell"):
        street.till.desk.buy("robot", Wish(units=1), None)


def test_one_process_has_a_journal_open(street: Street, tmp_path: Path) -> None:
    street.till.buy(payment_of(street.till.price()))
    with pytest.raises(InvalidInput, match="another till"):
        Journal(tmp_path / "till.sqlite")
