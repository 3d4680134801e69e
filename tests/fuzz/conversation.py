"""What a real node answers to all that commands ask it, kept; then said again with an answer spoiled."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from deploy.stack.servers import start_evm
from schemas.errors import InvalidInput
from settlement import service
from settlement.chain import rpc
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain
from settlement.chain.signer import Keys, development_signer
from settlement.chain.timelock import timelock_of
from tests.fuzz.spoiled import DEEP, spoiled_bytes, spoiled_json
from tests.support.settlement_data import FIRST_EPOCH, LOG, publish_all, window

NOWHERE = "http://127.0.0.1:9"
ACCOUNT = development_signer(0).address
UNKNOWN = {"code": -32_000, "message": "header not found"}


class Conversation:
    """Questions of one folder's commands, and what the node said."""

    def __init__(self, folder: Path) -> None:
        """Starts a node, settles a day on it, asks all questions once, and ends it."""
        self._said: dict[bytes, Any] = {}
        self._place = folder / "data"
        server = start_evm(folder / "evm")
        try:
            node, keys = Chain(server.rpc_url), Keys({}, 31_337)
            publish_all(self._place, {FIRST_EPOCH: {0: [window("pv-1", FIRST_EPOCH, 900_000_000)]}})
            service.deploy_contracts(self._place, node, LOG, keys)
            service.fund(self._place, node, LOG, keys)
            service.settle(self._place, node, LOG, keys)
            self._hash = Ledger.open(self._place, node).history().live[0].transaction
            honest = rpc.Nodes._post

            def keeping(nodes: rpc.Nodes, url: str, asked: bytes) -> bytes:
                answer = honest(nodes, url, asked)
                self._said[_key(asked)] = msgspec.json.decode(answer)["result"]
                return answer

            with patch.object(rpc.Nodes, "_post", keeping):
                chain = Chain(server.rpc_url)
                for question in self._questions(chain):
                    question()
        finally:
            server.stop()
        with self._spoken(lambda _, answer: answer):
            self._chain = Chain(NOWHERE)
            Ledger.open(self._place, self._chain)

    def spoil(self, draw: random.Random) -> str:
        """Asks one question, to which some of the answers are spoiled."""
        share = draw.choice((0.2, 0.6, 1.0))
        made: dict[bytes, bytes] = {}

        def spoiled(key: bytes, answer: dict[str, Any]) -> dict[str, Any] | bytes:
            if key not in made:
                if draw.random() < share and "result" in answer:
                    answer = answer | {"result": spoiled_json(draw, answer["result"])}
                text = msgspec.json.encode(answer)
                roll = draw.random()
                made[key] = DEEP if roll < 0.001 else spoiled_bytes(draw, text) if roll < 0.1 else text
            return made[key]

        chain = self._chain if draw.random() < 0.9 else None
        try:
            with self._spoken(spoiled):
                chain = chain or Chain(NOWHERE)
                draw.choice(self._questions(chain))()
        except InvalidInput:
            return "refused"
        return "as good"

    def _questions(self, chain: Chain) -> Sequence[Callable[[], object]]:
        def ledger() -> Ledger:
            return Ledger.open(self._place, chain)

        def anew() -> object:
            chain._event_logs.clear()
            return ledger().events()

        def announced() -> object:
            timelock = timelock_of(ledger())
            return None if timelock is None else timelock.announced(ledger().deployment.block)

        return (
            chain.final_block, lambda: chain.time_s(at="pending"), chain.fees, chain.base_fee, chain.block_number,
            lambda: chain.ether(ACCOUNT), lambda: chain.nonce(ACCOUNT), lambda: chain.has_waiting(ACCOUNT),
            lambda: chain.receipt(self._hash), lambda: chain.receipt("0x" + "11" * 32),
            lambda: chain.knows(self._hash), lambda: ledger().state(), lambda: ledger().holders(),
            lambda: ledger().claims(), lambda: ledger().revoked(), lambda: ledger().attested(),
            lambda: ledger().head(), lambda: ledger().delay_s(), lambda: ledger().history(), anew, announced,
        )  # fmt: skip

    @contextmanager
    def _spoken(self, change: Callable[[bytes, dict[str, Any]], Any]) -> Iterator[None]:
        def saying(_: rpc.Nodes, __: str, asked: bytes) -> bytes:
            key, question = _key(asked), msgspec.json.decode(asked)
            answer = {"jsonrpc": "2.0", "id": 0}
            answer |= {"result": self._said[key]} if key in self._said else {"error": UNKNOWN}
            said = change(key, answer)
            text = said if isinstance(said, bytes) else msgspec.json.encode(said)
            return text.replace(b'"id":0', b'"id":%d' % question["id"], 1)

        with patch.object(rpc.Nodes, "_post", saying), patch.multiple(rpc, FIRST_PAUSE_S=0.0, SLOWEST_S=0.0):
            yield


def _key(asked: bytes) -> bytes:
    question = msgspec.json.decode(asked)
    return msgspec.json.encode([question["method"], question["params"]])
