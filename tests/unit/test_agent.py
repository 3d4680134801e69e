"""The agent in memory: it buys what it needs and no more, whatever tills answer, killed anywhere."""

import json
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from msgspec import structs

from agent.choice import choices
from agent.journal import AgentJournal
from agent.ports import Answer, Away
from schemas.errors import InvalidInput
from tests.support.sim_agent import POLICY, Taxi, answer
from tests.support.sim_till import ALICE, ASSET, BOB, LEDGER, LONG_MS, Killed, account, payment_of
from till import wire
from till.authorization import Authorization
from till.offers import Offer, PriceFrom
from till.wire import Required, encoded

NIGHT = 2_000_000
"""Ten kilowatt-hours at 0.10 and a start of 1.00."""


@pytest.fixture
def taxi(tmp_path: Path) -> Taxi:
    return Taxi(tmp_path)


def offered(machine: str = "charger", price: int = 100_000, **words: object) -> Offer:
    prices = (PriceFrom(from_ms=0, price_micros=price, per=1_000, per_session_micros=0),)
    offer = Offer(
        machine=machine, kind="charger", place="", meter="energy", unit="Wh", currency="USD", prices=prices,
        is_free=True,
    )  # fmt: skip
    return structs.replace(offer, **words)


# ---------------------------------------------------------------- what it does


def test_it_charges_itself_and_the_rest_comes_back(taxi: Taxi) -> None:
    taxi.purse.claimable = 3_500_000
    taxi.log.shows(25_000)
    taxi.agent.look(at_books=False)
    assert taxi.purse.claimable and not taxi.purchases()
    taxi.log.shows(18_000)
    taxi.trip()
    (bought,) = taxi.purchases()
    assert (bought.state, bought.machine, bought.units, bought.amount_micros) == ("over", "charger", 12_000, 2_200_000)
    assert taxi.spent == 2_200_000 and taxi.log.now.value == 30_000
    assert [command.command for command, _ in taxi.street.commands.sent] == ["start", "stop"]
    taxi.tick()
    assert taxi.policy.allowed(taxi.purchases(), int(taxi.street.clock.now_s))[0] == 9_800_000, "held: not back yet"
    taxi.purse.refunds["charger", bought.session] = 900_000
    taxi.tick()
    (settled,) = taxi.purchases()
    assert (settled.state, settled.counted_micros) == ("settled", 1_300_000)
    assert "claimed 3.50 USD" in taxi.said and any("0.90 USD of 2.20 USD" in line for line in taxi.said)


def test_it_waits_for_a_newer_level_before_it_buys_again(taxi: Taxi) -> None:
    taxi.trip()
    taxi.log.now = taxi.log.now._replace(value=10_000)
    taxi.tick()
    assert len(taxi.purchases()) == 1, "the reading was seen before"
    taxi.log.shows(10_000)
    taxi.tick()
    assert len(taxi.purchases()) == 2


@pytest.mark.parametrize("steps", range(26))
def test_killed_after_any_step_it_never_buys_twice_and_loses_nothing(tmp_path: Path, steps: int) -> None:
    """Steps are the journal's and the moments after each request, before its answer is known."""
    taxi = Taxi(tmp_path)
    taxi.street.kills.left = steps
    for _ in range(30):
        try:
            taxi.tick()
        except Killed:
            taxi.restart()
            taxi.street.restart()
            taxi.web.tills["http://a"] = taxi.street.till
    (bought,) = taxi.purchases()
    assert (bought.state, taxi.spent, len(taxi.street.log.accepted)) == ("over", bought.amount_micros, 1)
    assert bought.session == taxi.street.log.accepted[0].session


def test_away_servers_are_waited_for(taxi: Taxi) -> None:
    taxi.purse.fault = "0x1 holds too little ether"
    for away in (taxi.street.chain, taxi.street.log):
        away.is_away = True  # type: ignore[attr-defined]
        with pytest.raises(InvalidInput):
            taxi.agent.look()
        away.is_away = False  # type: ignore[attr-defined]
    taxi.trip()
    assert len(taxi.purchases()) == 1 and taxi.said[0].startswith("can't claim now")


def test_what_is_signed_is_what_a_wallet_signs() -> None:
    signed = Authorization.of(payment_of(wire.Requirements(
        scheme="exact", network=ASSET.network, asset=ASSET.token, amount="7", pay_to=LEDGER, max_timeout_seconds=60,
    )))  # fmt: skip
    document = signed.typed_data(ASSET)
    by_wallet = Account.sign_message(encode_typed_data(full_message=dict(document)), ALICE.to_bytes())
    assert "0x" + by_wallet.signature.hex().removeprefix("0x") == signed.signature


