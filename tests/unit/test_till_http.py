"""The till's HTTP, called without a server: the protocol's headers, its limits, and what a buyer is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.support.asgi import call
from tests.support.sim_till import ASSET, BOB, Street, payment_of
from till import wire
from till.app import BODY_MAX, Requests, Service, new_app
from till.wire import Required, Settled, decoded, encoded

SESSIONS = "/machines/charger/sessions"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Buyer:
    """Calls the application; the cashier works when it is woken."""

    def __init__(self, street: Street, **options: Any) -> None:
        self.street = street
        words = {"wake": street.till.work, "answer_within_s": 0.0} | options
        self.app = new_app(Service(desk=street.till.desk, **words))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        words = {name.replace("_", "-"): value for name, value in headers.items()}
        status, found, content = call(self.app, method, path, body, words)
        return Answer(status, found, json.loads(content) if "json" in found.get("content-type", "") else None)

    def buy(self, payment: wire.Payment | None = None, path: str = SESSIONS, **wish: Any) -> Answer:
        headers = {} if payment is None else {"payment_signature": encoded(payment)}
        return self.ask("POST", path, msgspec.json.encode(wish or {"money": "5"}), **headers)


@pytest.fixture
def buyer(tmp_path: Path) -> Buyer:
    return Buyer(Street(tmp_path))


def test_the_whole_way(buyer: Buyer) -> None:
    asked = buyer.buy()
    terms = decoded(asked.headers["payment-required"], Required)
    assert asked.status == 402 and asked.body["accepts"][0]["payTo"] == ASSET.ledger and terms.resource.url
    paid = buyer.buy(payment_of(terms.accepts[0]))
    settled = decoded(paid.headers["payment-response"], Settled)
    assert (paid.status, paid.body["state"], settled.success) == (201, "started", True)
    assert settled.transaction == paid.body["proof"][0]["transaction"]
    path = f"{SESSIONS}/{paid.body['session']}"
    assert buyer.ask("GET", path).body["paid_micros"] == 5_000_000
    assert buyer.ask("POST", path + "/stop").status == 401
    assert buyer.ask("POST", path + "/stop", authorization="Bearer wrong").status == 401
    assert buyer.ask("POST", path + "/stop", authorization=f"Bearer {paid.body['secret']}").body["is_stopped"]
    assert "secret" not in buyer.ask("GET", path).body
    assert json.loads(buyer.ask("GET", "/machines").body["document"])["ledger"] == ASSET.ledger


def test_a_slow_chain_is_pending_and_the_same_request_asks_again(tmp_path: Path) -> None:
    buyer = Buyer(Street(tmp_path), wake=lambda: None)
    payment = payment_of(decoded(buyer.buy().headers["payment-required"], Required).accepts[0])
    first = buyer.buy(payment)
    settled = decoded(first.headers["payment-response"], Settled)
    assert (first.status, settled.success, settled.error_reason) == (202, False, wire.PENDING)
    buyer.street.till.work()
    again = buyer.buy(payment)
    assert (again.status, again.body["session"]) == (201, first.body["session"])
    assert "secret" in first.body and "secret" not in again.body


def test_what_is_refused(buyer: Buyer) -> None:
    terms = decoded(buyer.buy().headers["payment-required"], Required).accepts[0]
    thief = buyer.buy(payment_of(terms, signer=BOB))
    assert (thief.status, thief.body["error"]) == (402, wire.SIGNATURE)
    assert decoded(thief.headers["payment-required"], Required).error == wire.SIGNATURE
    assert buyer.ask("POST", SESSIONS, b"x" * (BODY_MAX + 1)).status == 400
    assert buyer.ask("POST", SESSIONS, b"[" * BODY_MAX).status == 400
    assert buyer.ask("POST", SESSIONS, b"{}", payment_signature="x").status == 400
    assert buyer.buy(path="/machines/robot/sessions").status == 404
    assert buyer.ask("GET", f"{SESSIONS}/none").status == 404
    buyer.street.chain.is_away = True
    away = buyer.buy(payment_of(terms))
    assert away.status == 503 and away.headers["retry-after"]


def test_each_address_has_so_many_requests_a_minute(tmp_path: Path) -> None:
    buyer = Buyer(Street(tmp_path), requests_per_minute=3)
    assert [buyer.ask("GET", f"{SESSIONS}/none").status for _ in range(5)] == [404, 404, 404, 429, 429]
    requests = Requests(60)
    assert sum(requests.admits("a", 0.0) for _ in range(100)) == 60
    assert requests.admits("b", 0.0) and not requests.admits("a", 0.5) and requests.admits("a", 3.0)
