"""HTTP: offers, sessions for 402, top-up, status, stop."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import UNSET, Struct
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from schemas.errors import InvalidInput
from till import wire
from till.desk import Desk, Receipt, Refused, Unpaid, Wish
from till.wire import Payment, Required, Resource, Settled

BODY_MAX = 8_192
ADDRESSES_MAX = 10_000
"""How many buyers' addresses the limit of requests remembers."""

LOOK_S = 0.1
Handler = Callable[[Request], Awaitable[Response]]


class Service(Struct, frozen=True, kw_only=True):
    """`requests_per_minute` holds for each address; `answer_within_s` is how long a buyer is kept waiting for a start.

    `wake` is called when there is something for the cashier to do.
    """

    desk: Desk
    wake: Callable[[], None]
    requests_per_minute: int = 120
    answer_within_s: float = 30.0


class Requests:
    """A bucket of requests for each address, refilled over a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, address: str, now_s: float) -> bool:
        """Whether one more may be answered."""
        left, at_s = self._left.pop(address, (float(self._per_minute), now_s))
        left = min(float(self._per_minute), left + (now_s - at_s) * self._per_minute / 60)
        self._left[address] = max(0.0, left - 1), now_s
        while len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)
        return left >= 1


def new_app(service: Service) -> Starlette:
    """The till as an ASGI application."""
    requests = Requests(service.requests_per_minute)
    sessions = "/machines/{machine}/sessions"

    def limited(handler: Callable[[Service, Request], Awaitable[Response]]) -> Handler:
        async def answer(request: Request) -> Response:
            address = request.client.host if request.client else ""
            if not requests.admits(address, time.monotonic()):
                return _plain({"error": "too many requests: wait a minute"}, 429, {"Retry-After": "60"})
            try:
                return await handler(service, request)
            except Refused as refused:
                return _plain({"error": str(refused)}, refused.status)
            except Unpaid as unpaid:
                return _required(request, unpaid)
            except InvalidInput as error:  # Kafka or the chain is away
                return _plain({"error": f"the till can't sell now: {error}"}, 503, {"Retry-After": "10"})

        return answer

    return Starlette(routes=[
        Route("/machines", limited(_offers)),
        Route(sessions, limited(_buy), methods=["POST"]),
        Route(sessions + "/{session}", limited(_status)),
        Route(sessions + "/{session}/payments", limited(_buy), methods=["POST"]),
        Route(sessions + "/{session}/stop", limited(_stop), methods=["POST"]),
    ])  # fmt: skip


async def _offers(service: Service, _: Request) -> Response:
    return _answer(await run_in_threadpool(service.desk.offers), 200)


async def _buy(service: Service, request: Request) -> Response:
    machine, session = request.path_params["machine"], request.path_params.get("session")
    wish, payment = await _wish(request), _payment(request)
    bought = await run_in_threadpool(service.desk.buy, machine, wish, payment, session)
    service.wake()
    if payment is None:
        raise Refused(400, "a purchase without a payment")
    nonce = payment.payload.authorization.nonce
    found = await _followed(service, bought, nonce)
    transaction = str(found.proof[-1]["transaction"]) if found.proof else ""
    is_paid = found.state in ("recorded", "started", "returned")
    settled = Settled(
        success=is_paid, transaction=transaction, network=service.desk.asset.network, payer=found.payer,
        amount=payment.accepted.amount, error_reason=UNSET if is_paid else _reason(found),
    )  # fmt: skip
    status = 201 if is_paid else {"failed": 402, "stranded": 409}.get(found.state, 202)
    return _answer(found, status, {wire.RESPONSE_HEADER: wire.encoded(settled)})


def _reason(receipt: Receipt) -> str:
    return wire.FAILED if receipt.state in ("failed", "stranded") else wire.PENDING


async def _followed(service: Service, bought: Receipt, nonce: str) -> Receipt:
    """The purchase once it has come to its end, or when the buyer has waited long enough."""
    deadline = time.monotonic() + service.answer_within_s
    while True:
        found = await run_in_threadpool(service.desk.purchase, bought.payer, nonce.lower())
        if found.state in ("started", "returned", "failed", "stranded") or time.monotonic() > deadline:
            return msgspec.structs.replace(found, secret=bought.secret)
        await asyncio.sleep(LOOK_S)


async def _status(service: Service, request: Request) -> Response:
    found = await run_in_threadpool(service.desk.status, request.path_params["machine"], request.path_params["session"])
    return _answer(found, 200)


async def _stop(service: Service, request: Request) -> Response:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Refused(401, "send the session's secret as a bearer token")
    machine, session = request.path_params["machine"], request.path_params["session"]
    return _answer(await run_in_threadpool(service.desk.stop, machine, session, secret), 200)


async def _wish(request: Request) -> Wish:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_MAX:
            raise Refused(400, f"the body is longer than {BODY_MAX:,} bytes")
    try:
        return msgspec.json.decode(body, type=Wish)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f'the body is not a wish such as {{"units": 5000}}: {error}') from None


def _payment(request: Request) -> Payment | None:
    text = request.headers.get(wire.SIGNATURE_HEADER)
    if text is None:
        return None
    try:
        return wire.decoded(text, Payment)
    except InvalidInput as error:
        raise Refused(400, f"{wire.INVALID_PAYLOAD}: {error}") from None


def _required(request: Request, unpaid: Unpaid) -> Response:
    required = Required(
        x402_version=wire.VERSION, accepts=[unpaid.wanted], resource=Resource(str(request.url)),
        error=unpaid.error or UNSET,
    )  # fmt: skip
    return _answer(required, 402, {wire.REQUIRED_HEADER: wire.encoded(required)})


def _answer(form: Struct, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(form), status, headers, media_type="application/json")


def _plain(document: dict[str, str], status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(document), status, headers, media_type="application/json")
