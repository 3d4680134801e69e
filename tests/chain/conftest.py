"""What tests on a chain begin with: a node of their module's own, and its keys."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.servers import Stack, start_evm
from settlement import service
from settlement.chain.node import Chain
from settlement.chain.signer import Keys
from tests.support.archived_log import LOG, fill
from tests.support.watched_folder import DELAY_S, WatchedFolder, ask


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A node of the module's own: its clock is moved, and it is told when to mine."""
    server = start_evm(Path(tmp_path_factory.mktemp("evm")))
    yield Chain(server.rpc_url, poll_s=0.01)
    server.stop()


@pytest.fixture
def keys(node: Chain) -> Keys:
    """The development node's own, for all roles."""
    return Keys({}, node.chain_id)


@pytest.fixture(scope="module")
def ready(node: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three epochs and a ledger that holds a thousand dollars, and nothing posted."""
    folder, keys = Path(tmp_path_factory.mktemp("ready")), Keys({}, node.chain_id)
    fill(folder)
    Stack.start(folder, kafka_bootstrap_servers="127.0.0.1:1", chain_rpc_url=node.rpc_url)
    service.deploy_contracts(folder, node, LOG, keys, delay_s=DELAY_S)
    service.fund(folder, node, LOG, keys, 10**9)
    return folder


@pytest.fixture
def watched(tmp_path: Path, ready: Path, node: Chain) -> Iterator[WatchedFolder]:
    """A copy of that folder, and the chain as it was when the folder was ready."""
    folder = tmp_path / "data"
    shutil.copytree(ready, folder)
    snapshot = ask(node, "evm_snapshot")
    yield WatchedFolder(folder, node)
    assert ask(node, "evm_revert", snapshot)