# ---------------------------------------------------------------- what it chooses


def test_the_cheapest_that_fits_is_chosen() -> None:
    rows = [
        ("a", offered(price=300_000)), ("a", offered("cheap", 200_000)), ("b", offered("busy", 1, is_free=False)),
        ("b", offered("drone", 1, kind="drone")), ("b", offered("dollars", 1, currency="EUR")),
        ("b", offered("minutes", 1, unit="s")), ("b", offered("taxi-7", 1)), ("b", offered("dear", 600_001)),
    ]  # fmt: skip
    found = choices(rows, POLICY, "USD", 10_000, 10**9)
    assert [(choice.machine, choice.amount_micros) for choice in found] == [("cheap", NIGHT), ("charger", 3_000_000)]
    (less,) = choices(rows[1:2], POLICY, "USD", 10_000, 1_000_000)
    assert (less.units, less.amount_micros) == (5_000, 1_000_000), "as much as the money reaches for"
    assert not choices(rows, POLICY, "USD", 10_000, 0)
    free = offered(price=0)
    assert not choices([("a", free)], POLICY, "USD", 10_000, 10**9), "nothing to pay, nothing to buy by a payment"


def test_a_start_that_costs_much_makes_few_units_dear() -> None:
    start = PriceFrom(from_ms=0, price_micros=100_000, per=1_000, per_session_micros=1_000_000)
    offer = offered(prices=(start,))
    assert choices([("a", offer)], POLICY, "USD", 2_000, 10**9)
    assert not choices([("a", offer)], POLICY, "USD", 1_000, 10**9), "1.10 for a kilowatt-hour"


# ---------------------------------------------------------------- limits


def test_attack_budgets_hold_whatever_becomes_of_purchases(taxi: Taxi) -> None:
    """Three needs in a day of 5.00: the third gets what is left, the fourth nothing; a month has its own limit."""
    taxi.change(day_micros=5_000_000, month_micros=8_000_000)
    spent = []
    for _ in range(5):
        taxi.log.shows(18_000)
        for _ in range(12):
            taxi.tick()
        taxi.street.clock.now_s += LONG_MS // 1_000 if len(spent) == 3 else 0
        spent.append(taxi.spent)
    assert spent[0] == 2_200_000 and max(spent) <= 5_000_000
    taxi.street.clock.now_s += 86_400
    taxi.log.shows(18_000)
    for _ in range(12):
        taxi.tick()
    assert 5_000_000 < taxi.spent <= 8_000_000
    assert taxi.policy.allowed(taxi.purchases(), int(taxi.street.clock.now_s))[1] == "30 days"


def test_it_buys_with_what_it_holds(taxi: Taxi) -> None:
    taxi.street.chain.balances[account(ALICE)] = 1_500_000
    taxi.tick()
    (bought,) = taxi.purchases()
    assert (bought.units, bought.amount_micros) == (5_000, 1_500_000)
    taxi.trip()
    taxi.log.shows(1_000)
    taxi.tick()
    assert len(taxi.purchases()) == 1 and any("the account holds 0.00 USD" in line for line in taxi.said)


# ---------------------------------------------------------------- hostile tills


def terms_with(**changes: object) -> Answer:
    wanted = wire.Requirements(
        scheme="exact", network=ASSET.network, asset=ASSET.token, amount="2200000", pay_to=LEDGER,
        max_timeout_seconds=300, extra={"name": ASSET.name, "version": ASSET.version},
    )  # fmt: skip
    wanted = structs.replace(wanted, **changes)
    required = Required(x402_version=2, accepts=[wanted], resource=wire.Resource("http://a"))
    return answer(402, required, encoded(required))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pay_to": account(BOB)}, "not the ledger"), ({"amount": "2200001"}, "and offered 2200000"),
        ({"amount": "-1"}, "no number"), ({"amount": "9" * 79}, "no number"), ({"amount": "0"}, "asks for 0"),
        ({"asset": LEDGER}, "not in the ledger's"), ({"network": "eip155:1"}, "to be paid by"),
        ({"scheme": "upto"}, "to be paid by"), ({"max_timeout_seconds": 0}, "no time"),
    ],
)  # fmt: skip
def test_attack_terms_that_pay_others_or_more_are_not_signed(taxi: Taxi, changes: dict[str, object], said: str) -> None:
    taxi.web.lies["http://a"] = lambda method, _, __: terms_with(**changes) if method == "POST" else None
    taxi.tick()
    assert not taxi.purchases() and any(said in line for line in taxi.said), taxi.said


