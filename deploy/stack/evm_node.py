"""The embedded EVM node: a real one for development (anvil), on 127.0.0.1, its chain kept in one file."""

import http.client
import json
from collections.abc import Callable
from pathlib import Path

from deploy.stack import processes, toolchain
from deploy.stack.processes import LOOPBACK, Process, Server

CHAIN_ID = 31337


class EvmNode(Server, frozen=True):
    """A running embedded node; ended, it writes its chain into its folder first."""

    @property
    def rpc_url(self) -> str:
        """The JSON-RPC endpoint. Loopback: never to be called through a proxy."""
        return f"http://{LOOPBACK}:{self.port}"


def start_evm(
    folder: Path,
    wanted_ports: tuple[int, ...] = (),
    *,
    slots_in_an_epoch: int = 4,
    block_time_s: int | None = None,
    patience_s: float = processes.START_PATIENCE_S,
    note: Callable[[Process], None] = lambda process: None,
) -> EvmNode:
    """Starts a node on the folder, with the chain of an earlier start if there is one; returns once it serves.

    `slots_in_an_epoch` makes `safe` and `finalized` lag by one and two of them, as on a real chain. Without
    `block_time_s` every transaction is mined at once. The accounts are anvil's ten well-known ones.
    `note` writes its process down before it runs.
    Raises InvalidInput, with the tail of the node's log, if it does not come up.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--slots-in-an-epoch", str(slots_in_an_epoch)]
    if block_time_s is not None:
        options += ["--block-time", str(block_time_s)]
    return processes.on_free_ports(
        "EVM node", 1, wanted_ports, lambda port: _start_on(folder, port, options, patience_s, note)
    )


def _start_on(
    folder: Path, port: int, options: list[str], patience_s: float, note: Callable[[Process], None]
) -> EvmNode:
    log = folder / "node.log"
    fixed = ["--host", LOOPBACK, "--port", str(port), "--chain-id", str(CHAIN_ID), "--state", "state.json", "--quiet"]
    # What does not fit into its memory it would keep in the home folder.
    process = processes.start([str(toolchain.anvil()), *fixed, "--cache-path", "cache", *options], folder, log, note)
    processes.await_ready("EVM node", process, lambda: _serves(port), log, patience_s)
    return EvmNode(process, port)


def _serves(port: int) -> bool:
    """Whether the node answers with our chain's id."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    try:
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and answer.get("result") == hex(CHAIN_ID)
