"""Cheats of an EVM node: it lies, hides, answers nonsense. Whoever asks it for what a ledger owes has to notice."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from deploy.attack.cheat import PAYEES, Cheat, Outcome, Stopwatch
from deploy.attack.ledger_copy import DELAY_S, LedgerCopy
from deploy.attack.moody_node import Mood, Reply, moody, result
from schemas.errors import InvalidInput
from schemas.units import DAY_MS
from settlement.chain.ledger import Ledger
from settlement.chain.node import Chain

Lie = Callable[[Any], Any]
"""From an honest result to what is shown."""


def node_cheats(court: LedgerCopy) -> Iterator[Cheat]:
    """Cheats once a post is settled. Each goes through all that a settlement and a claim read of the ledger."""
    total = court.ledger.state().total
    lies: dict[str, tuple[str, Lie]] = {
        "a node that has forgotten the events": ("eth_getLogs", lambda _: []),
        "a node that shows the events twice": ("eth_getLogs", lambda events: [*events, *map(_later, events)]),
        "a node that raises a post's total": ("eth_getLogs", partial(_instead, f"{total:064x}", f"{total + 1:064x}")),
        "a node that shows other code for the ledger": ("eth_getCode", lambda code: code[:-2] + "00"),
        "a node of another chain": ("eth_chainId", lambda _: "0x1"),
        "a node that answers nonsense": ("eth_call", lambda _: "0xzz"),
        "a node whose clock says soon": ("eth_getBlockByNumber", lambda block: block | {"timestamp": "soon"}),
    }
    for name, (method, lie) in lies.items():
        yield Cheat(name, "node", PAYEES, partial(_asked, court, method, lie))
    end_s = court.ledger.history().live[-1].delay_end_s
    for word, shown_s in (("later", end_s + DAY_MS // 1_000), ("sooner", end_s - DELAY_S // 2)):
        shift = partial(_instead, f"{end_s:064x}", f"{shown_s:064x}")
        yield Cheat(f"a node that shows a post's delay to end {word}", "node", PAYEES, partial(_watched, court, shift))


def _later(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"logIndex": hex(int(event["logIndex"], 16) + 1_000)}


def _instead(word: str, other: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event | {"data": event["data"].replace(word, other)} for event in events]


def _watched(court: LedgerCopy, lie: Lie) -> Outcome:
    watch = Stopwatch()
    with moody(court.node.rpc_url, _lying("eth_getLogs", lie)) as url:
        said = [done.text for done in court.look(Chain(url, poll_s=0.01)) if done.event == "alarm"]
    return watch.outcome("watch" if said else "", f"watch: {said[0] if said else 'nothing'}")


def _asked(court: LedgerCopy, method: str, lie: Lie) -> Outcome:
    watch = Stopwatch()
    with moody(court.node.rpc_url, _lying(method, lie)) as url:
        try:
            chain = Chain(url, poll_s=0.01)
            ledger = Ledger.open(court.folder, chain)
            said = f"{chain.time_s(at='pending')} {ledger.history().head.hex()} {ledger.state().total}"
        except InvalidInput as error:
            return watch.outcome("ledger", f"ledger: {str(error).replace(url, 'it')}")
    return watch.outcome("", f"ledger: believed it: {said}")


def _lying(method: str, lie: Lie) -> Mood:
    """Passes questions on, and lies about one method."""

    def mood(asked: Mapping[str, Any], honest: Callable[[], bytes]) -> Reply:
        answer = json.loads(honest())
        if asked["method"] == method and answer.get("result") is not None:
            return result(asked, lie(answer["result"]))
        return Reply(json.dumps(answer).encode())

    return mood
