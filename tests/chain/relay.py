"""Nodes that give other answers than the one behind them, in a few words."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from deploy.attack.moody_node import Reply, moody, result


def error(asked: Mapping[str, Any], code: int, message: str) -> Reply:
    """An error as nodes give it."""
    said = {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": message}}
    return Reply(msgspec.json.encode(said))


@contextmanager
def relay(rpc_url: str, answers: Mapping[str, object]) -> Iterator[str]:
    """The URL of a node that gives these results by method, and for the rest what the node at `rpc_url` says."""

    def mood(asked: dict[str, Any], honest: Callable[[], bytes]) -> Reply:
        method = asked["method"]
        return result(asked, answers[method]) if method in answers else Reply(honest())

    with moody(rpc_url, mood) as url:
        yield url