GARBAGE = [
    b"", b"\xff\xfe", b"[" * 100_000, b"{}", b"null", b'{"document":"{}","operator_signature":"0x"}', b'"\\ud800"',
    b'{"document":"\\ud800","operator_signature":"\\ud800"}', b'{"document":' + b"1" * 5_000 + b"}",
]  # fmt: skip


def test_attack_garbage_is_no_offer_and_no_terms(taxi: Taxi) -> None:
    """Of the offers, and of the terms; the honest till beside it sells."""
    taxi.change(tills=("http://b", "http://a"))
    for status in (200, 402, 201, 500, 302):
        for garbage in GARBAGE:
            lie = Answer(status, garbage.decode("latin-1"), garbage)
            taxi.web.lies["http://a"] = lambda method, *_, lie=lie: lie if method == "POST" else None  # type: ignore[misc]
            taxi.web.lies["http://b"] = lambda *_, lie=lie: lie  # type: ignore[misc]
            taxi.tick()
    assert not taxi.purchases()
    del taxi.web.lies["http://a"]
    assert taxi.tick() and taxi.purchases()[0].till == "http://a"


def test_attack_offers_of_nobody_another_ledger_or_odd_prices(taxi: Taxi) -> None:
    """Signed by somebody, for another ledger, and an operator's own that can't be counted with."""
    honest = json.loads(taxi.web.ask("GET", "http://a/machines", b"", {}).body)
    forged = honest | {"operator_signature": taxi.street.log.signed_offers(b"other")}
    said = []
    for lie in (forged, honest | {"document": honest["document"] + " "}):
        taxi.web.lies["http://a"] = lambda *_, lie=lie: answer(200, lie)  # type: ignore[misc]
        taxi.tick()
        said.append(taxi.said[-2])
    assert all("not signed" in line for line in said)
    document = json.loads(honest["document"])
    for changes in (
        {"ledger": account(BOB)}, {"network": "eip155:1"}, {"offers": [document["offers"][0] | {"prices": []}]},
        {"offers": [document["offers"][0] | {"machine": "../../x"}]},
        *({"offers": [document["offers"][0] | {"prices": [document["offers"][0]["prices"][0] | {name: value}]}]}
          for name, value in (("per", 0), ("per", -1), ("price_micros", -5), ("per_session_micros", -5))),
    ):  # fmt: skip
        text = json.dumps(document | changes)
        lie = {"document": text, "operator_signature": taxi.street.log.signed_offers(text.encode())}
        taxi.web.lies["http://a"] = lambda *_, lie=lie: answer(200, lie)  # type: ignore[misc]
        taxi.tick()
    assert not taxi.purchases()


def test_attack_dead_tills_cost_nothing(taxi: Taxi) -> None:
    def dead(*_: object) -> Answer:
        raise Away("no whole answer within 10 s")

    taxi.change(tills=("http://dead", "http://a"))
    taxi.web.lies["http://dead"] = dead
    taxi.trip()
    assert [bought.till for bought in taxi.purchases()] == ["http://a"]
    assert taxi.said[0] == "http://dead: no whole answer within 10 s"


def test_attack_an_authorisation_that_is_kept_counts_until_nobody_can_use_it(taxi: Taxi) -> None:
    """The till takes it and answers nothing: nothing else is bought before it has expired on the chain, unused."""
    taxi.web.lies["http://a"] = lambda method, path, body: (
        Answer(500, "", b"") if method == "POST" and taxi.purchases() else None
    )
    taxi.tick()
    (out,) = taxi.purchases()
    assert out.state == "signed" and out.counted_micros == out.amount_micros
    for _ in range(58):
        taxi.log.shows(18_000)
        taxi.tick()
    assert len(taxi.purchases()) == 1 and taxi.purchases()[0].state == "signed"
    for _ in range(10):
        taxi.log.shows(18_000)
        taxi.tick()
    (void,) = taxi.purchases()
    assert (void.state, void.counted_micros, taxi.spent) == ("void", 0, 0), "and that till is left alone for an hour"


def test_attack_an_authorisation_used_at_the_last_moment_is_paid(taxi: Taxi) -> None:
    """It said no, and sent it all the same: the chain decides, and the money is counted until it comes back."""
    taxi.web.lies["http://a"] = lambda method, path, body: (
        answer(402, {"error": "insufficient"}) if method == "POST" and taxi.purchases() else None
    )
    taxi.tick()
    (out,) = taxi.purchases()
    for _ in range(55):
        taxi.tick()
    taxi.street.chain.execute(out.authorization, "0x" + "ee" * 32)
    for _ in range(30):
        taxi.tick()
    (paid,) = taxi.purchases()
    assert (paid.state, paid.counted_micros, taxi.spent) == ("paid", out.amount_micros, out.amount_micros)
    taxi.street.clock.now_s += 700
    taxi.tick()
    (over,) = taxi.purchases()
    assert over.state == "over" and over.counted_micros == out.amount_micros and "names no session" in over.note


