"""The contracts' own test token (settlement/contracts/test/Tokens.sol) on a node: odd decimals, and blocked payees."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from settlement.chain.contract import Call
from settlement.chain.node import Chain
from settlement.chain.signer import Signer
from settlement.contracts import build

SOURCE = "test/Tokens.sol"


class OddToken:
    """A token of any decimals that anyone may make, and that refuses whom it blocks."""

    def __init__(self, chain: Chain, signer: Signer, decimals: int) -> None:
        self._chain, self._signer = chain, signer
        made = chain.transact(signer, creation(_compiled(), ["uint8"], [decimals]))
        self.address = str(made["contractAddress"]).lower()

    def mint(self, account: str, amount: int) -> None:
        """Makes tokens."""
        self._send("mint(address,uint256)", account, amount)

    def block(self, account: str, *, blocked: bool) -> None:
        """From now on (or no more) transfers to the account are refused."""
        self._send("setBlocked(address,bool)", account, blocked)

    def _send(self, signature: str, *arguments: Any) -> None:
        selector = bytes.fromhex(_compiled()["evm"]["methodIdentifiers"][signature])
        types = signature[signature.index("(") + 1 : -1].split(",")
        self._chain.transact(self._signer, Call(self.address, selector + encode(types, arguments)))


@lru_cache(maxsize=1)
def _compiled() -> dict[str, Any]:
    found: dict[str, Any] = compiled(SOURCE)["TestToken"]
    return found


def creation(contract: Mapping[str, Any], types: Sequence[str] = (), arguments: Sequence[Any] = ()) -> Call:
    """What deploys a compiled contract."""
    return Call(None, bytes.fromhex(contract["evm"]["bytecode"]["object"]) + encode(types, arguments))


def compiled(source: str) -> dict[str, Any]:
    """The contracts of a file below the contracts' folder: their bytecode and selectors, from our compiler."""
    wanted = {
        "language": "Solidity",
        "sources": {source: {"content": (build.PROJECT / source).read_text()}},
        "settings": {
            "evmVersion": "cancun",
            "outputSelection": {source: {"*": ["evm.bytecode.object", "evm.methodIdentifiers"]}},
        },
    }
    words = ["node", str(build.PROJECT / "solc-shim.cjs"), "--standard-json", "--include-path", "node_modules"]
    # Where the machine has no node, the set-up put one beside Python.
    path = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    done = subprocess.run(
        words, cwd=build.ROOT, input=json.dumps(wanted).encode(), capture_output=True, check=True,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)["contracts"][source]
    return found
