"""What tests on a chain begin with: a node of their module's own, and its keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.servers import start_evm
from settlement.chain.node import Chain
from settlement.chain.signer import Keys


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