@pytest.mark.parametrize("dies", [False, True])
def test_attack_a_session_that_never_starts_is_left_and_refunded(taxi: Taxi, dies: bool) -> None:
    """The taxi goes elsewhere once its patience is over, within its budget; the log pays back."""
    other = taxi.street.open_till("other")
    taxi.tick()
    (first,) = taxi.purchases()
    taxi.street.commands.sent.clear()
    while taxi.street.till.cashier.go_on():
        taxi.street.chain.mine()
    taxi.agent.look()
    (paid,) = taxi.purchases()
    assert paid.state == "paid"
    if dies:
        taxi.web.lies["http://a"] = lambda *_: Answer(502, "", b"")
    for _ in range(3):
        taxi.street.clock.now_s += 700
        taxi.log.shows(18_000)
        taxi.agent.look()
    (over,) = taxi.purchases()[:1]
    assert (over.state, over.counted_micros) == ("over", first.amount_micros)
    assert ("could not be told" in over.note) == dies and "not risen" in over.note
    stops = [command.session for command, _ in taxi.street.commands.sent if command.command == "stop"]
    assert stops == ([] if dies else [first.session or paid.session])
    taxi.web.tills["http://b"] = other
    taxi.change(tills=("http://a", "http://b"))
    taxi.tick()
    first, second = taxi.purchases()
    assert (second.till, second.machine) != (first.till, first.machine)
    other.journal.close()


def test_attack_a_till_that_sells_our_payment_to_others_is_found_out(taxi: Taxi) -> None:
    """It hands our authorisation to another till for its own machine: the log says so, and it is left for good."""
    taken: list[wire.Payment] = []
    wanted = taxi.web.ask

    def relayed(method: str, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        if wire.SIGNATURE_HEADER in headers and not taken:
            payment = wire.decoded(headers[wire.SIGNATURE_HEADER], wire.Payment)
            taken.append(payment)
            taxi.street.till.buy(payment, "drone", units=12_000)
            return answer(202, {"machine": "charger", "session": "x-1", "state": "accepted"})
        return wanted(method, url, body, headers)

    taxi.web.ask = relayed  # type: ignore[method-assign, assignment]
    for _ in range(8):
        taxi.agent.look()
        taxi.street.till.cashier.go_on()
        taxi.street.chain.mine()
    (over,) = taxi.purchases()
    assert taken and over.state == "over" and over.sold == "drone" and over.counted_micros == over.amount_micros
    taxi.log.shows(18_000)
    taxi.street.clock.now_s += 5 * 86_400
    taxi.tick()
    assert len(taxi.purchases()) == 1


def test_attack_a_receipt_is_no_proof(taxi: Taxi) -> None:
    """The till says started, and never takes the money: nothing is paid, and it is known to be so."""
    receipt = {"machine": "charger", "session": "x-1", "state": "started"}
    taxi.web.lies["http://a"] = lambda method, path, body: (
        answer(201, receipt) if method == "POST" and taxi.purchases() else None
    )
    for _ in range(70):
        taxi.tick()
    (void,) = taxi.purchases()
    assert (void.state, taxi.spent) == ("void", 0)


def test_attack_a_till_that_ends_sessions_at_once_sells_once_an_hour(taxi: Taxi) -> None:
    """It takes the money, and says that the session is over before anything flowed: that machine is left alone."""
    stopped = {"machine": "charger", "session": "x-1", "state": "started", "is_stopped": True}
    taxi.web.lies["http://a"] = lambda method, path, body: (
        answer(200, stopped) if method == "GET" and "sessions" in path else None
    )
    for _ in range(60):
        taxi.log.shows(18_000)
        taxi.agent.look()
        taxi.street.till.cashier.go_on()
        taxi.street.chain.mine()
    bought = taxi.purchases()
    assert sorted(each.machine for each in bought) == ["charger", "drone"]
    assert all(each.state == "over" and each.counted_micros == each.amount_micros for each in bought)


def test_a_lossy_line_buys_once(taxi: Taxi) -> None:
    taxi.tick()
    taxi.web.is_lossy = True
    for _ in range(5):
        taxi.tick()
    taxi.web.is_lossy = False
    taxi.trip()
    (bought,) = taxi.purchases()
    assert bought.state == "over" and taxi.spent == bought.amount_micros


def test_one_process_has_a_journal_open(taxi: Taxi, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="another agent"):
        AgentJournal(tmp_path / "agent.sqlite")
    assert not taxi.purchases()
