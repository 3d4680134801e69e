"""Cheats of an EVM node: it lies, hides, answers nonsense. Whoever asks it for what a ledger owes has to notice."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import requests

from deploy.attack.cheat import PAYEES, Cheat, Outcome, Stopwatch
from deploy.attack.ledger_copy import LedgerCopy
from schemas.errors import InvalidInput
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain

Lie = Callable[[Any], Any]
"""From an honest result to what is shown."""

WAIT_S = 10


def node_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats once a post is settled. Each goes through all that a settlement and a claim read of the ledger."""
    lies: dict[str, tuple[str, Lie]] = {
        "a node that has forgotten the events": ("eth_getLogs", lambda _: []),
        "a node that shows the events twice": ("eth_getLogs", lambda events: [*events, *map(_later, events)]),
        "a node that changes an amount in an event": ("eth_getLogs", lambda events: [*map(_changed, events)]),
        "a node that shows other code for the ledger": ("eth_getCode", lambda code: code[:-2] + "00"),
        "a node of another chain": ("eth_chainId", lambda _: "0x1"),
        "a node that answers nonsense": ("eth_call", lambda _: "0xzz"),
        "a node whose clock says soon": ("eth_getBlockByNumber", lambda block: block | {"timestamp": "soon"}),
    }
    for name, (method, lie) in lies.items():
        yield Cheat(name, "node", PAYEES, partial(_asked, court, method, lie))


def _later(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"logIndex": hex(int(event["logIndex"], 16) + 1_000)}


def _changed(event: dict[str, Any]) -> dict[str, Any]:
    last = event["data"][-1:]
    return event | {"data": event["data"][:-1] + ("1" if last == "0" else "0")} if last.isalnum() else event


def _asked(court: LedgerCopy, method: str, lie: Lie) -> Outcome:
    watch = Stopwatch()
    with _lying(court.node.rpc_url, method, lie) as url:
        try:
            chain = Chain(url, poll_s=0.01)
            ledger = Ledger.open(court.folder, chain)
            said = f"{chain.time_s(at='pending')} {ledger.history().head.hex()} {ledger.state().total}"
        except InvalidInput as error:
            return watch.outcome("ledger", f"ledger: {str(error).replace(url, 'it')}")
    return watch.outcome("", f"ledger: believed it: {said}")


@contextmanager
def _lying(rpc_url: str, method: str, lie: Lie) -> Iterator[str]:
    """The URL of a node that passes questions on, and lies about one method."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            with requests.Session() as session:
                session.trust_env = False
                headers = {"Content-Type": "application/json"}
                answer = session.post(rpc_url, data=asked, headers=headers, timeout=WAIT_S).json()
            if json.loads(asked)["method"] == method and answer.get("result") is not None:
                answer["result"] = lie(answer["result"])
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
